// The local branch's weights: score rows x_s = q·k_s/√d of the tokens that a query sees locally become
// weights, and their weighted sum of values becomes the branch's output.
//
//     softmax  exp(x − max), divided by the sum        relu2    relu(x)² / C
//     relu2_unit  relu(cos)², the reference implementation's of the paper
//     laplace  ½[1 + erf((x − μ)/(σ√2))] / C, μ = √½, σ = √(1/4π)   (So et al. 2021; Ma et al. 2022)
//     relu     relu(x), RMSNorm with gain after (ReLA, Zhang et al. 2021)
//     yoso     (1 − arccos(cos)/π)^bits, L2-normalized after (Zeng et al. 2021)
#pragma once

#include <cstdint>
#include <vector>

#include "attention/config.h"

namespace linnet {

template <class T>
class LocalBranch {
 public:
  /// `gains` [heads, value_size] of `relu`; empty: 1.
  /// Queries come multiplied by `score_scale`.
  LocalBranch(const AttentionConfig& config, const AttentionShape& shape, T score_scale,
              std::vector<T> gains);

  /// What the caller adds to scores by distance before they are weighed; null: nothing.
  const DistanceBias* bias() const { return bias_; }
  /// Whether weigh() needs the keys' squared lengths.
  bool needs_lengths() const { return weight_ == LocalWeight::kYoso || weight_ == LocalWeight::kRelu2Unit; }
  /// Turns the scores of `count` tokens into weights, with zeros up to padded(count), and returns the
  /// denominator (1 unless softmax). `squares` are the keys' squared lengths and `query_square` that of the
  /// query, after it was multiplied by `score_scale`.
  T weigh(T* scores, int64_t count, const T* squares, T query_square) const;
  /// Normalizes a query head's weighted sum of values, where the branch has a norm. Dividing by the
  /// denominator is the caller's part.
  void finish(int64_t head, T* numerator) const;

 private:
  T cosine_of(T score, T key_square, T query_square) const;

  LocalWeight weight_;
  int64_t group_, value_size_;
  int bits_;
  T scale_;  // of scores
  // Of scores that are the base's, neither cosines nor products of unit rows:
  T cap_;                     // 0: none
  const DistanceBias* bias_;  // null: none
  std::vector<T> gains_;
};

}  // namespace linnet

// From logits to a token. Greedy, or drawn with a uniform number that is a function of (seed, sequence,
// position) alone: the text is then the same in any batch, with and without speculation.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/decoder.h"

namespace linnet {

/// Semantics and order are those of Hugging Face's generate: repetition penalty (also where greedy), then
/// temperature, top-k, top-p, min-p.
struct Sampling {
  double temperature = 0.0;         // 0: greedy, ties to the lowest id
  int64_t top_k = 0;                // keep the k likeliest and what ties with the last; 0: all
  double top_p = 1.0;               // keep the fewest likeliest whose probabilities reach p, at least one
  double min_p = 0.0;               // keep what is at least min_p times as likely as the likeliest
  double repetition_penalty = 1.0;  // logits of tokens seen: x / penalty where positive, x * penalty below 0

  // Of the penalty: beyond, a finite logit times or through it need not be finite.
  static constexpr double kLeastPenalty = 0.01, kMostPenalty = 100;

  /// Throws Error naming the option (as in "--top-p") on a value that makes no sense.
  void check() const;
};

/// One sequence's sampler.
class Sampler {
 public:
  Sampler(const Sampling& sampling, uint64_t seed, uint64_t sequence, int64_t vocabulary);

  /// Whether choose() is argmax() of the logits as they are.
  bool is_argmax() const { return sampling_.temperature == 0 && sampling_.repetition_penalty == 1.0; }
  /// Counts a token of the prompt or the text as seen.
  void observe(int32_t token);
  /// The token that stands at `position` (the first of the prompt is 0), from logits [vocabulary]: drawn by
  /// walking the kept tokens in the order of their ids. Throws Error (status: failed) if they are not
  /// numbers.
  int32_t choose(std::span<const float> logits, uint64_t position);

 private:
  struct Candidate {
    float logit;
    int32_t id;
    double weight;  // exp((logit - largest) / temperature)
  };
  std::span<const float> penalized(std::span<const float> logits);
  void keep_top_k(std::span<const float> logits, float largest);
  void keep_top_p();
  double total_weight() const;

  Sampling sampling_;
  uint64_t seed_, sequence_;
  std::vector<int32_t> seen_;  // each once; empty without a repetition penalty
  std::vector<bool> is_seen_;
  std::vector<float> penalized_, scratch_;  // [vocabulary]
  std::vector<Candidate> candidates_;       // at most [vocabulary]
};

/// Medusa's typical acceptance (2401.10774, section 2.3.2): the likeliest of the guesses whose probability p
/// at this temperature is above min(0.09, 0.3 exp(−H)), H the entropy in nats; −1: none is.
int32_t typical_of(std::span<const float> logits, double temperature, std::span<const int32_t> guesses);

}  // namespace linnet

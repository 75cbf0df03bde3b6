// Pairs of texts for a model of an encoder and a decoder: what is read, and what is to be written.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/thread_pool.h"
#include "evaluate/spans.h"
#include "text/tokenizer.h"
#include "train/evaluation.h"
#include "train/trainer.h"

namespace linnet::train {

/// Targets end with the end token.
struct TokenPairs {
  std::vector<std::vector<int32_t>> sources, targets;
  int32_t start = 0;  // what the decoder begins with

  int64_t size() const { return static_cast<int64_t>(sources.size()); }
  /// Tokens of the longest source or target.
  int64_t longest() const;
  /// Tokens of the targets at these places.
  int64_t to_write(std::span<const int64_t> places) const;
};
std::string hash_of(const TokenPairs& pairs);

/// Texts cut into pieces of `window` tokens, whose spans are taken out: as SpanMeter cuts and scores them.
TokenPairs span_pairs(std::span<const std::string> texts, const Tokenizer& tokenizer,
                      const SpanTokens& tokens, int64_t window, ThreadPool& pool);

/// The pairs at these places, filled up behind; the targets' weights are 1 / to_write(places), of what is
/// filled up 0.
RowBatch batch_of(const TokenPairs& pairs, std::span<const int64_t> places, at::Device device);

/// Mean −ln p of the targets' tokens.
class PairValidation final : public HeldOut {
 public:
  /// `documents`: those that the pairs were made of, by their hashes in HeldOutTexts.
  explicit PairValidation(TokenPairs pairs, std::unordered_set<size_t> documents = {});

  std::optional<double> score(const Module& module, int64_t rows) const override;
  bool in_nats() const override { return true; }
  bool contains(const Document& document) const override { return is_among(document, documents_); }

 private:
  TokenPairs pairs_;
  std::vector<int64_t> order_;  // those of like length side by side
  std::unordered_set<size_t> documents_;
};

}  // namespace linnet::train

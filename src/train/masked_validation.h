// Held-out text of an encoder while training: the loss of masked tokens, by the rule of `linnet perplexity
// --window N` (docs/perplexity.md#masked-tokens).
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_set>
#include <vector>

#include "base/thread_pool.h"
#include "evaluate/masking.h"
#include "text/tokenizer.h"
#include "train/evaluation.h"

namespace linnet::train {

class MaskedValidation final : public HeldOut {
 public:
  /// Texts of at most `window` tokens. Throws Error where there is no token.
  MaskedValidation(HeldOutTexts held, const Tokenizer& tokenizer, const EncoderTokens& special,
                   int64_t window, ThreadPool& pool);

  /// Mean −ln p of what stood at the masked places.
  std::optional<double> score(const Module& module, int64_t rows) const override;
  bool in_nats() const override { return true; }
  bool contains(const Document& document) const override { return is_among(document, documents_); }

 private:
  std::vector<MaskedText> texts_;  // the longest first: of like length side by side
  std::unordered_set<size_t> documents_;
};

}  // namespace linnet::train

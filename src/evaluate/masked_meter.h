// How well an encoder knows tokens that were masked in texts (masking.h): −ln p of what stood there.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "evaluate/loss_totals.h"
#include "evaluate/masking.h"
#include "model/encoder.h"
#include "text/tokenizer.h"

namespace linnet {

/// −ln p of what stood where tokens were masked, of texts that go through the layers together.
std::vector<double> masked_losses(Encoder& encoder, int64_t vocabulary, std::span<const MaskedText> texts,
                                  ThreadPool& pool);

class MaskedMeter {
 public:
  /// `encoder` runs `model`. Texts are of at most `window` tokens, special ones among them. Throws Error on a
  /// model without a head, a tokenizer without a mask, and a window that the positions do not reach.
  MaskedMeter(Encoder& encoder, const Model& model, const Tokenizer& tokenizer, int64_t window,
              ThreadPool& pool);

  /// Adds a document. False: `progress`, which hears how many of its tokens were read, said no.
  bool add(std::string_view text, const std::function<bool(int64_t)>& progress = {});
  const LossTotals& totals() const { return totals_; }

 private:
  Encoder& encoder_;
  const Tokenizer& tokenizer_;
  EncoderTokens special_;
  int64_t window_, vocabulary_;
  ThreadPool& pool_;
  LossTotals totals_;
};

}  // namespace linnet

// How well a model of an encoder and a decoder writes what was taken from texts (spans.h): −ln p of every
// token of the targets, sentinels and end tokens included, as it was trained.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

#include "base/thread_pool.h"
#include "evaluate/loss_totals.h"
#include "evaluate/score.h"
#include "evaluate/spans.h"
#include "model/decoder.h"
#include "text/tokenizer.h"

namespace linnet {

class SpanMeter {
 public:
  /// Documents are cut into texts of `window` ≥ 2 tokens; the rest of one is a text too, unless it is a
  /// single token. `decoder` runs `model`.
  SpanMeter(Decoder& decoder, const Model& model, const Tokenizer& tokenizer, int64_t window,
            ThreadPool& pool);

  /// Adds a document. False: `progress`, which hears how many of its tokens were read, said no.
  bool add(std::string_view text, const std::function<bool(int64_t)>& progress = {});
  const LossTotals& totals() const { return totals_; }

 private:
  Decoder& decoder_;
  const Tokenizer& tokenizer_;
  SpanTokens tokens_;
  int64_t window_;
  Scorer scorer_;
  LossTotals totals_;
};

}  // namespace linnet

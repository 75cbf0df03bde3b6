// T5's span corruption (Raffel et al. 2020, section 3.1.4), which models of an encoder and a decoder are
// trained and scored by: of a text, spans are taken out, each by a sentinel; the decoder writes what was
// taken, each span behind its sentinel.
//
//     text     Thank you for inviting me to your party last week
//     source   Thank you <X> me to your party <Y> week </s>
//     target   <X> for inviting <Y> last </s>
//
// 15% of the tokens, in spans of 3 on the mean; lengths follow from the text's alone, so that rows of one
// length make sources and targets of one length.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/model.h"
#include "text/tokenizer.h"

namespace linnet {

/// Of a text of `tokens` ≥ 2: how many are taken, in how many spans.
struct SpanShape {
  /// Tokens of held-out text's pieces, where nothing else is said.
  static constexpr int64_t kWindow = 512;

  int64_t tokens = 0, noise = 0, spans = 0;

  explicit SpanShape(int64_t tokens);
  int64_t source() const { return tokens - noise + spans + 1; }  // with the end token
  int64_t target() const { return noise + spans + 1; }
};

/// What ends a text that is written: the tokenizer's, else config.json's. Throws Error where there is none.
int32_t end_token(const ModelConfig& config, const Tokenizer& tokenizer, const std::string& where);

/// The tokens that it needs.
struct SpanTokens {
  std::vector<int32_t> sentinels;  // <extra_id_0>, <extra_id_1>, …
  int32_t end = 0;
  int32_t start = 0;  // what the decoder begins with

  /// Throws Error where the tokenizer has no end token or no sentinel.
  static SpanTokens of(const ModelConfig& config, const Tokenizer& tokenizer, const std::string& where);
  /// Throws Error where texts of so many tokens need more sentinels than there are.
  void check(int64_t tokens, const std::string& where) const;
};

/// Which tokens are taken from text number `index` is a function of (seed, index) and the shape alone.
/// `source` and `target` hold what their shape says.
void corrupt(std::span<const int32_t> text, const SpanTokens& tokens, uint64_t seed, uint64_t index,
             std::span<int32_t> source, std::span<int32_t> target);

}  // namespace linnet

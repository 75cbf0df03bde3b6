#include "evaluate/masking.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/random.h"

namespace linnet {
namespace {

constexpr double kChosen = 0.15, kMasked = 0.8, kReplaced = 0.1;
// Streams of random numbers, so that no two uses share one.
constexpr uint64_t kChoice = 0x63686f73, kWhat = 0x77686174, kReplacement = 0x7265706c, kOne = 0x6f6e65;

}  // namespace

EncoderTokens EncoderTokens::of(const Tokenizer& tokenizer, const std::string& where) {
  const std::vector<int32_t> around = tokenizer.framed({}).tokens;
  if (around.size() < 2)
    throw Error(
        where,
        fmt::format("sets {} around a text", around.empty() ? "no special tokens" : "one special token"),
        "a first and a separator token, as [CLS] and [SEP]");
  EncoderTokens special{around.front(), around.back(), -1, tokenizer.vocabulary()};
  for (const char* name : {"[MASK]", "<mask>"}) {
    if (const auto id = tokenizer.special_id_of(name); id && special.mask < 0) special.mask = *id;
  }
  return special;
}

void EncoderTokens::require_mask(const std::string& where) const {
  if (mask < 0) throw Error(where, "has no mask token", "[MASK] or <mask> among its special tokens");
}

void EncoderTokens::check_window(int64_t tokens, int64_t longest, const std::string& where) {
  if (tokens < 3 || tokens > longest)
    throw Error(where, fmt::format("{}", tokens),
                fmt::format("3 to {} tokens, of which two frame a text", longest));
}

void frame(std::span<int32_t> tokens, const EncoderTokens& special) {
  if (tokens.empty()) return;
  tokens.back() = special.separator;
  tokens.front() = special.first;
}

std::vector<int64_t> mask_tokens(std::span<int32_t> tokens, const EncoderTokens& special, uint64_t seed,
                                 int64_t row) {
  special.require_mask("tokenizer");
  const uint64_t of_row = static_cast<uint64_t>(row) << 32;
  const auto is_special = [&](int32_t id) { return id == special.first || id == special.separator; };
  std::vector<int64_t> places, open;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (is_special(tokens[i])) continue;
    open.push_back(static_cast<int64_t>(i));
    if (uniform(seed, kChoice + of_row, i) < kChosen) places.push_back(static_cast<int64_t>(i));
  }
  if (places.empty() && !open.empty())
    places.push_back(open[uniform_integer(seed, kOne + of_row, 0, open.size())]);
  if (places.empty()) places.push_back(0);  // a row of special tokens alone
  for (const int64_t place : places) {
    const auto at = static_cast<uint64_t>(place);
    const double what = uniform(seed, kWhat + of_row, at);
    if (what < kMasked) {
      tokens[at] = special.mask;
    } else if (what < kMasked + kReplaced) {
      tokens[at] = static_cast<int32_t>(
          uniform_integer(seed, kReplacement + of_row, at, static_cast<uint64_t>(special.vocabulary)));
    }
  }
  return places;
}

std::vector<MaskedText> masked_texts(std::span<const int32_t> document, const EncoderTokens& special,
                                     int64_t window, int64_t first) {
  std::vector<MaskedText> texts;
  for (auto left = document; !left.empty();) {
    const auto piece = left.first(std::min(left.size(), static_cast<size_t>(window) - 2));
    left = left.subspan(piece.size());
    MaskedText text;
    text.tokens.push_back(special.first);
    text.tokens.insert(text.tokens.end(), piece.begin(), piece.end());
    text.tokens.push_back(special.separator);
    const std::vector<int32_t> before = text.tokens;
    text.places = mask_tokens(text.tokens, special, 0, first + std::ssize(texts));
    for (const int64_t place : text.places) text.wanted.push_back(before[static_cast<size_t>(place)]);
    texts.push_back(std::move(text));
  }
  return texts;
}

}  // namespace linnet

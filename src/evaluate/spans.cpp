#include "evaluate/spans.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>
#include <cmath>

#include "base/count.h"
#include "base/error.h"
#include "base/random.h"

namespace linnet {
namespace {

constexpr double kNoise = 0.15, kMeanSpan = 3;
constexpr uint64_t kKept = 0x6b657074, kTaken = 0x74616b6e;  // streams of random numbers

/// `items` cut into `parts` lengths of at least 1, every cut as likely as any other.
std::vector<int64_t> cut(int64_t items, int64_t parts, uint64_t seed, uint64_t stream) {
  // Which of the items after the first begin a part: a choice of parts − 1 of items − 1, by selection
  // sampling.
  std::vector<int64_t> lengths = {1};
  int64_t left = parts - 1;
  for (int64_t i = 1; i < items; ++i) {
    const auto place = static_cast<uint64_t>(i);
    const auto draw =
        static_cast<int64_t>(uniform_integer(seed, stream, place, static_cast<uint64_t>(items - i)));
    if (draw < left) {
      lengths.push_back(1);
      --left;
    } else {
      ++lengths.back();
    }
  }
  return lengths;
}

}  // namespace

SpanShape::SpanShape(int64_t of) : tokens(of) {
  noise = std::clamp<int64_t>(std::llround(static_cast<double>(tokens) * kNoise), 1, tokens - 1);
  spans = std::clamp<int64_t>(std::llround(static_cast<double>(noise) / kMeanSpan), 1, tokens - noise);
}

int32_t end_token(const ModelConfig& config, const Tokenizer& tokenizer, const std::string& where) {
  if (!tokenizer.eos() && config.eos.empty())
    throw Error(where, "neither the tokenizer nor config.json has an end token",
                "one, which ends what is written");
  return tokenizer.eos() ? *tokenizer.eos() : static_cast<int32_t>(config.eos.front());
}

SpanTokens SpanTokens::of(const ModelConfig& config, const Tokenizer& tokenizer, const std::string& where) {
  SpanTokens tokens;
  tokens.start = static_cast<int32_t>(config.start);
  tokens.end = end_token(config, tokenizer, where);
  while (const auto id = tokenizer.id_of(fmt::format("<extra_id_{}>", tokens.sentinels.size())))
    tokens.sentinels.push_back(*id);
  if (tokens.sentinels.empty())
    throw Error(where, "the tokenizer has no <extra_id_0>", "T5's sentinels, which stand for spans");
  return tokens;
}

void SpanTokens::check(int64_t tokens, const std::string& where) const {
  if (tokens < 2)
    throw Error(where, fmt::format("{}", tokens), "2 tokens or more, to take one and leave one");
  const SpanShape shape(tokens);
  if (shape.spans > std::ssize(sentinels))
    throw Error(where, fmt::format("{} tokens, of which {} spans are taken", tokens, shape.spans),
                fmt::format("fewer: the tokenizer has {}", counted(std::ssize(sentinels), "sentinel")));
}

void corrupt(std::span<const int32_t> text, const SpanTokens& tokens, uint64_t seed, uint64_t index,
             std::span<int32_t> source, std::span<int32_t> target) {
  const SpanShape shape(std::ssize(text));
  assert(std::ssize(source) == shape.source() && std::ssize(target) == shape.target());
  const auto kept = cut(shape.tokens - shape.noise, shape.spans, seed, kKept + (index << 32));
  const auto taken = cut(shape.noise, shape.spans, seed, kTaken + (index << 32));
  auto from = text.begin();
  auto to_source = source.begin(), to_target = target.begin();
  for (size_t i = 0; i < kept.size(); ++i) {
    to_source = std::copy_n(from, kept[i], to_source);
    from += kept[i];
    *to_source++ = *to_target++ = tokens.sentinels[i];
    to_target = std::copy_n(from, taken[i], to_target);
    from += taken[i];
  }
  *to_source = *to_target = tokens.end;
}

}  // namespace linnet

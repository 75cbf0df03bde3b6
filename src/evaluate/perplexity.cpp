#include "evaluate/perplexity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "base/count.h"
#include "base/error.h"
#include "evaluate/words.h"

namespace linnet {
namespace {

double per(double nats, int64_t count) {
  return count > 0 ? std::exp(nats / static_cast<double>(count)) : std::numeric_limits<double>::infinity();
}

}  // namespace

void PerplexityOptions::check() const {
  make_windows(0, window, stride);
  if (score_from < 0) throw Error("--score-from", fmt::format("{}", score_from), "a token from 0 on");
  if (score_to && *score_to <= score_from) {
    throw Error("--score-to", fmt::format("{}", *score_to),
                fmt::format("a token past --score-from ({})", score_from));
  }
  if (far_pairs && *far_pairs < 0) throw Error("--far-pairs", fmt::format("{}", *far_pairs), "0 or more");
}

double PerplexityTotals::token_perplexity() const { return per(nats, tokens); }
double PerplexityTotals::word_perplexity() const { return per(nats, words); }
double PerplexityTotals::byte_perplexity() const { return per(nats, bytes); }
double PerplexityTotals::bits_per_byte() const {
  return bytes > 0 ? nats / std::numbers::ln2 / static_cast<double>(bytes)
                   : std::numeric_limits<double>::infinity();
}

TextPart measure(std::string_view text, const Tokenizer& tokenizer, std::span<const int32_t> ids,
                 int64_t from, int64_t to) {
  const auto tokens = static_cast<int64_t>(ids.size());
  if (from == 0 && to == tokens) return {static_cast<int64_t>(text.size()), count_words(text)};
  StreamingDetokenizer detokenizer(tokenizer, /*skip_special=*/false);
  std::string decoded;
  size_t begin = 0, end = 0;
  for (int64_t t = 0; t < tokens; ++t) {
    if (t == from) begin = decoded.size();
    if (t == to) end = decoded.size();
    decoded += detokenizer.push(ids[static_cast<size_t>(t)]);
  }
  decoded += detokenizer.finish();
  if (to == tokens) end = decoded.size();
  // Where a normalizer changed the text, its places are known in the decoded text alone.
  const std::string_view where = decoded.size() == text.size() ? text : std::string_view(decoded);
  return {static_cast<int64_t>(end - begin), count_words_beginning(where, begin, end)};
}

int32_t first_input(const Model& model, const Tokenizer& tokenizer) {
  const ModelConfig& config = model.config();
  if (tokenizer.bos()) return *tokenizer.bos();
  if (config.bos) return static_cast<int32_t>(*config.bos);
  if (tokenizer.eos()) return *tokenizer.eos();
  if (!config.eos.empty()) return static_cast<int32_t>(config.eos.front());
  throw Error(model.folder().string(), "neither the tokenizer nor config.json has a BOS or EOS token",
              "one of them, to be fed first");
}

int64_t learned_positions(const Model& model) {
  return model.family().positions == PositionKind::kLearned ? model.config().positions : 0;
}

PerplexityMeter::PerplexityMeter(Decoder& decoder, const Model& model, const Tokenizer& tokenizer,
                                 const PerplexityOptions& options, ThreadPool& pool)
    : decoder_(decoder),
      tokenizer_(tokenizer),
      options_(options),
      pool_(pool),
      first_(first_input(model, tokenizer)),
      positions_(decoder.info().positions) {
  options_.check();
}

bool PerplexityMeter::add(std::string_view text, std::string_view where,
                          const std::function<bool(int64_t)>& progress) {
  std::vector<int32_t> inputs = tokenizer_.encode(text);
  inputs.insert(inputs.begin(), first_);
  const auto tokens = static_cast<int64_t>(inputs.size()) - 1;
  const int64_t from = std::min(options_.score_from, tokens);
  const int64_t to = std::min(options_.score_to.value_or(tokens), tokens);
  if (from >= to) return true;
  const auto windows = clip_windows(make_windows(tokens, options_.window, options_.stride), from, to);
  for (const Window& window : windows) {
    totals_.longest = std::max(totals_.longest, window.end - window.first_input);
  }
  if (positions_ > 0 && totals_.longest > positions_) {
    throw Error(where,
                fmt::format("{} in one stream or window, past the model's learned positions",
                            counted(totals_.longest, "token")),
                fmt::format("at most {} (--window {})", positions_, positions_));
  }
  if (const int64_t most = decoder_.info().memory; totals_.longest > most) {
    throw Error(where,
                fmt::format("{} in one stream, whose state does not fit into memory",
                            counted(totals_.longest, "token")),
                fmt::format("at most {} (--window)", most));
  }
  const auto scores = score_windows(decoder_, decoder_.vocabulary(), inputs, windows, pool_, progress);
  if (static_cast<int64_t>(scores.size()) != to - from) return false;
  for (const double nats : scores) totals_.nats += nats;
  totals_.tokens += to - from;
  const TextPart part = measure(text, tokenizer_, std::span(inputs).subspan(1), from, to);
  totals_.bytes += part.bytes;
  totals_.words += part.words;
  if (!options_.far_pairs) return true;
  const auto classes = classify_pairs(inputs, windows, options_.window, *options_.far_pairs);
  for (size_t i = 0; i < scores.size(); ++i) {
    if (classes[i] == PairClass::kFar) {
      totals_.far_nats += scores[i];
      ++totals_.far_tokens;
    } else if (classes[i] == PairClass::kOther) {
      totals_.other_nats += scores[i];
      ++totals_.other_tokens;
    }
  }
  return true;
}

}  // namespace linnet

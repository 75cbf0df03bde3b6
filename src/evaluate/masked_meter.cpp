#include "evaluate/masked_meter.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "evaluate/score.h"

namespace linnet {
namespace {

constexpr int64_t kMaskedAtOnce = 4096;
constexpr size_t kLogitsAtOnce = size_t{1} << 24;  // numbers

}  // namespace

std::vector<double> masked_losses(Encoder& encoder, int64_t vocabulary, std::span<const MaskedText> texts,
                                  ThreadPool& pool) {
  const auto size = static_cast<size_t>(encoder.hidden_size());
  std::vector<Encoder::Sequence> sequences;
  std::vector<size_t> asked;  // rows
  std::vector<int32_t> wanted;
  size_t tokens = 0;
  for (const MaskedText& text : texts) {
    sequences.push_back({text.tokens, text.types});
    for (const int64_t place : text.places) asked.push_back(tokens + static_cast<size_t>(place));
    wanted.insert(wanted.end(), text.wanted.begin(), text.wanted.end());
    tokens += text.tokens.size();
  }
  std::vector<float> rows(tokens * size), some, logits;
  encoder.encode(sequences, rows);
  std::vector<double> losses(asked.size());
  const auto classes = static_cast<size_t>(vocabulary);
  const size_t at_once = std::max<size_t>(1, kLogitsAtOnce / classes);
  for (size_t begin = 0; begin < asked.size(); begin += at_once) {
    const size_t count = std::min(at_once, asked.size() - begin);
    some.clear();
    for (size_t i = begin; i < begin + count; ++i) {
      const auto row = std::span(rows).subspan(asked[i] * size, size);
      some.insert(some.end(), row.begin(), row.end());
    }
    logits.resize(count * classes);
    encoder.logits(some, logits);
    pool.run(count, [&](size_t i) {
      losses[begin + i] =
          negative_log_likelihood(std::span(logits).subspan(i * classes, classes), wanted[begin + i]);
    });
  }
  return losses;
}

MaskedMeter::MaskedMeter(Encoder& encoder, const Model& model, const Tokenizer& tokenizer, int64_t window,
                         ThreadPool& pool)
    : encoder_(encoder),
      tokenizer_(tokenizer),
      special_(EncoderTokens::of(tokenizer, model.tokenizer_folder().string())),
      window_(window),
      vocabulary_(model.config().vocabulary),
      pool_(pool) {
  if (!model.has_head())
    throw Error(model.base_folder().string(), "has no head that predicts tokens",
                fmt::format("a {} folder", model.family().architecture));
  special_.require_mask(model.tokenizer_folder().string());
  special_.check_window(window, encoder.longest(), "--window");
}

bool MaskedMeter::add(std::string_view text, const std::function<bool(int64_t)>& progress) {
  const std::vector<int32_t> ids = tokenizer_.encode(text);
  const std::vector<MaskedText> texts = masked_texts(ids, special_, window_, totals_.texts);
  for (size_t begin = 0, end = 0; begin < texts.size(); begin = end) {
    int64_t tokens = 0;
    while (end < texts.size() && tokens < kMaskedAtOnce) tokens += std::ssize(texts[end++].tokens) - 2;
    const auto some = std::span(texts).subspan(begin, end - begin);
    for (const double nats : masked_losses(encoder_, vocabulary_, some, pool_)) totals_.nats += nats;
    for (const MaskedText& one : some) totals_.tokens += std::ssize(one.places);
    totals_.texts += std::ssize(some);
    totals_.text_tokens += tokens;
    if (progress && !progress(tokens)) return false;
  }
  return true;
}

}  // namespace linnet

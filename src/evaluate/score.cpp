#include "evaluate/score.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "kernels/cpu/elementwise.h"

namespace linnet {
namespace {

// Logits of this many numbers are held at a time: what a prefill takes at once, less for a large vocabulary.
constexpr int64_t kLogits = int64_t{1} << 24;
constexpr int64_t kMostRows = 512, kFewestRows = 16;
constexpr int64_t kUnscoredPiece = 4096;  // inputs between two calls of `progress`

}  // namespace

double negative_log_likelihood(std::span<const float> logits, int32_t token) {
  const double nats = kernels::log_sum_exp(logits.data(), static_cast<int64_t>(logits.size())) -
                      static_cast<double>(logits[static_cast<size_t>(token)]);
  if (!std::isfinite(nats)) {
    throw Error("logits", "the model's output is not a finite number",
                "finite logits (check the weights with `linnet inspect`)", ExitStatus::kFailed);
  }
  return nats;
}

Scorer::Scorer(Decoder& decoder, int64_t vocabulary, ThreadPool& pool)
    : decoder_(decoder),
      vocabulary_(vocabulary),
      rows_(std::clamp(kLogits / vocabulary, kFewestRows, kMostRows)),
      pool_(pool),
      logits_(static_cast<size_t>(rows_ * vocabulary)) {}

size_t Scorer::visit(int slot, std::span<const int32_t> inputs, size_t first,
                     const std::function<void(size_t, std::span<const float>)>& row,
                     const std::function<bool(int64_t)>& progress) {
  const auto all = static_cast<int64_t>(inputs.size()), first_scored = static_cast<int64_t>(first);
  for (int64_t at = 0; at < all;) {
    const bool scored = at >= first_scored;
    // What fits is one piece; its first rows may be unscored.
    const int64_t room = all - at <= rows_ ? all - at
                         : scored          ? rows_
                                           : std::min(kUnscoredPiece, first_scored - at);
    const int64_t end = std::min(at + room, all);
    const int64_t from = std::clamp(first_scored, at, end);  // scored rows are [from, end)
    const auto count = static_cast<size_t>(end - from), width = static_cast<size_t>(vocabulary_);
    decoder_.prefill(slot, inputs.subspan(static_cast<size_t>(at), static_cast<size_t>(end - at)),
                     static_cast<size_t>(from - at), std::span(logits_).first(count * width));
    pool_.run(count, [&](size_t i) {
      row(static_cast<size_t>(from) + i, std::span<const float>(logits_).subspan(i * width, width));
    });
    const bool go_on = !progress || progress(end - at);
    at = end;
    if (!go_on) return static_cast<size_t>(at);
  }
  return inputs.size();
}

bool Scorer::read(int slot, std::span<const int32_t> inputs, size_t first, std::vector<double>& scores,
                  const std::function<bool(int64_t)>& progress) {
  const size_t all = inputs.size() - 1, done = scores.size();
  scores.resize(done + all - std::min(first, all));
  bool whole = true;
  const size_t read = visit(
      slot, inputs.first(all), first,
      [&](size_t at, std::span<const float> logits) {
        scores[done + at - first] = negative_log_likelihood(logits, inputs[at + 1]);
      },
      [&](int64_t more) { return whole = !progress || progress(more); });
  scores.resize(done + std::max(read, first) - first);
  return whole;
}

std::vector<double> score_windows(Decoder& decoder, int64_t vocabulary, std::span<const int32_t> inputs,
                                  std::span<const Window> windows, ThreadPool& pool,
                                  const std::function<bool(int64_t)>& progress) {
  Scorer scorer(decoder, vocabulary, pool);
  std::vector<double> scores;
  for (const Window& window : windows) {
    decoder.reset(0);
    const auto begin = static_cast<size_t>(window.first_input);
    const auto read = inputs.subspan(begin, static_cast<size_t>(window.end) + 1 - begin);
    if (!scorer.read(0, read, static_cast<size_t>(window.first_scored) - begin, scores, progress)) break;
  }
  return scores;
}

}  // namespace linnet

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

std::vector<double> score_windows(Decoder& decoder, int64_t vocabulary, std::span<const int32_t> inputs,
                                  std::span<const Window> windows, ThreadPool& pool,
                                  const std::function<bool(int64_t)>& progress) {
  const int64_t rows = std::clamp(kLogits / vocabulary, kFewestRows, kMostRows);
  std::vector<float> logits(static_cast<size_t>(rows * vocabulary));
  std::vector<double> scores;
  for (const Window& window : windows) {
    decoder.reset(0);
    for (int64_t at = window.first_input; at < window.end;) {
      const bool scored = at >= window.first_scored;
      // A window that fits is one piece; its first rows may be unscored.
      const int64_t room = window.end - at <= rows ? window.end - at
                           : scored                ? rows
                                                   : std::min(kUnscoredPiece, window.first_scored - at);
      const int64_t end = std::min(at + room, window.end);
      const int64_t first = std::clamp(window.first_scored, at, end);  // scored rows are [first, end)
      const auto count = static_cast<size_t>((end - first) * vocabulary);
      decoder.prefill(0, inputs.subspan(static_cast<size_t>(at), static_cast<size_t>(end - at)),
                      static_cast<size_t>(first - at), std::span(logits).first(count));
      const size_t done = scores.size();
      scores.resize(done + static_cast<size_t>(end - first));
      pool.run(static_cast<size_t>(end - first), [&](size_t row) {
        scores[done + row] = negative_log_likelihood(
            std::span<const float>(logits).subspan(row * static_cast<size_t>(vocabulary),
                                                   static_cast<size_t>(vocabulary)),
            inputs[static_cast<size_t>(first) + row + 1]);
      });
      if (progress && !progress(end - at)) return scores;
      at = end;
    }
  }
  return scores;
}

}  // namespace linnet

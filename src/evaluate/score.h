// −ln p of tokens, computed through prefill: many rows of logits at a time.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "evaluate/windows.h"
#include "model/decoder.h"

namespace linnet {

/// Scores what follows in a slot of a decoder, with one buffer of logits for all its calls.
class Scorer {
 public:
  Scorer(Decoder& decoder, int64_t vocabulary, ThreadPool& pool);

  /// Reads `inputs` on from the slot's state and calls `row`, in parallel, with the place and the logits of
  /// each from `first` on. `progress`, where there is one, hears how many inputs were read since it was last
  /// called and says whether to go on. Returns how many were read: all, unless it said no.
  size_t visit(int slot, std::span<const int32_t> inputs, size_t first,
               const std::function<void(size_t, std::span<const float>)>& row,
               const std::function<bool(int64_t)>& progress = {});

  /// Reads all of `inputs` but the last on from the slot's state, and appends −ln p of each token that
  /// follows one of those from `first` on. `progress`, where there is one, hears how many inputs were read
  /// since it was last called and says whether to go on; false after a no.
  bool read(int slot, std::span<const int32_t> inputs, size_t first, std::vector<double>& scores,
            const std::function<bool(int64_t)>& progress = {});

 private:
  Decoder& decoder_;
  int64_t vocabulary_, rows_;
  ThreadPool& pool_;
  std::vector<float> logits_;
};

/// −ln p of each token that `windows` score, in order. `inputs` [tokens + 1]: BOS, then the document.
/// `progress`, where there is one, hears how many inputs were read since it was last called and says whether
/// to go on; after a no the result is what was scored so far.
std::vector<double> score_windows(Decoder& decoder, int64_t vocabulary, std::span<const int32_t> inputs,
                                  std::span<const Window> windows, ThreadPool& pool,
                                  const std::function<bool(int64_t)>& progress = {});

/// −ln softmax(logits)[token], summed in float64. Throws Error (status: failed) if that is not a number.
double negative_log_likelihood(std::span<const float> logits, int32_t token);

}  // namespace linnet

// Log-likelihoods of continuations, many of which follow the same beginning: each shared beginning is read
// once and its state copied.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "evaluate/score.h"
#include "model/decoder.h"

namespace linnet {

struct LikelihoodRequest {
  std::vector<int32_t> tokens;  // of the context, then of the continuation
  size_t first = 0;             // of the continuation; 1 or more, less than all
};

struct Likelihood {
  double nats = 0;     // ln p of the continuation after the context
  bool greedy = true;  // each of its tokens was the likeliest
};

/// Reads requests as a tree: sorted by their tokens, what a range of them shares is read in one slot, copied
/// for each that goes on from there.
class LikelihoodReader {
 public:
  static constexpr int kSlots = 6;  // of the decoder

  struct Counts {
    int64_t requests = 0;
    int64_t tokens = 0;      // that the model read
    int64_t all_tokens = 0;  // that it would have, each request by itself
  };

  /// `share` false: reads each request by itself, for comparison.
  LikelihoodReader(Decoder& decoder, ThreadPool& pool, bool share = true);

  /// In the order of `requests`. `progress`, where there is one, hears how many requests were answered since
  /// it was last called and says whether to go on; after a no the result is empty.
  std::vector<Likelihood> read(std::span<const LikelihoodRequest> requests,
                               const std::function<bool(int64_t)>& progress = {});

  const Counts& counts() const { return counts_; }

 private:
  using Range = std::span<const size_t>;  // of requests, sorted by tokens

  const LikelihoodRequest& at(size_t request) const { return requests_[request]; }
  size_t inputs(size_t request) const { return requests_[request].tokens.size() - 1; }
  size_t shared_inputs(Range range) const;
  bool read_range(Range range, int slot, size_t from);
  bool read_alone(size_t request, int slot, size_t from);
  bool read_on(Range range, int slot, size_t from, size_t to);
  bool answered(int64_t requests);

  Decoder& decoder_;
  Scorer scorer_;
  bool share_;
  Counts counts_;
  std::span<const LikelihoodRequest> requests_;
  std::vector<Likelihood> answers_;
  const std::function<bool(int64_t)>* progress_ = nullptr;
};

}  // namespace linnet

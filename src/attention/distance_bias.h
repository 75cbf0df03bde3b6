// What a model adds to its scores by how far a token stands from the query (T5's relative positions, Raffel
// et al. 2020, section 2.1): x_s = τ q_t·k_s + b_h(s − t). A function of the distance alone: a tree's node at
// position t reads it as the last token of a sequence does. It is added to softmax's scores and to the local
// branch's, where those are the base's (neither cosines nor products of unit rows); a summary knows no
// distances.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

namespace linnet {

/// T5's buckets: the nearest distances have one each, those up to `most` share the others by their logarithm.
struct DistanceBuckets {
  int64_t count = 0;  // of all; half to each side where tokens see both
  int64_t most = 0;   // from this distance on all is one bucket
  bool both_sides = false;

  /// Of the distance s − t; one of 0 … count − 1.
  int64_t of(int64_t distance) const;
};

class DistanceBias {
 public:
  /// `matrix` [buckets, heads], as the model's file has it.
  DistanceBias(const DistanceBuckets& buckets, std::span<const double> matrix, int64_t heads);

  double at(int64_t head, int64_t distance) const {
    return numbers_[head * (2 * reach_ + 1) + std::clamp(distance, -reach_, reach_) + reach_];
  }
  /// Adds to a query head's scores of `count` tokens that stand at distances `first`, first + 1, …
  template <class T>
  void add(int64_t head, int64_t first, int64_t count, T* scores) const {
    for (int64_t i = 0; i < count; ++i) scores[i] += T(at(head, first + i));
  }

 private:
  int64_t reach_;                // further tokens, to either side, have the bias of this distance
  std::vector<double> numbers_;  // [heads, 2 reach + 1]
};

}  // namespace linnet

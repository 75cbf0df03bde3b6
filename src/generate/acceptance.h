// How often guesses were right of which their drafter said how likely they are: what it says, corrected by
// what came of it, at each depth and for each range of probabilities.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "generate/drafter.h"
#include "generate/hit_record.h"

namespace linnet {

class Acceptance {
 public:
  /// How likely each node of a draft is to be reached, by what became of earlier ones.
  std::vector<double> reached(const Draft& draft) const;
  /// `tokens` came to stand after the draft's root. Nodes count whether they were computed or not.
  void followed(const Draft& draft, std::span<const int32_t> tokens);

 private:
  static constexpr int kDepths = 4, kRanges = 10;
  static size_t kind_of(const Draft& draft, int32_t node);

  std::array<Hits, kDepths * kRanges> kinds_{};
};

}  // namespace linnet

// How the learning rate goes over the steps of a phase.
#pragma once

#include <cstdint>
#include <string_view>

namespace linnet::train {

enum class RateShape { kConstant, kLinear, kCosine };

/// "constant", "linear", "cosine". Throws Error naming `where` on another.
RateShape decay_of(std::string_view name, std::string_view where);
std::string_view name_of(RateShape decay);

struct Schedule {
  RateShape decay = RateShape::kCosine;
  double peak = 1e-3;
  double floor = 0.1;  // what the decay ends at, as a fraction of the peak
  int64_t warmup = 0;  // steps over which the rate rises linearly, on top of the decay
  int64_t steps = 1;   // of the phase
  // Phases may share one decay: this one's steps are then `before` … before + steps − 1 of before + steps +
  // after.
  int64_t before = 0, after = 0;

  /// The rate of the phase's step 0 … steps − 1: peak · min(1, (s+1)/warmup) · (floor + (1 − floor) d), where
  /// s = before + step, n = before + steps + after, and d is 1, 1 − s/n or ½(1 + cos(π s/n)).
  double at(int64_t step) const;
};

}  // namespace linnet::train

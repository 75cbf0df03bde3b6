// How the learning rate goes over the steps of a phase.
#pragma once

#include <cstdint>
#include <string_view>

namespace linnet::train {

enum class Decay { kConstant, kLinear, kCosine };

/// "constant", "linear", "cosine". Throws Error naming `where` on another.
Decay decay_of(std::string_view name, std::string_view where);
std::string_view name_of(Decay decay);

struct Schedule {
  Decay decay = Decay::kCosine;
  double peak = 1e-3;
  double floor = 0.1;  // what the decay ends at, as a fraction of the peak
  int64_t warmup = 0;  // steps over which the rate rises linearly, on top of the decay
  int64_t steps = 1;   // of the phase

  /// The rate of step 0 … steps − 1: peak · min(1, (step+1)/warmup) · (floor + (1 − floor) d), where d is 1,
  /// 1 − step/steps or ½(1 + cos(π step/steps)).
  double at(int64_t step) const;
};

}  // namespace linnet::train

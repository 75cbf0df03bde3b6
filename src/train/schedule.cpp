#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace linnet::train {
namespace {
constexpr std::string_view kNames[] = {"constant", "linear", "cosine"};
}

RateShape decay_of(std::string_view name, std::string_view where) {
  const auto* found = std::find(std::begin(kNames), std::end(kNames), name);
  if (found == std::end(kNames)) throw Error(where, printable(name), "constant, linear or cosine");
  return static_cast<RateShape>(found - std::begin(kNames));
}

std::string_view name_of(RateShape decay) { return kNames[static_cast<size_t>(decay)]; }

double Schedule::at(int64_t step) const {
  step += before;
  const double done =
      static_cast<double>(step) / static_cast<double>(std::max<int64_t>(before + steps + after, 1));
  const double rise =
      warmup > 0 ? std::min(1.0, static_cast<double>(step + 1) / static_cast<double>(warmup)) : 1.0;
  double left = 1.0;
  if (decay == RateShape::kLinear) left = 1.0 - done;
  if (decay == RateShape::kCosine) left = 0.5 * (1.0 + std::cos(std::numbers::pi * done));
  return peak * rise * (floor + (1.0 - floor) * left);
}

}  // namespace linnet::train

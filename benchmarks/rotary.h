// Keys of the benchmarks turn as a rotary model's do.
#pragma once

#include <cmath>

#include "attention/rotation.h"

namespace linnet {

/// Base 1e5 and 8192 trained positions, as the shipped base has them.
inline Rotation rotary(int head_size) {
  Rotation rotation;
  for (int i = 0; i < head_size / 2; ++i)
    rotation.inverse_frequencies.push_back(std::pow(1e5, -2.0 * i / head_size));
  rotation.trained_positions = 8192;
  return rotation;
}

}  // namespace linnet

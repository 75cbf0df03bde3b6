// Rotary position embedding (Su et al. 2021, equation 34) in Hugging Face's half-split form: number i of a
// head turns with number i + half. Angles are float64: a float32 one is off by 0.06 at a million tokens.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>

namespace linnet::kernels {

/// cosines[i], sines[i] = factor · cos, sin of position · inverse[i].
template <class T>
void rotary_angles(std::span<const double> inverse, double factor, int64_t position, T* cosines, T* sines) {
  for (size_t i = 0; i < inverse.size(); ++i) {
    const double angle = static_cast<double>(position) * inverse[i];
    cosines[i] = static_cast<T>(factor * std::cos(angle));
    sines[i] = static_cast<T>(factor * std::sin(angle));
  }
}

/// y = x turned, [heads, head_size] of one token; numbers past 2 · half of a head are copied. y is not x.
template <class T>
void rotate(const T* __restrict__ x, int64_t heads, int64_t head_size, int64_t half,
            const T* __restrict__ cosines, const T* __restrict__ sines, T* __restrict__ y) {
  for (int64_t h = 0; h < heads; ++h, x += head_size, y += head_size) {
    for (int64_t i = 0; i < half; ++i) {
      y[i] = x[i] * cosines[i] - x[i + half] * sines[i];
      y[i + half] = x[i + half] * cosines[i] + x[i] * sines[i];
    }
    std::copy(x + 2 * half, x + head_size, y + 2 * half);
  }
}

}  // namespace linnet::kernels

// Random numbers, comparisons and poison for the kernels' tests.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "base/random.h"

namespace linnet {

/// `count` standard normal numbers; a function of the seed.
template <class T = float>
std::vector<T> normals(size_t count, uint64_t seed) {
  std::vector<T> numbers(count);
  for (size_t i = 0; i < count; ++i) numbers[i] = static_cast<T>(normal(seed, 0, i));
  return numbers;
}

/// A buffer in which a number that nobody wrote, or that was read before, shows.
inline std::vector<float> poison(size_t count) {
  return std::vector<float>(count, std::numeric_limits<float>::quiet_NaN());
}

/// √(Σ (a − b)² / Σ b²).
template <class A, class B>
double relative_rms(const A& a, const B& b) {
  double away = 0, size = 0;
  for (size_t i = 0; i < std::size(b); ++i) {
    const double difference = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    away += difference * difference;
    size += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return std::sqrt(away / (size > 0 ? size : 1.0));
}

inline std::vector<double> widened(const std::vector<float>& x) { return {x.begin(), x.end()}; }

/// The bits of floats, for comparisons in which NaN equals NaN and −0 is not 0.
inline std::vector<uint32_t> bits(std::span<const float> x) {
  std::vector<uint32_t> out;
  for (float number : x) out.push_back(std::bit_cast<uint32_t>(number));
  return out;
}

}  // namespace linnet

#include "kernels/cpu/weights.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/bfloat16.h"

namespace linnet::kernels {
namespace {

/// Where numbers of a row of int4 stand: of each block a half of lower and a half of upper halves of bytes.
struct Block {
  int64_t begin, half;  // numbers
};
Block block_of(int64_t begin, int64_t in) { return {begin, std::min<int64_t>(64, in - begin) / 2}; }

template <class T>
void read_int8(const int8_t* row, const uint16_t* scales, int64_t in, T* numbers) {
  for (int64_t group = 0; group < in; group += kScaleGroup) {
    const T scale = bfloat16_to_float(scales[group / kScaleGroup]);
    for (int64_t i = group; i < group + kScaleGroup; ++i) numbers[i] = static_cast<T>(row[i]) * scale;
  }
}

template <class T>
void read_int4(const uint8_t* row, const uint16_t* scales, int64_t in, T* numbers) {
  for (int64_t at = 0; at < in; at += 64) {
    const auto [begin, half] = block_of(at, in);
    const T lower = bfloat16_to_float(scales[begin / kScaleGroup]);
    const T upper = bfloat16_to_float(scales[(begin + half) / kScaleGroup]);
    for (int64_t i = 0; i < half; ++i) {
      const int both = row[begin / 2 + i];
      numbers[begin + i] = static_cast<T>((both & 15) - 8) * lower;
      numbers[begin + half + i] = static_cast<T>((both >> 4) - 8) * upper;
    }
  }
}

template <class T>
void read(const Weights& weights, int64_t index, T* numbers) {
  const std::byte* row = weights.data + index * weights.row_bytes();
  const uint16_t* scales = weights.scales + index * (weights.in / kScaleGroup);
  switch (weights.type) {
    case WeightType::kFloat32:
      std::copy_n(reinterpret_cast<const float*>(row), weights.in, numbers);
      return;
    case WeightType::kBFloat16: {
      const auto* from = reinterpret_cast<const uint16_t*>(row);
      std::transform(from, from + weights.in, numbers, bfloat16_to_float);
      return;
    }
    case WeightType::kInt8:
      return read_int8(reinterpret_cast<const int8_t*>(row), scales, weights.in, numbers);
    case WeightType::kInt4:
      return read_int4(reinterpret_cast<const uint8_t*>(row), scales, weights.in, numbers);
  }
}

/// The scale of a group, its number of the largest size as `units` of it.
float scale_of(float largest, float units) { return bfloat16_to_float(float_to_bfloat16(largest / units)); }

float integer_of(float number, float scale, float least, float most) {
  const float inverse = std::isfinite(1 / scale) ? 1 / scale : 0;
  return std::clamp(std::nearbyint(number * inverse), least, most);
}

/// The scale of a group in int4 by which the sum of squared errors is the least: of −8 … 7 the largest number
/// is −8, or a little more or less where that fits the others better.
float int4_scale(const float* group, float largest) {
  float best = 0, least_error = std::numeric_limits<float>::infinity();
  for (const float units : {-8.0f, -7.0f, -7.5f, -8.5f, -9.0f}) {
    const float scale = scale_of(largest, units);
    float error = 0;
    for (int64_t i = 0; i < kScaleGroup; ++i) {
      const float off = group[i] - scale * integer_of(group[i], scale, -8, 7);
      error += off * off;
    }
    if (error < least_error) best = scale, least_error = error;
  }
  return best;
}

}  // namespace

void read_row(const Weights& weights, int64_t index, float* numbers) { read(weights, index, numbers); }
void read_row(const Weights& weights, int64_t index, double* numbers) { read(weights, index, numbers); }

void quantize_row(WeightType type, const float* numbers, int64_t in, std::byte* to, uint16_t* scales) {
  auto* bytes = reinterpret_cast<uint8_t*>(to);
  const bool int8 = type == WeightType::kInt8;
  if (!int8) std::fill_n(bytes, in / 2, uint8_t{0});
  for (int64_t group = 0; group < in; group += kScaleGroup) {
    const float* from = numbers + group;
    const float largest = *std::max_element(from, from + kScaleGroup,
                                            [](float a, float b) { return std::abs(a) < std::abs(b); });
    const float scale = int8 ? scale_of(std::abs(largest), 127) : int4_scale(from, largest);
    scales[group / kScaleGroup] = float_to_bfloat16(scale);
    for (int64_t i = group; i < group + kScaleGroup; ++i) {
      if (int8) {
        bytes[i] = static_cast<uint8_t>(static_cast<int>(integer_of(numbers[i], scale, -127, 127)));
        continue;
      }
      const auto [begin, half] = block_of(i / 64 * 64, in);
      const int64_t at = i - begin;
      const int number = static_cast<int>(integer_of(numbers[i], scale, -8, 7)) + 8;
      bytes[begin / 2 + at % half] |= static_cast<uint8_t>(number << (at < half ? 0 : 4));
    }
  }
}

}  // namespace linnet::kernels

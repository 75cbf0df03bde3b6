#include "kernels/cpu/weights.h"

#include <algorithm>

#include "base/bfloat16.h"

namespace linnet::kernels {
namespace {

/// The integers of a row, as they stand for themselves.
template <class T>
void read_integers(WeightType type, const std::byte* row, int64_t in, T* numbers) {
  if (type == WeightType::kInt8) {
    std::copy_n(reinterpret_cast<const int8_t*>(row), in, numbers);
    return;
  }
  for (int64_t i = 0; i < in; i += 2) {
    const int both = static_cast<int>(row[i / 2]);
    numbers[i] = static_cast<T>((both & 15) - 8);
    numbers[i + 1] = static_cast<T>((both >> 4) - 8);
  }
}

template <class T>
void read(const Weights& weights, int64_t index, T* numbers) {
  const std::byte* row = weights.data + index * weights.row_bytes();
  if (weights.type == WeightType::kFloat32) {
    std::copy_n(reinterpret_cast<const float*>(row), weights.in, numbers);
    return;
  }
  if (weights.type == WeightType::kBFloat16) {
    const auto* from = reinterpret_cast<const uint16_t*>(row);
    std::transform(from, from + weights.in, numbers, bfloat16_to_float);
    return;
  }
  read_integers(weights.type, row, weights.in, numbers);
  for (int64_t g = 0; g < weights.groups(); ++g) {
    const int64_t at = index * weights.groups() + g;
    const T scale = bfloat16_to_float(weights.scales[at]);
    const T offset = weights.offsets == nullptr ? 0 : bfloat16_to_float(weights.offsets[at]);
    T* of_group = numbers + g * weights.group;
    for (int64_t i = 0; i < weights.group; ++i) of_group[i] = of_group[i] * scale + offset;
  }
}

}  // namespace

void read_row(const Weights& weights, int64_t index, float* numbers) { read(weights, index, numbers); }
void read_row(const Weights& weights, int64_t index, double* numbers) { read(weights, index, numbers); }

}  // namespace linnet::kernels

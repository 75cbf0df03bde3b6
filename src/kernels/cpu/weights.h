// A matrix of weights as products read it: a value that knows its type. One row of kWeightTypes per type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace linnet::kernels {

enum class WeightType { kFloat32, kBFloat16, kInt8, kInt4 };

/// Numbers in a row of W that share a scale, where they are integers.
inline constexpr int64_t kScaleGroup = 32;

struct WeightTypeRow {
  std::string_view name;
  int bits;      // of a number
  bool integer;  // times a bf16 scale per kScaleGroup of them
};
inline constexpr WeightTypeRow kWeightTypes[] = {
    {"float32", 32, false}, {"bfloat16", 16, false}, {"int8", 8, true}, {"int4", 4, true}};

constexpr const WeightTypeRow& row_of(WeightType type) { return kWeightTypes[static_cast<int>(type)]; }

/// W [out, in], row-major, someone else's memory. int8: two's complement. int4: numbers from −8 to 7, eight
/// added, of each 64 in a row number i in the lower half of byte i and 32 + i in its upper half (of a last
/// 32, i and 16 + i in byte i). `in` of integers is a multiple of kScaleGroup.
struct Weights {
  WeightType type = WeightType::kFloat32;
  int64_t out = 0, in = 0;
  const std::byte* data = nullptr;
  const uint16_t* scales = nullptr;  // [out, in / kScaleGroup], bf16; null unless integers

  int64_t row_bytes() const { return in * row_of(type).bits / 8; }
  size_t bytes() const {
    const int64_t scale_bytes = row_of(type).integer ? in / kScaleGroup * 2 : 0;
    return static_cast<size_t>(out * (row_bytes() + scale_bytes));
  }
};

/// Row `index` as numbers [in], exactly.
void read_row(const Weights& weights, int64_t index, float* numbers);
void read_row(const Weights& weights, int64_t index, double* numbers);

/// A row of `in` finite numbers as integers of `type` with their scales, to nearest. The number of the
/// largest size sets a group's scale; of int4, of several such the one that leaves the least error.
void quantize_row(WeightType type, const float* numbers, int64_t in, std::byte* to, uint16_t* scales);

}  // namespace linnet::kernels

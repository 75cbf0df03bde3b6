// A matrix of weights as products read it: a value that knows its type. One row of kWeightTypes per type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace linnet::kernels {

enum class WeightType { kFloat32, kBFloat16, kInt8, kInt4 };

/// Numbers in a row of x that share a scale where they are integers, and the least in a row of W.
inline constexpr int64_t kScaleGroup = 32;

struct WeightTypeRow {
  std::string_view name;
  int bits;      // of a number
  bool integer;  // times a bf16 scale per group of them
};
inline constexpr WeightTypeRow kWeightTypes[] = {
    {"float32", 32, false}, {"bfloat16", 16, false}, {"int8", 8, true}, {"int4", 4, true}};

constexpr const WeightTypeRow& row_of(WeightType type) { return kWeightTypes[static_cast<int>(type)]; }

/// Whether `group` numbers of a row of `in` may share a scale: kScaleGroup, a multiple of twice as many, or
/// all.
constexpr bool is_scale_group(int64_t group, int64_t in) {
  if (group < 1 || in % group != 0 || in % kScaleGroup != 0) return false;
  return group == kScaleGroup || group % (2 * kScaleGroup) == 0 || group == in;
}

/// What a packed matrix takes (packed_weights.h).
size_t packed_bytes(WeightType type, bool offsets, int64_t out, int64_t in);

/// W [out, in], row-major, someone else's memory. int8: two's complement. int4: numbers from −8 to 7, eight
/// added, number 2i of a row in the lower half of its byte i and 2i + 1 in the upper half. Number i of
/// integers stands for q[i] · scales[i / group] + offsets[i / group].
struct Weights {
  WeightType type = WeightType::kFloat32;
  int64_t out = 0, in = 0;
  const std::byte* data = nullptr;
  const uint16_t* scales = nullptr;   // [out, in / group], bf16; null unless integers
  int64_t group = kScaleGroup;        // is_scale_group(group, in), of integers
  const uint16_t* offsets = nullptr;  // as scales; null: zeros
  bool packed = false;          // integers as packed_weights.h lays them out, scales and offsets among them
  bool packed_offsets = false;  // whether these have any

  int64_t row_bytes() const { return in * row_of(type).bits / 8; }
  int64_t groups() const { return row_of(type).integer ? in / group : 0; }  // of a row
  size_t bytes() const {
    if (packed) return packed_bytes(type, packed_offsets, out, in);
    const int64_t of_groups = groups() * (offsets == nullptr ? 2 : 4);
    return static_cast<size_t>(out * (row_bytes() + of_groups));
  }
};

/// Row `index` as numbers [in], exactly; not of packed ones.
void read_row(const Weights& weights, int64_t index, float* numbers);
void read_row(const Weights& weights, int64_t index, double* numbers);

/// Where quantize_row writes a row: numbers [row_bytes()], scales [groups()], offsets likewise or null.
struct IntegerRow {
  std::byte* numbers;
  uint16_t* scales;
  uint16_t* offsets = nullptr;
};

/// A row of finite numbers [form.in] as integers of form.type in groups of form.group, to nearest. int8: the
/// number of the largest size sets a group's scale. int4: of several scales, and offsets where the row has
/// them, those that leave the least sum of `importance` [form.in] (null: ones) times squared error.
void quantize_row(const Weights& form, const float* numbers, const float* importance, const IntegerRow& to);

}  // namespace linnet::kernels

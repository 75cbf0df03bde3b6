#include "generate/draft_matrix.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "base/bfloat16.h"
#include "base/error.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/few_rows.h"

namespace linnet {
namespace {

using kernels::WeightType;

WeightType type_of(ComputeType compute, int64_t in) {
  if (compute == ComputeType::kFloat32 || compute == ComputeType::kFloat64) return WeightType::kFloat32;
  const bool integers = kernels::fastest_rows(WeightType::kInt8) == kernels::RowType::kInt8;
  return integers && in % kernels::kScaleGroup == 0 ? WeightType::kInt8 : WeightType::kBFloat16;
}

/// Groups of numbers by one scale each, the largest 127.
void to_int8(const float* numbers, int64_t in, int8_t* to, uint16_t* scales) {
  for (int64_t begin = 0; begin < in; begin += kernels::kScaleGroup, ++scales) {
    float largest = 0;
    for (int64_t i = begin; i < begin + kernels::kScaleGroup; ++i)
      largest = std::max(largest, std::abs(numbers[i]));
    const float scale = largest / 127;
    kernels::to_bfloat16(&scale, 1, scales);
    const float rounded = bfloat16_to_float(*scales);
    for (int64_t i = begin; i < begin + kernels::kScaleGroup; ++i) {
      const float quotient = rounded > 0 ? std::round(numbers[i] / rounded) : 0;
      to[i] = static_cast<int8_t>(std::clamp(quotient, -127.0F, 127.0F));
    }
  }
}

}  // namespace

Matrix draft_matrix(const TensorView& tensor, std::span<const int32_t> rows, ComputeType compute,
                    const std::string& where) {
  if (tensor.shape.size() != 2) throw Error(where, "has shape " + to_string(tensor.shape), "a matrix");
  struct Kept {
    AlignedArray<std::byte> numbers;
    std::vector<uint16_t> scales;
  };
  const int64_t in = tensor.shape[1], out = rows.empty() ? tensor.shape[0] : std::ssize(rows);
  const auto kept = std::make_shared<Kept>();
  Matrix made;
  made.type = type_of(compute, in), made.out = out, made.in = in;
  kept->numbers = zeroed<std::byte>(out * made.row_bytes());
  const int64_t groups = made.type == WeightType::kInt8 ? in / kernels::kScaleGroup : 0;
  kept->scales.resize(static_cast<size_t>(out * groups));
  const size_t row_bytes = static_cast<size_t>(in) * size_of(tensor.type);
  for (int64_t o = 0; o < out; ++o) {
    const auto row = static_cast<size_t>(rows.empty() ? o : rows[static_cast<size_t>(o)]);
    const std::vector<float> numbers =
        to_float({tensor.type, {in}, tensor.bytes.subspan(row * row_bytes, row_bytes)}, where);
    std::byte* to = kept->numbers.get() + o * made.row_bytes();
    if (made.type == WeightType::kInt8) {
      to_int8(numbers.data(), in, reinterpret_cast<int8_t*>(to), kept->scales.data() + o * groups);
    } else if (made.type == WeightType::kBFloat16) {
      kernels::to_bfloat16(numbers.data(), in, reinterpret_cast<uint16_t*>(to));
    } else {
      std::copy_n(numbers.data(), in, reinterpret_cast<float*>(to));
    }
  }
  made.data = kept->numbers.get();
  if (groups > 0) made.scales = kept->scales.data();
  made.owner = kept;
  return made;
}

}  // namespace linnet

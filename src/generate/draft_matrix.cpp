#include "generate/draft_matrix.h"

#include <algorithm>
#include <memory>
#include <vector>

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

}  // namespace

Matrix draft_matrix(const Matrix& from, std::span<const int32_t> rows, ComputeType compute) {
  struct Kept {
    AlignedArray<std::byte> numbers;
    std::vector<uint16_t> scales;
  };
  const auto kept = std::make_shared<Kept>();
  Matrix made;
  made.type = type_of(compute, from.in), made.in = from.in;
  made.out = rows.empty() ? from.out : std::ssize(rows);
  kept->numbers = zeroed<std::byte>(made.out * made.row_bytes());
  kept->scales.resize(static_cast<size_t>(made.out * made.groups()));
  std::vector<float> numbers(static_cast<size_t>(from.in));
  for (int64_t o = 0; o < made.out; ++o) {
    kernels::read_row(from, rows.empty() ? o : rows[static_cast<size_t>(o)], numbers.data());
    std::byte* to = kept->numbers.get() + o * made.row_bytes();
    if (made.type == WeightType::kInt8) {
      kernels::quantize_row(made, numbers.data(), nullptr, {to, kept->scales.data() + o * made.groups()});
    } else if (made.type == WeightType::kBFloat16) {
      kernels::to_bfloat16(numbers.data(), from.in, reinterpret_cast<uint16_t*>(to));
    } else {
      std::copy_n(numbers.data(), from.in, reinterpret_cast<float*>(to));
    }
  }
  made.data = kept->numbers.get();
  if (made.groups() > 0) made.scales = kept->scales.data();
  made.owner = kept;
  return made;
}

}  // namespace linnet

#include "format/tensor.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "base/error.h"
#include "format/dtypes.h"

namespace linnet {
namespace {

// IEEE half precision, exactly; subnormals, infinities and NaN included.
float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 0x1F, fraction = half & 0x3FF;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t wide = exponent == 31 ? 0xFFu : exponent + 112;
  return std::bit_cast<float>(sign | wide << 23 | fraction << 13);
}

float bfloat16_to_float(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }

// A file's tensor may begin at any byte: numbers are copied out, never read through a cast pointer.
template <class Stored, class T, class Convert>
void convert(std::span<const std::byte> bytes, std::vector<T>& out, Convert&& one) {
  for (size_t i = 0; i < out.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    out[i] = static_cast<T>(one(stored));
  }
}

template <class T>
std::vector<T> to_floating(const TensorView& tensor, std::string_view where) {
  std::vector<T> out(static_cast<size_t>(tensor.numbers()));
  const auto same = [](auto x) { return x; };
  switch (tensor.type) {
    case DType::kF64:
      convert<double>(tensor.bytes, out, same);
      return out;
    case DType::kF32:
      convert<float>(tensor.bytes, out, same);
      return out;
    case DType::kF16:
      convert<uint16_t>(tensor.bytes, out, half_to_float);
      return out;
    case DType::kBF16:
      convert<uint16_t>(tensor.bytes, out, bfloat16_to_float);
      return out;
    default:
      throw Error(where, fmt::format("numbers of type {}", name_of(tensor.type)), "F64, F32, F16 or BF16");
  }
}

}  // namespace

size_t size_of(DType type) { return kDTypes[static_cast<size_t>(type)].size; }

std::string_view name_of(DType type) { return kDTypes[static_cast<size_t>(type)].name; }

int64_t TensorView::numbers() const {
  int64_t product = 1;
  for (int64_t size : shape) product *= size;
  return product;
}

std::string to_string(const std::vector<int64_t>& shape) {
  constexpr size_t kShown = 8;  // a hostile shape may have a million entries
  std::string text = fmt::format(
      "[{}",
      fmt::join(shape.begin(), shape.begin() + static_cast<int64_t>(std::min(shape.size(), kShown)), ", "));
  return text + (shape.size() > kShown ? ", …]" : "]");
}

std::vector<float> to_float(const TensorView& tensor, std::string_view where) {
  return to_floating<float>(tensor, where);
}

std::vector<double> to_double(const TensorView& tensor, std::string_view where) {
  return to_floating<double>(tensor, where);
}

}  // namespace linnet

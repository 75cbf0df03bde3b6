#include "format/tensor.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/bfloat16.h"
#include "base/error.h"
#include "format/dtypes.h"

namespace linnet {
namespace {

uint16_t float_to_half(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const uint32_t magnitude = bits & 0x7FFFFFFF;
  if (magnitude > 0x7F800000) return sign | 0x7E00;
  if (magnitude >= 0x477FF000) return sign | 0x7C00;  // 65520 and above round to infinity
  if (magnitude < 0x38800000) {  // subnormal: a multiple of 2⁻²⁴, rounded by the addition
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - std::bit_cast<uint32_t>(0.5f)));
  }
  const uint32_t rounded = magnitude + 0xFFF + (magnitude >> 13 & 1);
  return static_cast<uint16_t>(sign | (rounded - 0x38000000) >> 13);
}

// Whether the bits of every number's exponent are below `least`: with every bit set it is infinite or NaN.
// Blocks are copied, because a file's tensor may stand at any byte; the inner loop has no branch, so that it
// becomes vector code.
template <class Bits>
bool all_below(std::span<const std::byte> bytes, Bits exponent, Bits least) {
  constexpr size_t kBlock = 4096 / sizeof(Bits);
  Bits block[kBlock];
  while (!bytes.empty()) {
    const size_t count = std::min(kBlock, bytes.size() / sizeof(Bits));
    std::memcpy(block, bytes.data(), count * sizeof(Bits));
    Bits bad = 0;
    for (size_t i = 0; i < count; ++i) bad |= static_cast<Bits>((block[i] & exponent) >= least);
    if (bad != 0) return false;
    bytes = bytes.subspan(count * sizeof(Bits));
  }
  return true;
}

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

bool is_sound(DType type, std::span<const std::byte> bytes) {
  constexpr int kPower = 63;  // of the least number that is not
  switch (type) {
    case DType::kF64:
      return all_below<uint64_t>(bytes, uint64_t{0x7FF} << 52, uint64_t{1023 + kPower} << 52);
    case DType::kF32:
      return all_below<uint32_t>(bytes, 0x7F800000, uint32_t{127 + kPower} << 23);
    case DType::kF16:
      return all_below<uint16_t>(bytes, 0x7C00, 0x7C00);
    case DType::kBF16:
      return all_below<uint16_t>(bytes, 0x7F80, uint16_t{127 + kPower} << 7);
    default:
      return true;
  }
}

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

std::string tensor_at(std::string_view where, std::string_view name) {
  return fmt::format("{}: tensor \"{}\"", where, printable(name));
}

std::vector<float> to_float(const TensorView& tensor, std::string_view where) {
  return to_floating<float>(tensor, where);
}

std::vector<double> to_double(const TensorView& tensor, std::string_view where) {
  return to_floating<double>(tensor, where);
}

std::vector<std::byte> from_float(std::span<const float> numbers, DType type) {
  std::vector<std::byte> out(numbers.size() * size_of(type));
  const auto store = [&](auto&& one) {
    for (size_t i = 0; i < numbers.size(); ++i) {
      const auto stored = one(numbers[i]);
      std::memcpy(out.data() + i * sizeof(stored), &stored, sizeof(stored));
    }
  };
  switch (type) {
    case DType::kF64:
      store([](float x) { return static_cast<double>(x); });
      return out;
    case DType::kF32:
      store([](float x) { return x; });
      return out;
    case DType::kF16:
      store(float_to_half);
      return out;
    case DType::kBF16:
      store(float_to_bfloat16);
      return out;
    default:
      throw Error("tensor", fmt::format("numbers of type {}", name_of(type)), "F64, F32, F16 or BF16");
  }
}

}  // namespace linnet

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

// Floating types as files hold them: the bits of a number, what it is, what is nearest to one, and the bits
// of its exponent with the least ones that are not sound: 2^kPower, or of a half, which float32 holds whole,
// infinity.
constexpr int kPower = 63;

struct StoredDouble {
  using Bits = uint64_t;
  static constexpr Bits kExponent = uint64_t{0x7FF} << 52, kLeast = uint64_t{1023 + kPower} << 52;
  static double number(Bits bits) { return std::bit_cast<double>(bits); }
  static Bits bits(float x) { return std::bit_cast<Bits>(static_cast<double>(x)); }
};

struct StoredFloat {
  using Bits = uint32_t;
  static constexpr Bits kExponent = 0x7F800000, kLeast = uint32_t{127 + kPower} << 23;
  static float number(Bits bits) { return std::bit_cast<float>(bits); }
  static Bits bits(float x) { return std::bit_cast<Bits>(x); }
};

struct StoredHalf {
  using Bits = uint16_t;
  static constexpr Bits kExponent = 0x7C00, kLeast = kExponent;
  static float number(Bits bits) { return half_to_float(bits); }
  static Bits bits(float x) { return float_to_half(x); }
};

struct StoredBFloat16 {
  using Bits = uint16_t;
  static constexpr Bits kExponent = 0x7F80, kLeast = (127 + kPower) << 7;
  static float number(Bits bits) { return bfloat16_to_float(bits); }
  static Bits bits(float x) { return float_to_bfloat16(x); }
};

/// Calls visit(…) with the floating type that `type` is; false where it is none that a module reads.
template <class Visit>
bool visit_floating(DType type, Visit&& visit) {
  switch (type) {
    case DType::kF64:
      visit(StoredDouble());
      return true;
    case DType::kF32:
      visit(StoredFloat());
      return true;
    case DType::kF16:
      visit(StoredHalf());
      return true;
    case DType::kBF16:
      visit(StoredBFloat16());
      return true;
    case DType::kI64:
    case DType::kI32:
    case DType::kI16:
    case DType::kI8:
    case DType::kU8:
    case DType::kBool:
    case DType::kF8E4M3:
    case DType::kF8E5M2:
    case DType::kU16:
    case DType::kU32:
    case DType::kU64:
      break;
  }
  return false;
}

[[noreturn]] void fail_floating(std::string_view where, DType type) {
  throw Error(where, fmt::format("numbers of type {}", name_of(type)), "F64, F32, F16 or BF16");
}

// A file's tensor may begin at any byte: numbers are copied out, never read through a cast pointer.
template <class T>
std::vector<T> to_floating(const TensorView& tensor, std::string_view where) {
  std::vector<T> out(static_cast<size_t>(tensor.numbers()));
  const bool floating = visit_floating(tensor.type, [&]<class Stored>(Stored) {
    for (size_t i = 0; i < out.size(); ++i) {
      typename Stored::Bits bits;
      std::memcpy(&bits, tensor.bytes.data() + i * sizeof(bits), sizeof(bits));
      out[i] = static_cast<T>(Stored::number(bits));
    }
  });
  if (!floating) fail_floating(where, tensor.type);
  return out;
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
  bool sound = true;
  visit_floating(type, [&]<class Stored>(Stored) {
    sound = all_below<typename Stored::Bits>(bytes, Stored::kExponent, Stored::kLeast);
  });
  return sound;
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
  const bool floating = visit_floating(type, [&]<class Stored>(Stored) {
    for (size_t i = 0; i < numbers.size(); ++i) {
      const typename Stored::Bits bits = Stored::bits(numbers[i]);
      std::memcpy(out.data() + i * sizeof(bits), &bits, sizeof(bits));
    }
  });
  if (!floating) fail_floating("tensor", type);
  return out;
}

}  // namespace linnet

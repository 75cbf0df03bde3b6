// A tensor as it lies in a file: type, shape, bytes. Owns nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace linnet {

enum class DType {
  kF64,
  kF32,
  kF16,
  kBF16,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool,
  kF8E4M3,
  kF8E5M2,
  kU16,
  kU32,
  kU64
};

/// Bytes of one number.
size_t size_of(DType type);
/// The name safetensors files use: "F32", "BF16", …
std::string_view name_of(DType type);

struct TensorView {
  DType type = DType::kF32;
  std::vector<int64_t> shape;
  std::span<const std::byte> bytes;  // row-major, little-endian, perhaps unaligned

  int64_t numbers() const;  // product of the shape; 1 for a scalar
};

/// "[6, 64, 64]", for messages.
std::string to_string(const std::vector<int64_t>& shape);
/// `FILE: tensor "name"`, for messages.
std::string tensor_at(std::string_view where, std::string_view name);

/// Whether every number is finite and so small (below 2⁶³ = 9.2e18) that float32 holds the product of two:
/// no weight that was learned is not. Of types that are no floating ones, or that no module reads: true.
/// `bytes` is a whole number of them.
bool is_sound(DType type, std::span<const std::byte> bytes);
inline bool is_sound(const TensorView& tensor) { return is_sound(tensor.type, tensor.bytes); }
/// What is wrong with a tensor that is not, and what is expected of it.
constexpr std::string_view kUnsound = "NaN, infinite or huge numbers", kSound = "numbers below 9.2e18";

/// Exactly; subnormals, infinities and NaN included.
float half_to_float(uint16_t half);

/// The numbers as float32 or float64 (from any of the floating types), converted. Allocates.
/// Throws Error naming `where` if the type is not a floating one.
std::vector<float> to_float(const TensorView& tensor, std::string_view where);
std::vector<double> to_double(const TensorView& tensor, std::string_view where);
template <class T>
std::vector<T> to_numbers(const TensorView& tensor, std::string_view where) {
  if constexpr (std::is_same_v<T, double>) {
    return to_double(tensor, where);
  } else {
    return to_float(tensor, where);
  }
}

/// Numbers as a file holds them in `type` (F64, F32, F16 or BF16), rounded to nearest, ties to even.
std::vector<std::byte> from_float(std::span<const float> numbers, DType type);

/// A tensor with its bytes.
struct OwnedTensor {
  DType type = DType::kF32;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;

  TensorView view() const { return {type, shape, bytes}; }
};

}  // namespace linnet

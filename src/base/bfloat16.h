// The 16-bit type whose bits are the upper half of a float32's.
#pragma once

#include <bit>
#include <cstdint>

namespace linnet {

inline float bfloat16_to_float(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

/// To nearest, ties to even; NaN stays NaN. Without a branch, so that loops over it become vector code.
inline uint16_t float_to_bfloat16(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x40u;
  return static_cast<uint16_t>((bits & 0x7FFFFFFFu) > 0x7F800000u ? quiet : rounded);
}

/// One of them, as a type: where code is written once for numbers of several.
struct BFloat16 {
  uint16_t bits = 0;

  BFloat16() = default;
  explicit BFloat16(float x) : bits(float_to_bfloat16(x)) {}
  explicit operator float() const { return bfloat16_to_float(bits); }
  explicit operator double() const { return static_cast<double>(bfloat16_to_float(bits)); }
};

}  // namespace linnet

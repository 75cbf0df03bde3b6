// Layouts as the format's public description gives them (ggml's ggml-common.h describes the blocks). Bytes of
// a block in order; d and m are float16; q_i is the i-th quantized number. All little-endian. Products and
// sums are made in float32, in the order in which they are written here.
//
//   Q4_0  d, 16 bytes            x_i = d (q_i − 8)       low half-bytes hold numbers 0–15, high ones 16–31
//   Q4_1  d, m, 16 bytes         x_i = d q_i + m         likewise
//   Q5_0  d, 4 bytes, 16 bytes   x_i = d (q_i − 16)      likewise; bit i of the 4 bytes is the fifth of q_i
//   Q5_1  d, m, 4, 16 bytes      x_i = d q_i + m         likewise
//   Q8_0  d, 32 bytes            x_i = d q_i             signed bytes
//
// A K block has 256 numbers in parts, each with a scale of its own, a multiple of the block's d.
//
//   Q4_K  d, dmin, 12 bytes, 128 bytes            8 parts of 32: x = (d s_j) q − (dmin m_j)
//   Q5_K  d, dmin, 12 bytes, 32 bytes, 128 bytes  likewise; bit j of byte i mod 32 is the fifth of part j's q
//   Q6_K  128 bytes, 64 bytes, 16 bytes, d        16 parts of 16: x = (d s_j) (q − 32), s_j signed bytes
//
// The 12 bytes b hold s_0 … s_7 and m_0 … m_7 of 6 bits: s_j = b_j mod 64, m_j = b_(j+4) mod 64 for j < 4;
// for the others the low four bits are the low (s) and high (m) half of b_(j+4), the high two the top bits of
// b_(j−4) (s) and b_j (m). Of 128 bytes, 32 in a row hold parts 2n (low half-bytes) and 2n + 1 (high ones).
// Q6_K stands in halves of 128 numbers, each 64 bytes of low bits, 32 of high bits and 8 scales: low
// half-bytes of the 64 hold numbers 0–63, high ones 64–127; byte i of the 32 holds two bits each of numbers
// i, i + 32, i + 64, i + 96, from the lowest on.
#include "format/ggml_blocks.h"

#include <array>
#include <cstring>

#include "base/bfloat16.h"
#include "format/tensor.h"

namespace linnet {
namespace {

constexpr size_t kPart = 32, kSuper = 256;

template <class T>
T read(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}
float half(const std::byte* from) { return half_to_float(read<uint16_t>(from)); }
int low(std::byte b) { return std::to_integer<int>(b & std::byte{15}); }
int high(std::byte b) { return std::to_integer<int>(b >> 4); }
/// The signed byte.
int signed_of(std::byte b) { return static_cast<int8_t>(b); }

/// Numbers 0–15 from low half-bytes, 16–31 from high ones, with the fifth bit of number i from bit i of
/// `fifth`: take(i, q_i).
template <class Take>
void for_each_of_32(const std::byte* q, uint32_t fifth, Take&& take) {
  for (size_t i = 0; i < kPart / 2; ++i) {
    take(i, low(q[i]) | static_cast<int>(fifth >> i & 1) << 4);
    take(i + kPart / 2, high(q[i]) | static_cast<int>(fifth >> (i + kPart / 2) & 1) << 4);
  }
}

void f32(const std::byte* b, float* x) { *x = read<float>(b); }
void f16(const std::byte* b, float* x) { *x = half(b); }
void bf16(const std::byte* b, float* x) { *x = bfloat16_to_float(read<uint16_t>(b)); }

void q4_0(const std::byte* b, float* x) {
  const float d = half(b);
  for_each_of_32(b + 2, 0, [&](size_t i, int q) { x[i] = d * static_cast<float>(q - 8); });
}

void q4_1(const std::byte* b, float* x) {
  const float d = half(b), m = half(b + 2);
  for_each_of_32(b + 4, 0, [&](size_t i, int q) { x[i] = d * static_cast<float>(q) + m; });
}

void q5_0(const std::byte* b, float* x) {
  const float d = half(b);
  for_each_of_32(b + 6, read<uint32_t>(b + 2),
                 [&](size_t i, int q) { x[i] = d * static_cast<float>(q - 16); });
}

void q5_1(const std::byte* b, float* x) {
  const float d = half(b), m = half(b + 2);
  for_each_of_32(b + 8, read<uint32_t>(b + 4),
                 [&](size_t i, int q) { x[i] = d * static_cast<float>(q) + m; });
}

void q8_0(const std::byte* b, float* x) {
  const float d = half(b);
  for (size_t i = 0; i < kPart; ++i) x[i] = d * static_cast<float>(signed_of(b[2 + i]));
}

struct ScaleAndMin {
  float scale, min;
};

/// Scale and least number of the 8 parts of a Q4_K or Q5_K block, which begins with d, dmin and the 12 bytes.
std::array<ScaleAndMin, 8> parts_of(const std::byte* block) {
  const float d = half(block), dmin = half(block + 2);
  const auto bits = [&](size_t i) { return std::to_integer<int>(block[4 + i]); };
  std::array<ScaleAndMin, 8> parts;
  for (size_t j = 0; j < 8; ++j) {
    const int s = j < 4 ? bits(j) & 63 : (bits(j + 4) & 15) | bits(j - 4) >> 6 << 4;
    const int m = j < 4 ? bits(j + 4) & 63 : bits(j + 4) >> 4 | bits(j) >> 6 << 4;
    parts[j] = {d * static_cast<float>(s), dmin * static_cast<float>(m)};
  }
  return parts;
}

/// `fifth`: 32 bytes, or null where numbers have four bits.
void k_block(const std::byte* block, const std::byte* fifth, const std::byte* q, float* x) {
  const auto parts = parts_of(block);
  for (size_t j = 0; j < 8; ++j) {
    for (size_t i = 0; i < kPart; ++i) {
      const std::byte both = q[j / 2 * kPart + i];
      const int top = fifth == nullptr ? 0 : std::to_integer<int>(fifth[i] >> j & std::byte{1});
      const int number = (j % 2 == 0 ? low(both) : high(both)) | top << 4;
      x[j * kPart + i] = parts[j].scale * static_cast<float>(number) - parts[j].min;
    }
  }
}

void q4_k(const std::byte* b, float* x) { k_block(b, nullptr, b + 16, x); }
void q5_k(const std::byte* b, float* x) { k_block(b, b + 16, b + 48, x); }

void q6_k(const std::byte* b, float* x) {
  const float d = half(b + 208);
  for (size_t i = 0; i < kSuper; ++i) {
    const size_t side = i / 128, in = i % 128;
    const std::byte both = b[side * 64 + in % 64];
    const std::byte pair = b[128 + side * 32 + in % 32] >> (in / 32 * 2) & std::byte{3};
    const int number = (in < 64 ? low(both) : high(both)) | std::to_integer<int>(pair) << 4;
    x[i] = d * static_cast<float>(signed_of(b[192 + i / 16])) * static_cast<float>(number - 32);
  }
}

/// A row of the table: `one` reads one block of `block` numbers in `bytes` bytes.
template <void (*one)(const std::byte*, float*), size_t block, size_t bytes>
constexpr GgmlType row(uint32_t number, std::string_view name) {
  return {number, name, block, bytes, [](const std::byte* from, size_t count, float* to) {
            for (size_t i = 0; i < count; ++i) one(from + i * bytes, to + i * block);
          }};
}

constexpr GgmlType kGgmlTypes[] = {
    row<f32, 1, 4>(0, "F32"),
    row<f16, 1, 2>(1, "F16"),
    row<bf16, 1, 2>(30, "BF16"),
    row<q8_0, kPart, 34>(8, "Q8_0"),
    row<q4_0, kPart, 18>(2, "Q4_0"),
    row<q4_1, kPart, 20>(3, "Q4_1"),
    row<q5_0, kPart, 22>(6, "Q5_0"),
    row<q5_1, kPart, 24>(7, "Q5_1"),
    row<q4_k, kSuper, 144>(12, "Q4_K"),
    row<q5_k, kSuper, 176>(13, "Q5_K"),
    row<q6_k, kSuper, 210>(14, "Q6_K"),
    // Known by name, to say what is not read.
    {9, "Q8_1"},
    {10, "Q2_K"},
    {11, "Q3_K"},
    {15, "Q8_K"},
    {16, "IQ2_XXS"},
    {17, "IQ2_XS"},
    {18, "IQ3_XXS"},
    {19, "IQ1_S"},
    {20, "IQ4_NL"},
    {21, "IQ3_S"},
    {22, "IQ2_S"},
    {23, "IQ4_XS"},
    {24, "I8"},
    {25, "I16"},
    {26, "I32"},
    {27, "I64"},
    {28, "F64"},
    {29, "IQ1_M"},
    {34, "TQ1_0"},
    {35, "TQ2_0"},
    {39, "MXFP4"},
};

}  // namespace

std::span<const GgmlType> ggml_types() { return kGgmlTypes; }

const GgmlType* find_ggml_type(uint32_t number) {
  for (const GgmlType& type : kGgmlTypes) {
    if (type.number == number) return &type;
  }
  return nullptr;
}

std::string readable_ggml_types() {
  std::string names;
  for (const GgmlType& type : kGgmlTypes) {
    if (type.dequantize != nullptr) names += (names.empty() ? "" : ", ") + std::string(type.name);
  }
  return names;
}

void dequantize(const GgmlType& type, std::span<const std::byte> blocks, std::span<float> numbers) {
  type.dequantize(blocks.data(), numbers.size() / type.block, numbers.data());
}

}  // namespace linnet

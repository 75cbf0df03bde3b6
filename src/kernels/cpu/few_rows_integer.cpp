// Products of rows in 8 bits and integer weights by AVX512_VNNI: 64 multiply-adds an instruction, exact in
// 32-bit integers. Each 64 inputs make two groups of x, whose integer sums are scaled and added in float32:
// one vector of sums per number, in order of the blocks, so few_rows.h's promises hold. Where weights have
// offsets, these times the sums of x are added likewise.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/bfloat16.h"
#include "kernels/cpu/few_rows.h"

#if defined(__x86_64__)
#include "kernels/cpu/few_rows_avx512.h"

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
namespace linnet::kernels::integer_dot {
namespace {

constexpr int64_t kBlock = 64;  // inputs

/// A block of one row of x. The instruction multiplies unsigned weights by signed rows; what makes the
/// weights unsigned is taken off before it starts. For int4 the numbers stand as its halves of bytes do:
/// those of even places, then those of odd ones.
struct Prepared {
  int8_t numbers[kBlock];
  int32_t start[16];  // −(what makes weights unsigned) × each four numbers' sum
  float scale[16];    // of each four numbers
  float sum[16];      // each four numbers' sum × their scale
};

/// Lanes, of four numbers each, that hold the first of a block's two groups.
constexpr __mmask16 first_group(bool int8) { return int8 ? 0x00FF : 0x0F0F; }

/// 64 weights, unsigned.
template <bool kInt8>
HWY_INLINE __m512i load(const uint8_t* from) {
  if (kInt8) return _mm512_xor_si512(_mm512_loadu_si512(from), _mm512_set1_epi8(static_cast<char>(0x80)));
  const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  const __m256i low = _mm256_set1_epi8(15);
  const __m256i upper = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
  return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_and_si256(both, low)), upper, 1);
}

/// A bf16 scale for each lane: `kTwo` of them from `from` on, for the two groups, or one for all.
template <bool kInt8, bool kTwo>
HWY_INLINE __m512 load_scales(const uint16_t* from) {
  if (!kTwo) return _mm512_set1_ps(bfloat16_to_float(*from));
  uint32_t both;
  std::memcpy(&both, from, sizeof(both));
  const __m512i words = _mm512_set1_epi32(static_cast<int>(both));
  return _mm512_castsi512_ps(
      _mm512_mask_slli_epi32(_mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xFFFF0000u))),
                             first_group(kInt8), words, 16));
}

/// What the instruction is made for.
template <bool kIsInt8, bool kHasTwo, bool kHasOffsets>
struct Form {
  static constexpr bool kInt8 = kIsInt8;
  static constexpr bool kTwo = kHasTwo;  // groups of weights in a block; else a group has several blocks
  static constexpr bool kOffsets = kHasOffsets;
};

template <class Form, int kRows>
HWY_INLINE void tile(const Weights& weights, int64_t begin, int64_t outs, const Prepared* x, Ahead ahead,
                     float* y, int64_t y_stride) {
  constexpr bool kInt8 = Form::kInt8, kTwo = Form::kTwo;
  constexpr int64_t kBytes = kInt8 ? kBlock : kBlock / 2;
  const int64_t in = weights.in, groups = weights.groups(),
                group_blocks = (weights.group + kBlock - 1) / kBlock;
  __m512 sums[kOuts][kRows];
  for (auto& of_output : sums) {
    for (__m512& sum : of_output) sum = _mm512_setzero_ps();
  }
  const uint8_t* from[kOuts];  // where there are fewer, the last stands in for the rest
  int64_t first[kOuts];        // group of the row
  for (int64_t o = 0; o < kOuts; ++o) {
    const int64_t row = begin + std::min(o, outs - 1);
    from[o] = reinterpret_cast<const uint8_t*>(weights.data) + row * weights.row_bytes();
    first[o] = row * groups;
  }
  const auto add = [&](int o, __m512i w, __m512 scale, __m512 offset) __attribute__((always_inline)) {
    for (int r = 0; r < kRows; ++r) {
      const __m512i sum =
          _mm512_dpbusd_epi32(_mm512_loadu_si512(x[r].start), w, _mm512_loadu_si512(x[r].numbers));
      sums[o][r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(scale, _mm512_loadu_ps(x[r].scale)),
                                   sums[o][r]);
      if (Form::kOffsets) sums[o][r] = _mm512_fmadd_ps(offset, _mm512_loadu_ps(x[r].sum), sums[o][r]);
    }
  };
  const auto scales_at = [&](const uint16_t* of, int64_t at) __attribute__((always_inline)) {
    return load_scales<kInt8, kTwo>(of + at);
  };
  int64_t i = 0, group = 0, left = group_blocks;
  for (; i + kBlock <= in; i += kBlock, x += kRows) {
    ahead.ask();
    for (int o = 0; o < kOuts; ++o)
      add(o, load<kInt8>(from[o] + i / kBlock * kBytes), scales_at(weights.scales, first[o] + group),
          Form::kOffsets ? scales_at(weights.offsets, first[o] + group) : __m512());
    if (kTwo) {
      group += 2;
    } else if (--left == 0) {
      group += 1, left = group_blocks;
    }
  }
  if (i < in) {  // half a block: its inputs' partners are zeros
    for (int o = 0; o < kOuts; ++o) {
      uint8_t last[kBlock] = {};
      std::memcpy(last, from[o] + i / kBlock * kBytes, kBytes / 2);
      const auto one = [&](const uint16_t* of) __attribute__((always_inline)) {
        return load_scales<kInt8, false>(of + first[o] + group);
      };
      add(o, load<kInt8>(last), one(weights.scales), Form::kOffsets ? one(weights.offsets) : __m512());
    }
  }
  const auto written = static_cast<__mmask8>((1u << outs) - 1);
  for (int r = 0; r < kRows; ++r)
    _mm_mask_storeu_ps(y + r * y_stride, written,
                       sums_over_lanes(sums[0][r], sums[1][r], sums[2][r], sums[3][r]));
}

template <class Form>
HWY_INLINE void range(const Weights& weights, int64_t begin, int64_t end, const Prepared* prepared,
                      int64_t rows, float* y, int64_t y_stride) {
  const int64_t blocks = (weights.in + kBlock - 1) / kBlock, groups = (rows + kGroup - 1) / kGroup;
  const int64_t lines = (kOuts * weights.row_bytes() + kLine - 1) / kLine,
                part = (lines + groups - 1) / groups;
  for (int64_t o = begin; o < end; o += kOuts) {
    const int64_t outs = std::min(kOuts, end - o);
    const char* next = reinterpret_cast<const char*>(weights.data) + (o + kOuts) * weights.row_bytes();
    const Prepared* x = prepared;
    for (int64_t r = 0, now; r < rows; r += now, x += now * blocks, next += part * kLine) {
      now = group_at(r, rows);
      float* to = y + o + r * y_stride;
      if (now == 1) tile<Form, 1>(weights, o, outs, x, {next, part, kOuts}, to, y_stride);
      if (now == 2) tile<Form, 2>(weights, o, outs, x, {next, part, kOuts}, to, y_stride);
      if (now == 3) tile<Form, 3>(weights, o, outs, x, {next, part, kOuts}, to, y_stride);
      if (now == 4) tile<Form, 4>(weights, o, outs, x, {next, part, kOuts}, to, y_stride);
    }
  }
}

/// A group of numbers to 8 bits, to nearest; their scale. One that is not finite makes the scale NaN.
HWY_INLINE float prepare_group(const float* from, int8_t* to) {
  const __m512 a = _mm512_loadu_ps(from), b = _mm512_loadu_ps(from + 16);
  constexpr int kNotFinite = 0x99;
  const float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
  const bool broken = (_mm512_fpclass_ps_mask(a, kNotFinite) | _mm512_fpclass_ps_mask(b, kNotFinite)) != 0;
  const float scale = broken ? NAN : largest / 127, inverse = 1 / scale;
  const __m512 by = _mm512_set1_ps(std::isfinite(inverse) ? inverse : 0);
  const auto store = [](__m512 x, int8_t * at) __attribute__((always_inline)) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(at), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
  };
  store(broken ? _mm512_setzero_ps() : _mm512_mul_ps(a, by), to);
  store(broken ? _mm512_setzero_ps() : _mm512_mul_ps(b, by), to + 16);
  return scale;
}

/// Numbers of even places, then those of odd ones.
HWY_INLINE void part_places(int8_t* numbers) {
  int8_t parted[kBlock];
  for (int64_t i = 0; i < kBlock / 2; ++i) {
    parted[i] = numbers[2 * i];
    parted[kBlock / 2 + i] = numbers[2 * i + 1];
  }
  std::memcpy(numbers, parted, sizeof(parted));
}

/// `groups` (1 or 2) groups of numbers; zeros in place of a second that is not there.
HWY_INLINE void prepare_block(const float* from, int64_t groups, bool int8, Prepared& to) {
  float scales[2] = {};
  for (int64_t g = 0; g < 2; ++g) {
    int8_t* numbers = to.numbers + g * kScaleGroup;
    if (g < groups) {
      scales[g] = prepare_group(from + g * kScaleGroup, numbers);
    } else {
      std::fill_n(numbers, kScaleGroup, int8_t{0});
    }
  }
  if (!int8) part_places(to.numbers);
  const __m512 scale =
      _mm512_mask_blend_ps(first_group(int8), _mm512_set1_ps(scales[1]), _mm512_set1_ps(scales[0]));
  const __m512i zero = _mm512_setzero_si512(), numbers = _mm512_loadu_si512(to.numbers);
  const __m512i made = _mm512_set1_epi8(static_cast<char>(int8 ? 128 : 8));
  const __m512i sum = _mm512_dpbusd_epi32(zero, _mm512_set1_epi8(1), numbers);
  _mm512_storeu_si512(to.start, _mm512_sub_epi32(zero, _mm512_dpbusd_epi32(zero, made, numbers)));
  _mm512_storeu_ps(to.scale, scale);
  _mm512_storeu_ps(to.sum, _mm512_mul_ps(_mm512_cvtepi32_ps(sum), scale));
}

template <bool kInt8, bool kTwo>
void range_of_groups(const Weights& weights, int64_t begin, int64_t end, const Prepared* x, int64_t rows,
                     float* y, int64_t y_stride) {
  if (weights.offsets == nullptr)
    return range<Form<kInt8, kTwo, false>>(weights, begin, end, x, rows, y, y_stride);
  range<Form<kInt8, kTwo, true>>(weights, begin, end, x, rows, y, y_stride);
}

template <bool kInt8>
void range_of_type(const Weights& weights, int64_t begin, int64_t end, const Prepared* x, int64_t rows,
                   float* y, int64_t y_stride) {
  if (weights.group == kScaleGroup)
    return range_of_groups<kInt8, true>(weights, begin, end, x, rows, y, y_stride);
  range_of_groups<kInt8, false>(weights, begin, end, x, rows, y, y_stride);
}

}  // namespace

bool on_this_machine() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512vnni");
  return has;
}

int64_t prepared_size(int64_t in) {
  return (in + kBlock - 1) / kBlock * static_cast<int64_t>(sizeof(Prepared) / sizeof(float));
}

void prepare(WeightType weights, const float* x, int64_t x_stride, int64_t rows, int64_t in, void* prepared) {
  const int64_t blocks = (in + kBlock - 1) / kBlock;
  auto* to = static_cast<Prepared*>(prepared);
  for (int64_t first = 0, now; first < rows; first += now, to += now * blocks) {
    now = group_at(first, rows);
    for (int64_t r = 0; r < now; ++r, x += x_stride) {
      for (int64_t b = 0; b < blocks; ++b)
        prepare_block(x + b * kBlock, std::min<int64_t>(2, in / kScaleGroup - 2 * b),
                      weights == WeightType::kInt8, to[b * now + r]);
    }
  }
}

void product(const Weights& weights, int64_t begin, int64_t end, const void* prepared, int64_t rows, float* y,
             int64_t y_stride) {
  const auto* x = static_cast<const Prepared*>(prepared);
  if (weights.type == WeightType::kInt8)
    return range_of_type<true>(weights, begin, end, x, rows, y, y_stride);
  range_of_type<false>(weights, begin, end, x, rows, y, y_stride);
}

}  // namespace linnet::kernels::integer_dot
HWY_POP_ATTRIBUTES

#else

namespace linnet::kernels::integer_dot {

bool on_this_machine() { return false; }
int64_t prepared_size(int64_t) { return 0; }
void prepare(WeightType, const float*, int64_t, int64_t, int64_t, void*) {}
void product(const Weights&, int64_t, int64_t, const void*, int64_t, float*, int64_t) {}

}  // namespace linnet::kernels::integer_dot

#endif

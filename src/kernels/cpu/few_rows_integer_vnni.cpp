// Tiles of integer weights by AVX512_VNNI: 64 multiply-adds an instruction, exact in 32-bit integers.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/few_rows_integer.h"

#if defined(__x86_64__)
#include "kernels/cpu/few_rows_avx512.h"

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
namespace linnet::kernels::integer_dot {
namespace {

constexpr int kHalves = kTileRows / 16;  // vectors of a tile's rows: with six rows they fill the registers

/// Vector `at` of a group's weights, unsigned.
template <bool kInt8>
HWY_INLINE __m512i load(const std::byte* record, int group, int at) {
  if (kInt8) return _mm512_loadu_si512(record + (group * 8 * kHalves + at) * kLine);
  const __m512i both = _mm512_loadu_si512(record + at * kLine);
  return _mm512_and_si512(group == 0 ? both : _mm512_srli_epi16(both, 4), _mm512_set1_epi8(15));
}

/// Of 16 rows of weights the bf16 scales or offsets for one of a record's groups.
HWY_INLINE __m512 load_of_group(const std::byte* from, int group) {
  const __m512i both = _mm512_loadu_si512(from);
  return _mm512_castsi512_ps(group == 0
                                 ? _mm512_slli_epi32(both, 16)
                                 : _mm512_and_si512(both, _mm512_set1_epi32(static_cast<int>(0xFFFF0000u))));
}

template <bool kInt8, bool kOffsets, int kRows>
HWY_INLINE void add_group(const std::byte* record, int group, const Prepared* x, __m512* sums) {
  constexpr RecordForm kForm{kInt8 ? WeightType::kInt8 : WeightType::kInt4, kOffsets};
  __m512i exact[kRows * kHalves];
  LINNET_UNROLL
  for (int n = 0; n < kRows * kHalves; ++n) exact[n] = _mm512_set1_epi32(x[n / kHalves].start[group]);
  LINNET_UNROLL
  for (int i = 0; i < 8; ++i) {
    __m512i weights[kHalves];
    LINNET_UNROLL
    for (int h = 0; h < kHalves; ++h) weights[h] = load<kInt8>(record, group, i * kHalves + h);
    LINNET_UNROLL
    for (int r = 0; r < kRows; ++r) {
      int32_t four;
      std::memcpy(&four, x[r].numbers + group * kScaleGroup + 4 * i, sizeof(four));
      const __m512i row = _mm512_set1_epi32(four);
      LINNET_UNROLL
      for (int h = 0; h < kHalves; ++h)
        exact[r * kHalves + h] = _mm512_dpbusd_epi32(exact[r * kHalves + h], weights[h], row);
    }
  }
  LINNET_UNROLL
  for (int h = 0; h < kHalves; ++h) {
    const __m512 scale = load_of_group(record + kForm.scales_at() + h * kLine, group);
    LINNET_UNROLL
    for (int r = 0; r < kRows; ++r) {
      __m512& sum = sums[r * kHalves + h];
      sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(exact[r * kHalves + h]),
                            _mm512_mul_ps(scale, _mm512_set1_ps(x[r].scale[group])), sum);
    }
    if constexpr (kOffsets) {
      const __m512 offset = load_of_group(record + kForm.offsets_at() + h * kLine, group);
      LINNET_UNROLL
      for (int r = 0; r < kRows; ++r) {
        __m512& sum = sums[r * kHalves + h];
        sum = _mm512_fmadd_ps(offset, _mm512_set1_ps(x[r].sum[group]), sum);
      }
    }
  }
}

template <bool kInt8, bool kOffsets, int kRows>
void tile(const Stretch& at, Ahead& next) {
  constexpr RecordForm kForm{kInt8 ? WeightType::kInt8 : WeightType::kInt4, kOffsets};
  constexpr int kLines = (kForm.bytes() / kLine + 1) / 2;  // per group
  Ahead ahead = next;
  __m512 sums[kRows * kHalves];
  LINNET_UNROLL
  for (int n = 0; n < kRows * kHalves; ++n)
    sums[n] = at.first ? _mm512_setzero_ps() : _mm512_loadu_ps(at.sums + n * 16);
  const std::byte* record = at.weights;
  const Prepared* x = at.x;
  for (int64_t i = 0; i < at.count; ++i, x += kRows, record += kForm.bytes()) {
    LINNET_UNROLL
    for (int group = 0; group < 2; ++group) {
      ahead.ask<kLines>();
      add_group<kInt8, kOffsets, kRows>(record, group, x, sums);
    }
  }
  next = ahead;
  LINNET_UNROLL
  for (int n = 0; n < kRows * kHalves; ++n) {
    if (at.last) {
      _mm512_mask_storeu_ps(at.y + n / kHalves * at.y_stride + n % kHalves * 16,
                            static_cast<__mmask16>(at.written[n % kHalves]), sums[n]);
    } else {
      _mm512_storeu_ps(at.sums + n * 16, sums[n]);
    }
  }
}

template <bool kInt8, bool kOffsets>
constexpr Tile kTiles[] = {tile<kInt8, kOffsets, 1>, tile<kInt8, kOffsets, 2>, tile<kInt8, kOffsets, 3>,
                           tile<kInt8, kOffsets, 4>, tile<kInt8, kOffsets, 5>, tile<kInt8, kOffsets, 6>};

float prepare_group(const float* from, int8_t* to) {
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

}  // namespace

bool have_vnni() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512vnni");
  return has;
}

const Instructions kVnni{
    {{kTiles<false, false>, kTiles<false, true>}, {kTiles<true, false>, kTiles<true, true>}}, prepare_group};

}  // namespace linnet::kernels::integer_dot
HWY_POP_ATTRIBUTES
#endif

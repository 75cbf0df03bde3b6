// What the products by AVX-512's dot products share: sums over lanes. For x86-64 alone.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // in its own header: GCC bug 105593
#pragma GCC diagnostic ignored "-Wuninitialized"        // likewise
#endif
#include <immintrin.h>

#include <hwy/base.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/ahead.h"
#include "kernels/cpu/few_rows.h"
#include "kernels/cpu/row_groups.h"

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512vl,avx512dq")
namespace linnet::kernels {

/// Halves added to halves, twice.
HWY_INLINE __m128 quarter(__m512 sums) {
  const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(sums), _mm512_extractf32x8_ps(sums, 1));
  return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

/// The four sums over lanes; each in the order of one alone.
HWY_INLINE __m128 sums_over_lanes(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m128 qa = quarter(a), qb = quarter(b), qc = quarter(c), qd = quarter(d);
  const __m128 ab = _mm_add_ps(_mm_unpacklo_ps(qa, qb), _mm_unpackhi_ps(qa, qb));
  const __m128 cd = _mm_add_ps(_mm_unpacklo_ps(qc, qd), _mm_unpackhi_ps(qc, qd));
  return _mm_add_ps(_mm_movelh_ps(ab, cd), _mm_movehl_ps(cd, ab));
}

/// Of four vectors each number's quarters, one number per four lanes.
HWY_INLINE __m512 quarters(__m512 a, __m512 b, __m512 c, __m512 d) {
  const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
  const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xEE));
  return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
}

/// Sixteen sums over lanes from kFirst on, each in the same order; past the last the last again.
template <int kFirst, int kCount>
HWY_INLINE __m512 sixteen_sums(const __m512 (&sums)[kCount]) {
  constexpr int kLast = kCount - 1 - kFirst;
  const __m512* of = sums + kFirst;
#define LINNET_SUM(n) of[(n) < kLast ? (n) : kLast]
  const __m512 q0 = quarters(LINNET_SUM(0), LINNET_SUM(4), LINNET_SUM(8), LINNET_SUM(12));
  const __m512 q1 = quarters(LINNET_SUM(1), LINNET_SUM(5), LINNET_SUM(9), LINNET_SUM(13));
  const __m512 q2 = quarters(LINNET_SUM(2), LINNET_SUM(6), LINNET_SUM(10), LINNET_SUM(14));
  const __m512 q3 = quarters(LINNET_SUM(3), LINNET_SUM(7), LINNET_SUM(11), LINNET_SUM(15));
#undef LINNET_SUM
  const __m512d low = _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(q0, q1), _mm512_unpackhi_ps(q0, q1)));
  const __m512d high =
      _mm512_castps_pd(_mm512_add_ps(_mm512_unpacklo_ps(q2, q3), _mm512_unpackhi_ps(q2, q3)));
  return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(low, high)),
                       _mm512_castpd_ps(_mm512_unpackhi_pd(low, high)));
}

/// The numbers of a tile, sums over lanes of kOuts rows of weights by kRows rows, [row, output]; of `outs`
/// outputs alone.
template <int kOuts, int kRows>
HWY_INLINE void store_sums(const __m512 (&sums)[kOuts * kRows], int64_t outs, float* y, int64_t y_stride) {
  constexpr int kCount = kOuts * kRows;
  static_assert(kCount <= 32);
  const auto written = static_cast<__mmask8>((1u << outs) - 1);
  if constexpr (kOuts == 4 && kRows == 1) {
    _mm_mask_storeu_ps(y, written, sums_over_lanes(sums[0], sums[1], sums[2], sums[3]));
  } else {
    alignas(64) float numbers[32 + 8];
    _mm512_store_ps(numbers, sixteen_sums<0>(sums));
    if constexpr (kCount > 16) _mm512_storeu_ps(numbers + 16, sixteen_sums<16>(sums));
    LINNET_UNROLL
    for (int r = 0; r < kRows; ++r)
      _mm256_mask_storeu_ps(y + r * y_stride, written, _mm256_loadu_ps(numbers + r * kOuts));
  }
}

}  // namespace linnet::kernels
HWY_POP_ATTRIBUTES

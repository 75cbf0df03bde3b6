// What the products by AVX-512's dot products share: how rows are grouped, what is asked for ahead of time,
// and the sum over lanes. For x86-64 alone.
#pragma once

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // in its own header: GCC bug 105593
#endif
#include <immintrin.h>

#include <hwy/base.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/few_rows.h"

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512vl,avx512dq")
namespace linnet::kernels {

inline constexpr int64_t kGroup = 4;  // rows that meet a weight while it is in a register, at most
inline constexpr int64_t kOuts = 4;   // rows of weights side by side: their sums hide each other's latency
inline constexpr int64_t kMostGroups = 16;  // that go through the weights together
inline constexpr int64_t kLine = 64;        // bytes

/// Rows of the group that begins with `row` of `rows`. Groups end with blocks, so that these can be prepared
/// apart; where five to seven rows are left they make two groups, as one of a single row would wait for its
/// sums.
HWY_INLINE int64_t group_at(int64_t row, int64_t rows) {
  const int64_t left = std::min(rows - row, kRowBlock - row % kRowBlock);
  if (left >= 2 * kGroup || left <= kGroup) return std::min(left, kGroup);
  return (left + 1) / 2;
}

/// Memory to be asked for while tiles are summed, `pace` lines with each step: the weights that the thread
/// comes to next.
struct Ahead {
  const char* at;
  int64_t lines, pace;

  HWY_INLINE void ask() {
    for (int64_t k = 0; k < pace && lines > 0; ++k, --lines, at += kLine) _mm_prefetch(at, _MM_HINT_T0);
  }
};

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

}  // namespace linnet::kernels
HWY_POP_ATTRIBUTES

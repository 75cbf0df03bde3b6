// Tiles of integer weights by AVX2, whose multiplication of bytes adds two products in 16 bits. Two of int8
// fit there (128 × 127 twice) if the weights' signs go to the rows; of int4, unsigned, all eight of a group
// do (16 × 15 × 127), so that they are widened to 32 bits once.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "kernels/cpu/few_rows_integer.h"

#if defined(__x86_64__)
HWY_PUSH_ATTRIBUTES("avx2,fma")
namespace linnet::kernels::integer_dot {
namespace {

constexpr int kLanes = 8, kVector = 32;  // rows of weights in a vector; bytes

/// Of eight rows of weights the bf16 scales or offsets for one of a record's groups.
HWY_INLINE __m256 load_of_group(const std::byte* from, int group) {
  const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return _mm256_castsi256_ps(group == 0
                                 ? _mm256_slli_epi32(both, 16)
                                 : _mm256_and_si256(both, _mm256_set1_epi32(static_cast<int>(0xFFFF0000u))));
}

/// One of a record's groups: kVectors times eight rows of weights, the first at `place` (a vector's number in
/// the tile's rows), by kRows rows of x.
template <bool kInt8, bool kOffsets, int kRows, int kVectors>
HWY_INLINE void add_group(const std::byte* record, int group, int place, const Prepared* x, float* sums) {
  constexpr RecordForm kForm{kInt8 ? WeightType::kInt8 : WeightType::kInt4, kOffsets};
  constexpr int kAcross = kTileRows / kLanes;  // vectors of a tile's rows
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i exact[kRows * kVectors];  // int8: 32 bits; int4: 16
  LINNET_UNROLL
  for (int n = 0; n < kRows * kVectors; ++n) exact[n] = _mm256_setzero_si256();
  const std::byte* from = record + place * kVector + (kInt8 ? group * 8 * kAcross * kVector : 0);
  LINNET_UNROLL
  for (int i = 0; i < 8; ++i) {
    __m256i weights[kVectors], sizes[kVectors];
    LINNET_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const __m256i both =
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + (i * kAcross + v) * kVector));
      if (kInt8) {
        weights[v] = _mm256_xor_si256(both, _mm256_set1_epi8(static_cast<char>(0x80)));
        sizes[v] = _mm256_abs_epi8(weights[v]);
      } else {
        sizes[v] = _mm256_and_si256(group == 0 ? both : _mm256_srli_epi16(both, 4), _mm256_set1_epi8(15));
      }
    }
    LINNET_UNROLL
    for (int r = 0; r < kRows; ++r) {
      int32_t four;
      std::memcpy(&four, x[r].numbers + group * kScaleGroup + 4 * i, sizeof(four));
      const __m256i row = _mm256_set1_epi32(four);
      LINNET_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        __m256i& sum = exact[r * kVectors + v];
        if (kInt8) {
          const __m256i pairs = _mm256_maddubs_epi16(sizes[v], _mm256_sign_epi8(row, weights[v]));
          sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
        } else {
          sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(sizes[v], row));
        }
      }
    }
  }
  LINNET_UNROLL
  for (int v = 0; v < kVectors; ++v) {
    const __m256 scale = load_of_group(record + kForm.scales_at() + (place + v) * kVector, group);
    LINNET_UNROLL
    for (int r = 0; r < kRows; ++r) {
      __m256i whole = exact[r * kVectors + v];
      if (!kInt8)
        whole = _mm256_add_epi32(_mm256_madd_epi16(whole, ones), _mm256_set1_epi32(x[r].start[group]));
      float* at = sums + r * kTileRows + (place + v) * kLanes;
      __m256 sum =
          _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole), _mm256_mul_ps(scale, _mm256_set1_ps(x[r].scale[group])),
                          _mm256_loadu_ps(at));
      if constexpr (kOffsets) {
        const __m256 offset = load_of_group(record + kForm.offsets_at() + (place + v) * kVector, group);
        sum = _mm256_fmadd_ps(offset, _mm256_set1_ps(x[r].sum[group]), sum);
      }
      _mm256_storeu_ps(at, sum);
    }
  }
}

/// The same for a whole tile, in parts whose sums the registers hold.
template <bool kInt8, bool kOffsets, int kRows>
HWY_INLINE void add_record(const std::byte* record, int group, const Prepared* x, float* sums) {
  constexpr int kAcross = kTileRows / kLanes, kVectors = kRows == 1 ? kAcross : 2;
  constexpr int kPart = kRows <= 4 ? kRows : 3, kRest = kRows - kPart;
  LINNET_UNROLL
  for (int place = 0; place < kAcross; place += kVectors) {
    add_group<kInt8, kOffsets, kPart, kVectors>(record, group, place, x, sums);
    if constexpr (kRest > 0)
      add_group<kInt8, kOffsets, kRest, kVectors>(record, group, place, x + kPart, sums + kPart * kTileRows);
  }
}

template <bool kInt8, bool kOffsets, int kRows>
void tile(const Stretch& at, Ahead& next) {
  constexpr RecordForm kForm{kInt8 ? WeightType::kInt8 : WeightType::kInt4, kOffsets};
  constexpr int kLines = (kForm.bytes() / kLine + 1) / 2;  // per group
  Ahead ahead = next;
  if (at.first) std::fill_n(at.sums, kRows * kTileRows, 0.0f);
  const std::byte* record = at.weights;
  const Prepared* x = at.x;
  for (int64_t i = 0; i < at.count; ++i, x += kRows, record += kForm.bytes()) {
    for (int group = 0; group < 2; ++group) {
      ahead.ask<kLines>();
      add_record<kInt8, kOffsets, kRows>(record, group, x, at.sums);
    }
  }
  next = ahead;
  if (!at.last) return;
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t o = 0; o < kTileRows; ++o)
      if ((at.written[o / 16] >> o % 16 & 1) != 0) at.y[r * at.y_stride + o] = at.sums[r * kTileRows + o];
  }
}

template <bool kInt8, bool kOffsets>
constexpr Tile kTiles[] = {tile<kInt8, kOffsets, 1>, tile<kInt8, kOffsets, 2>, tile<kInt8, kOffsets, 3>,
                           tile<kInt8, kOffsets, 4>, tile<kInt8, kOffsets, 5>, tile<kInt8, kOffsets, 6>};

float prepare_group(const float* from, int8_t* to) {
  constexpr int kVectors = kScaleGroup / kLanes;
  __m256 x[kVectors], most = _mm256_setzero_ps(), bad = _mm256_setzero_ps();
  for (int v = 0; v < kVectors; ++v) {
    x[v] = _mm256_loadu_ps(from + v * kLanes);
    const __m256 size = _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x[v]);
    most = _mm256_max_ps(most, size);
    bad = _mm256_or_ps(bad, _mm256_cmp_ps(size, _mm256_set1_ps(FLT_MAX), _CMP_NLE_UQ));
  }
  const bool broken = _mm256_movemask_ps(bad) != 0;
  __m128 of = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
  of = _mm_max_ps(of, _mm_movehl_ps(of, of));
  of = _mm_max_ss(of, _mm_movehdup_ps(of));
  const float scale = broken ? NAN : _mm_cvtss_f32(of) / 127, inverse = 1 / scale;
  if (broken || !std::isfinite(inverse)) {
    std::fill_n(to, kScaleGroup, int8_t{0});
    return scale;
  }
  const __m256 by = _mm256_set1_ps(inverse);
  __m256i whole[kVectors];
  for (int v = 0; v < kVectors; ++v) whole[v] = _mm256_cvtps_epi32(_mm256_mul_ps(x[v], by));
  // Packing goes by halves of vectors; the permutation puts the words of four back in their order.
  const __m256i bytes =
      _mm256_packs_epi16(_mm256_packs_epi32(whole[0], whole[1]), _mm256_packs_epi32(whole[2], whole[3]));
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permutevar8x32_epi32(bytes, order));
  return scale;
}

}  // namespace

const Instructions kAvx2{
    {{kTiles<false, false>, kTiles<false, true>}, {kTiles<true, false>, kTiles<true, true>}}, prepare_group};

}  // namespace linnet::kernels::integer_dot
HWY_POP_ATTRIBUTES
#endif

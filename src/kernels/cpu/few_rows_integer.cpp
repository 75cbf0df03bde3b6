// Products of rows in 8 bits and packed integer weights by AVX512_VNNI: 64 multiply-adds an instruction,
// exact in 32-bit integers. A number is the sum of its groups of 32 inputs in their order, each an integer
// times both scales: one order, so few_rows.h's promises hold.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/few_rows.h"
#include "kernels/cpu/packed_weights.h"

#if defined(__x86_64__)
#include "kernels/cpu/few_rows_avx512.h"

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
namespace linnet::kernels::integer_dot {
namespace {

constexpr int64_t kMostRows = 6;         // of a group: with two vectors of weights they fill the registers
constexpr int64_t kMostGroups = 11;      // that go through the weights together
constexpr int64_t kStretch = 8;          // records that stay in the first cache from group to group
constexpr int64_t kDistance = 8 << 10;   // bytes ahead that are asked for where there is one group
constexpr int kHalves = kTileRows / 16;  // vectors of a tile's rows

Groups groups_of(int64_t rows) { return {rows, (rows + kMostRows - 1) / kMostRows}; }

/// kTileInputs numbers of one row of x. The instruction multiplies unsigned weights by signed rows; what
/// makes the weights unsigned is taken off before it starts.
struct Prepared {
  int32_t start[2];  // −(what makes weights unsigned) × the group's sum
  float scale[2];
  float sum[2];  // the group's × its scale
  int8_t numbers[kTileInputs];
};

struct Stretch {
  const std::byte* weights;  // records
  int64_t count;             // of them
  const Prepared* x;         // [count, rows of the group]
  float* sums;               // [rows of the group, kTileRows]: kept from stretch to stretch
  bool first, last;
  float* y;  // where the last stretch puts the group's first row
  int64_t y_stride;
  __mmask16 written[kHalves];
};

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
      _mm512_mask_storeu_ps(at.y + n / kHalves * at.y_stride + n % kHalves * 16, at.written[n % kHalves],
                            sums[n]);
    } else {
      _mm512_storeu_ps(at.sums + n * 16, sums[n]);
    }
  }
}

using Tile = void (*)(const Stretch&, Ahead&);
template <bool kInt8, bool kOffsets>
constexpr Tile kTiles[] = {tile<kInt8, kOffsets, 1>, tile<kInt8, kOffsets, 2>, tile<kInt8, kOffsets, 3>,
                           tile<kInt8, kOffsets, 4>, tile<kInt8, kOffsets, 5>, tile<kInt8, kOffsets, 6>};

/// By the number of a group's rows, from one on.
const Tile* tiles_for(const Weights& weights) {
  if (weights.type == WeightType::kInt8)
    return weights.packed_offsets ? kTiles<true, true> : kTiles<true, false>;
  return weights.packed_offsets ? kTiles<false, true> : kTiles<false, false>;
}

/// Groups [from, to) of x's rows by outputs [begin, end).
void product_of_groups(const Groups& groups, int64_t from, int64_t to, const Weights& weights, int64_t begin,
                       int64_t end, const Prepared* prepared, float* y, int64_t y_stride) {
  alignas(64) float sums[kMostGroups * kMostRows * kTileRows];
  const Tile* tiles = tiles_for(weights);
  const int64_t records = records_of(weights.in),
                bytes = RecordForm{weights.type, weights.packed_offsets}.bytes(), turns = to - from;
  const int64_t stretch = turns == 1 ? records : kStretch;
  for (int64_t t = begin / kTileRows; t * kTileRows < end; ++t) {
    const int64_t first = t * kTileRows;
    for (int64_t i = 0; i < records; i += stretch) {
      const int64_t count = std::min(stretch, records - i);
      Stretch at{weights.data + (t * records + i) * bytes,
                 count,
                 nullptr,
                 sums,
                 i == 0,
                 i + count >= records,
                 nullptr,
                 y_stride,
                 {}};
      LINNET_UNROLL
      for (int64_t h = 0; h < kHalves; ++h) {
        const int64_t low = std::clamp<int64_t>(begin - first - h * 16, 0, 16);
        const int64_t high = std::clamp<int64_t>(end - first - h * 16, 0, 16);
        at.written[h] = static_cast<__mmask16>((1u << high) - (1u << low));
      }
      const int64_t lines = bytes / kLine, pace = (lines + 2 * turns - 1) / (2 * turns);
      Ahead ahead{reinterpret_cast<const char*>(at.weights + (turns == 1 ? kDistance : count * bytes)), pace};
      for (int64_t g = from; g < to; ++g) {
        const int64_t row = groups.begin(g), size = groups.begin(g + 1) - row;
        at.x = prepared + row * records + i * size;
        at.y = y + row * y_stride + first;
        tiles[size - 1](at, ahead);
        at.sums += size * kTileRows;
      }
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

/// `groups` (1 or 2) groups of numbers; zeros in place of a second that is not there.
HWY_INLINE void prepare_block(const float* from, int64_t groups, int shift, Prepared& to) {
  for (int64_t g = 0; g < 2; ++g) {
    int8_t* numbers = to.numbers + g * kScaleGroup;
    to.scale[g] = g < groups ? prepare_group(from + g * kScaleGroup, numbers) : 0.0f;
    if (g >= groups) std::fill_n(numbers, kScaleGroup, int8_t{0});
    int32_t sum = 0;
    for (int64_t i = 0; i < kScaleGroup; ++i) sum += numbers[i];
    to.start[g] = -shift * sum;
    to.sum[g] = to.scale[g] * static_cast<float>(sum);
  }
}

}  // namespace

bool on_this_machine() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512vnni");
  return has;
}

int64_t prepared_size(int64_t in) {
  return records_of(in) * static_cast<int64_t>(sizeof(Prepared) / sizeof(float));
}

void prepare(WeightType weights, const float* x, int64_t x_stride, int64_t begin, int64_t end, int64_t rows,
             int64_t in, void* prepared) {
  const int64_t records = records_of(in);
  const Groups groups = groups_of(rows);
  for (int64_t r = begin; r < end; ++r) {
    const int64_t g = groups.of_row(r), first = groups.begin(g), size = groups.begin(g + 1) - first;
    Prepared* to = static_cast<Prepared*>(prepared) + first * records + r - first;
    const float* from = x + r * x_stride;
    for (int64_t i = 0; i < records; ++i, to += size)
      prepare_block(from + i * kTileInputs, std::min<int64_t>(2, in / kScaleGroup - 2 * i),
                    unsigned_by(weights), *to);
  }
}

void product(const Weights& weights, int64_t begin, int64_t end, const void* prepared, int64_t rows, float* y,
             int64_t y_stride) {
  const Groups groups = groups_of(rows);
  const auto* x = static_cast<const Prepared*>(prepared);
  for (int64_t g = 0; g < groups.count; g += kMostGroups)
    product_of_groups(groups, g, std::min(g + kMostGroups, groups.count), weights, begin, end, x, y,
                      y_stride);
}

}  // namespace linnet::kernels::integer_dot
HWY_POP_ATTRIBUTES

#else

namespace linnet::kernels::integer_dot {

bool on_this_machine() { return false; }
int64_t prepared_size(int64_t) { return 0; }
void prepare(WeightType, const float*, int64_t, int64_t, int64_t, int64_t, int64_t, void*) {}
void product(const Weights&, int64_t, int64_t, const void*, int64_t, float*, int64_t) {}

}  // namespace linnet::kernels::integer_dot

#endif

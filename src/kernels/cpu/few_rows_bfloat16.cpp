// Products of bf16 rows and bf16 weights by AVX512_BF16's dot product: 32 multiply-adds an instruction, and
// no widening. Highway has no such operation; the rest of few_rows.h's promises hold here too.
#include <algorithm>

#include "base/bfloat16.h"
#include "kernels/cpu/few_rows.h"

#if defined(__x86_64__)
#include "kernels/cpu/few_rows_avx512.h"

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")
namespace linnet::kernels::bfloat16_dot {
namespace {

constexpr int64_t kVector = 32;  // numbers
// Rows, at most: one group; kept in the first cache.
constexpr int64_t kFewest = 4, kResident = 16;
constexpr int64_t kMostGroups = 16;        // of rows that go through the weights together
constexpr int64_t kSums = 32 << 10;        // floats, in the second cache
constexpr int64_t kLong = 1024;            // inputs of a matrix that comes from memory
constexpr int64_t kFirstCache = 36 << 10;  // bytes of rows that it holds while weights pass through

HWY_INLINE __m512bh load(const uint16_t* from) {
  return reinterpret_cast<__m512bh>(_mm512_loadu_si512(from));
}

HWY_INLINE __m512bh load(const uint16_t* from, int64_t count) {  // zeros past `count`
  const auto mask = count >= kVector ? ~__mmask32{0} : static_cast<__mmask32>((uint64_t{1} << count) - 1);
  return reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16(mask, from));
}

/// What a tile adds up: a stretch of inputs of some rows of weights and one group of rows.
struct Stretch {
  const uint16_t* weights;  // of the tile's first row, at the stretch's first input
  int64_t in, outs;         // numbers from row to row; rows of weights, kOuts or fewer
  int64_t count;            // inputs of the stretch
  const uint16_t* x;        // [count / kVector, rows of the group, kVector]
  float* sums;              // [kOuts, rows of the group, 16]: kept from stretch to stretch
  bool first, last;
  float* y;  // where the last stretch puts the group's first row
  int64_t y_stride;
};

/// kOuts × kRows numbers, or of the first `outs` rows of weights alone; each its vector of sums in a
/// register.
template <int kOuts, int kRows>
void tile(const Stretch& at, Ahead& next) {
  Ahead ahead = next;
  __m512 sums[kOuts * kRows];
  LINNET_UNROLL
  for (int n = 0; n < kOuts * kRows; ++n)
    sums[n] = at.first ? _mm512_setzero_ps() : _mm512_loadu_ps(at.sums + n * 16);
  const uint16_t* from[kOuts];  // where there are fewer, the last stands in for the rest
  LINNET_UNROLL
  for (int64_t o = 0; o < kOuts; ++o) from[o] = at.weights + std::min(o, at.outs - 1) * at.in;
  const uint16_t* x = at.x;
  int64_t i = 0;
  for (; i + kVector <= at.count; i += kVector, x += kRows * kVector) {
    ahead.ask<kOuts>();
    __m512bh weights[kOuts];
    LINNET_UNROLL
    for (int o = 0; o < kOuts; ++o) weights[o] = load(from[o] + i);
    LINNET_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const __m512bh row = load(x + r * kVector);
      LINNET_UNROLL
      for (int o = 0; o < kOuts; ++o)
        sums[r * kOuts + o] = _mm512_dpbf16_ps(sums[r * kOuts + o], weights[o], row);
    }
  }
  if (i < at.count) {
    LINNET_UNROLL
    for (int o = 0; o < kOuts; ++o) {
      const __m512bh weights = load(from[o] + i, at.count - i);
      LINNET_UNROLL
      for (int r = 0; r < kRows; ++r)
        sums[r * kOuts + o] = _mm512_dpbf16_ps(sums[r * kOuts + o], weights, load(x + r * kVector));
    }
  }
  next = ahead;
  if (at.last) {
    store_sums<kOuts, kRows>(sums, at.outs, at.y, at.y_stride);
  } else {
    LINNET_UNROLL
    for (int n = 0; n < kOuts * kRows; ++n) _mm512_storeu_ps(at.sums + n * 16, sums[n]);
  }
}

/// The same for so few rows that the weights' arrival bounds it: one row of weights after the other, and all
/// by one instruction, whose stream the hardware then foresees from row to row. (Four rows of weights side by
/// side are four instructions' streams that begin anew every four rows, and the compiler's copies of this
/// loop would be too: 8 to 10% slower from memory.)
template <int kRows>
void stream(const Stretch& at, Ahead&) {
  constexpr int64_t kOuts = 4, kFarther = kRows == 1 ? 4096 : 6144;  // bytes
  alignas(64) __m512 sums[kRows * kOuts] = {};
  const uint16_t* from = at.weights;
  HWY_UNROLL(1)
  for (int64_t o = 0; o < at.outs; ++o, from += at.in) {
    __m512 of_row[kRows];
    LINNET_UNROLL
    for (int r = 0; r < kRows; ++r) of_row[r] = _mm512_setzero_ps();
    const uint16_t* x = at.x;
    int64_t i = 0;
    HWY_UNROLL(1)
    for (; i + kVector <= at.count; i += kVector, x += kRows * kVector) {
      _mm_prefetch(reinterpret_cast<const char*>(from + i) + kFarther, _MM_HINT_T0);
      const __m512bh weights = load(from + i);
      LINNET_UNROLL
      for (int r = 0; r < kRows; ++r) of_row[r] = _mm512_dpbf16_ps(of_row[r], weights, load(x + r * kVector));
    }
    if (i < at.count) {
      const __m512bh weights = load(from + i, at.count - i);
      LINNET_UNROLL
      for (int r = 0; r < kRows; ++r) of_row[r] = _mm512_dpbf16_ps(of_row[r], weights, load(x + r * kVector));
    }
    LINNET_UNROLL
    for (int r = 0; r < kRows; ++r) sums[r * kOuts + o] = of_row[r];
  }
  const auto written = static_cast<__mmask8>((1u << at.outs) - 1);
  LINNET_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const __m512* of = sums + r * kOuts;
    _mm_mask_storeu_ps(at.y + r * at.y_stride, written, sums_over_lanes(of[0], of[1], of[2], of[3]));
  }
}

using Tile = void (*)(const Stretch&, Ahead&);

Groups groups_of(int64_t rows) {
  return {rows, rows <= kFewest ? 1 : rows <= kResident ? (rows + 7) / 8 : (rows + 3) / 4};
}

/// How a number of rows is multiplied. One to four rows that the first cache holds beside the weights: their
/// arrival bounds it, one stream of them. Where it does not, or where rows of weights are so short that some
/// cache holds the whole model's, four rows of weights side by side. To sixteen rows: as many rows beside two
/// or three of weights as registers hold, in stretches so short that all rows stay in the first cache. More:
/// the rows come from the second cache, so each meets six rows of weights.
struct Plan {
  Groups groups;
  bool streams;
  int64_t outs;          // rows of weights of a tile
  int64_t stretch;       // inputs
  Tile smaller, larger;  // of a group of groups.smaller() rows and of one more

  Plan(int64_t rows, int64_t in) : groups(groups_of(rows)) {
    const int64_t least = groups.smaller(), most = groups.larger();
    const bool fits = rows * in * 2 <= kFirstCache;
    streams = rows == 1 || (rows <= kFewest && fits && (rows == 2 || in >= kLong));
    outs = rows <= kFewest ? 4 : rows > kResident ? 6 : most <= 6 ? 3 : 2;
    stretch = rows <= kFewest || fits ? in : evenly(in, rows <= kResident ? 1024 : 2048);
    smaller = tile_of(least), larger = tile_of(most);
  }

  Tile tile_of(int64_t rows) const {
    static constexpr Tile kStreams[] = {stream<1>, stream<2>, stream<3>, stream<4>};
    static constexpr Tile kFour[] = {nullptr, tile<4, 2>, tile<4, 3>, tile<4, 4>};
    static constexpr Tile kThree[] = {tile<3, 4>, tile<3, 5>, tile<3, 6>};
    static constexpr Tile kTwo[] = {tile<2, 6>, tile<2, 7>, tile<2, 8>};
    static constexpr Tile kSix[] = {tile<6, 3>, tile<6, 4>};
    return streams     ? kStreams[rows - 1]
           : outs == 4 ? kFour[rows - 1]
           : outs == 3 ? kThree[rows - 4]
           : outs == 2 ? kTwo[rows - 6]
                       : kSix[rows - 3];
  }

  /// `in` in stretches of one length, as near to `most` as such lengths can come.
  static int64_t evenly(int64_t in, int64_t most) {
    const int64_t count = (in + most - 1) / most, length = (in + count - 1) / count;
    return (length + kVector - 1) / kVector * kVector;
  }
};

/// Groups [from, to) of x's rows by outputs [begin, end).
void product_of_groups(const Plan& plan, int64_t from, int64_t to, const uint16_t* weights, int64_t in,
                       int64_t begin, int64_t end, const uint16_t* prepared, float* y, int64_t y_stride) {
  alignas(64) thread_local float sums[kSums];
  const Groups& groups = plan.groups;
  const int64_t padded = prepared_size(in) * 2, rows = groups.begin(to) - groups.begin(from),
                outs = plan.outs;
  const bool whole = plan.stretch >= in;
  const int64_t panel = whole ? end - begin : kSums / 16 / rows / outs * outs;
  for (int64_t first = begin; first < end; first += panel) {
    const int64_t last = std::min(end, first + panel);
    for (int64_t i = 0; i < in; i += plan.stretch) {
      const int64_t count = std::min(plan.stretch, in - i);
      Stretch at{weights + first * in + i, in,      0,       count, nullptr, sums, i == 0,
                 i + count >= in,          nullptr, y_stride};
      for (int64_t o = first; o < last; o += outs, at.weights += outs * in) {
        at.outs = std::min(outs, last - o);
        const int64_t lines = (count * 2 + kLine - 1) / kLine, pace = (outs + to - from - 1) / (to - from);
        Ahead ahead{reinterpret_cast<const char*>(at.weights + (whole ? 1 : 2) * outs * in), pace};
        if (!whole) ahead.left = ahead.lines = lines, ahead.jump = in * 2 - lines * kLine;
        for (int64_t g = from; g < to; ++g) {
          const int64_t row = groups.begin(g), size = groups.begin(g + 1) - row;
          if ((g - from) * pace >= outs) ahead.pace = 0;
          at.x = prepared + row * padded + i * size;
          at.y = y + row * y_stride + o;
          (size == groups.smaller() ? plan.smaller : plan.larger)(at, ahead);
          if (!whole) at.sums += outs * size * 16;
        }
      }
    }
  }
}

}  // namespace

bool on_this_machine() {
  static const bool has = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512bf16");
  return has;
}

int64_t prepared_size(int64_t in) { return (in + kVector - 1) / kVector * kVector / 2; }

void prepare(const float* x, int64_t x_stride, int64_t begin, int64_t end, int64_t rows, int64_t in,
             uint16_t* prepared) {
  const int64_t padded = prepared_size(in) * 2;
  const Groups groups = groups_of(rows);
  for (int64_t r = begin; r < end; ++r) {
    const int64_t g = groups.of_row(r), first = groups.begin(g), size = groups.begin(g + 1) - first;
    const float* from = x + r * x_stride;
    uint16_t* to = prepared + first * padded + (r - first) * kVector;
    for (int64_t i = 0; i < in; i += kVector, to += size * kVector) {
      const int64_t count = std::min(kVector, in - i);
      for (int64_t j = 0; j < count; ++j) to[j] = float_to_bfloat16(from[i + j]);
      std::fill(to + count, to + kVector, uint16_t{0});
    }
  }
}

void product(const uint16_t* weights, int64_t in, int64_t begin, int64_t end, const uint16_t* prepared,
             int64_t rows, float* y, int64_t y_stride) {
  const Plan plan(rows, in);
  for (int64_t g = 0; g < plan.groups.count; g += kMostGroups)
    product_of_groups(plan, g, std::min(g + kMostGroups, plan.groups.count), weights, in, begin, end,
                      prepared, y, y_stride);
}

}  // namespace linnet::kernels::bfloat16_dot
HWY_POP_ATTRIBUTES

#else

namespace linnet::kernels::bfloat16_dot {

bool on_this_machine() { return false; }
int64_t prepared_size(int64_t) { return 0; }
void prepare(const float*, int64_t, int64_t, int64_t, int64_t, int64_t, uint16_t*) {}
void product(const uint16_t*, int64_t, int64_t, int64_t, const uint16_t*, int64_t, float*, int64_t) {}

}  // namespace linnet::kernels::bfloat16_dot

#endif

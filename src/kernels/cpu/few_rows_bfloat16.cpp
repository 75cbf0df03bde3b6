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

HWY_INLINE __m512bh load(const uint16_t* from) {
  return reinterpret_cast<__m512bh>(_mm512_loadu_si512(from));
}

HWY_INLINE __m512bh load(const uint16_t* from, int64_t count) {  // zeros past `count`
  const auto mask = count >= kVector ? ~__mmask32{0} : static_cast<__mmask32>((uint64_t{1} << count) - 1);
  return reinterpret_cast<__m512bh>(_mm512_maskz_loadu_epi16(mask, from));
}

/// What a tile adds up over one stretch of inputs.
struct Stretch {
  const uint16_t* weights;  // of its first row, at the stretch's first input
  int64_t in, outs;         // numbers from row to row; rows of weights, kOuts or fewer
  int64_t count;            // inputs of the stretch
  float* sums;              // [kOuts, rows, 16]: kept from stretch to stretch
  bool first, last;
};

/// kOuts × kRows numbers, or of the first `outs` rows of weights alone. x: [count / kVector, kRows, kVector].
template <int kRows>
HWY_INLINE void tile(const Stretch& at, const uint16_t* x, Ahead& ahead, float* y, int64_t y_stride) {
  __m512 sums[kOuts][kRows];
  for (int o = 0; o < kOuts; ++o) {
    for (int r = 0; r < kRows; ++r)
      sums[o][r] = at.first ? _mm512_setzero_ps() : _mm512_loadu_ps(at.sums + (o * kRows + r) * 16);
  }
  const uint16_t* from[kOuts];  // where there are fewer, the last stands in for the rest
  for (int64_t o = 0; o < kOuts; ++o) from[o] = at.weights + std::min(o, at.outs - 1) * at.in;
  int64_t i = 0;
  for (; i + kVector <= at.count; i += kVector, x += kRows * kVector) {
    ahead.ask();
    __m512bh rows[kRows];
    for (int r = 0; r < kRows; ++r) rows[r] = load(x + r * kVector);
    for (int o = 0; o < kOuts; ++o) {
      const __m512bh w = load(from[o] + i);
      for (int r = 0; r < kRows; ++r) sums[o][r] = _mm512_dpbf16_ps(sums[o][r], w, rows[r]);
    }
  }
  if (i < at.count) {
    for (int o = 0; o < kOuts; ++o) {
      const __m512bh w = load(from[o] + i, at.count - i);
      for (int r = 0; r < kRows; ++r) sums[o][r] = _mm512_dpbf16_ps(sums[o][r], w, load(x + r * kVector));
    }
  }
  if (!at.last) {
    for (int o = 0; o < kOuts; ++o) {
      for (int r = 0; r < kRows; ++r) _mm512_storeu_ps(at.sums + (o * kRows + r) * 16, sums[o][r]);
    }
    return;
  }
  const auto written = static_cast<__mmask8>((1u << at.outs) - 1);
  for (int r = 0; r < kRows; ++r)
    _mm_mask_storeu_ps(y + r * y_stride, written,
                       sums_over_lanes(sums[0][r], sums[1][r], sums[2][r], sums[3][r]));
}

/// Rows [begin, end) of x, at most kMostGroups groups, by all outputs of a range.
HWY_INLINE void product_of_groups(const uint16_t* weights, int64_t in, int64_t first_out, int64_t last_out,
                                  const uint16_t* prepared, int64_t begin, int64_t end, int64_t rows,
                                  float* y, int64_t y_stride) {
  const int64_t padded = prepared_size(in) * 2, groups = (end - begin + kGroup - 1) / kGroup;
  // Few rows: so long that weights and rows stay in the first cache from group to group.
  const int64_t stretch = groups <= 1 ? in : groups <= 4 ? 512 : 2048;
  float sums[kMostGroups * kOuts * kGroup * 16];
  for (int64_t o = first_out; o < last_out; o += kOuts) {
    Ahead ahead{reinterpret_cast<const char*>(weights + (o + kOuts) * in),
                (kOuts * in * 2 + kLine - 1) / kLine, groups <= 1 ? kOuts : 2};
    for (int64_t i = 0; i < in; i += stretch) {
      Stretch at{weights + o * in + i,      in,   std::min(kOuts, last_out - o),
                 std::min(stretch, in - i), sums, i == 0,
                 i + stretch >= in};
      for (int64_t r = begin, now; r < end; r += now, at.sums += kOuts * kGroup * 16) {
        now = group_at(r, rows);
        const uint16_t* x = prepared + r * padded + i * now;
        float* to = y + o + r * y_stride;
        if (now == 1) tile<1>(at, x, ahead, to, y_stride);
        if (now == 2) tile<2>(at, x, ahead, to, y_stride);
        if (now == 3) tile<3>(at, x, ahead, to, y_stride);
        if (now == 4) tile<4>(at, x, ahead, to, y_stride);
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

void prepare(const float* x, int64_t x_stride, int64_t rows, int64_t in, uint16_t* prepared) {
  const int64_t padded = prepared_size(in) * 2;
  for (int64_t first = 0, now; first < rows; first += now, prepared += now * padded) {
    now = group_at(first, rows);
    for (int64_t r = 0; r < now; ++r, x += x_stride) {
      uint16_t* to = prepared + r * kVector;
      for (int64_t i = 0; i < in; i += kVector, to += now * kVector) {
        const int64_t count = std::min(kVector, in - i);
        for (int64_t j = 0; j < count; ++j) to[j] = float_to_bfloat16(x[i + j]);
        std::fill(to + count, to + kVector, uint16_t{0});
      }
    }
  }
}

void product(const uint16_t* weights, int64_t in, int64_t begin, int64_t end, const uint16_t* prepared,
             int64_t rows, float* y, int64_t y_stride) {
  for (int64_t first = 0, last; first < rows; first = last) {
    last = first;
    for (int64_t group = 0; group < kMostGroups && last < rows; ++group) last += group_at(last, rows);
    product_of_groups(weights, in, begin, end, prepared, first, last, rows, y, y_stride);
  }
}

}  // namespace linnet::kernels::bfloat16_dot
HWY_POP_ATTRIBUTES

#else

namespace linnet::kernels::bfloat16_dot {

bool on_this_machine() { return false; }
int64_t prepared_size(int64_t) { return 0; }
void prepare(const float*, int64_t, int64_t, int64_t, uint16_t*) {}
void product(const uint16_t*, int64_t, int64_t, int64_t, const uint16_t*, int64_t, float*, int64_t) {}

}  // namespace linnet::kernels::bfloat16_dot

#endif

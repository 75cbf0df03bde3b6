#include "kernels/cpu/panel_product.h"

#include <algorithm>
#include <cstring>

#include "base/array.h"
#include "kernels/cpu/row_groups.h"

#if defined(__x86_64__)
#include "kernels/cpu/few_rows_avx512.h"

HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")
namespace linnet::kernels::panel_dot {
namespace {

constexpr int64_t kPair = 2, kVector = 32;  // numbers
constexpr int64_t kOuts = 48;               // of a panel
constexpr int64_t kStretch = 2048;          // inputs of a panel, at most: 192 KB
constexpr int64_t kAhead = 12;        // pairs: of the panel, on its way from the second cache to the first
constexpr int64_t kTurnAhead = 1024;  // bytes: of a row of weights, on its way from memory
constexpr int64_t kFewPanels = 16;    // of a matrix: its rows are cut for threads too
constexpr int kVectors = kOuts / 16, kMostRows = 8;

/// Sixteen rows of sixteen words become sixteen columns.
HWY_INLINE void transpose(__m512i (&rows)[16]) {
  __m512i two[16], four[16];
  LINNET_UNROLL
  for (int i = 0; i < 16; i += 2) {
    two[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    two[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  LINNET_UNROLL
  for (int i = 0; i < 16; i += 4) {  // four[i + c]: word 4 l + c of rows i to i + 3 in each quarter l
    four[i] = _mm512_unpacklo_epi64(two[i], two[i + 2]);
    four[i + 1] = _mm512_unpackhi_epi64(two[i], two[i + 2]);
    four[i + 2] = _mm512_unpacklo_epi64(two[i + 1], two[i + 3]);
    four[i + 3] = _mm512_unpackhi_epi64(two[i + 1], two[i + 3]);
  }
  LINNET_UNROLL
  for (int c = 0; c < 4; ++c) {
    const __m512i a = _mm512_shuffle_i32x4(four[c], four[4 + c], 0x88),
                  b = _mm512_shuffle_i32x4(four[8 + c], four[12 + c], 0x88);
    const __m512i e = _mm512_shuffle_i32x4(four[c], four[4 + c], 0xDD),
                  f = _mm512_shuffle_i32x4(four[8 + c], four[12 + c], 0xDD);
    rows[c] = _mm512_shuffle_i32x4(a, b, 0x88);
    rows[8 + c] = _mm512_shuffle_i32x4(a, b, 0xDD);
    rows[4 + c] = _mm512_shuffle_i32x4(e, f, 0x88);
    rows[12 + c] = _mm512_shuffle_i32x4(e, f, 0xDD);
  }
}

/// kRows × kOuts numbers.
template <int kRows>
void tile(const uint16_t* panel, int64_t outs, int64_t count, const uint16_t* x, int64_t x_stride, bool first,
          float* y, int64_t y_stride) {
  __mmask16 written[kVectors];
  LINNET_UNROLL
  for (int v = 0; v < kVectors; ++v)
    written[v] = static_cast<__mmask16>((1u << std::clamp<int64_t>(outs - v * 16, 0, 16)) - 1);
  __m512 sums[kRows * kVectors];
  LINNET_UNROLL
  for (int n = 0; n < kRows * kVectors; ++n) {
    const int r = n / kVectors, v = n % kVectors;
    sums[n] = first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(written[v], y + r * y_stride + v * 16);
  }
  for (int64_t i = 0; i < count; i += kPair, panel += kPair * kOuts) {
    LINNET_UNROLL
    for (int v = 0; v < kVectors; ++v)
      _mm_prefetch(reinterpret_cast<const char*>(panel + kAhead * kPair * kOuts + v * kVector), _MM_HINT_T0);
    __m512bh weights[kVectors];
    LINNET_UNROLL
    for (int v = 0; v < kVectors; ++v)
      weights[v] = reinterpret_cast<__m512bh>(_mm512_load_si512(panel + v * kVector));
    LINNET_UNROLL
    for (int r = 0; r < kRows; ++r) {
      int32_t pair;
      std::memcpy(&pair, x + r * x_stride + i, sizeof(pair));
      const auto row = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
      LINNET_UNROLL
      for (int v = 0; v < kVectors; ++v)
        sums[r * kVectors + v] = _mm512_dpbf16_ps(sums[r * kVectors + v], weights[v], row);
    }
  }
  LINNET_UNROLL
  for (int n = 0; n < kRows * kVectors; ++n) {
    const int r = n / kVectors, v = n % kVectors;
    _mm512_mask_storeu_ps(y + r * y_stride + v * 16, written[v], sums[n]);
  }
}

using Tile = void (*)(const uint16_t*, int64_t, int64_t, const uint16_t*, int64_t, bool, float*, int64_t);
constexpr Tile kTiles[] = {tile<1>, tile<2>, tile<3>, tile<4>, tile<5>, tile<6>, tile<7>, tile<8>};

/// Inputs [0, count) of `outs` rows of weights, `in` numbers apart, as `panel` [pair of inputs, kOuts, 2].
/// Sixteen rows at a time: more streams of memory arrive more slowly.
void turn(const uint16_t* weights, int64_t in, int64_t outs, int64_t count, uint16_t* panel) {
  for (int64_t v = 0; v < kVectors; ++v) {
    uint16_t* to = panel + v * kVector;
    for (int64_t i = 0; i < count; i += kVector, to += kVector * kOuts) {
      const auto mask =
          count - i >= kVector ? ~__mmask32{0} : static_cast<__mmask32>((uint64_t{1} << (count - i)) - 1);
      __m512i rows[16];
      LINNET_UNROLL
      for (int64_t o = 0; o < 16; ++o) {
        const int64_t out = v * 16 + o;
        _mm_prefetch(reinterpret_cast<const char*>(weights + std::min(out, outs - 1) * in + i) + kTurnAhead,
                     _MM_HINT_T1);
        rows[o] = _mm512_maskz_loadu_epi16(out < outs ? mask : __mmask32{0},
                                           weights + std::min(out, outs - 1) * in + i);
      }
      transpose(rows);
      LINNET_UNROLL
      for (int64_t pair = 0; pair < 16; ++pair) _mm512_store_si512(to + pair * kPair * kOuts, rows[pair]);
    }
  }
}

/// Adds `count` inputs of all rows to y, or begins it with them.
void product(const uint16_t* panel, int64_t outs, int64_t count, const uint16_t* x, int64_t x_stride,
             int64_t rows, bool first, float* y, int64_t y_stride) {
  const Groups groups{rows, (rows + kMostRows - 1) / kMostRows};
  for (int64_t g = 0; g < groups.count; ++g) {
    const int64_t r = groups.begin(g), size = groups.begin(g + 1) - r;
    kTiles[size - 1](panel, outs, count, x + r * x_stride, x_stride, first, y + r * y_stride, y_stride);
  }
}

int64_t panels_of(int64_t out) { return (out + kOuts - 1) / kOuts; }
int64_t block_of(int64_t out) { return panels_of(out) < kFewPanels ? 128 : 512; }

}  // namespace

int64_t pieces(int64_t out, int64_t rows) {
  return panels_of(out) * ((rows + block_of(out) - 1) / block_of(out));
}

void piece(int64_t index, const uint16_t* weights, int64_t in, int64_t out, const uint16_t* x, int64_t rows,
           float* y, int64_t y_stride) {
  thread_local const auto panel = zeroed<uint16_t>(kStretch * kOuts);
  const int64_t block = block_of(out), blocks = (rows + block - 1) / block;
  const int64_t o = index / blocks * kOuts, outs = std::min(kOuts, out - o);
  const int64_t r = index % blocks * block, count = std::min(block, rows - r);
  for (int64_t i = 0; i < in; i += kStretch) {
    const int64_t inputs = std::min(kStretch, in - i);
    turn(weights + o * in + i, in, outs, inputs, panel.get());
    product(panel.get(), outs, inputs, x + r * in + i, in, count, i == 0, y + r * y_stride + o, y_stride);
  }
}

}  // namespace linnet::kernels::panel_dot
HWY_POP_ATTRIBUTES

#else

namespace linnet::kernels::panel_dot {

int64_t pieces(int64_t, int64_t) { return 0; }
void piece(int64_t, const uint16_t*, int64_t, int64_t, const uint16_t*, int64_t, float*, int64_t) {}

}  // namespace linnet::kernels::panel_dot

#endif

#include "kernels/cpu/few_rows.h"

#include <algorithm>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/few_rows.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace linnet::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Float = hn::ScalableTag<float>;
using Word = hn::RebindToUnsigned<Float>;
using Vector = hn::Vec<Float>;

int64_t block_size() { return static_cast<int64_t>(2 * hn::Lanes(Float())); }

int64_t padded_size(int64_t in) { return (in + block_size() - 1) / block_size() * block_size(); }

void prepare(WeightType type, const float* x, int64_t x_stride, int64_t rows, int64_t in, float* prepared) {
  const int64_t block = block_size(), half = block / 2, padded = padded_size(in), whole = in / block * block;
  for (int64_t r = 0; r < rows; ++r, x += x_stride, prepared += padded) {
    if (type == WeightType::kFloat32) {
      std::copy_n(x, in, prepared);
      std::fill(prepared + in, prepared + padded, 0.0f);
      continue;
    }
    for (int64_t b = 0; b < whole; b += block) {
      for (int64_t i = 0; i < half; ++i) {
        prepared[b + i] = x[b + 2 * i];
        prepared[b + half + i] = x[b + 2 * i + 1];
      }
    }
    for (int64_t i = 0; i < padded - whole; ++i) {  // the last, broken block
      const int64_t from = whole + (i < half ? 2 * i : 2 * (i - half) + 1);
      prepared[whole + i] = from < in ? x[from] : 0.0f;
    }
  }
}

// One block of one weight row as the two vectors that meet the prepared row's.
struct Pair {
  Vector first, second;
};

HWY_INLINE Pair load(const float* weights) {
  const Float d;
  return {hn::LoadU(d, weights), hn::LoadU(d, weights + hn::Lanes(d))};
}

HWY_INLINE Pair load(const uint16_t* weights) {
  const Word words;
  const Float d;
  // Little-endian: the even number is the low half of a word, and a bf16 is a float's upper half.
  const auto both = hn::LoadU(words, reinterpret_cast<const uint32_t*>(weights));
  return {hn::BitCast(d, hn::ShiftLeft<16>(both)),
          hn::BitCast(d, hn::And(both, hn::Set(words, 0xFFFF0000u)))};
}

// kOuts × kRows sums live in registers. Enough of them to hide a fused multiply-add's latency; few enough for
// 32 (AVX-512) registers. The first rows to read weights (kFetch) ask for those of the next tile: the
// hardware's prefetchers don't follow kOuts short streams. Measured, one thread, [in 384, 31 MB of bf16]: 28
// GB/s without, 40 with.
template <int kRows, int kOuts, bool kFetch, class Weight>
HWY_INLINE void tile(const Weight* weights, int64_t in, const float* prepared, int64_t padded, float* y,
                     int64_t y_stride) {
  const Float d;
  const int64_t lanes = hn::Lanes(d), block = 2 * lanes;
  Vector sums[kOuts][kRows];
  for (int o = 0; o < kOuts; ++o) {
    for (int r = 0; r < kRows; ++r) sums[o][r] = hn::Zero(d);
  }
  const auto add = [&](const Weight* from, int64_t stride, const float* x) HWY_ATTR {
    for (int o = 0; o < kOuts; ++o) {
      const Pair w = load(from + o * stride);
      for (int r = 0; r < kRows; ++r) {
        sums[o][r] = hn::MulAdd(w.first, hn::LoadU(d, x + r * padded), sums[o][r]);
        sums[o][r] = hn::MulAdd(w.second, hn::LoadU(d, x + r * padded + lanes), sums[o][r]);
      }
    }
  };
  const int64_t whole = in / block * block;
  for (int64_t i = 0; i < whole; i += block) {
    if (kFetch) {
      for (int o = 0; o < kOuts; ++o) hwy::Prefetch(weights + i + (o + kOuts) * in);
    }
    add(weights + i, in, prepared + i);
  }
  if (whole < in) {
    Weight last[kOuts * HWY_MAX_BYTES / 2] = {};  // [kOuts, block], zeros past the row's end
    for (int o = 0; o < kOuts; ++o)
      std::memcpy(last + o * block, weights + o * in + whole, (in - whole) * sizeof(Weight));
    add(last, block, prepared + whole);
  }
  for (int o = 0; o < kOuts; ++o) {
    for (int r = 0; r < kRows; ++r) y[r * y_stride + o] = hn::GetLane(hn::SumOfLanes(d, sums[o][r]));
  }
}

template <int kOuts, bool kFetch, class Weight>
HWY_INLINE void up_to_four(const Weight* weights, int64_t in, const float* prepared, int64_t padded,
                           int64_t rows, float* y, int64_t y_stride) {
  switch (rows) {
    case 1:
      return tile<1, kOuts, kFetch>(weights, in, prepared, padded, y, y_stride);
    case 2:
      return tile<2, kOuts, kFetch>(weights, in, prepared, padded, y, y_stride);
    case 3:
      return tile<3, kOuts, kFetch>(weights, in, prepared, padded, y, y_stride);
    default:
      return tile<4, kOuts, kFetch>(weights, in, prepared, padded, y, y_stride);
  }
}

template <int kOuts, class Weight>
HWY_INLINE void all_rows(const Weight* weights, int64_t in, const float* prepared, int64_t rows, float* y,
                         int64_t y_stride) {
  const int64_t padded = padded_size(in);
  up_to_four<kOuts, true>(weights, in, prepared, padded, std::min<int64_t>(rows, 4), y, y_stride);
  for (int64_t r = 4; r < rows; r += 4) {
    up_to_four<kOuts, false>(weights, in, prepared + r * padded, padded, std::min<int64_t>(rows - r, 4),
                             y + r * y_stride, y_stride);
  }
}

template <class Weight>
void range(const Weight* weights, int64_t in, int64_t begin, int64_t end, const float* prepared, int64_t rows,
           float* y, int64_t y_stride) {
  const int64_t padded = padded_size(in);
  int64_t o = begin;
  if (rows == 1) {
    for (; o + 8 <= end; o += 8) tile<1, 8, true>(weights + o * in, in, prepared, padded, y + o, y_stride);
  }
  for (; o + 4 <= end; o += 4) all_rows<4>(weights + o * in, in, prepared, rows, y + o, y_stride);
  for (; o < end; ++o) all_rows<1>(weights + o * in, in, prepared, rows, y + o, y_stride);
}

void product(WeightType type, const void* weights, int64_t in, int64_t begin, int64_t end,
             const float* prepared, int64_t rows, float* y, int64_t y_stride) {
  if (type == WeightType::kBFloat16) {
    range(static_cast<const uint16_t*>(weights), in, begin, end, prepared, rows, y, y_stride);
  } else {
    range(static_cast<const float*>(weights), in, begin, end, prepared, rows, y, y_stride);
  }
}

}  // namespace linnet::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::kernels {

HWY_EXPORT(padded_size);
HWY_EXPORT(prepare);
HWY_EXPORT(product);

int64_t prepared_size(int64_t in) { return HWY_DYNAMIC_DISPATCH(padded_size)(in); }

void prepare_rows(WeightType type, const float* x, int64_t x_stride, int64_t rows, int64_t in,
                  float* prepared) {
  HWY_DYNAMIC_DISPATCH(prepare)(type, x, x_stride, rows, in, prepared);
}

void few_rows_product(WeightType type, const void* weights, int64_t in, int64_t begin, int64_t end,
                      const float* prepared, int64_t rows, float* y, int64_t y_stride) {
  HWY_DYNAMIC_DISPATCH(product)(type, weights, in, begin, end, prepared, rows, y, y_stride);
}

}  // namespace linnet::kernels
#endif  // HWY_ONCE

#include "kernels/cpu/few_rows.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "kernels/cpu/few_rows_tiles.h"
#include "kernels/cpu/instruction_sets.h"

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
    if (type != WeightType::kBFloat16) {
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

// kOuts × kRows numbers, two sums each, live in registers: 32 of them with AVX-512, else 16.
#if HWY_TARGET <= HWY_AVX3
constexpr int kMostOuts = 4, kMostRows = 3;
#else
constexpr int kMostOuts = 2, kMostRows = 2;
#endif
constexpr int64_t kAhead = 4096;  // bytes: into the page that comes next

template <int kOuts, int kRows, class Weight>
HWY_INLINE void tile(const Weight* weights, int64_t in, const float* prepared, int64_t padded, float* y,
                     int64_t y_stride) {
  const Float d;
  const int64_t lanes = hn::Lanes(d), block = 2 * lanes;
  Vector first[kOuts][kRows], second[kOuts][kRows];
  for (int o = 0; o < kOuts; ++o) {
    for (int r = 0; r < kRows; ++r) first[o][r] = second[o][r] = hn::Zero(d);
  }
  const auto add = [&](const Weight* from, int64_t stride, const float* x) HWY_ATTR {
    for (int o = 0; o < kOuts; ++o) {
      const Pair w = load(from + o * stride);
      for (int r = 0; r < kRows; ++r) {
        first[o][r] = hn::MulAdd(w.first, hn::LoadU(d, x + r * padded), first[o][r]);
        second[o][r] = hn::MulAdd(w.second, hn::LoadU(d, x + r * padded + lanes), second[o][r]);
      }
    }
  };
  const int64_t whole = in / block * block;
  for (int64_t i = 0; i < whole; i += block) {
    if (kRows == 1) hwy::Prefetch(reinterpret_cast<const std::byte*>(weights + i) + kAhead);
    add(weights + i, in, prepared + i);
  }
  if (whole < in) {
    Weight last[kOuts * HWY_MAX_BYTES / 2] = {};  // [kOuts, block], zeros past the row's end
    for (int o = 0; o < kOuts; ++o)
      std::memcpy(last + o * block, weights + o * in + whole, (in - whole) * sizeof(Weight));
    add(last, block, prepared + whole);
  }
  for (int o = 0; o < kOuts; ++o) {
    for (int r = 0; r < kRows; ++r)
      y[r * y_stride + o] = hn::GetLane(hn::SumOfLanes(d, hn::Add(first[o][r], second[o][r])));
  }
}

template <int kOuts, class Weight>
HWY_INLINE void all_rows(const Weight* weights, int64_t in, const float* prepared, int64_t rows, float* y,
                         int64_t y_stride) {
  const int64_t padded = padded_size(in);
  int64_t r = 0;
  for (; r + kMostRows <= rows; r += kMostRows)
    tile<kOuts, kMostRows>(weights, in, prepared + r * padded, padded, y + r * y_stride, y_stride);
  if (kMostRows > 2 && rows - r == 2) {
    tile<kOuts, 2>(weights, in, prepared + r * padded, padded, y + r * y_stride, y_stride);
  } else if (r < rows) {
    tile<kOuts, 1>(weights, in, prepared + r * padded, padded, y + r * y_stride, y_stride);
  }
}

template <class Weight>
void range(const Weight* weights, int64_t in, int64_t begin, int64_t end, const float* prepared, int64_t rows,
           float* y, int64_t y_stride) {
  int64_t o = begin;
  if (rows > 1) {
    for (; o + kMostOuts <= end; o += kMostOuts)
      all_rows<kMostOuts>(weights + o * in, in, prepared, rows, y + o, y_stride);
  }
  for (; o < end; ++o) all_rows<1>(weights + o * in, in, prepared, rows, y + o, y_stride);
}

// Integers as float32, a row after the other: the plain way, where nothing multiplies them as they are.
void widened_range(const Weights& weights, int64_t begin, int64_t end, const float* prepared, int64_t rows,
                   float* y, int64_t y_stride) {
  thread_local std::vector<float> row;
  row.resize(std::max(row.size(), static_cast<size_t>(weights.in)));
  for (int64_t o = begin; o < end; ++o) {
    read_row(weights, o, row.data());
    all_rows<1>(row.data(), weights.in, prepared, rows, y + o, y_stride);
  }
}

void product(const Weights& weights, int64_t begin, int64_t end, const float* prepared, int64_t rows,
             float* y, int64_t y_stride) {
  const int64_t in = weights.in;
  if (row_of(weights.type).integer) {
    widened_range(weights, begin, end, prepared, rows, y, y_stride);
  } else if (weights.type == WeightType::kBFloat16) {
    range(reinterpret_cast<const uint16_t*>(weights.data), in, begin, end, prepared, rows, y, y_stride);
  } else {
    range(reinterpret_cast<const float*>(weights.data), in, begin, end, prepared, rows, y, y_stride);
  }
}

}  // namespace linnet::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::kernels {

HWY_EXPORT(padded_size);
HWY_EXPORT(prepare);
HWY_EXPORT(product);

RowType fastest_rows(WeightType weights) {
  if (row_of(weights).integer && integer_dot::on_this_machine()) return RowType::kInt8;
  // What AVX-512 machines may have beside it.
  if (!avx512_in_use()) return RowType::kFloat32;
  if (weights == WeightType::kBFloat16 && tiles_in_use()) return RowType::kBFloat16Tiles;
  if (weights == WeightType::kBFloat16 && bfloat16_dot::on_this_machine()) return RowType::kBFloat16;
  return RowType::kFloat32;
}

int64_t prepared_size(RowType rows, int64_t in) {
  switch (rows) {
    case RowType::kBFloat16:
      return bfloat16_dot::prepared_size(in);
    case RowType::kBFloat16Tiles:
      return tile_dot::prepared_size(in);
    case RowType::kInt8:
      return integer_dot::prepared_size(in);
    case RowType::kFloat32:
      break;
  }
  return HWY_DYNAMIC_DISPATCH(padded_size)(in);
}

void prepare_rows(WeightType weights, RowType type, const float* x, int64_t x_stride, int64_t begin,
                  int64_t end, int64_t rows, int64_t in, float* prepared) {
  switch (type) {
    case RowType::kBFloat16:
      return bfloat16_dot::prepare(x, x_stride, begin, end, rows, in, reinterpret_cast<uint16_t*>(prepared));
    case RowType::kBFloat16Tiles:
      return tile_dot::prepare(x, x_stride, begin, end, rows, in, reinterpret_cast<uint16_t*>(prepared));
    case RowType::kInt8:
      return integer_dot::prepare(weights, x, x_stride, begin, end, rows, in, prepared);
    case RowType::kFloat32:
      break;
  }
  HWY_DYNAMIC_DISPATCH(prepare)
  (weights, x + begin * x_stride, x_stride, end - begin, in, prepared + begin * prepared_size(type, in));
}

void few_rows_product(const Weights& weights, RowType row_type, int64_t begin, int64_t end,
                      const float* prepared, int64_t rows, float* y, int64_t y_stride) {
  switch (row_type) {
    case RowType::kBFloat16:
      return bfloat16_dot::product(reinterpret_cast<const uint16_t*>(weights.data), weights.in, begin, end,
                                   reinterpret_cast<const uint16_t*>(prepared), rows, y, y_stride);
    case RowType::kBFloat16Tiles:
      return tile_dot::product(reinterpret_cast<const uint16_t*>(weights.data), weights.in, begin, end,
                               reinterpret_cast<const uint16_t*>(prepared), rows, y, y_stride);
    case RowType::kInt8:
      return integer_dot::product(weights, begin, end, prepared, rows, y, y_stride);
    case RowType::kFloat32:
      break;
  }
  HWY_DYNAMIC_DISPATCH(product)(weights, begin, end, prepared, rows, y, y_stride);
}

}  // namespace linnet::kernels
#endif  // HWY_ONCE

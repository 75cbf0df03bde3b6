#include "kernels/cpu/few_rows.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <vector>

#include "kernels/cpu/few_rows_tiles.h"
#include "kernels/cpu/instruction_sets.h"
#include "kernels/cpu/row_groups.h"

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

/// Several rows: kMostOuts × kMostRows numbers live in registers (32 with AVX-512, else 16), of each one of
/// its two sums: the first of all their blocks, then the second, so that a load of a row meets as many
/// weights as registers allow. A group of rows stays in the first cache for a stretch of inputs while a panel
/// of outputs passes, whose weights stay in the second from group to group.
#if HWY_TARGET <= HWY_AVX3
constexpr int kMostOuts = 4, kMostRows = 6;
#elif HWY_TARGET <= HWY_AVX2
constexpr int kMostOuts = 3, kMostRows = 4;
#else
constexpr int kMostOuts = 2, kMostRows = 4;
#endif
constexpr int64_t kStretch = 1024;          // inputs
constexpr int64_t kPanelBytes = 128 << 10;  // of weights
constexpr int64_t kMostPanel = 24;          // outputs of a panel, a multiple of kMostOuts
constexpr int64_t kTileSums = 2 * kMostOuts * kMostRows * HWY_MAX_BYTES / 4;

Groups groups_of(int64_t rows) { return {rows, (rows + kMostRows - 1) / kMostRows}; }

/// A group of rows: [2 halves, blocks, rows of the group, lanes].
void prepare(WeightType type, const float* x, int64_t x_stride, int64_t begin, int64_t end, int64_t rows,
             int64_t in, float* prepared) {
  const int64_t block = block_size(), lanes = block / 2, padded = padded_size(in);
  const Groups groups = groups_of(rows);
  for (int64_t r = begin; r < end; ++r) {
    const int64_t g = groups.of_row(r), first = groups.begin(g), size = groups.begin(g + 1) - first;
    const float* from = x + r * x_stride;
    float* to = prepared + first * padded + (r - first) * lanes;
    const int64_t second = padded / 2 * size;
    for (int64_t b = 0; b < padded; b += block, to += size * lanes) {
      for (int64_t i = 0; i < lanes; ++i) {
        const bool turn = type == WeightType::kBFloat16;  // even inputs before odd ones
        const int64_t one = b + (turn ? 2 * i : i), two = b + (turn ? 2 * i + 1 : lanes + i);
        to[i] = one < in ? from[one] : 0.0f;
        to[second + i] = two < in ? from[two] : 0.0f;
      }
    }
  }
}

// One half of a block of one weight row, as it meets the prepared row's.
template <int kHalf>
HWY_INLINE Vector load_half(const float* weights) {
  const Float d;
  return hn::LoadU(d, weights + kHalf * hn::Lanes(d));
}

template <int kHalf>
HWY_INLINE Vector load_half(const uint16_t* weights) {
  const Word words;
  const auto both = hn::LoadU(words, reinterpret_cast<const uint32_t*>(weights));
  // Two shifts for the odd numbers: a mask would take a register from the tile's sums.
  return hn::BitCast(Float(), hn::ShiftLeft<16>(kHalf == 0 ? both : hn::ShiftRight<16>(both)));
}

// Both of them.
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

constexpr int64_t kAhead = 4096;  // bytes: into the page that comes next

/// A row of weights past its whole blocks as a block of its own: zeros behind it.
template <class Weight>
HWY_INLINE void last_block(const Weight* weights, int64_t in, int64_t whole, Weight* to) {
  std::memset(to, 0, block_size() * sizeof(Weight));
  std::memcpy(to, weights + whole, (in - whole) * sizeof(Weight));
}

/// One row by one output.
template <class Weight>
HWY_INLINE float number(const Weight* weights, int64_t in, const float* x) {
  const Float d;
  const int64_t block = block_size(), whole = in / block * block, half = padded_size(in) / 2;
  Vector first = hn::Zero(d), second = hn::Zero(d);
  const auto add = [&](const Weight* from, const float* row) HWY_ATTR {
    const Pair w = load(from);
    first = hn::MulAdd(w.first, hn::LoadU(d, row), first);
    second = hn::MulAdd(w.second, hn::LoadU(d, row + half), second);
  };
  for (int64_t i = 0; i < whole; i += block) {
    hwy::Prefetch(reinterpret_cast<const std::byte*>(weights + i) + kAhead);
    add(weights + i, x + i / 2);
  }
  if (whole < in) {
    Weight last[HWY_MAX_BYTES / 2];
    last_block(weights, in, whole, last);
    add(last, x + whole / 2);
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(first, second)));
}

/// Adds `blocks` blocks to one of the two sums of kOuts × kRows numbers.
template <int kHalf, bool kAsk, int kOuts, int kRows, class Weight>
HWY_INLINE void add_half(const Weight* weights, int64_t stride, const float* x, int64_t blocks, bool start,
                         float* sums) {
  const Float d;
  const int64_t lanes = hn::Lanes(d), block = 2 * lanes;
  Vector sum[kOuts][kRows];
  for (int o = 0; o < kOuts; ++o) {
    for (int r = 0; r < kRows; ++r)
      sum[o][r] = start ? hn::Zero(d) : hn::LoadU(d, sums + (o * kRows + r) * lanes);
  }
  for (int64_t i = 0; i < blocks; ++i, weights += block, x += kRows * lanes) {
    Vector w[kOuts];
    for (int o = 0; o < kOuts; ++o) {
      if (kAsk) hwy::Prefetch(weights + (o + kOuts) * stride);
      w[o] = load_half<kHalf>(weights + o * stride);
    }
    for (int r = 0; r < kRows; ++r) {
      const Vector row = hn::LoadU(d, x + r * lanes);
      for (int o = 0; o < kOuts; ++o) sum[o][r] = hn::MulAdd(w[o], row, sum[o][r]);
    }
  }
  for (int o = 0; o < kOuts; ++o) {
    for (int r = 0; r < kRows; ++r) hn::StoreU(sum[o][r], d, sums + (o * kRows + r) * lanes);
  }
}

/// Inputs [from, to) of kOuts × kRows numbers; with the last of them, the numbers.
template <bool kAsk, int kOuts, int kRows, class Weight>
HWY_INLINE void add_stretch(const Weight* weights, int64_t in, int64_t from, int64_t to, const float* x,
                            float* sums, float* y, int64_t y_stride) {
  const Float d;
  const int64_t lanes = hn::Lanes(d), block = 2 * lanes, blocks = (to - from) / block;
  const int64_t half = padded_size(in) / 2 * kRows;
  float* const second = sums + kOuts * kRows * lanes;
  const float* at = x + from / 2 * kRows;
  add_half<0, kAsk, kOuts, kRows>(weights + from, in, at, blocks, from == 0, sums);
  add_half<1, false, kOuts, kRows>(weights + from, in, at + half, blocks, from == 0, second);
  if (to < in) return;
  const int64_t whole = from + blocks * block;
  if (whole < in) {
    Weight last[kOuts * HWY_MAX_BYTES / 2];  // [kOuts, block]
    for (int o = 0; o < kOuts; ++o) last_block(weights + o * in, in, whole, last + o * block);
    at = x + whole / 2 * kRows;
    add_half<0, false, kOuts, kRows>(last, block, at, 1, false, sums);
    add_half<1, false, kOuts, kRows>(last, block, at + half, 1, false, second);
  }
  for (int o = 0; o < kOuts; ++o) {
    for (int r = 0; r < kRows; ++r) {
      const int64_t at = (o * kRows + r) * lanes;
      y[r * y_stride + o] =
          hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::LoadU(d, sums + at), hn::LoadU(d, second + at))));
    }
  }
}

/// A panel of `outs` outputs by a group of kRows rows.
template <bool kAsk, int kRows, class Weight>
HWY_INLINE void group(const Weight* weights, int64_t outs, int64_t in, const float* x, float* y,
                      int64_t y_stride) {
  HWY_ALIGN float sums[kMostPanel / kMostOuts * kTileSums];
  const int64_t whole = outs / kMostOuts * kMostOuts;
  for (int64_t from = 0; from < in; from += kStretch) {
    const int64_t to = std::min(from + kStretch, in);
    for (int64_t o = 0; o < whole; o += kMostOuts)
      add_stretch<kAsk, kMostOuts, kRows>(weights + o * in, in, from, to, x, sums + o / kMostOuts * kTileSums,
                                          y + o, y_stride);
  }
  // Outputs that fill no tile.
  for (int64_t o = whole; o < outs; ++o) {
    for (int64_t from = 0; from < in; from += kStretch)
      add_stretch<false, 1, kRows>(weights + o * in, in, from, std::min(from + kStretch, in), x, sums, y + o,
                                   y_stride);
  }
}

/// A panel by all rows, groups of nearly one size.
template <bool kAsk, class Weight>
HWY_NOINLINE void group_of(int64_t size, const Weight* weights, int64_t outs, int64_t in, const float* x,
                           float* y, int64_t y_stride) {
  switch (size) {
#if HWY_TARGET <= HWY_AVX3
    case 6:
      return group<kAsk, 6>(weights, outs, in, x, y, y_stride);
    case 5:
      return group<kAsk, 5>(weights, outs, in, x, y, y_stride);
#endif
    case 4:
      return group<kAsk, 4>(weights, outs, in, x, y, y_stride);
    case 3:
      return group<kAsk, 3>(weights, outs, in, x, y, y_stride);
    case 2:
      return group<kAsk, 2>(weights, outs, in, x, y, y_stride);
    default:
      return group<kAsk, 1>(weights, outs, in, x, y, y_stride);
  }
}

template <class Weight>
void range(const Weight* weights, int64_t in, int64_t begin, int64_t end, const float* prepared, int64_t rows,
           float* y, int64_t y_stride) {
  if (rows == 1) {
    for (int64_t o = begin; o < end; ++o) y[o] = number(weights + o * in, in, prepared);
    return;
  }
  const int64_t padded = padded_size(in);
  const int64_t fit = kPanelBytes / (in * static_cast<int64_t>(sizeof(Weight))) / kMostOuts * kMostOuts;
  const int64_t panel = std::clamp<int64_t>(fit, kMostOuts, kMostPanel);
  const Groups groups = groups_of(rows);
  for (int64_t o = begin; o < end; o += panel) {
    const int64_t outs = std::min(panel, end - o);
    for (int64_t g = 0; g < groups.count; ++g) {
      const int64_t r = groups.begin(g), size = groups.begin(g + 1) - r;
      const auto of = g == 0 ? group_of<true, Weight> : group_of<false, Weight>;
      of(size, weights + o * in, outs, in, prepared + r * padded, y + r * y_stride + o, y_stride);
    }
  }
}

// Integers as float32, a row after the other: the plain way, where nothing multiplies them as they are.
void widened_range(const Weights& weights, int64_t begin, int64_t end, const float* prepared, int64_t rows,
                   float* y, int64_t y_stride) {
  thread_local std::vector<float> row;
  row.resize(std::max(row.size(), static_cast<size_t>(weights.in)));
  for (int64_t o = begin; o < end; ++o) {
    read_row(weights, o, row.data());
    range(row.data(), weights.in, 0, 1, prepared, rows, y + o, y_stride);
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
  (weights, x, x_stride, begin, end, rows, in, prepared);
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

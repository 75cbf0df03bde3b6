// Products of bf16 rows and bf16 weights in tiles, as AMX multiplies them: sixteen rows of weights by 32
// inputs, as they lie in the matrix, times the same inputs of up to sixteen rows of x, each step some 8192
// multiply-adds.
//
// One canonical order, and another than that of the dot products in few_rows_bfloat16.cpp: of each 32 inputs
// in their order the even ones are summed one after the other, the odd ones likewise, then both, and that is
// added to what came before. It depends neither on the rows beside a row nor on where the outputs are cut,
// so a machine that multiplies in tiles does so from one row on, and keeps few_rows.h's promises.
//
// Whatever has the operations of `Tiles` can run it: the instructions (few_rows_amx.cpp), or what the manual
// says of them in plain code (tests/kernels/plain_tiles.h), so that all but the instructions is tested
// anywhere.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "base/bfloat16.h"
#include "kernels/cpu/row_groups.h"

namespace linnet::kernels::tile_dot {

inline constexpr int64_t kTile = 16;    // outputs or rows of x, at most
inline constexpr int64_t kInputs = 32;  // of a step
inline constexpr int64_t kMostGroups =
    4;  // of rows that meet the weights together: the second cache has room

/// Outputs of the two tiles of weights and rows of the two of x; 0: none.
struct TileShape {
  int64_t outs[2], rows[2];

  bool operator==(const TileShape&) const = default;
};

inline int64_t steps_of(int64_t in) { return (in + kInputs - 1) / kInputs; }
inline Groups groups_of(int64_t rows) { return {rows, (rows + kTile - 1) / kTile}; }

/// Floats of one prepared row.
inline int64_t prepared_size(int64_t in) { return steps_of(in) * kInputs / 2; }

/// Rows [begin, end) of x in bf16 as product() reads them: of each group of rows [step, pair of inputs, row,
/// 2].
inline void prepare(const float* x, int64_t x_stride, int64_t begin, int64_t end, int64_t rows, int64_t in,
                    uint16_t* prepared) {
  const int64_t padded = steps_of(in) * kInputs;
  const Groups groups = groups_of(rows);
  for (int64_t r = begin; r < end; ++r) {
    const int64_t g = groups.of_row(r), first = groups.begin(g), size = groups.begin(g + 1) - first;
    const float* from = x + r * x_stride;
    uint16_t* to = prepared + first * padded + (r - first) * 2;
    for (int64_t i = 0; i < padded; i += 2, to += size * 2) {
      to[0] = i < in ? float_to_bfloat16(from[i]) : uint16_t{0};
      to[1] = i + 1 < in ? float_to_bfloat16(from[i + 1]) : uint16_t{0};
    }
  }
}

/// Up to two tiles of weights by up to two groups of rows.
struct TilePass {
  const uint16_t* weights;  // of the first output
  int64_t in, outs;
  const uint16_t* x[2];  // of each group
  int64_t rows[2];
  float* y[2];  // of each group's first row, at the first output
  int64_t y_stride;
  bool from_memory;  // the weights, not from a cache
};

/// kOuts × kRows tiles of sums for all inputs.
template <int kOuts, int kRows, class Tiles>
void run(Tiles& tiles, const TilePass& at) {
  constexpr int64_t kLinesAhead = 16;  // into the second cache: rows 4 KB apart share a set of the first
  const int64_t row_bytes = at.in * 2, whole = at.in / kInputs;
  tiles.template clear<kOuts, kRows>();
  const auto add = [&](const uint16_t* weights, int64_t stride, int64_t step) {
    tiles.template load_weights<0>(weights, stride);
    if constexpr (kOuts > 1) tiles.template load_weights<1>(weights + kTile * stride / 2, stride);
    tiles.template load_rows<0>(at.x[0] + step * kInputs * at.rows[0]);
    if constexpr (kRows > 1) tiles.template load_rows<1>(at.x[1] + step * kInputs * at.rows[1]);
    tiles.template multiply<kOuts, kRows>();
  };
  // Lines are asked for in the order in which steps come to them: past a row's end in the rows of the next
  // pass.
  const auto* ahead = reinterpret_cast<const char*>(at.weights) + kLinesAhead * 64;
  int64_t left = whole - kLinesAhead;
  while (left <= 0 && whole > 0) left += whole, ahead += at.outs * row_bytes - whole * 64;
  for (int64_t step = 0; step < whole; ++step) {
    if (at.from_memory) {
      for (int64_t o = 0; o < at.outs; ++o) __builtin_prefetch(ahead + o * row_bytes, 0, 2);
      ahead += 64;
      if (--left == 0) left = whole, ahead += at.outs * row_bytes - whole * 64;
    }
    add(at.weights + step * kInputs, row_bytes, step);
  }
  if (whole * kInputs < at.in) {  // the last, broken step: nothing past a row's end is multiplied
    uint16_t last[2 * kTile * kInputs] = {};
    for (int64_t o = 0; o < at.outs; ++o) {
      const uint16_t* from = at.weights + o * at.in + whole * kInputs;
      std::copy_n(from, at.in - whole * kInputs, last + o * kInputs);
    }
    add(last, kInputs * 2, whole);
  }
  alignas(64) float sums[2][2][kTile * kTile];  // [tile of weights][group of rows][output, row]
  tiles.template store<kOuts, kRows>(sums);
  for (int g = 0; g < kRows; ++g) {
    for (int64_t r = 0; r < at.rows[g]; ++r) {
      float* y = at.y[g] + r * at.y_stride;
      for (int64_t o = 0; o < at.outs; ++o) y[o] = sums[o / kTile][g][o % kTile * at.rows[g] + r];
    }
  }
}

/// Groups [from, to) of x's rows by outputs [begin, end).
template <class Tiles>
void product_of_groups(Tiles& tiles, const Groups& groups, int64_t from, int64_t to, const uint16_t* weights,
                       int64_t in, int64_t begin, int64_t end, const uint16_t* prepared, float* y,
                       int64_t y_stride) {
  TileShape now{};
  const int64_t padded = steps_of(in) * kInputs;
  for (int64_t o = begin; o < end; o += 2 * kTile) {
    TilePass pass{weights + o * in, in, std::min(2 * kTile, end - o), {}, {}, {}, y_stride, false};
    for (int64_t g = from; g < to; g += 2) {
      for (int64_t i = 0; i < 2; ++i) {
        const int64_t first = groups.begin(std::min(g + i, to));
        pass.rows[i] = groups.begin(std::min(g + i + 1, to)) - first;
        pass.x[i] = prepared + first * padded;
        pass.y[i] = y + first * y_stride + o;
      }
      pass.from_memory = g == from;
      const TileShape shape{{std::min(kTile, pass.outs), std::max<int64_t>(0, pass.outs - kTile)},
                            {pass.rows[0], pass.rows[1]}};
      if (shape != now) tiles.use(shape);
      now = shape;
      if (pass.outs > kTile) {
        pass.rows[1] > 0 ? run<2, 2>(tiles, pass) : run<2, 1>(tiles, pass);
      } else {
        pass.rows[1] > 0 ? run<1, 2>(tiles, pass) : run<1, 1>(tiles, pass);
      }
    }
  }
}

/// few_rows.h's product of what prepare() laid out, of any number of rows.
template <class Tiles>
void product(const uint16_t* weights, int64_t in, int64_t begin, int64_t end, const uint16_t* prepared,
             int64_t rows, float* y, int64_t y_stride) {
  Tiles tiles;
  const Groups groups = groups_of(rows);
  for (int64_t g = 0; g < groups.count; g += kMostGroups)
    product_of_groups(tiles, groups, g, std::min(g + kMostGroups, groups.count), weights, in, begin, end,
                      prepared, y, y_stride);
}

}  // namespace linnet::kernels::tile_dot

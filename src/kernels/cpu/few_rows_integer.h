// What products of rows in 8 bits and packed integer weights are to the instructions that multiply them
// (few_rows_integer.cpp): a tile of 32 rows of weights by a few rows of x, and a group of numbers in 8 bits.
// A number is the sum of its groups of 32 inputs in their order, each an exact integer times both scales: all
// instruction sets give the same bits. For x86-64 alone.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/ahead.h"
#include "kernels/cpu/packed_weights.h"

namespace linnet::kernels::integer_dot {

/// kTileInputs numbers of one row of x. The instruction multiplies unsigned weights by signed rows; what
/// makes the weights unsigned is taken off before it starts.
struct Prepared {
  int32_t start[2];  // −(what makes weights unsigned) × the group's sum
  float scale[2];
  float sum[2];  // the group's × its scale
  int8_t numbers[kTileInputs];
};

/// What a tile adds up: a stretch of records by one group of rows.
struct Stretch {
  const std::byte* weights;  // records
  int64_t count;             // of them
  const Prepared* x;         // [count, rows of the group]
  float* sums;               // [rows of the group, kTileRows]: kept from stretch to stretch
  bool first, last;
  float* y;  // where the last stretch puts the group's first row
  int64_t y_stride;
  uint16_t written[kTileRows / 16];  // of each 16 outputs those that it puts
};

using Tile = void (*)(const Stretch&, Ahead&);

inline constexpr int64_t kMostRows = 6;  // of a group

/// What an instruction set has of its own.
struct Instructions {
  const Tile* tiles[2][2];  // [int8, offsets]: by the number of a group's rows, from one to kMostRows
  /// A group of numbers to 8 bits, to nearest; their scale. One that is not finite makes the scale NaN.
  float (*prepare_group)(const float* from, int8_t* to);
};

bool have_vnni();
extern const Instructions kVnni, kAvx2;  // few_rows_integer_vnni.cpp, few_rows_integer_avx2.cpp

}  // namespace linnet::kernels::integer_dot

// Matrix products with a few rows, for the decode step: y = x Wᵀ, W [out, in] in any type of weights.h, all
// sums float32 (of integers by integers, within groups that share scales, exact).
//
// Bound by reading W: a weight is read from memory once for all rows, each row of W as one long stream, which
// is what the hardware's prefetchers follow. One canonical order: number (row, o) is summed in two vectors of
// lanes that blocks of 2N numbers (N: lanes of a vector) go into by turns, then the two, then over the lanes;
// however many rows come along, wherever the range of outputs is cut. So a row gets the same bits alone, in a
// batch, in a tree, on any number of threads of the same machine. (Tiles have an order of their own,
// few_rows_tiles.h.)
#pragma once

#include <cstdint>

#include "kernels/cpu/weights.h"

namespace linnet::kernels {

/// What rows of x are multiplied as.
enum class RowType {
  kFloat32,        // as they are
  kBFloat16,       // rounded to nearest, with bf16 weights
  kBFloat16Tiles,  // the same numbers, multiplied in tiles: sums in another order
  kInt8,           // to integers, kScaleGroup numbers by one scale, with integer weights
};

/// What rows are rounded to where they may be: as the instruction set in use multiplies these weights fastest
/// (bf16 by AMX or AVX512_BF16, integers by AVX512_VNNI or AVX2, else float32).
RowType fastest_rows(WeightType weights);

/// Number of floats that prepare_rows takes for one row of `in` numbers.
int64_t prepared_size(RowType rows, int64_t in);

/// Lays rows [begin, end) of x [rows, in] (row r at x + r * x_stride) out as the product of all of them reads
/// them: padded with zeros to whole blocks, interleaved with the rows that meet a weight together and, as
/// float32, first what goes into their first sums, then what goes into the second (of bf16 weights the even
/// inputs, then the odd ones).
/// `prepared` holds rows * prepared_size(type, in) floats.
void prepare_rows(WeightType weights, RowType type, const float* x, int64_t x_stride, int64_t begin,
                  int64_t end, int64_t rows, int64_t in, float* prepared);

/// y[r * y_stride + o] = Σ_i weights[o, i] x[r, i] for o in [begin, end), r < rows; of y's row nothing else
/// is touched. `weights` are aligned to their type, and packed (packed_weights.h) where rows are kInt8.
/// Single-threaded: callers cut [0, out) into ranges.
void few_rows_product(const Weights& weights, RowType row_type, int64_t begin, int64_t end,
                      const float* prepared, int64_t rows, float* y, int64_t y_stride);

namespace bfloat16_dot {

// The same by AVX512_BF16's dot products, which Highway does not have (few_rows_bfloat16.cpp).
bool on_this_machine();
int64_t prepared_size(int64_t in);
void prepare(const float* x, int64_t x_stride, int64_t begin, int64_t end, int64_t rows, int64_t in,
             uint16_t* prepared);
void product(const uint16_t* weights, int64_t in, int64_t begin, int64_t end, const uint16_t* prepared,
             int64_t rows, float* y, int64_t y_stride);

}  // namespace bfloat16_dot

namespace tile_dot {

// The same by AMX (few_rows_amx.cpp; prepared by few_rows_tiles.h).
bool on_this_machine();
void product(const uint16_t* weights, int64_t in, int64_t begin, int64_t end, const uint16_t* prepared,
             int64_t rows, float* y, int64_t y_stride);

}  // namespace tile_dot

namespace integer_dot {

// The same for integers by AVX512_VNNI or AVX2, whichever is in use: the same bits (few_rows_integer.cpp).
bool on_this_machine();
int64_t prepared_size(int64_t in);
void prepare(WeightType weights, const float* x, int64_t x_stride, int64_t begin, int64_t end, int64_t rows,
             int64_t in, void* prepared);
void product(const Weights& weights, int64_t begin, int64_t end, const void* prepared, int64_t rows, float* y,
             int64_t y_stride);

}  // namespace integer_dot
}  // namespace linnet::kernels

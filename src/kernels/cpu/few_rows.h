// Matrix products with a few rows, for the decode step: y = x Wᵀ, W [out, in] row-major as it lies in a file
// (float32, or bf16 upcast exactly), x and all sums float32.
//
// Bound by reading W: a weight is read from memory once for all rows. One canonical order: number (row, o) is
// summed in lanes over blocks of 2N inputs (N: lanes of a vector), even inputs of the block first for bf16,
// then over the lanes; however many rows come along, wherever the range of outputs is cut. So a row gets the
// same bits alone, in a batch, in a tree, on any number of threads of the same machine.
#pragma once

#include <cstdint>

namespace linnet::kernels {

enum class WeightType { kFloat32, kBFloat16 };

/// Number of floats that prepare_rows writes for one row of `in` numbers.
int64_t prepared_size(int64_t in);

/// Lays rows of x [rows, in] (row r at x + r * x_stride) out as the product reads them: padded with zeros to
/// whole blocks and, for bf16 weights, with each block's even inputs before its odd ones. `prepared` holds
/// rows * prepared_size(in) floats.
void prepare_rows(WeightType type, const float* x, int64_t x_stride, int64_t rows, int64_t in,
                  float* prepared);

/// y[r * y_stride + o] = Σ_i weights[o, i] x[r, i] for o in [begin, end), r < rows; of y's row nothing else
/// is touched. `weights` is the whole matrix [out, in], aligned to its type. Single-threaded: callers cut [0,
/// out) into ranges.
void few_rows_product(WeightType type, const void* weights, int64_t in, int64_t begin, int64_t end,
                      const float* prepared, int64_t rows, float* y, int64_t y_stride);

}  // namespace linnet::kernels

// Products of many bf16 rows by AVX512_BF16's dot products, bound by operations. A panel of 48 outputs is
// turned so that a vector holds a pair of inputs of sixteen of them, and stays in the second cache while rows
// go by, eight at a time: 24 sums in registers, eleven loads for 24 products, no sum over lanes. oneDNN 2.6,
// which takes weights as they lie, is slower by a tenth to a fourth (docs/performance.md).
#pragma once

#include <cstdint>

namespace linnet::kernels::panel_dot {

/// Pieces that a product of `rows` rows and `out` outputs falls into, for threads to take.
int64_t pieces(int64_t out, int64_t rows);

/// One piece of y [rows, out] = x Wᵀ, W [out, in] and x [rows, in] in bf16, `in` even; y's rows stand
/// y_stride numbers apart. On machines with bfloat16_dot::on_this_machine().
void piece(int64_t index, const uint16_t* weights, int64_t in, int64_t out, const uint16_t* x, int64_t rows,
           float* y, int64_t y_stride);

}  // namespace linnet::kernels::panel_dot

// What stands between the products of a layer: norms, activations, sums, conversions. Each row is computed by
// itself in an order that depends on its size alone. float runs on vectors, double is the plain reference.
#pragma once

#include <cstdint>

#include "kernels/cpu/reference.h"

namespace linnet::kernels {

/// y [rows, size] = gain ⊙ x / √(mean x² + ε) row by row. y may be x.
void rms_norm(const float* x, int64_t rows, int64_t size, const float* gain, double epsilon, float* y);

/// y [rows, size] = gain ⊙ (x − mean) / √(variance + ε) + bias row by row. y may be x.
void layer_norm(const float* x, int64_t rows, int64_t size, const float* gain, const float* bias,
                double epsilon, float* y);

/// x += y, then z = the norm of x, row by row, with the bits of add() and the norm one after the other: the
/// norm's first sum takes the rows as they are added. z may be x.
void add_rms_norm(float* x, const float* y, int64_t rows, int64_t size, const float* gain, double epsilon,
                  float* z);
void add_layer_norm(float* x, const float* y, int64_t rows, int64_t size, const float* gain,
                    const float* bias, double epsilon, float* z);

/// x[i] = activation(x[i]).
void activate(Unary kind, float* x, int64_t count);

/// gate[i] = activation(gate[i]) · up[i].
void activate_gated(Unary kind, float* gate, const float* up, int64_t count);

/// x[i] = c·tanh(x[i] / c), as Gemma 2 caps scores and logits; nothing where c is 0.
void cap(float* x, int64_t count, float c);

/// ln Σ exp(x[i]), count ≥ 1; NaN where a number is, or the largest is infinite.
double log_sum_exp(const float* x, int64_t count);

/// x[i] += y[i].
void add(float* x, const float* y, int64_t count);

/// To bf16 by rounding to nearest even (NaN stays NaN), and back, exactly.
void to_bfloat16(const float* x, int64_t count, uint16_t* y);
void from_bfloat16(const uint16_t* x, int64_t count, float* y);

using reference::activate;
using reference::activate_gated;
using reference::add;
using reference::add_layer_norm;
using reference::add_rms_norm;
using reference::cap;
using reference::layer_norm;
using reference::log_sum_exp;
using reference::rms_norm;

}  // namespace linnet::kernels

// The plain form of every kernel, for any type of number: what the fast ones are tested against, and all of
// `--dtype float64`. One loop each; nothing here is tuned.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "kernels/cpu/elementwise_kind.h"

namespace linnet::kernels::reference {

/// y[r, o] = Σ_i weights[o, i] x[r, i], in order of i. weights [out, in], x [rows, in] and y [rows, …] with
/// strides.
template <class T, class W>
void product(const W* weights, int64_t in, int64_t begin, int64_t end, const T* x, int64_t x_stride,
             int64_t rows, T* y, int64_t y_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = begin; o < end; ++o) {
      T sum = 0;
      for (int64_t i = 0; i < in; ++i) sum += T(weights[o * in + i]) * x[r * x_stride + i];
      y[r * y_stride + o] = sum;
    }
  }
}

/// y = gain ⊙ x / √(mean x² + ε) of each row (Zhang and Sennrich 2019, equation 4).
template <class T>
void rms_norm(const T* x, int64_t rows, int64_t size, const T* gain, double epsilon, T* y) {
  for (int64_t r = 0; r < rows; ++r, x += size, y += size) {
    T squares = 0;
    for (int64_t i = 0; i < size; ++i) squares += x[i] * x[i];
    const T scale = 1 / std::sqrt(squares / T(size) + T(epsilon));
    for (int64_t i = 0; i < size; ++i) y[i] = x[i] * scale * gain[i];
  }
}

/// y = gain ⊙ (x − mean) / √(variance + ε) + bias of each row (Ba, Kiros and Hinton 2016).
template <class T>
void layer_norm(const T* x, int64_t rows, int64_t size, const T* gain, const T* bias, double epsilon, T* y) {
  for (int64_t r = 0; r < rows; ++r, x += size, y += size) {
    T sum = 0, squares = 0;
    for (int64_t i = 0; i < size; ++i) sum += x[i];
    const T mean = sum / T(size);
    for (int64_t i = 0; i < size; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const T scale = 1 / std::sqrt(squares / T(size) + T(epsilon));
    for (int64_t i = 0; i < size; ++i) y[i] = (x[i] - mean) * scale * gain[i] + bias[i];
  }
}

/// ln Σ exp(x[i]), by the largest first, so that nothing overflows.
template <class T>
T log_sum_exp(const T* x, int64_t count) {
  T largest = x[0], sum = 0;
  for (int64_t i = 1; i < count; ++i) largest = std::max(largest, x[i]);
  for (int64_t i = 0; i < count; ++i) sum += std::exp(x[i] - largest);
  return std::log(sum) + largest;
}

template <class T>
T activation(Unary kind, T x) {
  switch (kind) {
    case Unary::kSilu:
      return x / (1 + std::exp(-x));
    case Unary::kGeluTanh: {  // Hendrycks and Gimpel 2016, section 2: the tanh approximation
      const T inner = T(std::sqrt(2 / std::numbers::pi)) * (x + T(0.044715) * x * x * x);
      return T(0.5) * x * (1 + std::tanh(inner));
    }
    case Unary::kGelu:
      return T(0.5) * x * std::erfc(-x / T(std::numbers::sqrt2));  // 1 + erf, without cancelling
    case Unary::kRelu:
      return x > 0 ? x : T(0);
  }
  return x;
}

template <class T>
void activate(Unary kind, T* x, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] = activation(kind, x[i]);
}

/// gate = activation(gate) ⊙ up.
template <class T>
void activate_gated(Unary kind, T* gate, const T* up, int64_t count) {
  for (int64_t i = 0; i < count; ++i) gate[i] = activation(kind, gate[i]) * up[i];
}

/// x = c·tanh(x / c); nothing where c is 0.
template <class T>
void cap(T* x, int64_t count, T c) {
  if (c == 0) return;
  for (int64_t i = 0; i < count; ++i) x[i] = c * std::tanh(x[i] / c);
}

/// x += y.
template <class T>
void add(T* x, const T* y, int64_t count) {
  for (int64_t i = 0; i < count; ++i) x[i] += y[i];
}

/// The two one after the other: x += y, then z = the norm of x.
template <class T>
void add_rms_norm(T* x, const T* y, int64_t rows, int64_t size, const T* gain, double epsilon, T* z) {
  add(x, y, rows * size);
  rms_norm(x, rows, size, gain, epsilon, z);
}

template <class T>
void add_layer_norm(T* x, const T* y, int64_t rows, int64_t size, const T* gain, const T* bias,
                    double epsilon, T* z) {
  add(x, y, rows * size);
  layer_norm(x, rows, size, gain, bias, epsilon, z);
}

}  // namespace linnet::kernels::reference

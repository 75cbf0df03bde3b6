// Rotary position embedding of keys that stand as columns, for T float and double: what turns a state's keys
// back. Rows are padded as attention_kernels.h says; each number is computed by itself, in one order.
#pragma once

#include <cstdint>

namespace linnet::kernels {

/// The cosines and sines of n angles [padded] with one angle added: cos(a + b) and sin(a + b) of
/// (cosine, sine) = (cos b, sin b), which may be multiplied by a factor.
template <class T>
void add_angle(int64_t n, T cosine, T sine, const T* cosines, const T* sines, T* out_cosines, T* out_sines);

/// y [size, n] = the columns of x turned, column s by the angles [half] of cosines[i * angle_row + s] and
/// sines: number i turns with number i + half, those from 2 · half on are copied. n is padded; y is not x.
template <class T>
void turn_columns(int64_t size, int64_t half, int64_t n, const T* x, int64_t x_row, const T* cosines,
                  const T* sines, int64_t angle_row, T* y, int64_t y_row);

namespace reference {

template <class T>
void add_angle(int64_t n, T cosine, T sine, const T* cosines, const T* sines, T* out_cosines, T* out_sines) {
  for (int64_t s = 0; s < n; ++s) {
    out_cosines[s] = cosine * cosines[s] - sine * sines[s];
    out_sines[s] = sine * cosines[s] + cosine * sines[s];
  }
}

template <class T>
void turn_columns(int64_t size, int64_t half, int64_t n, const T* x, int64_t x_row, const T* cosines,
                  const T* sines, int64_t angle_row, T* y, int64_t y_row) {
  for (int64_t s = 0; s < n; ++s) {
    for (int64_t i = 0; i < half; ++i) {
      const T cosine = cosines[i * angle_row + s], sine = sines[i * angle_row + s];
      const T first = x[i * x_row + s], second = x[(i + half) * x_row + s];
      y[i * y_row + s] = first * cosine - second * sine;
      y[(i + half) * y_row + s] = second * cosine + first * sine;
    }
    for (int64_t i = 2 * half; i < size; ++i) y[i * y_row + s] = x[i * x_row + s];
  }
}

}  // namespace reference
}  // namespace linnet::kernels

// Every kernel of one target: what attention_kernels.cpp compiles once for each instruction set and picks
// from.
#pragma once

#include <cstdint>

namespace linnet::kernels {

/// Those that read keys and values as a state holds them, in type B.
template <class T, class B>
struct HeldKernels {
  /// a[i * a_row + k * a_step].
  void (*matmul)(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, int64_t a_step, const B* b,
                 int64_t b_row, T* c, int64_t c_row, bool accumulate);
  void (*column_squares)(int64_t rows, int64_t n, const B* a, int64_t a_row, T* out);
};

/// The other functions of attention_kernels.h, in its order.
template <class T>
struct AttentionKernels {
  void (*add_weighted_rows)(const T* weights, const int32_t* indices, int64_t count, const T* rows,
                            int64_t row, int64_t n, T* out);
  T (*exponentiate)(T* x, int64_t count);
  T (*softmax_gradient)(T* weights, T* gradients, int64_t count, T sum, T share, T scale);
  T (*scale_to_largest)(T* x, const T* exponents, int64_t count, T least);
  T (*sum)(const T* x, int64_t count);
  T (*dot)(const T* a, const T* b, int64_t count);
  void (*hedgehog_rows)(int64_t rows, int64_t size, const T* y, int64_t y_row, T* phi, int64_t phi_row);
  void (*hedgehog_columns)(int64_t size, int64_t n, const T* y, int64_t y_row, T* phi, int64_t phi_row);
  void (*favor_rows)(int64_t rows, int64_t size, T* y, int64_t y_row, T* largest);
  void (*favor_columns)(int64_t size, int64_t n, T* y, int64_t y_row, T* largest);
  void (*relu)(int64_t n, const T* x, T* y);
  void (*elu)(int64_t n, const T* x, T* y);
  void (*elu1)(int64_t n, const T* x, T* y);
};

}  // namespace linnet::kernels

// Products of queries and keys with matrices of their heads: what maps with weights (or drawn rows) begin
// with.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/scratch.h"
#include "kernels/cpu/attention_kernels.h"

namespace linnet {

template <class T>
class Projection {
 public:
  /// Matrices [heads, out, in], stored as such, and what is added to a product, [heads, out] or empty: 0.
  Projection(const std::vector<T>& matrices, int64_t out, int64_t in, const std::vector<T>& biases = {})
      : out_(out), in_(in), row_(kernels::padded(out)), columns_(matrices), biases_(biases) {
    const int64_t heads = static_cast<int64_t>(matrices.size()) / (out * in);
    rows_.assign(heads * in * row_, T(0));
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t i = 0; i < out; ++i) {
        for (int64_t j = 0; j < in; ++j) rows_[(h * in + j) * row_ + i] = matrices[(h * out + i) * in + j];
      }
    }
  }

  int64_t out() const { return out_; }
  int64_t row() const { return row_; }  // padded(out)

  /// Rows: x [count, x_row] -> y [count, row()].
  void rows(int64_t head, int64_t count, const T* x, int64_t x_row, T* y) const {
    for (int64_t r = 0; r < count && biased(); ++r) {
      T* row = std::copy_n(biases_.data() + head * out_, out_, y + r * row_);
      std::fill(row, y + (r + 1) * row_, T(0));
    }
    kernels::matmul(count, row_, in_, x, x_row, rows_.data() + head * in_ * row_, row_, y, row_, biased());
  }
  /// Columns (n padded): x [in, x_row] -> y [out, n].
  void columns(int64_t head, int64_t n, const T* x, int64_t x_row, T* y) const {
    for (int64_t i = 0; i < out_ && biased(); ++i) std::fill_n(y + i * n, n, biases_[head * out_ + i]);
    kernels::matmul(out_, n, in_, columns_.data() + head * out_ * in_, in_, x, x_row, y, n, biased());
  }

 private:
  bool biased() const { return !biases_.empty(); }

  int64_t out_, in_, row_;
  std::vector<T> rows_, columns_;  // transposed [heads, in, padded out], as given [heads, out, in]
  std::vector<T> biases_;
};

/// Matrices times a number: what a map would multiply its products by.
template <class T>
std::vector<T> scaled_rows(std::vector<T> matrices, double scale) {
  for (T& number : matrices) number = static_cast<T>(number * scale);
  return matrices;
}

/// [heads, size, size], each the identity: what learned maps start from.
inline std::vector<float> identity_matrices(int64_t heads, int64_t size) {
  std::vector<float> matrices(heads * size * size, 0.0f);
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < size; ++i) matrices[(h * size + i) * size + i] = 1.0f;
  }
  return matrices;
}

}  // namespace linnet

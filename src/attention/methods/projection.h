// Products of queries and keys with matrices of their heads: what maps with weights (or drawn rows) begin
// with.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/scratch.h"
#include "kernels/cpu/attention_kernels.h"

namespace linnet {

template <class T>
class Projection {
 public:
  /// Matrices [heads, out, in], stored as such.
  Projection(const std::vector<T>& matrices, int64_t out, int64_t in)
      : out_(out), in_(in), row_(kernels::padded(out)), columns_(matrices) {
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
    kernels::matmul(count, row_, in_, x, x_row, rows_.data() + head * in_ * row_, row_, y, row_, false);
  }
  /// Columns (n padded): x [in, x_row] -> y [out, n].
  void columns(int64_t head, int64_t n, const T* x, int64_t x_row, T* y) const {
    kernels::matmul(out_, n, in_, columns_.data() + head * out_ * in_, in_, x, x_row, y, n, false);
  }

 private:
  int64_t out_, in_, row_;
  std::vector<T> rows_, columns_;  // transposed [heads, in, padded out], as given [heads, out, in]
};

}  // namespace linnet

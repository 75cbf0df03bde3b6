// A linear layer as the runtime computes it: one or several matrices that read the same rows (q, k and v;
// gate and up), their outputs side by side, with biases.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/array.h"
#include "base/thread_pool.h"
#include "kernels/cpu/few_rows.h"
#include "kernels/cpu/large_product.h"

namespace linnet {

/// Weights in a mapped file or owned.
struct Matrix : kernels::Weights {
  std::shared_ptr<const void> owner;  // null where the file's mapping is used in place
};

/// What products need beside their operands; grows to the largest seen and stays.
struct ProductScratch {
  Room<float> rows;       // prepared or packed inputs
  Room<uint16_t> narrow;  // inputs in bf16

  /// Room for step() with `rows` rows of `in` numbers.
  void plan(int64_t rows, int64_t in);
};

class Linear {
 public:
  Linear() = default;
  /// Matrices with the same type and `in`; `bias` [all outputs] or empty. `rounded_rows`: rows may be
  /// rounded to what the machine multiplies these weights by fastest; integers are packed where that is
  /// kInt8.
  Linear(std::vector<Matrix> matrices, std::vector<float> bias, bool rounded_rows,
         ThreadPool* pool = nullptr);

  int64_t in() const { return in_; }
  int64_t out() const { return out_; }
  size_t bytes() const;  // of all matrices
  /// What prefills of many rows multiply.
  kernels::WeightType prefill_type() const { return prefill_type_; }

  /// y [rows, out()] = x Wᵀ + bias in float32, rows of x [rows, in()] standing x_stride numbers apart. Row by
  /// row the same bits whatever the rows beside it and the threads (kernels/cpu/few_rows.h). Allocates
  /// nothing within what `scratch` was planned for.
  void step(const float* x, int64_t x_stride, int64_t rows, float* y, ProductScratch& scratch,
            ThreadPool& pool) const;
  /// The same by the plain reference, all in float64.
  void step(const double* x, int64_t x_stride, int64_t rows, double* y, ProductScratch& scratch,
            ThreadPool& pool) const;

  /// The same for many rows: through oneDNN from large_rows() on. The first call packs weights where that
  /// pays. Not for two threads at once.
  void prefill(const float* x, int64_t x_stride, int64_t rows, float* y, ProductScratch& scratch,
               ThreadPool& pool);
  void prefill(const double* x, int64_t x_stride, int64_t rows, double* y, ProductScratch& scratch,
               ThreadPool& pool);
  /// From where on a large product is the faster: dot products of rounded rows keep up with it for longer,
  /// those of integers and tiles always.
  int64_t large_rows() const;

 private:
  template <class T, class Product>
  void cut(int64_t rows, T* y, ThreadPool& pool, Product product) const;

  std::vector<Matrix> matrices_;
  std::vector<float> bias_;
  int64_t in_ = 0, out_ = 0;
  kernels::RowType row_type_ = kernels::RowType::kFloat32;  // of steps
  kernels::WeightType prefill_type_ = kernels::WeightType::kFloat32;
  std::vector<kernels::LargeMatrix> large_;  // one a matrix, from the first prefill on
};

/// work(begin, end) over [0, rows) in blocks, on the pool's threads where there are enough rows to pay.
template <class Work>
void for_rows(int64_t rows, ThreadPool& pool, const Work& work) {
  constexpr int64_t kBlock = 16;
  if (rows < kBlock) return work(int64_t{0}, rows);
  pool.run(static_cast<size_t>((rows + kBlock - 1) / kBlock), [&](size_t block) {
    const int64_t begin = static_cast<int64_t>(block) * kBlock;
    work(begin, std::min(rows, begin + kBlock));
  });
}

}  // namespace linnet

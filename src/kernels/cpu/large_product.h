// Matrix products with many rows, for prefill: y = x Wᵀ multiplied in bf16 or float32, summed in float32.
//
// Bound by operations. bf16 goes through panel_product.h where AVX512_BF16 is the best that there is,
// everything else through oneDNN, whose own OpenMP regions are never entered: a product is cut into pieces of
// 128 rows by about 256 outputs, which our pool's threads take, each running oneDNN on itself alone. So
// --threads rules, nothing spins beside the decode step, and a panel of weights (K × 256 × 2 bytes) stays in
// a core's L2 cache. Measured on 2 cores (EPYC, AVX512_BF16, not AMX): 650–880 GFLOP/s in bf16 at K = 384 …
// 1024, as much as one oneDNN call of 512 rows on both.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>

#include "kernels/cpu/few_rows.h"

namespace linnet::kernels {

/// Keeps oneDNN to at most what `instruction_set` (a name of instruction_sets()) has. Ignored after its first
/// product.
void limit_large_products(std::string_view instruction_set);

/// Whether this machine has instructions that multiply bf16 (AVX512_BF16, AMX).
bool fast_bfloat16();

/// One matrix W [out, in], ready for products of many rows.
class LargeMatrix {
 public:
  /// What `weights` view must outlive this; `multiply` is bf16 (not of float32 weights) or float32. They are
  /// used in place where oneDNN takes them as fast as in a layout of its own (bf16 without AMX), packed here
  /// once where they are of the type to multiply, and else turned into it for every product, panel by panel.
  /// Rows of results will stand `y_stride` numbers apart.
  LargeMatrix(const Weights& weights, WeightType multiply, int64_t y_stride);
  ~LargeMatrix();
  LargeMatrix(LargeMatrix&&) noexcept;

  /// Makes ready for products of `rows` rows (compiles kernels, tens of microseconds for a new number of
  /// rows); returns pieces(rows). Not thread-safe.
  int64_t prepare(int64_t rows);

  /// Pieces that a product of `rows` rows falls into.
  int64_t pieces(int64_t rows) const;

  /// One piece of y [rows, out] = x Wᵀ, x [rows, in] contiguous and of the type to multiply. Pieces may run
  /// on any threads at once.
  void piece(int64_t index, const void* x, int64_t rows, float* y) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace linnet::kernels

#include "kernels/cpu/machine_rate.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "base/array.h"
#include "base/timing.h"
#include "kernels/cpu/large_product.h"
#include "kernels/cpu/packed_weights.h"

namespace linnet::kernels {

namespace {

constexpr int64_t kIn = 2048, kOut = 2048;

/// Operations a second of products that `run` computes, of so many rows: the best of five, or of more where
/// they are short, for on a busy machine a short one is the likelier to run whole.
template <class Run>
double rate(int64_t rows, const Run& run) {
  const int passes = rows < 256 ? 20 : 5;
  return 2.0 * static_cast<double>(rows * kIn * kOut) / least_seconds(passes, run);
}

/// Products by our own kernels, of as many rows at once as they like best.
double few_rows_rate(WeightType type, RowType row_type, ThreadPool& pool) {
  constexpr int64_t kWidth = 128;  // outputs of a piece
  constexpr int64_t kFew = 64, kMany = 256;
  Weights weights;
  weights.type = type, weights.out = kOut, weights.in = kIn, weights.packed = row_type == RowType::kInt8;
  const auto data = zeroed<std::byte>(static_cast<int64_t>(weights.bytes()));
  weights.data = data.get();
  const auto x = zeroed<float>(kMany * prepared_size(row_type, kIn));
  std::vector<float> y(kMany * kOut);
  const auto rate_of = [&](int64_t rows) {
    return rate(rows, [&] {
      pool.run(kOut / kWidth, [&](size_t piece) {
        const int64_t begin = static_cast<int64_t>(piece) * kWidth;
        few_rows_product(weights, row_type, begin, begin + kWidth, x.get(), rows, y.data(), kOut);
      });
    });
  };
  return std::max(rate_of(kFew), rate_of(kMany));
}

/// Products through oneDNN where there is one.
double large_product_rate(WeightType type, ThreadPool& pool) {
  constexpr int64_t kRows = 1024;
  const size_t size = row_of(type).bits / 8;
  const std::vector<std::byte> weights(kIn * kOut * size), x(kRows * kIn * size);
  std::vector<float> y(kRows * kOut);
  LargeMatrix matrix({type, kOut, kIn, weights.data(), nullptr}, type, kOut);
  const auto pieces = static_cast<size_t>(matrix.prepare(kRows));
  return rate(kRows, [&] {
    pool.run(pieces,
             [&](size_t piece) { matrix.piece(static_cast<int64_t>(piece), x.data(), kRows, y.data()); });
  });
}

}  // namespace

double matrix_rate(WeightType type, ThreadPool& pool) {
  const RowType rows = fastest_rows(type);
  const bool rounded = rows != RowType::kFloat32;
  if (row_of(type).integer) return rounded ? few_rows_rate(type, rows, pool) : 0;
  if (type == WeightType::kBFloat16 && !rounded && !fast_bfloat16()) return 0;
  return std::max(large_product_rate(type, pool), few_rows_rate(type, rows, pool));
}

}  // namespace linnet::kernels

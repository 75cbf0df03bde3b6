#include "kernels/cpu/machine_rate.h"

#include <cstdint>
#include <vector>

#include "base/array.h"
#include "base/timing.h"
#include "kernels/cpu/large_product.h"
#include "kernels/cpu/packed_weights.h"

namespace linnet::kernels {

namespace {

constexpr int64_t kRows = 1024, kIn = 2048, kOut = 2048;

double rate(double seconds) { return 2.0 * kRows * kIn * kOut / seconds; }

double integer_rate(WeightType type, ThreadPool& pool) {
  constexpr int64_t kWidth = 4 * kTileRows;  // outputs of a piece
  Weights weights;
  weights.type = type, weights.out = kOut, weights.in = kIn, weights.packed = true;
  const auto packed = zeroed<std::byte>(static_cast<int64_t>(weights.bytes()));
  weights.data = packed.get();
  const auto x = zeroed<float>(kRows * prepared_size(RowType::kInt8, kIn));
  std::vector<float> y(kRows * kOut);
  return rate(least_seconds(5, [&] {
    pool.run(kOut / kWidth, [&](size_t piece) {
      const int64_t begin = static_cast<int64_t>(piece) * kWidth;
      few_rows_product(weights, RowType::kInt8, begin, begin + kWidth, x.get(), kRows, y.data(), kOut);
    });
  }));
}

}  // namespace

double matrix_rate(WeightType type, ThreadPool& pool) {
  if (row_of(type).integer) return fastest_rows(type) == RowType::kInt8 ? integer_rate(type, pool) : 0;
  if (type == WeightType::kBFloat16 && !fast_bfloat16()) return 0;
  const size_t size = type == WeightType::kBFloat16 ? 2 : 4;
  const std::vector<std::byte> weights(kIn * kOut * size), x(kRows * kIn * size);
  std::vector<float> y(kRows * kOut);
  LargeMatrix matrix({type, kOut, kIn, weights.data(), nullptr}, type, kOut);
  const auto pieces = static_cast<size_t>(matrix.prepare(kRows));
  return rate(least_seconds(5, [&] {
    pool.run(pieces,
             [&](size_t piece) { matrix.piece(static_cast<int64_t>(piece), x.data(), kRows, y.data()); });
  }));
}

}  // namespace linnet::kernels

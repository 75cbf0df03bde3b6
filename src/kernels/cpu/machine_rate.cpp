#include "kernels/cpu/machine_rate.h"

#include <cstdint>
#include <vector>

#include "base/timing.h"
#include "kernels/cpu/large_product.h"

namespace linnet::kernels {

double matrix_rate(WeightType type, ThreadPool& pool) {
  if (type == WeightType::kBFloat16 && !fast_bfloat16()) return 0;
  constexpr int64_t kRows = 1024, kIn = 2048, kOut = 2048;
  const size_t size = type == WeightType::kBFloat16 ? 2 : 4;
  const std::vector<std::byte> weights(kIn * kOut * size), x(kRows * kIn * size);
  std::vector<float> y(kRows * kOut);
  LargeMatrix matrix({type, kOut, kIn, weights.data(), nullptr}, type, kOut);
  const auto pieces = static_cast<size_t>(matrix.prepare(kRows));
  const double seconds = least_seconds(5, [&] {
    pool.run(pieces,
             [&](size_t piece) { matrix.piece(static_cast<int64_t>(piece), x.data(), kRows, y.data()); });
  });
  return 2.0 * kRows * kIn * kOut / seconds;
}

}  // namespace linnet::kernels

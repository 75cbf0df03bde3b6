// What stands between two products of a layer: a block's output into the residual stream and the norm of what
// the next block reads, as two kernels and as one. One row lies in the first cache, where the norm's sum of
// squares waits for one addition after the other; a sum with `y` would be free beside it, but two kernels
// overlap there too: 1.00 to 1.13 times as fast in one. 512 rows pass four times in place of five (x, y, x,
// z; x once more), which predicts 1.25 times: 1.21 to 1.42 (AVX2, processor time, a busy machine).
#include <benchmark/benchmark.h>

#include <vector>

#include "base/random.h"
#include "kernels/cpu/elementwise.h"

namespace linnet {
namespace {

/// Arguments: in one kernel or two, rows, size.
void add_then_norm(benchmark::State& state) {
  const bool joined = state.range(0) != 0;
  const int64_t rows = state.range(1), size = state.range(2);
  std::vector<float> x(static_cast<size_t>(rows * size)), y(x.size()), z(x.size());
  const std::vector<float> gain(static_cast<size_t>(size), 1.0f);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(uniform(1, 0, i)) - 0.5f;
  for (auto _ : state) {
    if (joined) {
      kernels::add_rms_norm(x.data(), y.data(), rows, size, gain.data(), 1e-5, z.data());
    } else {
      kernels::add(x.data(), y.data(), rows * size);
      kernels::rms_norm(x.data(), rows, size, gain.data(), 1e-5, z.data());
    }
    benchmark::DoNotOptimize(z.data());
  }
}
BENCHMARK(add_then_norm)
    ->ArgNames({"joined", "rows", "size"})
    ->ArgsProduct({{0, 1}, {1, 512}, {384, 576, 2048}});

}  // namespace
}  // namespace linnet

// Products as the decode step and prefill run them, at the shapes of the shipped model (hidden 384,
// feed-forward 1024, vocabulary 8192) and of a 1B one (2048, 5632). A step of few rows is bound by reading
// weights: compare bytes/s with the machine's read bandwidth; prefill by operations.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "base/random.h"
#include "kernels/cpu/elementwise.h"
#include "model/linear.h"

namespace linnet {
namespace {

using kernels::WeightType;

std::vector<float> numbers(int64_t count) {
  std::vector<float> x(static_cast<size_t>(count));
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(uniform(1, 0, i)) - 0.5f;
  return x;
}

/// Enough copies of a matrix that a loop over them reads memory, not caches, where `bytes` says so.
struct Layers {
  Layers(WeightType type, int64_t in, int64_t out, int64_t bytes) {
    auto wide = numbers(in * out);
    std::vector<uint16_t> narrow(wide.size());
    kernels::to_bfloat16(wide.data(), in * out, narrow.data());
    const bool is_narrow = type == WeightType::kBFloat16;
    const int64_t size = in * out * (is_narrow ? 2 : 4);
    for (int64_t i = 0; i < std::max<int64_t>(1, bytes / size); ++i) {
      auto kept = std::make_shared<std::vector<std::byte>>(static_cast<size_t>(size));
      std::memcpy(kept->data(), is_narrow ? static_cast<const void*>(narrow.data()) : wide.data(),
                  static_cast<size_t>(size));
      layers.emplace_back(std::vector<Matrix>{{{type, out, in, kept->data(), nullptr}, kept}},
                          std::vector<float>{}, true);
    }
  }
  std::vector<Linear> layers;
};

/// Arguments: threads, rows, in, out, bf16 or not, MB of weights.
void few_rows(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  const int64_t rows = state.range(1), in = state.range(2), out = state.range(3);
  Layers layers(state.range(4) ? WeightType::kBFloat16 : WeightType::kFloat32, in, out, state.range(5) << 20);
  const auto x = numbers(rows * in);
  std::vector<float> y(static_cast<size_t>(rows * out));
  ProductScratch scratch;
  size_t next = 0, bytes = 0;
  for (auto _ : state) {
    Linear& layer = layers.layers[next++ % layers.layers.size()];
    layer.step(x.data(), in, rows, y.data(), scratch, pool);
    benchmark::DoNotOptimize(y.data());
    bytes += layer.bytes();
  }
  state.SetBytesProcessed(static_cast<int64_t>(bytes));
  state.counters["FLOPS"] =
      benchmark::Counter(static_cast<double>(2 * rows * in * out) * static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate);
}

void many_rows(benchmark::State& state) {
  ThreadPool pool(static_cast<int>(state.range(0)));
  const int64_t rows = state.range(1), in = state.range(2), out = state.range(3);
  Layers layers(state.range(4) ? WeightType::kBFloat16 : WeightType::kFloat32, in, out, state.range(5) << 20);
  const auto x = numbers(rows * in);
  std::vector<float> y(static_cast<size_t>(rows * out));
  ProductScratch scratch;
  size_t next = 0;
  for (auto _ : state) {
    layers.layers[next++ % layers.layers.size()].prefill(x.data(), in, rows, y.data(), scratch, pool);
    benchmark::DoNotOptimize(y.data());
  }
  state.counters["FLOPS"] =
      benchmark::Counter(static_cast<double>(2 * rows * in * out) * static_cast<double>(state.iterations()),
                         benchmark::Counter::kIsRate);
}

BENCHMARK(few_rows)
    ->UseRealTime()
    ->ArgNames({"threads", "rows", "in", "out", "bf16", "MB"})
    ->ArgsProduct({{1, 2}, {1, 4, 16, 64}, {384}, {1152, 2048}, {1}, {20}})
    ->ArgsProduct({{1}, {1, 8, 16, 64, 512}, {2048}, {5632}, {1}, {200}})
    // Arithmetic alone, beside the same from memory: each thread's weights stay in its second cache.
    ->ArgsProduct({{2}, {8, 16, 64}, {2048}, {256}, {1}, {0, 400}})
    ->ArgsProduct({{2}, {8, 16, 64}, {5632}, {96}, {1}, {0, 400}})
    ->ArgsProduct({{2}, {64}, {576}, {256}, {1}, {0, 400}})
    ->ArgsProduct({{2}, {64}, {384}, {512}, {1}, {0, 20}})
    ->Args({1, 512, 5632, 2048, 1, 200})
    ->Args({1, 512, 384, 2048, 1, 20})
    ->Args({2, 1, 384, 8192, 1, 20})
    ->Args({2, 1, 1024, 384, 1, 20})
    ->Args({1, 1, 1024, 384, 0, 40})
    ->Args({2, 1, 2048, 5632, 1, 400})
    ->Args({2, 1, 2048, 5632, 0, 400});

BENCHMARK(many_rows)
    ->UseRealTime()
    ->ArgNames({"threads", "rows", "in", "out", "bf16", "MB"})
    ->ArgsProduct({{2}, {16, 64, 512}, {384}, {1152, 2048, 8192}, {0, 1}, {20}})
    ->Args({2, 512, 1024, 384, 1, 20})
    ->Args({1, 512, 2048, 5632, 1, 200})
    ->Args({1, 512, 5632, 2048, 1, 200});

}  // namespace
}  // namespace linnet

// How long a layer of attention takes a token, at the shipped model's shape: 6 heads of 64.
//
// Prefill is bound by operations. `grouped` (C = 64, W = 4, f = 128) multiplies and adds a token and head
// about 260·64 for scores, 230·64 for their values, 64·64 for φ(q), 128·64 to read S and as much again to
// keep it: 56,000, with 260 + 256 exponentials. At half of a core's 115 GFLOP/s: 0.34 million a layer, 12 us
// on one core, 6 on two. Measured: 11.1 us of processor time on one thread.
//
// Decode is bound by bytes. A token reads a head's waiting keys and values (2·256·64), S and z (128·65) and W
// (64·64) in float32: 180 KB, 1.1 MB a layer, out of the third cache: 27 us at 40 GB/s on one core, half of
// it on two, and the same at any length. Measured: 27 us of processor time on one thread, 16 of them the
// local branch. With W = 1 (`hedgehog` +local) φ of the waiting global block, up to 127 keys, is computed
// anew each token: that costs more than all the rest, and is why four local groups decode faster than one.
//
// (Both on a machine of 2 cores of AVX-512 that others used at the same time: processor time, not wall time.)
//
//     cmake --preset release -DLINNET_BENCHMARKS=ON && ninja -C build/release bench_attention
//     build/release/bin/bench_attention --benchmark_min_time=0.2
#include <benchmark/benchmark.h>

#include <cmath>
#include <numeric>

#include "attention/attention.h"
#include "attention/method.h"
#include "base/random.h"
#include "benchmarks/rotary.h"

namespace linnet {
namespace {

const AttentionShape kShape{6, 6, 64, 64};

struct Layer {
  std::map<std::string, std::vector<float>> storage;
  std::unique_ptr<Attention<float>> attention;
  std::unique_ptr<State<float>> state;
  ThreadPool pool;
  int64_t count;
  std::vector<float> q, k, v, out;

  Layer(const AttentionConfig& config, int64_t tokens, int threads) : pool(threads), count(tokens) {
    ParameterTensors tensors;
    for (const auto& spec : parameter_specs(config, kShape)) {
      auto& numbers = storage[spec.name] = initial_parameter(spec, config, 1, 0);
      tensors[spec.name] = {DType::kF32, spec.shape, std::as_bytes(std::span<const float>(numbers))};
    }
    const Rotation rotation = rotary(kShape.head_size);
    attention = make_attention<float>(config, kShape, tensors, &rotation, "benchmark");
    state = attention->make_state();
    const auto fill = [&](std::vector<float>& to, uint64_t stream) {
      to.resize(6 * 64 * count);
      for (size_t i = 0; i < to.size(); ++i) to[i] = static_cast<float>(normal(1, stream, i));
    };
    fill(q, 1), fill(k, 2), fill(v, 3), fill(out, 4);
  }

  // Rows as a projection leaves them: [tokens, heads, size].
  Rows<float> rows(int64_t first, int64_t n) const {
    const auto part = [&](const std::vector<float>& x) {
      return HeadRows<const float>{x.data() + first * 384, 64, 384};
    };
    return {n, part(q), part(k), part(v), part(q), part(k)};
  }
  void prefill(int64_t n) { attention->prefill(*state, rows(0, n), {out.data(), 64, 384}, pool); }
  void fill_to(int64_t n) {
    while (state->length() < n) prefill(std::min(count, n - state->length()));
  }
};

/// The recommended row without its summary, hedgehog with a local branch, the recommended row with one head
/// of six that keeps 1024 tokens or sees 16K, then every row as it is.
const std::vector<std::string>& texts() {
  static const std::vector<std::string> all = [] {
    std::vector<std::string> texts = {R"({"method": "grouped", "alpha": 1, "decay": 1})",
                                      R"({"method": "hedgehog", "local": "softmax", "taps": 4})",
                                      R"({"method": "grouped", "kept": [0, 0, 1024, 0, 0, 0]})",
                                      R"({"method": "grouped", "local_groups": [4, 4, 256, 4, 4, 4]})"};
    for (const Method* method : methods()) texts.push_back(nlohmann::json{{"method", method->name}}.dump());
    return texts;
  }();
  return all;
}
AttentionConfig config_of(int64_t index) {
  return parse_layer_attention(nlohmann::json::parse(texts()[index]), "benchmark");
}
std::vector<int64_t> indices() {
  return benchmark::CreateDenseRange(0, static_cast<int64_t>(texts().size()) - 1, 1);
}

void prefill(benchmark::State& bench) {
  Layer layer(config_of(bench.range(0)), 512, static_cast<int>(bench.range(1)));
  layer.fill_to(1024);
  for (auto _ : bench) {
    if (layer.attention->layout().bytes == 0) {  // a cache grows: chunks of a prompt of 1024
      bench.PauseTiming();
      if (layer.state->length() >= 1024) layer.state->reset();
      bench.ResumeTiming();
    }
    layer.prefill(512);
  }
  bench.SetLabel(texts()[bench.range(0)]);
  bench.counters["us_per_token"] =
      benchmark::Counter(512e-6 * static_cast<double>(bench.iterations()),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(prefill)->ArgsProduct({indices(), {1, 2}})->UseRealTime()->Unit(benchmark::kMicrosecond);

// One token by attend on a tree of one node and commit, at a length of `range(1)`. Seven layers, so that a
// layer's state comes out of the cache that a whole model's states fit in, not out of the first.
void decode(benchmark::State& bench) {
  std::vector<std::unique_ptr<Layer>> layers;
  for (int i = 0; i < 7; ++i) {
    layers.push_back(std::make_unique<Layer>(config_of(bench.range(0)), 512,
                                             i == 0 ? static_cast<int>(bench.range(2)) : 1));
    layers.back()->fill_to(bench.range(1));
  }
  const TokenTree tree = TokenTree::single(0);
  const int32_t root[] = {0};
  ThreadPool& pool = layers[0]->pool;
  int64_t token = 0;
  for (auto _ : bench) {
    for (auto& layer : layers) {
      const auto rows = layer->rows(token % 512, 1);
      layer->attention->attend(*layer->state, tree, rows, {layer->out.data(), 64, 384}, pool);
      layer->attention->commit(*layer->state, root, rows, pool);
    }
    ++token;
  }
  bench.SetLabel(texts()[bench.range(0)]);
  bench.counters["us_per_layer"] =
      benchmark::Counter(7e-6 * static_cast<double>(bench.iterations()),
                         benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
}
BENCHMARK(decode)
    ->ArgsProduct({indices(), {1024, 16384}, {1, 2}})
    ->UseRealTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace linnet

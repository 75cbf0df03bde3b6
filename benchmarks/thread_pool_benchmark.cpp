// What a region of the thread pool costs beyond its work: the price of every product and norm of a decode
// step. As many empty pieces as threads, after `serial_us` of serial work. Bound by the cache line that
// pieces are taken from: some 0.3 µs a piece between cores. With more threads than processors (4 on 2) a pool
// that waited for all its workers to check in took 83 µs a region, this one 3.6 µs: it waits for pieces
// alone.
#include <benchmark/benchmark.h>

#include <chrono>

#include "base/thread_pool.h"

namespace {

void region(benchmark::State& state) {
  linnet::ThreadPool pool(static_cast<int>(state.range(0)));
  const auto serial = std::chrono::microseconds(state.range(1));
  for (auto _ : state) {
    const auto until = std::chrono::steady_clock::now() + serial;
    while (std::chrono::steady_clock::now() < until) benchmark::ClobberMemory();
    pool.run(static_cast<size_t>(pool.size()), [](size_t i) { benchmark::DoNotOptimize(i); });
  }
}
BENCHMARK(region)
    ->ArgNames({"threads", "serial_us"})
    ->ArgsProduct({{1, 2, 4, 8, 16}, {0, 5, 20, 200}})
    ->UseRealTime();

}  // namespace

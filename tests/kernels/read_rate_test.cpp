#include "kernels/cpu/read_rate.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/kernels/targets.h"

namespace linnet {
namespace {

TEST(ReadRate, EveryPatternIsTriedOnEveryNumberOfThreadsAndTheBestCounts) {
  ThreadPool pool(4);
  on_every_target([&] {
    const auto rates = kernels::read_rates(pool, 100'000);
    std::set<std::tuple<std::string_view, bool, int>> tried;
    for (const kernels::ReadRate& rate : rates) {
      tried.emplace(rate.pattern, rate.prefetched, rate.threads);
      EXPECT_LE(rate.bytes, 100'000u);
      EXPECT_GT(rate.bytes, 50'000u);
      EXPECT_GT(rate.bytes_per_second, 0);
      EXPECT_LE(rate.bytes_per_second, kernels::best(rates).bytes_per_second);
    }
    EXPECT_EQ(tried.size(), 3u * 2 * 3);  // 4, 2 and 1 threads
    EXPECT_EQ(tried.size(), rates.size());
  });
}

TEST(ReadRate, LessThanAPageIsAPageOfEachStream) {
  ThreadPool pool(1);
  for (const auto& rate : kernels::read_rates(pool, 1)) EXPECT_EQ(rate.bytes, 4u * 4096);
}

}  // namespace
}  // namespace linnet

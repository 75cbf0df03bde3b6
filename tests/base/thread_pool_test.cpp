#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

namespace linnet {
namespace {

TEST(ThreadPool, RunsEveryPieceOnce) {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (size_t count : {0, 1, 2, 7, 1000}) {
      std::vector<int> seen(count);
      pool.run(count, [&](size_t i) { ++seen[i]; });
      EXPECT_EQ(seen, std::vector<int>(count, 1)) << threads << " threads";
    }
  }
}

TEST(ThreadPool, RegionsFollowEachOtherWithoutLosingOrRepeatingAPiece) {
  ThreadPool pool(4);
  std::vector<uint64_t> sums(9);
  for (uint64_t region = 1; region <= 20000; ++region)
    pool.run(region % sums.size() + 1, [&](size_t i) { sums[i] += region; });
  std::vector<uint64_t> expected(9);
  for (uint64_t region = 1; region <= 20000; ++region)
    for (size_t i = 0; i < region % expected.size() + 1; ++i) expected[i] += region;
  EXPECT_EQ(sums, expected);
}

TEST(ThreadPool, CountsItsRegionsOnceItIsWatched) {
  ThreadPool pool(3);
  const auto regions = [&](size_t pieces) {
    pool.run(pieces, [](size_t) {});
    return pool.watched().regions;
  };
  EXPECT_EQ(regions(5), 0u);
  pool.watch();
  EXPECT_EQ(regions(5), 1u);
  EXPECT_EQ(regions(1), 1u);  // the caller alone
  EXPECT_EQ(regions(2), 2u);
  EXPECT_LE(pool.watched().waited, pool.watched().seconds);
}

TEST(ThreadPool, RethrowsWhatAPieceThrewAndGoesOn) {
  ThreadPool pool(3);
  EXPECT_THROW(pool.run(10,
                        [](size_t i) {
                          if (i == 4) throw std::runtime_error("4");
                        }),
               std::runtime_error);
  std::vector<int> seen(10);
  pool.run(10, [&](size_t i) { ++seen[i]; });
  EXPECT_EQ(seen, std::vector<int>(10, 1));
}

}  // namespace
}  // namespace linnet

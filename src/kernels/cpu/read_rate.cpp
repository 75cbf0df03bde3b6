#include "kernels/cpu/read_rate.h"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>

#include "base/array.h"
#include "base/memory.h"
#include "base/timing.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/read_rate.cpp"
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace linnet::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Folds `count` words from `words` on as kStreams streams of `length` words that advance together, stream
// after stream; eight sums, so that loads alone bound it. A multiple of kStreams * length words.
template <int kStreams, bool kFetch>
HWY_INLINE uint64_t fold_streams(const uint64_t* words, size_t count, size_t length) {
  const hn::ScalableTag<uint64_t> d;
  const size_t lanes = hn::Lanes(d);
  constexpr int kSteps = 8 / kStreams;
  constexpr size_t kAhead = 4096;  // bytes
  hn::Vec<decltype(d)> sums[8];
  for (auto& sum : sums) sum = hn::Zero(d);
  for (size_t at = 0; at < count; at += kStreams * length) {
    for (size_t i = 0; i < length; i += kSteps * lanes) {
      for (int s = 0; s < kStreams; ++s) {
        const uint64_t* from = words + at + s * length + i;
        for (int j = 0; j < kSteps; ++j) {
          if (kFetch && j * lanes % 8 == 0)
            hwy::Prefetch(reinterpret_cast<const std::byte*>(from + j * lanes) + kAhead);
          sums[s * kSteps + j] = hn::Xor(sums[s * kSteps + j], hn::LoadU(d, from + j * lanes));
        }
      }
    }
  }
  for (int i = 1; i < 8; ++i) sums[0] = hn::Xor(sums[0], sums[i]);
  return hn::GetLane(hn::SumOfLanes(d, sums[0]));
}

uint64_t fold(int streams, bool fetch, const uint64_t* words, size_t count, size_t length) {
  if (streams == 1)
    return fetch ? fold_streams<1, true>(words, count, length) : fold_streams<1, false>(words, count, length);
  return fetch ? fold_streams<4, true>(words, count, length) : fold_streams<4, false>(words, count, length);
}

}  // namespace linnet::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::kernels {
namespace {

HWY_EXPORT(fold);

constexpr size_t kPage = 4096;  // bytes: what one of several streams reads at a time

struct Pattern {
  std::string_view name;
  int streams;
  bool shares;  // each thread has its part of the buffer, else threads take the next piece
};
constexpr Pattern kPatterns[] = {
    {"one stream", 1, false}, {"four streams", 4, false}, {"one stream a thread", 1, true}};

/// Reads all of `words` once.
void read_all(const Pattern& pattern, bool fetch, std::span<const uint64_t> words, ThreadPool& pool,
              std::vector<uint64_t>& sums) {
  const size_t unit = pattern.streams * kPage;  // bytes
  const size_t bytes = words.size() * sizeof(uint64_t) / unit * unit, units = bytes / unit;
  const auto threads = static_cast<size_t>(pool.size());
  const size_t most = pattern.shares ? threads : std::max<size_t>(threads, bytes / (size_t{256} << 10));
  const size_t pieces = std::min(most, units);
  sums.assign(pieces, 0);
  pool.run(pieces, [&](size_t piece) {
    const size_t begin = units * piece / pieces * unit / sizeof(uint64_t);
    const size_t end = units * (piece + 1) / pieces * unit / sizeof(uint64_t);
    sums[piece] = HWY_DYNAMIC_DISPATCH(fold)(pattern.streams, fetch, words.data() + begin, end - begin,
                                             kPage / sizeof(uint64_t));
  });
}

void measure(std::span<const uint64_t> words, ThreadPool& pool, std::vector<ReadRate>& rates) {
  constexpr size_t kLeast = size_t{64} << 20;  // bytes read between two looks at the clock
  const size_t bytes = words.size() * sizeof(uint64_t);
  const size_t passes = std::max<size_t>(1, kLeast / bytes);
  std::vector<uint64_t> sums;
  for (const Pattern& pattern : kPatterns) {
    for (const bool fetch : {false, true}) {
      const double least = least_seconds(3, [&] {
        for (size_t pass = 0; pass < passes; ++pass) read_all(pattern, fetch, words, pool, sums);
      });
      rates.push_back({pattern.name, fetch, pool.size(), bytes,
                       static_cast<double>(bytes) * static_cast<double>(passes) / least});
    }
  }
}

}  // namespace

std::vector<ReadRate> read_rates(ThreadPool& pool, size_t bytes) {
  constexpr size_t kUnit = 4 * kPage;  // every pattern's
  const size_t size = std::max(bytes / kUnit, size_t{1}) * kUnit;
  const auto buffer = zeroed<uint64_t>(static_cast<int64_t>(size / sizeof(uint64_t)));
  prefer_large_pages(buffer.get(), size);
  const std::span<uint64_t> words(buffer.get(), size / sizeof(uint64_t));
  std::ranges::fill(words, 1);
  std::vector<ReadRate> rates;
  measure(words, pool, rates);
  for (int threads = pool.size() / 2; threads > 0; threads = threads > 1 ? 1 : 0) {
    ThreadPool part(threads);
    measure(words, part, rates);
  }
  return rates;
}

const ReadRate& best(const std::vector<ReadRate>& rates) {
  return *std::max_element(rates.begin(), rates.end(), [](const ReadRate& a, const ReadRate& b) {
    return a.bytes_per_second < b.bytes_per_second;
  });
}

}  // namespace linnet::kernels
#endif  // HWY_ONCE

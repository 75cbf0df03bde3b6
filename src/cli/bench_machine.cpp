#include "cli/bench_machine.h"

#include <algorithm>
#include <bit>

namespace linnet::cli {
namespace {

constexpr size_t kMemory = size_t{256} << 20;  // nearly all of it is in no cache
constexpr size_t kMost = size_t{1} << 30;      // an eighth of kMemory can be, of this nothing to speak of

/// The next size below that is measured: four to an octave, and no more than kMost.
size_t measured_size(size_t bytes) {
  const size_t some = std::clamp(bytes, size_t{1} << 20, kMost), step = std::bit_floor(some) / 4;
  return some / step * step;
}

}  // namespace

void Ruler::measure_size(size_t size) {
  std::vector<kernels::ReadRate> now = kernels::read_rates(pool_, size);
  std::vector<kernels::ReadRate>& best = rates_[size];
  if (best.empty()) best = now;
  for (size_t i = 0; i < now.size(); ++i)
    best[i].bytes_per_second = std::max(best[i].bytes_per_second, now[i].bytes_per_second);
}

void Ruler::measure(size_t bytes) {
  measure_size(kMemory);
  if (measured_size(bytes) != kMemory) measure_size(measured_size(bytes));
}

const kernels::ReadRate& Ruler::of(size_t bytes) const {
  return kernels::best(rates_.at(measured_size(bytes)));
}

const kernels::ReadRate& Ruler::of_memory() const { return kernels::best(rates_.at(kMemory)); }

nlohmann::ordered_json Ruler::to_json() const {
  nlohmann::ordered_json all = nlohmann::ordered_json::array();
  for (const auto& [size, rates] : rates_) {
    for (const kernels::ReadRate& rate : rates) {
      all.push_back({{"pattern", rate.pattern},
                     {"prefetched", rate.prefetched},
                     {"threads", rate.threads},
                     {"bytes", rate.bytes},
                     {"bytes_per_second", rate.bytes_per_second}});
    }
  }
  return all;
}

}  // namespace linnet::cli

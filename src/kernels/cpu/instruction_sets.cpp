#include "kernels/cpu/instruction_sets.h"

#include <fmt/format.h>

#include <hwy/highway.h>
#include <hwy/targets.h>
#include <atomic>

#include "base/error.h"
#include "base/nearest.h"
#include "kernels/cpu/few_rows.h"
#include "kernels/cpu/large_product.h"

namespace linnet::kernels {
namespace {

/// One bit per target, the best lowest.
int64_t all_targets() {
  static const int64_t all = hwy::SupportedTargets() & HWY_TARGETS;
  return all;
}

constexpr std::string_view kTiles = "AMX";

bool have_tiles() { return (all_targets() & (HWY_AVX3 | HWY_AVX3_DL)) != 0 && tile_dot::on_this_machine(); }

std::atomic<bool>& tiles() {
  static std::atomic<bool> in_use = have_tiles();
  return in_use;
}

/// The targets in use. Kernels ask for each product, and hwy::SupportedTargets asks the processor each time,
/// which in a virtual machine takes tens of microseconds.
std::atomic<int64_t>& targets() {
  static std::atomic<int64_t> in_use = all_targets();
  return in_use;
}

/// The best target in use: the lowest number of all.
int64_t best() {
  const int64_t all = targets().load(std::memory_order_relaxed);
  return all & -all;
}

void use(int64_t chosen, bool with_tiles) {
  tiles() = with_tiles;
  targets() = chosen;
  hwy::SetSupportedTargetsForTest(chosen);
  hwy::GetChosenTarget().Update(chosen);
}

}  // namespace

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  if (have_tiles()) names.emplace_back(kTiles);
  for (int64_t rest = all_targets(); rest != 0; rest &= rest - 1) {
    names.emplace_back(hwy::TargetName(rest & -rest));
  }
  return names;
}

void use_instruction_set(std::string_view name) {
  if (name.empty() || (name == kTiles && have_tiles())) return use(all_targets(), have_tiles());
  for (int64_t rest = all_targets(); rest != 0; rest &= rest - 1) {
    if (name != hwy::TargetName(rest & -rest)) continue;
    limit_large_products(name);
    return use(rest & -rest, false);
  }
  const std::vector<std::string> names = instruction_sets();
  throw Error("instructions", fmt::format("\"{}\"", printable(name)),
              one_of(name, std::vector<std::string_view>(names.begin(), names.end())));
}

bool tiles_in_use() { return tiles(); }

bool avx2_in_use() { return best() <= HWY_AVX2; }

bool avx512_in_use() { return best() <= HWY_AVX3; }

}  // namespace linnet::kernels

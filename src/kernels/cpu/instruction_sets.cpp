#include "kernels/cpu/instruction_sets.h"

#include <fmt/format.h>

#include <hwy/highway.h>
#include <hwy/targets.h>

#include "base/error.h"
#include "base/nearest.h"
#include "kernels/cpu/large_product.h"

namespace linnet::kernels {
namespace {

/// One bit per target, the best lowest.
int64_t all_targets() {
  static const int64_t all = hwy::SupportedTargets() & HWY_TARGETS;
  return all;
}

void use(int64_t targets) {
  hwy::SetSupportedTargetsForTest(targets);
  hwy::GetChosenTarget().Update(targets);
}

}  // namespace

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (int64_t rest = all_targets(); rest != 0; rest &= rest - 1) {
    names.emplace_back(hwy::TargetName(rest & -rest));
  }
  return names;
}

void use_instruction_set(std::string_view name) {
  if (name.empty()) return use(all_targets());
  for (int64_t rest = all_targets(); rest != 0; rest &= rest - 1) {
    if (name != hwy::TargetName(rest & -rest)) continue;
    limit_large_products(name);
    return use(rest & -rest);
  }
  const std::vector<std::string> names = instruction_sets();
  throw Error("instructions", fmt::format("\"{}\"", printable(name)),
              one_of(name, std::vector<std::string_view>(names.begin(), names.end())));
}

}  // namespace linnet::kernels

#include "base/nearest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace linnet {
namespace {

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t changed = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({changed, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string_view nearest(std::string_view name, std::span<const std::string_view> candidates) {
  name = name.substr(0, 64);  // a longer one is near nothing, and quadratic
  std::string_view best;
  const size_t dashes = std::min(name.find_first_not_of('-'), name.size());  // every option has them
  size_t least = (name.size() - dashes) / 2 + 1;
  for (std::string_view candidate : candidates) {
    if (const size_t distance = edit_distance(name, candidate); distance < least) {
      least = distance;
      best = candidate;
    }
  }
  return best;
}

std::string one_of(std::string_view name, std::span<const std::string_view> candidates) {
  const std::string_view near = nearest(name, candidates);
  return fmt::format("one of {}{}", fmt::join(candidates, ", "),
                     near.empty() ? "" : fmt::format(" (did you mean {}?)", near));
}

}  // namespace linnet

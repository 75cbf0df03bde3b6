#include "generate/acceptance.h"

#include <algorithm>
#include <iterator>

namespace linnet {
namespace {

constexpr double kUnknown = 0.3;   // how likely a guess is taken to be whose drafter does not say
constexpr double kSaidCounts = 4;  // guesses that what a drafter says counts for
constexpr double kGuesses = 128;   // guesses
constexpr double kBegins[] = {0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95};  // of ranges but the first

/// How likely its drafter says that a node is, its parent being right.
double said(const Draft& draft, int32_t node) {
  if (draft.reached.empty()) return kUnknown;
  const double parent = draft.reached[static_cast<size_t>(draft.tree.parent(node))];
  return parent > 0 ? std::clamp(draft.reached[static_cast<size_t>(node)] / parent, 0.0, 1.0) : 0;
}

}  // namespace

size_t Acceptance::kind_of(const Draft& draft, int32_t node) {
  static_assert(std::size(kBegins) == kRanges - 1);
  const int depth = std::min(draft.tree.depth(node), kDepths) - 1;
  const auto range = std::upper_bound(std::begin(kBegins), std::end(kBegins), said(draft, node));
  return static_cast<size_t>(depth * kRanges + (range - std::begin(kBegins)));
}

std::vector<double> Acceptance::reached(const Draft& draft) const {
  std::vector<double> reached(static_cast<size_t>(draft.tree.size()), 1);
  for (int32_t node = 1; node < draft.tree.size(); ++node) {
    const double right = kinds_[kind_of(draft, node)].probability(said(draft, node), kSaidCounts);
    reached[static_cast<size_t>(node)] = right * reached[static_cast<size_t>(draft.tree.parent(node))];
  }
  return reached;
}

void Acceptance::followed(const Draft& draft, std::span<const int32_t> tokens) {
  int32_t node = 0;
  for (size_t i = 0; i < tokens.size() && node >= 0; ++i) {
    int32_t next = -1;
    for (int32_t child = node + 1; child < draft.tree.size(); ++child) {
      if (draft.tree.parent(child) != node) continue;
      const bool right = draft.tree.token(child) == tokens[i];
      kinds_[kind_of(draft, child)].add(right, kGuesses);
      if (right && next < 0) next = child;
    }
    node = next;
  }
}

}  // namespace linnet

#include "generate/tree_budget.h"

#include <algorithm>

namespace linnet {
namespace {

constexpr double kNode = 0.08;    // of a plain step, that a node is taken to cost before any was measured
constexpr double kLoss = 0.02;    // of all time, that guesses may lose
constexpr double kCredit = 8;     // plain steps of what was gained that may be lost again
constexpr int64_t kMemory = 20;   // steps that an average remembers
constexpr double kOutlier = 3.0;  // times the average: another program had the processor

}  // namespace

void TreeBudget::Average::add(double more) {
  if (count > 0) more = std::min(more, kOutlier * seconds);
  count = std::min(count + 1, kMemory);
  seconds += (more - seconds) / static_cast<double>(count);
}

double TreeBudget::cost(int nodes) const {
  // Between measured sizes along a line, past the largest as steeply as from the smallest to it.
  int below = 0, above = 0, least = 0;
  for (int n = 1; n < static_cast<int>(costs_.size()); ++n) {
    if (costs_[static_cast<size_t>(n)].count == 0) continue;
    if (least == 0) least = n;
    if (n <= nodes) below = n;
    if (n >= nodes && above == 0) above = n;
  }
  const auto seconds = [&](int n) { return costs_[static_cast<size_t>(n)].seconds; };
  if (least == 0) return 0;
  if (below == 0) return seconds(above);
  if (above == 0) {
    const double slope =
        below > least ? (seconds(below) - seconds(least)) / (below - least) : kNode * seconds(below) / below;
    return seconds(below) + std::max(0.0, slope) * (nodes - below);
  }
  if (above == below) return seconds(below);
  return seconds(below) + (seconds(above) - seconds(below)) * (nodes - below) / (above - below);
}

void TreeBudget::measured(const Step& step) {
  const auto nodes = static_cast<size_t>(step.nodes);
  if (costs_.size() <= nodes) costs_.resize(nodes + 1);
  costs_[nodes].add(step.seconds);
  spent_ += step.draft_seconds + step.seconds;
  lost_ += step.draft_seconds;
  if (step.draft_seconds > 0) draft_.add(step.draft_seconds);
  if (step.nodes == step.sequences) return;
  const double seconds = std::min(step.seconds, kOutlier * cost(step.nodes));
  const double plain = cost(step.sequences);
  lost_ = std::max(lost_ + seconds - plain * step.tokens / step.sequences, -kCredit * plain);
}

bool TreeBudget::may_lose(double seconds) const { return lost_ + seconds <= kLoss * spent_; }

bool TreeBudget::may_guess() const { return spent_ > 0 && may_lose(draft_.seconds); }

void TreeBudget::trim(std::span<Draft> drafts) const {
  struct Node {
    double reached;
    size_t draft;
  };
  std::vector<Node> nodes;  // of all drafts but the roots, the likeliest first, of a draft in their order
  for (size_t i = 0; i < drafts.size(); ++i) {
    if (drafts[i].reached.empty()) return;
    for (size_t n = 1; n < drafts[i].reached.size(); ++n) nodes.push_back({drafts[i].reached[n], i});
  }
  std::stable_sort(nodes.begin(), nodes.end(),
                   [](const Node& a, const Node& b) { return a.reached > b.reached; });
  const auto roots = static_cast<int>(drafts.size());
  const double plain = cost(roots);
  double expected = roots, best = plain > 0 ? roots / plain : 0;
  size_t most = 0;
  for (size_t i = 0; plain > 0 && i < nodes.size(); ++i) {
    expected += nodes[i].reached;
    const double seconds = cost(roots + static_cast<int>(i) + 1);
    if (!may_lose(seconds - plain)) break;
    if (expected / seconds <= best) continue;
    best = expected / seconds;
    most = i + 1;
  }
  std::vector<int32_t> kept(drafts.size(), 1);
  for (size_t i = 0; i < most; ++i) ++kept[nodes[i].draft];
  for (size_t i = 0; i < drafts.size(); ++i) {
    drafts[i].tree.keep_first(kept[i]);
    drafts[i].reached.resize(static_cast<size_t>(kept[i]));
  }
}

}  // namespace linnet

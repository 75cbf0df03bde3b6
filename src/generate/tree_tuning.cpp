#include "generate/tree_tuning.h"

#include <algorithm>
#include <queue>

namespace linnet {

void RankAcceptance::followed(const Draft& draft, std::span<const int32_t> tokens) {
  const auto ranks = ranks_of(draft);
  const TokenTree& tree = draft.tree;
  int32_t node = 0;
  for (size_t i = 0; i < tokens.size() && node >= 0; ++i) {
    size_t guessed = 0;
    for (int32_t child = node + 1; child < tree.size(); ++child) guessed += tree.parent(child) == node;
    if (guessed == 0) return;
    if (seen_.size() <= i) seen_.resize(i + 1);
    if (seen_[i].size() < guessed) seen_[i].resize(guessed);
    for (Seen& seen : seen_[i]) ++seen.tried;  // a rank that was not guessed here was not right
    node = child_of(tree, node, tokens[i]);
    if (node >= 0) ++seen_[i][static_cast<size_t>(ranks[static_cast<size_t>(node)])].right;
  }
}

double RankAcceptance::probability(int32_t depth, int32_t rank) const {
  if (depth < 1 || depth > this->depth() || rank >= ranks(depth)) return 0;
  const Seen& seen = seen_[static_cast<size_t>(depth) - 1][static_cast<size_t>(rank)];
  return seen.tried > 0 ? static_cast<double>(seen.right) / static_cast<double>(seen.tried) : 0;
}

TunedTree best_tree(const RankAcceptance& acceptance, std::span<const NodesCost> costs, int32_t depth,
                    double drafting) {
  struct Node {
    double reached;
    int32_t parent, rank, depth;
    bool operator<(const Node& other) const { return reached < other.reached; }
  };
  std::priority_queue<Node> nodes;
  const auto expand = [&](int32_t parent, int32_t below, double reached) {
    if (below > depth || below > acceptance.depth()) return;
    for (int32_t rank = 0; rank < acceptance.ranks(below); ++rank) {
      const double there = reached * acceptance.probability(below, rank);
      if (there > 0) nodes.push({there, parent, rank, below});
    }
  };
  const auto takes = [&](int count) {
    const auto above =
        std::find_if(costs.begin(), costs.end(), [&](const NodesCost& c) { return c.nodes >= count; });
    if (above->nodes == count) return above->steps;
    const NodesCost& below = *std::prev(above);
    return below.steps + (above->steps - below.steps) * (count - below.nodes) / (above->nodes - below.nodes);
  };
  TunedTree best, grown;
  expand(0, 1, 1);
  while (!nodes.empty() && grown.shape.size() < costs.back().nodes) {
    const Node node = nodes.top();
    nodes.pop();
    const int32_t place = grown.shape.add(node.parent, node.rank);
    grown.tokens += node.reached;
    grown.takes = takes(grown.shape.size()) + drafting;
    expand(place, node.depth + 1, node.reached);
    if (grown.tokens / grown.takes > best.tokens / best.takes) best = grown;
  }
  return best;
}

}  // namespace linnet

// Finds the tree that pays most for a drafter, a model and a machine: how often guesses of each rank were
// right at each depth, against what steps of so many nodes take. As Medusa's and Sequoia's trees, whose nodes
// are taken from the likeliest on.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "generate/tree_shape.h"

namespace linnet {

class RankAcceptance {
 public:
  /// `tokens` came to stand after the draft's root.
  void followed(const Draft& draft, std::span<const int32_t> tokens);
  /// How often the guess of this rank below a node that was right was right; depths begin at 1.
  double probability(int32_t depth, int32_t rank) const;
  int32_t depth() const { return static_cast<int32_t>(seen_.size()); }
  int32_t ranks(int32_t depth) const {
    return static_cast<int32_t>(seen_[static_cast<size_t>(depth) - 1].size());
  }

 private:
  struct Seen {
    int64_t tried = 0, right = 0;
  };
  std::vector<std::vector<Seen>> seen_;  // [depth − 1][rank]
};

/// A drafter that counts what becomes of another's guesses.
class CountedDrafter final : public Drafter {
 public:
  CountedDrafter(Drafter& drafter, RankAcceptance& counts) : drafter_(drafter), counts_(counts) {}
  void begin(int slot) override { drafter_.begin(slot); }
  int64_t read(int slot, std::span<const int32_t> tokens, int64_t most) override {
    return drafter_.read(slot, tokens, most);
  }
  void end(int slot) override { drafter_.end(slot); }
  size_t bytes() const override { return drafter_.bytes(); }
  int deepest() const override { return drafter_.deepest(); }
  void propose(std::span<const Context> contexts, std::span<Draft> drafts) override {
    drafter_.propose(contexts, drafts);
  }
  void followed(int slot, const Draft& draft, std::span<const int32_t> tokens) override {
    counts_.followed(draft, tokens);
    drafter_.followed(slot, draft, tokens);
  }

 private:
  Drafter& drafter_;
  RankAcceptance& counts_;
};

/// What a step of so many nodes takes, in plain steps.
struct NodesCost {
  int nodes;
  double steps;
};
struct TunedTree {
  TreeShape shape;
  double tokens = 1;  // expected of a step
  double takes = 1;   // plain steps, drafting included
};
/// The best tree no deeper than `depth`; the root alone where none pays. `costs`: by number of nodes, the
/// first of one; between them a line, none past them. `drafting`: plain steps.
TunedTree best_tree(const RankAcceptance& acceptance, std::span<const NodesCost> costs, int32_t depth,
                    double drafting);

}  // namespace linnet

// Decides who guesses and which guesses are computed: drafters are asked where that has paid, what they say
// of their guesses is corrected by what came of earlier ones, their drafts become one tree for each sequence,
// and of all trees only the nodes that are expected to pay are kept (tree_budget.h).
#pragma once

#include <array>
#include <functional>
#include <span>
#include <vector>

#include "generate/acceptance.h"
#include "generate/drafter.h"
#include "generate/tree_budget.h"
#include "generate/tree_shape.h"

namespace linnet {

class Speculator {
 public:
  struct Options {
    int max_nodes = 64;   // of all trees of a step
    bool budget = false;  // else every drafter is asked in every step and all its guesses are computed
    const TreeShape* shape = nullptr;  // that drafts are held to; null: none
    size_t step_bytes = 0;             // of weights that a plain step reads
  };
  using Clock = std::function<double()>;  // seconds

  /// The drafters, cheap ones first, must outlive it.
  Speculator(std::vector<Drafter*> drafters, const Options& options, Clock clock);

  void begin(int slot);
  /// To read a piece of the slot's prompt took so long.
  void read(int slot, double seconds) { budget_.read(slot, seconds); }
  void end(int slot);
  /// A tree for each context, valid until the next call. Throws Error (status: failed) on a draft that breaks
  /// the rules.
  std::span<const TokenTree> propose(std::span<const Drafter::Context> contexts);
  /// Of a slot of the last call: the tokens that came to stand after the root.
  void followed(int slot, std::span<const int32_t> tokens);
  /// What the step took, drafting apart, with so many nodes computed.
  void measured(int nodes, double seconds);

  /// What became of a drafter's guesses.
  struct Report {
    int64_t asked = 0;  // steps
    double seconds = 0;
  };
  std::vector<Report> reports() const;
  const TreeBudget& budget() const { return budget_; }

 private:
  struct Average {
    double value = 0;
    int64_t count = 0;
    void add(double number, int64_t memory);
  };
  struct Asked {  // a drafter and what is known of it
    Drafter* drafter = nullptr;
    Acceptance acceptance;
    Recent reading;           // seconds a token of a text
    Recent cost;              // of a call, plain steps
    double guessed_cost = 0;  // before one was measured: the weights that a call reads
    double costs() const { return cost.count() > 0 ? cost.cut_mean() : guessed_cost; }
    bool drives_out() const { return drafter->bytes() > 0; }  // weights of the caches
    std::array<Average, 4> gains;  // of a call in plain steps, by what was expected without it
    int64_t last = 0;              // the step in which it was asked last
    bool now = false;              // and whether in this one,
    double seconds = 0;            // which has taken so long
    std::vector<Draft> drafts;
    Report report;
  };
  double costs_of(const Asked& asked) const;
  bool pays_for(const Asked& asked, double cost) const;
  bool has_read(Asked& asked, std::span<const Drafter::Context> contexts);
  bool is_worth_asking(const Asked& asked, double saved) const;
  void ask(Asked& asked, std::span<const Drafter::Context> contexts);
  void merge(const Asked& asked);
  TreeBudget::Choice choose();
  void keep(int extra);

  std::vector<Asked> asked_;
  Options options_;
  Clock clock_;
  TreeBudget budget_;
  std::vector<int> slots_;     // of the last call
  std::vector<int> tokens_;    // that came of it, of each slot
  std::vector<Draft> merged_;  // likewise, of all drafters; how likely nodes are is corrected
  std::vector<TokenTree> trees_;
  struct Node {
    double reached;
    size_t draft;
    int32_t node;
  };
  std::vector<Node> order_;  // the merged drafts' nodes but the roots, the likeliest first
  int64_t step_ = 0;
};

}  // namespace linnet

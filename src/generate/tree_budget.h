// How many nodes a step is worth: what steps of so many nodes cost on this machine, against how likely the
// nodes are to be reached. What guesses have lost so far against plain steps is held to a part of the time.
#pragma once

#include <map>
#include <span>
#include <vector>

#include "generate/step_costs.h"

namespace linnet {

/// Times are in plain steps of as many sequences.
class TreeBudget {
 public:
  struct Step {
    int sequences, nodes, tokens;  // nodes: computed, roots included; tokens: that came out of it
    double drafting;               // plain steps
    double seconds;                // all but drafting
  };
  void measured(const Step& step);

  struct Choice {
    int extra = 0;     // nodes to compute beside the roots
    double saved = 0;  // what is expected of as many as pay most, may they be tried or not: plain steps
  };
  /// Of nodes [nodes] that are reached as likely as this, the likeliest first.
  Choice choose(int sequences, std::span<const double> reached) const;

  /// Whether drafting that takes so many plain steps, and a node, may be tried: nothing may come of it.
  bool may_guess(int sequences, double drafting) const;
  /// Whether the next step is to be plain, to measure by.
  bool needs_plain(int sequences) const;
  /// So many seconds in plain steps; 0: not known now.
  double in_plain_steps(int sequences, double seconds) const;

 private:
  struct Ledger {  // of steps with as many sequences, older ones fading
    StepCosts costs;
    std::vector<double> steps;        // [extra]
    double tokens = 0, drafting = 0;  // tokens of each sequence; plain steps
  };
  void weigh();
  bool may_lose(double plain_steps) const;

  std::map<int, Ledger> ledgers_;  // by sequences
  double plainly_ = 0;             // what all tokens that are remembered would have taken, in plain steps
  double lost_ = 0;                // beyond that; negative: gained
};

}  // namespace linnet

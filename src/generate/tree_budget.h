// How many nodes a step is worth: what steps of so many nodes cost on this machine, against how likely the
// nodes are to be reached. What guesses have lost so far against plain steps is held to a part of the time.
#pragma once

#include <map>
#include <span>
#include <utility>
#include <vector>

#include "generate/step_costs.h"

namespace linnet {

/// Times are in plain steps of as many sequences.
class TreeBudget {
 public:
  struct Step {
    int sequences, nodes, tokens;  // nodes: computed, roots included; tokens: that came out of it
    bool drafted;                  // somebody was asked, which took so many plain steps
    double drafting;
    double seconds;  // all but drafting
  };
  void measured(const Step& step);

  /// At most so many tokens may still come of the text that ends first.
  void expect(int64_t tokens) { left_ = static_cast<double>(tokens); }

  struct Choice {
    int extra = 0;     // nodes to compute beside the roots
    double saved = 0;  // what is expected of as many as pay most, may they be tried or not: plain steps
                       // beside those of one before which nobody was asked
  };
  /// Of nodes [nodes] that are reached as likely as this, the likeliest first.
  Choice choose(int sequences, std::span<const double> reached) const;

  /// What asking costs beside the time that the drafter takes: steps after it are slower.
  double slows(int sequences) const;
  /// Whether drafting that takes so many plain steps, and a node, may be tried: nothing may come of it.
  bool may_guess(int sequences, double drafting) const;
  /// Whether the next step is to be plain, to measure by.
  bool needs_plain(int sequences) const;
  /// So many seconds in plain steps; 0: not known now.
  double in_plain_steps(int sequences, double seconds) const;

  /// What is known of steps with as many sequences: what they take after drafting, by nodes beside the roots,
  /// and a plain one after such a step.
  struct Known {
    int sequences;
    std::vector<std::pair<int, double>> drafted;
    double after;
  };
  std::vector<Known> known() const;
  /// What guesses have cost so far, of what is remembered, in plain steps; negative: gained.
  double lost() const { return lost_; }

 private:
  struct Ledger {  // of steps with as many sequences, older ones fading
    StepCosts costs;
    std::vector<double> steps;        // [extra], drafted
    double after = 0, others = 0;     // plain steps: after a drafted one, and others
    double tokens = 0, drafting = 0;  // tokens of each sequence; plain steps
    bool drafted = false;             // the last step
  };
  void weigh();
  double allowance() const;  // what all guesses may have lost by now
  bool is_short() const;     // the text: a first guess may be more than it can bear
  bool may_lose(double plain_steps) const;

  std::map<int, Ledger> ledgers_;  // by sequences
  double left_ = 1e18;             // tokens that may still come
  double plainly_ = 0;             // what all tokens that are remembered would have taken, in plain steps
  double lost_ = 0;                // beyond that; negative: gained
};

}  // namespace linnet

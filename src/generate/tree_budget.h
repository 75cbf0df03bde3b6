// How many nodes a step is worth: what steps of so many nodes cost on this machine, against how likely the
// nodes are to be reached. What guesses have lost against plain steps is held to a part of the time that
// their text has taken so far, the reading of its prompt included: any token may be its last.
#pragma once

#include <map>
#include <span>
#include <utility>
#include <vector>

#include "generate/step_costs.h"

namespace linnet {

/// Times are in plain steps of as many sequences. Texts that are written side by side share their steps: what
/// each may lose, the step may.
class TreeBudget {
 public:
  /// A text begins in the slot.
  void begin(int slot) { accounts_[slot] = {}; }
  /// To read a piece of the prompt took so many seconds.
  void read(int slot, double seconds) { accounts_[slot].reading += seconds; }
  void end(int slot);

  /// The next step is of these slots: what follows is about it.
  void next(std::span<const int> slots);
  /// Whether it is to be plain, to measure by.
  bool needs_plain() const;
  /// What drafting costs beside so many plain steps that it takes, where it drives weights out of the caches:
  /// steps after it are slower. Before that was measured, as much again.
  double slows(double drafting) const;
  /// Whether asking that costs so many plain steps, and a node, may be tried: nothing may come of it.
  bool may_guess(double cost) const;
  /// Somebody was asked at such a cost, whose drafting drives weights out of the caches or does not.
  void asked(double cost, bool drives_out);
  /// What drafters may take now to read the texts, in plain steps.
  double for_reading() const;
  /// And what they took of it, in seconds.
  void drafters_read(double seconds);
  /// So many seconds in plain steps; 0: not known now.
  double in_plain_steps(double seconds) const;

  struct Choice {
    int extra = 0;     // nodes to compute beside the roots
    double saved = 0;  // what is expected of as many as pay most, may they be tried or not: plain steps
                       // beside those of one before which nobody was asked
  };
  /// Of nodes [nodes] that are reached as likely as this, the likeliest first.
  Choice choose(std::span<const double> reached) const;

  /// What came of it: nodes that were computed, roots included, tokens [slots], what drafting took in plain
  /// steps, and the seconds of all the rest.
  void measured(int nodes, std::span<const int> tokens, double drafting, double seconds);

  /// What is known of steps with as many sequences: what they take after drafting, by nodes beside the roots,
  /// and a plain one after such a step.
  struct Known {
    int sequences;
    std::vector<std::pair<int, double>> drafted;
    double after;
  };
  std::vector<Known> known() const;
  /// What guesses have cost so far in plain steps; negative: gained.
  double lost() const;

 private:
  struct Steps {                      // with as many sequences
    std::vector<double> drafted;      // [extra]
    double after = 0, others = 0;     // plain ones: after a drafted one, and others
    double tokens = 0, drafting = 0;  // that came out of them; plain steps
  };
  struct Account {                     // of a text, what was longer ago fading
    double reading = 0, drafters = 0;  // seconds: of its prompt; that drafters read
    std::map<int, Steps> steps;        // by sequences
  };
  struct Balance {
    double plainly = 0;  // what the text would have taken, its prompt included
    double lost = 0;     // beyond that; negative: gained
    double bears = 0;    // what guesses and drafters' reading may lose in all
  };
  double lost_in(int sequences, const Steps& steps) const;
  double lost_by(const Account& account) const;
  Balance balance(const Account& account) const;
  const StepCosts& costs() const { return costs_.at(sequences_); }

  std::map<int, StepCosts> costs_;   // by sequences
  std::map<int, Account> accounts_;  // by slot
  double forgotten_ = 0;             // lost by texts that ended, and what faded of others
  // Of the next step.
  std::vector<int> slots_;
  int sequences_ = 0;
  Balance balance_;          // of its text that may lose least
  bool drives_out_ = false;  // drafting drove weights out of the caches
};

}  // namespace linnet

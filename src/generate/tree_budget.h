// How many nodes a step is worth: what steps of so many nodes have cost on this machine, against how likely
// the drafts' nodes are to be reached. Where no guess is expected to pay, the roots alone are computed; what
// guesses have lost so far is held to a fiftieth of the time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "generate/drafter.h"

namespace linnet {

class TreeBudget {
 public:
  /// What a step took.
  struct Step {
    int sequences, nodes, tokens;   // nodes: computed, roots included; tokens: that came out of it
    double draft_seconds, seconds;  // guessing, 0 where nobody was asked; all the rest
  };
  void measured(const Step& step);

  /// Whether the next step may ask for guesses: what asking has taken before may be lost.
  bool may_guess() const;

  /// Keeps of each draft the first nodes that are expected to pay. Drafts that do not say how likely their
  /// nodes are stay as they are.
  void trim(std::span<Draft> drafts) const;

  /// Expected seconds of a step of so many nodes, guessing apart.
  double cost(int nodes) const;

 private:
  struct Average {
    double seconds = 0;
    int64_t count = 0;
    void add(double more);
  };
  bool may_lose(double seconds) const;

  std::vector<Average> costs_;  // [nodes]
  Average draft_;               // of the steps that asked
  double spent_ = 0;            // seconds
  double lost_ = 0;             // of them, beyond what plain steps would have taken; negative: gained
};

}  // namespace linnet

// Who guesses the next tokens. The engine verifies a drafter's trees in one step; a bad guess costs time,
// never correctness.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "attention/tree.h"

namespace linnet {

/// A guess at what follows: a tree whose node 0, its only root, is the last chosen token, not yet committed.
struct Draft {
  TokenTree tree;
  /// [nodes] how likely each is to be reached, the root's is 1. No node's is larger than an earlier one's, so
  /// that the first n nodes are the best tree of n. Empty: not known.
  std::vector<double> reached;

  void clear();
  int32_t add(int32_t token, int32_t parent, double probability);
};

/// Sequences are known by their slots; a drafter may keep something of each between begin() and end().
class Drafter {
 public:
  virtual ~Drafter() = default;

  struct Context {
    int slot;
    std::span<const int32_t> tokens;  // the prompt and all that was generated, the root last
    std::span<const float> hidden;    // the final hidden row that the root was chosen from
    int max_nodes, max_depth;         // of the tree, the root included and at depth 0
  };
  virtual void begin(int slot);
  virtual void end(int slot);
  /// Writes a draft for each context.
  virtual void propose(std::span<const Context> contexts, std::span<Draft> drafts) = 0;
  /// What became of a slot's draft, of which the engine may have kept the first nodes alone: the nodes that
  /// were right, the root first.
  virtual void accepted(int slot, const Draft& draft, std::span<const int32_t> path);
};

/// The root alone: plain decoding.
std::unique_ptr<Drafter> make_no_drafter();

}  // namespace linnet

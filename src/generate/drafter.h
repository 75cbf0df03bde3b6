// Who guesses the next tokens. The engine verifies a drafter's trees in one step; a bad guess costs time,
// never correctness.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "attention/tree.h"

namespace linnet {

/// A guess at what follows: a tree whose node 0, its only root, is the last chosen token, not yet committed.
struct Draft {
  TokenTree tree;
  /// [nodes] how likely each is to be reached, by what the drafter knows; the root's is 1, no node's is
  /// larger than its parent's. Empty: not known.
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
  /// A text begins in the slot.
  virtual void begin(int slot);
  virtual void end(int slot);
  /// Where the drafter keeps what it has read of a text, its prompt too: reads at most so many tokens on, and
  /// returns how many are left. propose() reads what is.
  virtual int64_t read(int slot, std::span<const int32_t> tokens, int64_t most);
  /// How deep its guesses go at most.
  virtual int deepest() const;
  /// Bytes of weights that a call reads, about: by them a call's cost is told before one was measured. 0: it
  /// drives no weights out of the caches.
  virtual size_t bytes() const;
  /// Writes a draft for each context.
  virtual void propose(std::span<const Context> contexts, std::span<Draft> drafts) = 0;
  /// What became of a slot's draft, of which the engine may have computed a part alone: the tokens that came
  /// to stand after its root.
  virtual void followed(int slot, const Draft& draft, std::span<const int32_t> tokens);
};

/// A node's first child that carries a token; −1 where none does.
int32_t child_of(const TokenTree& tree, int32_t node, int32_t token);
/// The tree of the root and these nodes, in this order; each one's parent is among them before it.
TokenTree part_of(const TokenTree& tree, std::span<const int32_t> nodes);

/// The root alone: plain decoding.
std::unique_ptr<Drafter> make_no_drafter();

}  // namespace linnet

// Drafters that guess depth by depth: the likeliest tokens below each node that is worth it, the likeliest
// below those, and so on. Who guesses (heads, a smaller model) is a Guesser; the tree is grown here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "generate/drafter.h"

namespace linnet {

struct Guess {
  int32_t token;
  double probability;
};

/// A node below which tokens are guessed.
struct Frontier {
  int32_t context;    // among those of the step
  int32_t candidate;  // the grower's number of it; −1: the context's root
  int32_t row;        // among the nodes of the depth before; at depth 0 the context
  int32_t token;
  double reached;
};

class Guesser {
 public:
  virtual ~Guesser() = default;

  /// Tokens that it guesses in a row.
  virtual int depth() const = 0;
  /// Bytes of weights that guesses of all depths read.
  virtual size_t bytes() const = 0;
  virtual void begin_slot(int) {}
  /// Drafter::read.
  virtual int64_t read(int, std::span<const int32_t>, int64_t) { return 0; }
  /// A step begins.
  virtual void begin(std::span<const Drafter::Context> contexts) = 0;
  /// guesses[i]: what may follow nodes[i], the likeliest first. The nodes, all of one depth, stand in the
  /// order of their contexts; at depth 0 they are roots, later children of the nodes of the call before.
  virtual void guess(int depth, std::span<const Frontier> nodes,
                     std::vector<std::vector<Guess>>& guesses) = 0;
};

/// The likeliest few tokens by their logits, the likeliest first; none where a logit is not a number.
void likeliest_guesses(std::span<const float> logits, std::vector<Guess>& guesses);

std::unique_ptr<Drafter> make_guessed_tree_drafter(std::unique_ptr<Guesser> guesser);

}  // namespace linnet

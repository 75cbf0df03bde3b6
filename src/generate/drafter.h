// Who guesses the next tokens. The engine verifies a drafter's tree in one step; a bad guess costs time,
// never correctness.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "attention/tree.h"

namespace linnet {

class Drafter {
 public:
  virtual ~Drafter() = default;

  struct Context {
    std::span<const int32_t> tokens;  // the prompt and all that was generated, the root last
    std::span<const float> hidden;    // the final hidden row that the root was chosen from; may be empty
  };
  /// A tree of at most `max_nodes` nodes, at most `max_depth` deep, whose node 0 is the root: the last chosen
  /// token, not yet committed.
  virtual TokenTree propose(const Context& context, int max_nodes, int max_depth) = 0;
};

/// The root alone: plain decoding.
std::unique_ptr<Drafter> make_no_drafter();

}  // namespace linnet

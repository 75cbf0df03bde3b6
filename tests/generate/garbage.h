// A drafter whose guesses are none.
#pragma once

#include <cstdint>
#include <span>

#include "base/random.h"
#include "generate/drafter.h"

namespace linnet {

/// Trees of random tokens and shapes: none of what they hold is meant.
struct Garbage : Drafter {
  void propose(std::span<const Context> contexts, std::span<Draft> drafts) override {
    for (size_t i = 0; i < contexts.size(); ++i) {
      drafts[i].clear();
      drafts[i].tree.add(contexts[i].tokens.back(), -1);
      ++calls;
      while (drafts[i].tree.size() < contexts[i].max_nodes) {
        const auto n = static_cast<uint64_t>(drafts[i].tree.size());
        const auto parent = static_cast<int32_t>(uniform_integer(9, calls, n, n));
        if (drafts[i].tree.depth(parent) >= contexts[i].max_depth) break;
        drafts[i].tree.add(static_cast<int32_t>(uniform_integer(8, calls, n, 7)), parent);
      }
    }
  }
  uint64_t calls = 0;
};

}  // namespace linnet

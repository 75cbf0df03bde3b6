// A tree's root-to-node paths, listed once for all heads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/tree.h"

namespace linnet {

class Paths {
 public:
  /// Allocates only when the tree is larger than any before.
  void assign(const TokenTree& tree);
  void assign_chain(int32_t nodes);

  int32_t size() const { return static_cast<int32_t>(lengths_.size()); }
  /// Root first, the node itself last: its ancestors' indices in position order.
  std::span<const int32_t> path(int32_t node) const {
    return {indices_.data() + begins_[node], static_cast<size_t>(lengths_[node])};
  }
  int32_t longest() const { return longest_; }

 private:
  std::vector<int32_t> indices_, lengths_;
  std::vector<int64_t> begins_;
  int32_t longest_ = 0;
};

}  // namespace linnet

#include "attention/paths.h"

#include <algorithm>
#include <numeric>

namespace linnet {

void Paths::assign_chain(int32_t nodes) {
  indices_.resize(nodes);
  lengths_.resize(nodes);
  begins_.assign(nodes, 0);  // each path is the start of the longest
  std::iota(indices_.begin(), indices_.end(), 0);
  std::iota(lengths_.begin(), lengths_.end(), 1);
  longest_ = nodes;
}

void Paths::assign(const TokenTree& tree) {
  const int32_t nodes = tree.size();
  bool chain = true;
  for (int32_t i = 0; i < nodes; ++i) chain = chain && tree.parent(i) == i - 1;
  if (chain) return assign_chain(nodes);

  indices_.clear();
  lengths_.resize(nodes);
  begins_.resize(nodes);
  longest_ = 0;
  for (int32_t i = 0; i < nodes; ++i) {
    const int32_t length = tree.depth(i) + 1;
    begins_[i] = static_cast<int64_t>(indices_.size());
    lengths_[i] = length;
    longest_ = std::max(longest_, length);
    indices_.resize(indices_.size() + length);
    if (const int32_t parent = tree.parent(i); parent >= 0) {
      std::copy_n(indices_.begin() + begins_[parent], length - 1, indices_.begin() + begins_[i]);
    }
    indices_.back() = i;
  }
}

}  // namespace linnet

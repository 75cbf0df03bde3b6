#include "attention/tree.h"

#include <fmt/format.h>

#include "base/error.h"

namespace linnet {

TokenTree::TokenTree(std::vector<int32_t> tokens, std::vector<int32_t> parents) {
  if (tokens.size() != parents.size()) {
    throw Error("tree", fmt::format("{} tokens and {} parents", tokens.size(), parents.size()),
                "one parent a token");
  }
  for (size_t i = 0; i < tokens.size(); ++i) add(tokens[i], parents[i]);
}

TokenTree TokenTree::single(int32_t token) {
  TokenTree tree;
  tree.add(token, -1);
  return tree;
}

TokenTree TokenTree::chain(std::span<const int32_t> tokens) {
  TokenTree tree;
  for (int32_t token : tokens) tree.add(token, tree.size() - 1);
  return tree;
}

int32_t TokenTree::add(int32_t token, int32_t parent) {
  if (parent < -1 || parent >= size()) {
    throw Error("tree", fmt::format("node {} has parent {}", size(), parent), "an earlier node, or -1");
  }
  depths_.push_back(parent < 0 ? 0 : depths_[parent] + 1);
  tokens_.push_back(token);
  parents_.push_back(parent);
  return size() - 1;
}

void TokenTree::clear() {
  tokens_.clear();
  parents_.clear();
  depths_.clear();
}

}  // namespace linnet

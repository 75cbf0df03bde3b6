// Token trees: what one decode step computes. A single next token is the tree of one node.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace linnet {

/// Nodes in topological order: parent(i) < i, or −1 for a child of the committed end. Node i stands at
/// position n + depth(i), n the committed length.
class TokenTree {
 public:
  TokenTree() = default;
  /// Throws Error if a parent is not before its node.
  TokenTree(std::vector<int32_t> tokens, std::vector<int32_t> parents);
  static TokenTree single(int32_t token);
  /// A chain: each token the child of the one before.
  static TokenTree chain(std::span<const int32_t> tokens);

  /// Adds a node and returns its index.
  int32_t add(int32_t token, int32_t parent);
  void clear();

  int32_t size() const { return static_cast<int32_t>(parents_.size()); }
  int32_t token(int32_t node) const { return tokens_[node]; }
  int32_t parent(int32_t node) const { return parents_[node]; }
  int32_t depth(int32_t node) const { return depths_[node]; }
  std::span<const int32_t> tokens() const { return tokens_; }
  std::span<const int32_t> parents() const { return parents_; }
  std::span<const int32_t> depths() const { return depths_; }

 private:
  std::vector<int32_t> tokens_, parents_, depths_;
};

}  // namespace linnet

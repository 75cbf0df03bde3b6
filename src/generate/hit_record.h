// What has become of guesses so far: how often those of a kind were right, of all whose parents were.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "generate/drafter.h"

namespace linnet {

class HitRecord {
 public:
  explicit HitRecord(int kinds) : kinds_(static_cast<size_t>(kinds)) {}

  /// How likely a guess of a kind is right: `prior` before any was tried. 0 … 1 if `prior` is.
  double probability(int kind, double prior) const {
    const Kind& seen = kinds_[static_cast<size_t>(kind)];
    return (seen.right + kPrior * prior) / (seen.tried + kPrior);
  }
  void add(int kind, bool right) {
    Kind& seen = kinds_[static_cast<size_t>(kind)];
    seen.tried += 1;
    seen.right += right;
    if (seen.tried < kMemory) return;
    seen.tried /= 2;
    seen.right /= 2;
  }
  /// Of a tree whose nodes are of `kinds` [nodes], the tokens that came to stand after its root.
  void add(const TokenTree& tree, std::span<const int32_t> tokens, std::span<const int> kinds) {
    int32_t node = 0;
    for (size_t i = 0; i < tokens.size() && node >= 0; ++i) {
      for (int32_t child = node + 1; child < tree.size(); ++child)
        if (tree.parent(child) == node)
          add(kinds[static_cast<size_t>(child)], tree.token(child) == tokens[i]);
      node = child_of(tree, node, tokens[i]);
    }
  }

 private:
  static constexpr double kPrior = 4, kMemory = 200;  // guesses
  struct Kind {
    double tried = 0, right = 0;
  };
  std::vector<Kind> kinds_;
};

}  // namespace linnet

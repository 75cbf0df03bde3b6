// What has become of guesses so far: how often those of a kind were right, of all whose parents were.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "generate/drafter.h"

namespace linnet {

/// How often guesses of one kind were right. Old ones fade, and what was known is forgotten where guesses are
/// wrong so often in a row that by chance it would hardly come: the text has turned.
class Hits {
 public:
  /// How likely one is right: `prior` before any was tried, which counts for so many guesses.
  double probability(double prior, double counts) const {
    return (right_ + counts * prior) / (tried_ + counts);
  }
  void add(bool right, double memory) {
    constexpr double kHardly = 0.0005;
    chance_ = right ? 1 : chance_ * (1 - (right_ + 1) / (tried_ + 2));
    wrong_ = right ? 0 : wrong_ + 1;
    tried_ += 1;
    right_ += right;
    if (chance_ < kHardly) {
      tried_ = wrong_;
      right_ = 0;
      chance_ = 1;
    }
    if (tried_ < memory) return;
    tried_ /= 2;
    right_ /= 2;
  }

 private:
  double tried_ = 0, right_ = 0;
  double wrong_ = 0, chance_ = 1;  // guesses in a row, and how likely that was
};

class HitRecord {
 public:
  explicit HitRecord(int kinds) : kinds_(static_cast<size_t>(kinds)) {}

  /// How likely a guess of a kind is right: `prior` before any was tried. 0 … 1 if `prior` is.
  double probability(int kind, double prior) const {
    return kinds_[static_cast<size_t>(kind)].probability(prior, kPrior);
  }
  void add(int kind, bool right) { kinds_[static_cast<size_t>(kind)].add(right, kMemory); }
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
  std::vector<Hits> kinds_;
};

}  // namespace linnet

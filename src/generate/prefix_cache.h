// States of prompts' beginnings, kept within a budget of bytes: a prompt that begins with the tokens of one
// reads what follows alone. A state is one object of constant size wherever the text is cut, so a beginning
// ends at any token: where a prompt ends, and where two prompts part.
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <span>
#include <vector>

namespace linnet {

class PrefixCache {
 public:
  struct Entry {
    std::vector<int32_t> tokens;   // a negative one is a mark between tokens, and none itself
    std::vector<std::byte> state;  // Decoder::save
  };
  struct Counts {
    int64_t hits = 0, misses = 0, tokens = 0;  // tokens: not read again
  };

  /// 0: keeps nothing.
  explicit PrefixCache(size_t bytes) : room_(bytes) {}

  /// The longest beginning of `tokens` that is kept and leaves a token to read; null where none is. Valid
  /// until the next keep().
  const Entry* find(std::span<const int32_t> tokens);
  /// How many tokens `tokens` has in common with what is kept, at most: where a beginning is worth keeping.
  size_t shared(std::span<const int32_t> tokens) const;
  /// Keeps a beginning; the longest unused ones go until it fits. One larger than all room is not kept.
  void keep(std::span<const int32_t> tokens, std::vector<std::byte> state);
  bool keeps() const { return room_ > 0; }
  const Counts& counts() const { return counts_; }
  size_t bytes() const { return bytes_; }

 private:
  static size_t bytes_of(const Entry& entry);

  size_t room_, bytes_ = 0;
  std::list<Entry> entries_;  // the last used first
  Counts counts_;
};

}  // namespace linnet

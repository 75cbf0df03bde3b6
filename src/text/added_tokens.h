// Tokens that are found in the text before anything else is done to it: the `added_tokens` field.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/bpe.h"
#include "text/normalizer.h"

namespace linnet {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;      // left out of decoded text
  bool single_word = false;  // not inside a word
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space behind it
  bool normalized = true;    // found in the normalized text
  bool in_text = true;       // looked for in texts at all
  std::string decoded;       // what the decoder is given: `content`, normalized where `normalized` says so
};

class AddedTokens {
 public:
  AddedTokens() = default;
  AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer);

  /// Cuts `text` into added tokens and what lies between them, in order: take(part, id, begin), id −1 for
  /// what lies between. `normalized` says which tokens are looked for. The leftmost match counts, then the
  /// longest.
  using Take = std::function<void(std::string_view part, int32_t id, size_t begin)>;
  void split(std::string_view text, bool normalized, const Take& take) const;

  const std::vector<AddedToken>& tokens() const { return tokens_; }
  /// Null where `id` is no added token.
  const AddedToken* find(int32_t id) const;

 private:
  /// A trie of contents; a node's token is an index into tokens_, −1: none.
  struct Trie {
    MergeTable edges;
    std::vector<int32_t> ends;
    std::array<bool, 256> begins{};
    bool empty = true;
  };
  Trie trie_of(const std::vector<std::pair<std::string, int32_t>>& contents) const;

  std::vector<AddedToken> tokens_;
  std::unordered_map<int32_t, size_t> by_id_;
  Trie raw_, normalized_;
};

}  // namespace linnet

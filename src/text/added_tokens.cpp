#include "text/added_tokens.h"

#include <algorithm>

#include "text/unicode.h"
#include "text/utf8.h"

namespace linnet {
namespace {

bool ends_with_word(std::string_view text) {
  if (text.empty()) return false;
  size_t at = last_code_point(text);
  return is_word(next_code_point(text, at));
}

bool starts_with_word(std::string_view text) {
  size_t at = 0;
  return !text.empty() && is_word(next_code_point(text, at));
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const Normalizer& normalizer)
    : tokens_(std::move(tokens)) {
  std::vector<std::pair<std::string, int32_t>> raw, normalized;
  for (size_t i = 0; i < tokens_.size(); ++i) {
    AddedToken& token = tokens_[i];
    by_id_.emplace(token.id, i);
    token.decoded = token.normalized ? normalizer.apply(token.content) : token.content;
    if (token.in_text)
      (token.normalized ? normalized : raw).emplace_back(token.decoded, static_cast<int32_t>(i));
  }
  raw_ = trie_of(raw);
  normalized_ = trie_of(normalized);
}

AddedTokens::Trie AddedTokens::trie_of(const std::vector<std::pair<std::string, int32_t>>& contents) const {
  Trie trie;
  trie.ends.assign(1, -1);
  std::vector<MergeRule> edges;
  std::unordered_map<uint64_t, int32_t> children;
  for (const auto& [content, index] : contents) {
    if (content.empty()) continue;
    trie.empty = false;
    trie.begins[static_cast<uint8_t>(content[0])] = true;
    int32_t node = 0;
    for (const char c : content) {
      const auto byte = static_cast<uint8_t>(c);
      const auto [edge, fresh] =
          children.try_emplace(static_cast<uint64_t>(node) << 8 | byte, int32_t(trie.ends.size()));
      if (fresh) {
        edges.push_back({node, byte, edge->second});
        trie.ends.push_back(-1);
      }
      node = edge->second;
    }
    auto& end = trie.ends[static_cast<size_t>(node)];
    if (end < 0) end = index;
  }
  trie.edges = MergeTable(edges);
  return trie;
}

const AddedToken* AddedTokens::find(int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

void AddedTokens::split(std::string_view text, bool normalized, const Take& take) const {
  const Trie& trie = normalized ? normalized_ : raw_;
  size_t done = 0;  // up to here the text has been given away
  for (size_t at = 0; !trie.empty && at < text.size();) {
    if (!trie.begins[static_cast<uint8_t>(text[at])]) {
      ++at;
      continue;
    }
    int32_t node = 0, found = -1;
    size_t end = at;
    for (size_t next = at; next < text.size();) {
      const auto* edge = trie.edges.find(node, static_cast<uint8_t>(text[next]));
      if (edge == nullptr) break;
      node = edge->merged;
      ++next;
      if (trie.ends[static_cast<size_t>(node)] >= 0) found = trie.ends[static_cast<size_t>(node)], end = next;
    }
    if (found < 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[static_cast<size_t>(found)];
    size_t from = at, to = end;
    at = end;
    if (token.single_word && (ends_with_word(text.substr(0, from)) || starts_with_word(text.substr(to))))
      continue;
    if (token.lstrip) from -= space_suffix(text.substr(0, from));
    if (token.rstrip) to += space_prefix(text.substr(to));
    // A token in the space that one before it took counts all the same, and what follows it is text again.
    if (done < from) take(text.substr(done, from - done), -1, done);
    take(text.substr(from, to - from), token.id, from);
    done = to;
  }
  if (done < text.size()) take(text.substr(done), -1, done);
}

}  // namespace linnet

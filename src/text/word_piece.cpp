#include "text/word_piece.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "text/utf8.h"

namespace linnet {
namespace {

/// Whether a byte goes on with a code point.
bool is_inside(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

/// Whether `text` has more code points than `limit`.
bool is_longer(std::string_view text, int64_t limit) {
  return std::ranges::count_if(text, [](char c) { return !is_inside(c); }) > limit;
}

/// Where the code point that ends at `end` begins.
size_t one_back(std::string_view text, size_t end) {
  do {
    --end;
  } while (end > 0 && is_inside(text[end]));
  return end;
}

}  // namespace

WordPiece::WordPiece(Vocabulary vocabulary, WordPieceOptions options, const std::string& where)
    : vocabulary_(std::move(vocabulary)), options_(std::move(options)) {
  const auto unk = vocabulary_.id_of(options_.unk_token);
  if (!unk)
    throw Error(where, fmt::format("its vocabulary has no \"{}\"", printable(options_.unk_token, 40)),
                "the token of what is unknown");
  unk_ = *unk;
  for (int32_t id = 0; id < vocabulary_.size(); ++id)
    longest_token_ = std::max(longest_token_, vocabulary_.token(id).size());
}

void WordPiece::encode(std::string_view piece, std::vector<int32_t>& ids, EncodeScratch& scratch) const {
  if (piece.empty()) return;
  WordCache::Entry* entry = WordCache::fits(piece) ? &scratch.cache.slot(piece) : nullptr;
  if (entry != nullptr && WordCache::holds(*entry, piece)) {
    ids.insert(ids.end(), entry->ids.begin(), entry->ids.begin() + entry->count);
    return;
  }
  const size_t before = ids.size();
  if (is_longer(piece, options_.longest_word) || !cut(piece, ids)) {
    ids.resize(before);
    ids.push_back(unk_);
  }
  if (entry != nullptr) scratch.cache.store(*entry, piece, ids.data() + before, ids.size() - before);
}

bool WordPiece::cut(std::string_view piece, std::vector<int32_t>& ids) const {
  std::string token;
  for (size_t begin = 0; begin < piece.size();) {
    const std::string_view prefix = begin > 0 ? std::string_view(options_.continuing_prefix) : "";
    // No token is longer than the longest: of a long word no more is looked at.
    size_t end = std::min(piece.size(), begin + longest_token_);
    if (end < piece.size() && is_inside(piece[end])) end = one_back(piece, end);
    token.assign(prefix).append(piece.substr(begin, end - begin));
    std::optional<int32_t> id;
    while (token.size() > prefix.size() && !(id = vocabulary_.id_of(token)))
      token.resize(one_back(token, token.size()));
    if (!id) return false;
    ids.push_back(*id);
    begin += token.size() - prefix.size();
  }
  return true;
}

}  // namespace linnet

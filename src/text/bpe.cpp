#include "text/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "text/utf8.h"

namespace linnet {
namespace {

/// Orders a heap so that the lowest rank comes first, and of equals the leftmost.
bool later(const BpeMerge& a, const BpeMerge& b) { return a.rank != b.rank ? a.rank > b.rank : a.at > b.at; }

uint64_t pair_key(char32_t left, char32_t right) { return uint64_t{left} << 32 | right; }

}  // namespace

std::optional<uint8_t> byte_of_token(std::string_view token) {
  if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return std::nullopt;
  int value = 0;
  for (const char c : token.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
    if (digit < 0) return std::nullopt;
    value = value * 16 + digit;
  }
  return static_cast<uint8_t>(value);
}

MergeTable::MergeTable(const std::vector<MergeRule>& merges) {
  const size_t slots = std::bit_ceil(std::max<size_t>(16, merges.size() * 2));
  shift_ = 64 - std::countr_zero(slots);
  entries_.assign(slots, {kEmpty, 0, 0});
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const uint64_t pair = key(merges[rank].left, merges[rank].right);
    size_t at = slot(pair);
    while (entries_[at].pair != kEmpty && entries_[at].pair != pair) at = (at + 1) & (slots - 1);
    entries_[at] = {pair, static_cast<uint32_t>(rank), merges[rank].merged};
  }
}

const MergeTable::Entry* MergeTable::find(int32_t left, int32_t right) const {
  const uint64_t pair = key(left, right);
  for (size_t at = slot(pair);; at = (at + 1) & (entries_.size() - 1)) {
    if (entries_[at].pair == pair) return &entries_[at];
    if (entries_[at].pair == kEmpty) return nullptr;
  }
}

Bpe::Bpe(Vocabulary vocabulary, const std::vector<MergeRule>& merges, BpeOptions options,
         const std::string& where)
    : vocabulary_(std::move(vocabulary)), merges_(merges), options_(std::move(options)) {
  if (!options_.unk_token.empty()) {
    unk_ = vocabulary_.id_of(options_.unk_token);
    if (!unk_) {
      throw Error(where,
                  fmt::format("unk_token \"{}\" is not in the vocabulary", printable(options_.unk_token, 40)),
                  "one of its tokens");
    }
  }
  for (int byte = 0; byte < 256; ++byte) {
    const auto id = vocabulary_.id_of(fmt::format("<0x{:02X}>", byte));
    bytes_[static_cast<size_t>(byte)] = id.value_or(-1);
    all_bytes_ = all_bytes_ && id.has_value();
  }
  find_seams(merges);
}

void Bpe::find_seams(const std::vector<MergeRule>& merges) {
  if (!options_.continuing_prefix.empty() || !options_.end_suffix.empty()) return;
  std::vector<bool> counts(static_cast<size_t>(vocabulary_.size()), false);
  for (const MergeRule& merge : merges) {
    // A merge of a byte token joins characters that its token does not show.
    if (byte_of_token(vocabulary_.token(merge.left)) || byte_of_token(vocabulary_.token(merge.right))) return;
    counts[static_cast<size_t>(merge.merged)] = true;
  }
  for (int32_t id = 0; id < vocabulary_.size(); ++id) {
    const std::string& token = vocabulary_.token(id);
    size_t at = 0;
    if (token.empty()) continue;
    char32_t left = next_code_point(token, at);
    if (at == token.size()) {
      alone_.insert(left);
      if (left < 128) ascii_alone_[left] = true;
    }
    while (counts[static_cast<size_t>(id)] && at < token.size()) {
      const char32_t right = next_code_point(token, at);
      if (left < 128 && right < 128)
        ascii_pairs_[left][right] = true;
      else
        pairs_.insert(pair_key(left, right));
      left = right;
    }
  }
  cuts_ = true;
}

/// Whether a token or an unknown run can hold both characters.
bool Bpe::joins(char32_t left, char32_t right) const {
  const bool known_bytes = options_.byte_fallback && all_bytes_;
  if (left < 128 && right < 128) {
    return ascii_pairs_[left][right] || (!known_bytes && !(ascii_alone_[left] && ascii_alone_[right]));
  }
  return pairs_.contains(pair_key(left, right)) ||
         (!known_bytes && !(alone_.contains(left) && alone_.contains(right)));
}

void Bpe::encode(std::string_view piece, std::vector<int32_t>& ids, EncodeScratch& scratch) const {
  if (piece.empty()) return;
  if (options_.ignore_merges) {
    if (const auto id = vocabulary_.id_of(piece)) {
      ids.push_back(*id);
      return;
    }
  }
  if (!cuts_ || WordCache::fits(piece)) return encode_segment(piece, ids, scratch);
  size_t begin = 0, at = 0;
  char32_t left = next_code_point(piece, at);
  while (at < piece.size()) {
    const size_t seam = at;
    const char32_t right = next_code_point(piece, at);
    if (!joins(left, right)) {
      encode_segment(piece.substr(begin, seam - begin), ids, scratch);
      begin = seam;
    }
    left = right;
  }
  encode_segment(piece.substr(begin), ids, scratch);
}

void Bpe::encode_segment(std::string_view segment, std::vector<int32_t>& ids, EncodeScratch& scratch) const {
  WordCache::Entry* entry = WordCache::fits(segment) ? &scratch.cache.slot(segment) : nullptr;
  if (entry != nullptr && WordCache::holds(*entry, segment)) {
    ids.insert(ids.end(), entry->ids.begin(), entry->ids.begin() + entry->count);
    return;
  }
  split_symbols(segment, scratch.symbols);
  merge_symbols(scratch);
  const size_t before = ids.size();
  for (const BpeSymbol& symbol : scratch.symbols) {
    if (symbol.id >= 0) ids.push_back(symbol.id);
  }
  if (entry != nullptr) scratch.cache.store(*entry, segment, ids.data() + before, ids.size() - before);
}

void Bpe::split_symbols(std::string_view segment, std::vector<BpeSymbol>& symbols) const {
  symbols.clear();
  const auto add = [&](int32_t id) { symbols.push_back({id, 0, 0}); };
  bool unknown = false;  // an unknown run is open
  std::string affixed;
  for (size_t at = 0; at < segment.size();) {
    const size_t begin = at;
    next_code_point(segment, at);
    std::string_view character = segment.substr(begin, at - begin);
    const bool first = begin == 0, last = at == segment.size();
    if ((!first && !options_.continuing_prefix.empty()) || (last && !options_.end_suffix.empty())) {
      affixed = fmt::format("{}{}{}", first ? "" : options_.continuing_prefix, character,
                            last ? options_.end_suffix : "");
      character = affixed;
    }
    if (const auto id = vocabulary_.id_of(character)) {
      if (unknown) add(*unk_);
      unknown = false;
      add(*id);
      continue;
    }
    if (options_.byte_fallback &&
        std::ranges::all_of(character, [&](char c) { return bytes_[uint8_t(c)] >= 0; })) {
      for (const char c : character) add(bytes_[uint8_t(c)]);
      continue;
    }
    if (!unk_) continue;
    if (unknown && !options_.fuse_unk) add(*unk_);
    unknown = true;
  }
  if (unknown) add(*unk_);
}

void Bpe::merge_symbols(EncodeScratch& scratch) const {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  const auto count = static_cast<uint32_t>(symbols.size());
  heap.clear();
  const auto candidate = [&](uint32_t at) -> const MergeTable::Entry* {
    return merges_.find(symbols[at].id, symbols[symbols[at].next].id);
  };
  for (uint32_t i = 0; i < count; ++i) {
    symbols[i].before = i == 0 ? kNoIndex : i - 1;
    symbols[i].next = i + 1 == count ? kNoIndex : i + 1;
  }
  for (uint32_t i = 0; i + 1 < count; ++i) {
    if (const auto* found = candidate(i)) heap.push_back({found->rank, i, found->merged});
  }
  std::ranges::make_heap(heap, later);
  const auto push = [&](uint32_t at) {
    if (const auto* found = candidate(at)) {
      heap.push_back({found->rank, at, found->merged});
      std::ranges::push_heap(heap, later);
    }
  };
  while (!heap.empty()) {
    std::ranges::pop_heap(heap, later);
    const BpeMerge top = heap.back();
    heap.pop_back();
    BpeSymbol& left = symbols[top.at];
    if (left.id < 0 || left.next == kNoIndex) continue;
    const auto* now = candidate(top.at);
    if (now == nullptr || now->merged != top.merged) continue;  // a neighbour has changed since
    BpeSymbol& right = symbols[left.next];
    left.id = top.merged;
    left.next = right.next;
    right.id = -1;
    if (left.next != kNoIndex) {
      symbols[left.next].before = top.at;
      push(top.at);
    }
    if (left.before != kNoIndex) push(left.before);
  }
}

}  // namespace linnet

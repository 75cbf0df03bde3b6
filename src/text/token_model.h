// What turns a piece of pre-tokenized text into ids: the `model` of a tokenizer file.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace linnet {

constexpr int32_t kMaxVocabulary = 1 << 22;
constexpr size_t kMaxPieceBytes = 65535;

/// Ids of short words met before: direct-mapped; a collision overwrites. It begins small, so that a short
/// text does not pay for clearing what only a long one needs, and grows with use up to 2 MiB.
class WordCache {
 public:
  /// A word and its ids; no word where `bytes` is 0.
  struct Entry {
    static constexpr size_t kMaxBytes = 22, kMaxIds = 10;
    uint8_t bytes = 0, count = 0;
    std::array<char, kMaxBytes> word;
    std::array<int32_t, kMaxIds> ids;
  };

  static bool fits(std::string_view word) { return !word.empty() && word.size() <= Entry::kMaxBytes; }
  /// Where `word` is or would be; it is there if holds(). fits(word).
  Entry& slot(std::string_view word) {
    if (stored_ >= entries_.size() && entries_.size() < kMaxSlots) {
      entries_ = std::vector<Entry>(entries_.empty() ? kMinSlots : entries_.size() * 8);
      stored_ = 0;
    }
    return entries_[hash(word) % entries_.size()];
  }
  static bool holds(const Entry& entry, std::string_view word) {
    return std::string_view(entry.word.data(), entry.bytes) == word;
  }
  void store(Entry& entry, std::string_view word, const int32_t* ids, size_t count) {
    if (count > Entry::kMaxIds) return;
    ++stored_;
    entry.bytes = static_cast<uint8_t>(word.size());
    entry.count = static_cast<uint8_t>(count);
    std::copy_n(word.data(), word.size(), entry.word.data());
    std::copy_n(ids, count, entry.ids.data());  // a word of no tokens may have no ids to point at
  }

 private:
  static constexpr size_t kMinSlots = 1 << 9, kMaxSlots = 1 << 15;  // of 64 bytes

  static uint64_t hash(std::string_view word) {
    uint64_t value = word.size();
    for (size_t at = 0; at < word.size(); at += 8) {
      uint64_t part = 0;
      std::memcpy(&part, word.data() + at, std::min<size_t>(8, word.size() - at));
      value = (value ^ part) * 0x9E3779B97F4A7C15u;
      value ^= value >> 29;
    }
    return value;
  }

  std::vector<Entry> entries_;
  size_t stored_ = 0;
};

constexpr uint32_t kNoIndex = UINT32_MAX;

/// One symbol of a word that is being merged: a doubly linked list in an array.
struct BpeSymbol {
  int32_t id;             // −1: merged into its left neighbour
  uint32_t before, next;  // indices; kNoIndex: none
};

struct BpeMerge {
  uint32_t rank, at;  // the place of the left symbol
  int32_t merged;     // the id that comes of it
};

struct ViterbiNode {
  double score;
  uint32_t from;  // kNoIndex: not reached
  int32_t id;
};

/// What encoding needs beside its input and output; reused from call to call, by one thread at a time.
struct EncodeScratch {
  WordCache cache;
  std::vector<BpeSymbol> symbols;
  std::vector<BpeMerge> heap;
  std::vector<ViterbiNode> path;
};

class TokenModel {
 public:
  virtual ~TokenModel() = default;
  /// Appends the ids of one piece (valid UTF-8). `first`: the piece begins the text.
  virtual void encode(std::string_view piece, std::vector<int32_t>& ids, EncodeScratch& scratch) const = 0;
  virtual std::optional<int32_t> id_of(std::string_view token) const = 0;
  virtual std::string_view token(int32_t id) const = 0;  // 0 ≤ id < size(); empty where there is none
  virtual int32_t size() const = 0;                      // one past the largest id
};

}  // namespace linnet

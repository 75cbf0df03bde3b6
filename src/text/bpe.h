// Byte-pair encoding (Sennrich et al., 2016): a piece begins as its characters; the pair of neighbours whose
// merge stands first in the list becomes one symbol (the leftmost of equals), until no pair is in the list.
// O(n log n) in a piece of n characters: a heap of candidates over a linked list of symbols.
#pragma once

#include <memory>
#include <unordered_set>

#include "text/token_model.h"
#include "text/vocabulary.h"

namespace linnet {

struct BpeOptions {
  std::string unk_token;  // empty: unknown characters are dropped
  std::string continuing_prefix, end_suffix;
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;  // a piece that is itself a token is taken whole
};

struct MergeRule {
  int32_t left, right, merged;
};

/// Ranks of pairs: a hash table with open addressing.
class MergeTable {
 public:
  struct Entry {
    uint64_t pair;
    uint32_t rank;
    int32_t merged;
  };
  MergeTable() = default;
  /// Of a pair that stands twice the last counts, as in Hugging Face's tokenizers.
  explicit MergeTable(const std::vector<MergeRule>& merges);
  /// Null where the pair does not merge.
  const Entry* find(int32_t left, int32_t right) const;

 private:
  static constexpr uint64_t kEmpty = ~uint64_t{0};
  static uint64_t key(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  size_t slot(uint64_t pair) const { return (pair * 0x9E3779B97F4A7C15u) >> shift_; }
  std::vector<Entry> entries_;
  int shift_ = 63;
};

class Bpe final : public TokenModel {
 public:
  /// Throws Error (at `where`) if the unk token or a byte token's id is not in the vocabulary.
  Bpe(Vocabulary vocabulary, const std::vector<MergeRule>& merges, BpeOptions options,
      const std::string& where);

  void encode(std::string_view piece, std::vector<int32_t>& ids, EncodeScratch& scratch) const override;
  std::optional<int32_t> id_of(std::string_view token) const override { return vocabulary_.id_of(token); }
  std::string_view token(int32_t id) const override { return vocabulary_.token(id); }
  int32_t size() const override { return vocabulary_.size(); }

 private:
  void find_seams(const std::vector<MergeRule>& merges);
  bool joins(char32_t left, char32_t right) const;
  void encode_segment(std::string_view segment, std::vector<int32_t>& ids, EncodeScratch& scratch) const;
  void split_symbols(std::string_view segment, std::vector<BpeSymbol>& symbols) const;
  void merge_symbols(EncodeScratch& scratch) const;

  Vocabulary vocabulary_;
  MergeTable merges_;
  BpeOptions options_;
  std::optional<int32_t> unk_;
  std::array<int32_t, 256> bytes_;  // ids of <0x00> … <0xFF>; −1: absent
  bool all_bytes_ = true;

  // Where no token holds characters a, b side by side, no merge ever crosses a|b: a piece is cut there and
  // its segments are encoded alone, with the same ids. That turns a whole text in one piece (LLaMA-2 has no
  // pre-tokenizer) into words that the cache knows.
  bool cuts_ = false;
  std::array<std::array<bool, 128>, 128> ascii_pairs_{};
  std::unordered_set<uint64_t> pairs_;
  std::unordered_set<char32_t> alone_;  // characters that are tokens
  std::array<bool, 128> ascii_alone_{};
};

/// The id that <0xNN> spells, or nothing: exactly two hexadecimal digits of upper or lower case.
std::optional<uint8_t> byte_of_token(std::string_view token);

}  // namespace linnet

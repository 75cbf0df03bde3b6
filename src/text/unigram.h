// Unigram language model (Kudo, 2018, section 3.2): of all ways to cut a piece into tokens the one with the
// largest sum of scores, found by Viterbi's algorithm over a trie. A character that no token covers scores
// min_score − 10; neighbouring unknowns become one.
#pragma once

#include "text/bpe.h"
#include "text/token_model.h"
#include "text/vocabulary.h"

namespace linnet {

class Unigram final : public TokenModel {
 public:
  /// `scores`: natural logarithms, one a token. `unk` < 0: none (unknown text is then an Error). Throws Error
  /// (at `where`) on an unk outside the vocabulary or a score that is no number.
  Unigram(Vocabulary vocabulary, std::vector<double> scores, int64_t unk, bool byte_fallback,
          std::string where);

  void encode(std::string_view piece, std::vector<int32_t>& ids, EncodeScratch& scratch) const override;
  std::optional<int32_t> id_of(std::string_view token) const override { return vocabulary_.id_of(token); }
  std::string_view token(int32_t id) const override { return vocabulary_.token(id); }
  int32_t size() const override { return vocabulary_.size(); }

 private:
  void build_trie();
  void viterbi(std::string_view piece, std::vector<ViterbiNode>& path) const;
  void append_unknown(std::string_view text, std::vector<int32_t>& ids) const;

  Vocabulary vocabulary_;
  std::vector<double> scores_;
  double unk_score_ = 0;
  int32_t unk_ = -1;
  bool byte_fallback_;
  std::string where_;
  std::array<int32_t, 256> bytes_;
  MergeTable trie_;            // (node, byte) → node; the root is 0
  std::vector<int32_t> ends_;  // by node: the token that ends there, −1: none
};

}  // namespace linnet

// WordPiece (BERT): a word is cut from the left into the longest tokens that it begins with; what goes on
// with a word stands in the vocabulary behind a prefix. A word that cannot be cut whole is unknown as a
// whole.
#pragma once

#include "text/token_model.h"
#include "text/vocabulary.h"

namespace linnet {

struct WordPieceOptions {
  std::string unk_token = "[UNK]";
  std::string continuing_prefix = "##";
  int64_t longest_word = 100;  // characters; a longer word is unknown
};

class WordPiece final : public TokenModel {
 public:
  /// Throws Error (at `where`) on an empty vocabulary, or one without the unknown token.
  WordPiece(Vocabulary vocabulary, WordPieceOptions options, const std::string& where);

  void encode(std::string_view piece, std::vector<int32_t>& ids, EncodeScratch& scratch) const override;
  std::optional<int32_t> id_of(std::string_view token) const override { return vocabulary_.id_of(token); }
  std::string_view token(int32_t id) const override { return vocabulary_.token(id); }
  int32_t size() const override { return vocabulary_.size(); }

 private:
  bool cut(std::string_view piece, std::vector<int32_t>& ids) const;

  Vocabulary vocabulary_;
  WordPieceOptions options_;
  int32_t unk_ = 0;
  size_t longest_token_ = 0;  // bytes
};

}  // namespace linnet

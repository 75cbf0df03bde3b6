// How text is cut into the pieces that the model sees one by one: the `pre_tokenizer` field.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "text/json_view.h"

namespace linnet {

struct Piece {
  size_t begin, end;  // bytes of Pieces::text
};

/// A text and its pieces, in order. A piece is never empty.
struct Pieces {
  std::string text;
  std::vector<Piece> pieces;
  bool first = false;  // the first piece begins what is encoded: nothing before it, no added token

  std::string_view view(const Piece& piece) const {
    return std::string_view(text).substr(piece.begin, piece.end - piece.begin);
  }
};

/// Known: Sequence, ByteLevel, Metaspace, Split, Whitespace, WhitespaceSplit, Punctuation, Digits,
/// CharDelimiterSplit, BertPreTokenizer.
class PreTokenizer {
 public:
  PreTokenizer() = default;
  /// From the field, which may be null. Throws Error on an unknown type.
  explicit PreTokenizer(const JsonView& field);
  void apply(Pieces& pieces) const;

 private:
  void add(const JsonView& step);
  std::vector<std::function<void(Pieces&)>> steps_;
};

}  // namespace linnet

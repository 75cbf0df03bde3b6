// What a tokenizer file does to text before it is cut: the `normalizer` field.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "text/json_view.h"

namespace linnet {

/// A chain of functions on valid UTF-8 text. Known: Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Strip,
/// StripAccents, Nmt, Prepend, Replace, Precompiled, ByteLevel, BertNormalizer.
class Normalizer {
 public:
  Normalizer() = default;
  /// From the field, which may be null. Throws Error on an unknown type.
  explicit Normalizer(const JsonView& field);

  bool empty() const { return steps_.empty(); }
  std::string apply(std::string text) const;

 private:
  void add(const JsonView& step);
  void add_sequence(const JsonView& step);
  void add_bert(const JsonView& step);
  std::vector<std::function<std::string(std::string)>> steps_;
};

/// The function of a {"pattern": {"String" or "Regex": …}, "content": …}: replaces every match.
std::function<std::string(std::string)> replacer(const JsonView& step);

/// `text` with every `from` (not empty) replaced by `to`.
std::string replace_all(std::string_view text, std::string_view from, std::string_view to);

}  // namespace linnet

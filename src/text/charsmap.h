// sentencepiece's precompiled normalization: a double-array trie (Darts) from byte strings to replacements.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace linnet {

class CharsMap {
 public:
  /// `blob`: u32 little-endian size of the trie in bytes, the trie's u32 units, the replacements, each ended
  /// by NUL. Throws Error (at `where`) on sizes that do not fit.
  CharsMap(std::string_view blob, const std::string& where);

  /// As Hugging Face's tokenizers do: a grapheme of fewer than 6 bytes that begins with a mapped string is
  /// replaced by that string's replacement, else each of its characters likewise, alone.
  std::string normalize(std::string_view text) const;

 private:
  std::optional<std::string_view> replacement(std::string_view text) const;
  void append(std::string& out, std::string_view grapheme) const;

  std::vector<uint32_t> units_;
  std::string replacements_;
};

/// Bytes of base64 text. Throws Error (at `where`) on anything else.
std::string base64_decode(std::string_view text, const std::string& where);

}  // namespace linnet

// A tokenizer's files from a vocabulary alone, as a GGUF file has it: a byte-level BPE (`gpt2`) becomes a
// tokenizer.json, a sentencepiece vocabulary with scores (`llama`) a tokenizer.model.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace linnet {

/// As sentencepiece and GGUF number them.
enum class TokenType { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

/// The texts lie where they came from, and need not be UTF-8.
struct BareVocabulary {
  std::string_view model;  // "gpt2" or "llama"
  std::string_view pre;    // of gpt2: the name of its pre-tokenizer
  std::vector<std::string_view> tokens;
  std::vector<int64_t> types;            // TokenType, one a token; none: all normal
  std::vector<std::string_view> merges;  // of gpt2: "left right"
  std::vector<float> scores;             // of llama: one a token
  std::string_view charsmap;             // of llama: sentencepiece's compiled normalizer; empty: none
  std::optional<int64_t> bos, eos, unknown, padding;
  // Absent: what the model or pre-tokenizer is known to do.
  std::optional<bool> add_bos, add_eos, add_space_prefix, remove_extra_spaces;
  std::string_view chat_template;  // empty: none
};

/// Names and contents of the files, tokenizer_config.json among them; Linnet's own reader takes them. Throws
/// Error (at `where`) on what no tokenizer can be made of.
std::map<std::string, std::string> tokenizer_files(const BareVocabulary& vocabulary,
                                                   const std::string& where);

}  // namespace linnet

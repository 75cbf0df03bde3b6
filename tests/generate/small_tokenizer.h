// A tokenizer of 24 short pieces for texts without meaning.
#pragma once

#include <nlohmann/json.hpp>

#include "text/tokenizer.h"

namespace linnet {

/// 0 <s>, 1 </s>, then short pieces; two of them are halves of one code point.
inline Tokenizer small_tokenizer() {
  const char* pieces[] = {"a", "b", "c", "Ġ",  "Ã",  "©",  "ab",   "ba", "Ġa", "cc", "d",
                          "e", "f", "g", "Ġb", "Ġc", "Ġd", "abba", "h",  "i",  "j",  "k"};
  nlohmann::json vocab = {{"<s>", 0}, {"</s>", 1}};
  for (const char* piece : pieces) vocab[piece] = vocab.size();
  const auto special = [](int id, const char* text) {
    return nlohmann::json{{"id", id},        {"content", text}, {"special", true},    {"single_word", false},
                          {"lstrip", false}, {"rstrip", false}, {"normalized", false}};
  };
  const nlohmann::json json = {
      {"version", "1.0"},
      {"added_tokens", {special(0, "<s>"), special(1, "</s>")}},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}}},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", nlohmann::json::array()}}}};
  return Tokenizer::from_json(json.dump(), "small");
}

}  // namespace linnet

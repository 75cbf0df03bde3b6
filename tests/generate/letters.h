// A tokenizer whose every token is a word of its own.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "text/tokenizer.h"

namespace linnet {

inline nlohmann::json letters_json(int64_t vocabulary) {
  nlohmann::json vocab;
  for (int64_t i = 0; i < vocabulary; ++i) vocab[fmt::format("t{}", i)] = i;
  return {{"version", "1.0"},
          {"added_tokens", nlohmann::json::array()},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", nlohmann::json::array()}}}};
}

inline Tokenizer letters(int64_t vocabulary) {
  return Tokenizer::from_json(letters_json(vocabulary).dump(), "letters");
}

}  // namespace linnet

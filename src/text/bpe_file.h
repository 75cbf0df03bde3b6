// A byte-level BPE as a tokenizer.json, in Hugging Face's format.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace linnet {

struct BpeFile {
  struct Added {
    int32_t id;
    bool special;
  };

  std::vector<std::string> tokens;  // by id, in ByteLevel's characters; empty: the id has none
  std::vector<std::pair<std::string, std::string>> merges;
  std::vector<Added> added;  // tokens that are found in a text before it is cut
  nlohmann::ordered_json normalizer, pre_tokenizer;
  bool ignore_merges = false;
  std::optional<int32_t> bos;  // set before every text
};

/// ByteLevel as a pre-tokenizer or decoder; `pattern`: cuts by GPT-2's pattern.
nlohmann::ordered_json byte_level(bool prefix_space, bool pattern = true);

/// The text of the file.
std::string bpe_json(const BpeFile& file);

}  // namespace linnet

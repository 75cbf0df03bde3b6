// Reads the vocabulary of BERT's first release, vocab.txt, as the tokenizer.json that transformers makes of
// it.
#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "text/tokenizer_impl.h"
#include "text/utf8.h"

namespace linnet {
namespace {

std::string name_of(const TokenizerFiles& files, const char* key, const char* otherwise) {
  const JsonView field = files.named(key);
  if (field.is_null()) return otherwise;
  return field.value().is_object() ? field.at("content").string() : field.string();
}

/// Tokens by id; of a token that stands twice the later one counts, as in transformers.
std::map<std::string, int64_t> tokens_of(std::string_view text, const std::string& where) {
  if (!is_valid_utf8(text)) throw Error(where, "is no UTF-8", "a token a line");
  std::map<std::string, int64_t> tokens;
  int64_t id = 0;
  for (size_t begin = 0; begin < text.size(); ++id) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    if (line.ends_with('\r')) line.remove_suffix(1);
    tokens[std::string(line)] = id;
    begin = end + 1;
  }
  tokens.erase("");
  return tokens;
}

}  // namespace

std::shared_ptr<Tokenizer::Impl> read_vocab_txt(std::string_view text, const std::string& where,
                                                const TokenizerFiles& files) {
  const std::map<std::string, int64_t> tokens = tokens_of(text, where);
  const std::pair<const char*, const char*> kSpecial[] = {{"unk_token", "[UNK]"},
                                                          {"sep_token", "[SEP]"},
                                                          {"pad_token", "[PAD]"},
                                                          {"cls_token", "[CLS]"},
                                                          {"mask_token", "[MASK]"}};
  std::map<std::string, std::string> names;
  nlohmann::json added = nlohmann::json::array();
  for (const auto& [key, otherwise] : kSpecial) {
    const std::string& name = names[key] = name_of(files, key, otherwise);
    const auto found = tokens.find(name);
    if (found != tokens.end()) {
      added.push_back({{"id", found->second}, {"content", name}, {"special", true}, {"normalized", false}});
    } else if (std::string_view(key) != "mask_token") {
      throw Error(where, fmt::format("has no \"{}\"", printable(name, 40)), fmt::format("a {}", key));
    }
  }
  const JsonView config = files.config();
  const nlohmann::json cls = {names["cls_token"], tokens.at(names["cls_token"])},
                       sep = {names["sep_token"], tokens.at(names["sep_token"])};
  const JsonView accents = config["strip_accents"];
  const nlohmann::json json = {
      {"added_tokens", added},
      {"normalizer",
       {{"type", "BertNormalizer"},
        {"handle_chinese_chars", config["tokenize_chinese_chars"].boolean(true)},
        {"strip_accents", accents.is_null() ? nlohmann::json() : nlohmann::json(accents.boolean(true))},
        {"lowercase", config["do_lower_case"].boolean(true)}}},
      {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
      {"post_processor", {{"type", "BertProcessing"}, {"cls", cls}, {"sep", sep}}},
      {"decoder", {{"type", "WordPiece"}}},
      {"model", {{"type", "WordPiece"}, {"unk_token", names["unk_token"]}, {"vocab", tokens}}}};
  return read_tokenizer_json(json.dump(), where);
}

}  // namespace linnet

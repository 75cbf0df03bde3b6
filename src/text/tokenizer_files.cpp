#include "text/tokenizer_files.h"

#include <fmt/format.h>

#include <charconv>
#include <unordered_map>

#include "base/error.h"
#include "base/json.h"

namespace linnet {
namespace {

/// The id that a member's name spells.
int32_t id_of_key(const JsonView& field, const std::string& key) {
  int32_t id = 0;
  const char* end = key.data() + key.size();
  const auto [read, error] = std::from_chars(key.data(), end, id);
  if (error != std::errc() || read != end || id < 0 || id >= kMaxVocabulary) {
    field.fail(fmt::format("id \"{}\"", printable(key, 40)), fmt::format("0 to {}", kMaxVocabulary - 1));
  }
  return id;
}

void require_object(const JsonView& field, std::string_view expected) {
  if (!field.value().is_object()) field.fail("not an object", expected);
}

/// A special token: its text, or an object with its flags.
AddedToken read_special_token(const JsonView& field) {
  AddedToken token;
  if (field.value().is_object())
    token = read_added_token(field);
  else
    token.content = field.string();
  check_length(field, token.content);
  token.special = true;
  return token;
}

void read_special_tokens(const JsonView& list, std::vector<AddedToken>& tokens) {
  if (list.is_null()) return;
  if (list.value().is_object()) {  // by a name of the model's own
    for (const auto& [name, value] : list.value().items())
      tokens.push_back(read_special_token({value, fmt::format("{}.{}", list.where(), printable(name, 40))}));
    return;
  }
  for (size_t i = 0; i < list.size(); ++i) tokens.push_back(read_special_token(list.at(i)));
}

std::vector<AddedToken> special_tokens(const TokenizerFiles& files) {
  std::vector<AddedToken> tokens;
  for (const char* key :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}) {
    if (const JsonView field = files.named(key); !field.is_null())
      tokens.push_back(read_special_token(field));
  }
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"})
    read_special_tokens(files.named(key), tokens);
  return tokens;
}

}  // namespace

TokenizerFiles::TokenizerFiles(const std::filesystem::path& folder) {
  const std::pair<File*, const char*> files[] = {{&config_, "tokenizer_config.json"},
                                                 {&special_, "special_tokens_map.json"},
                                                 {&added_, "added_tokens.json"}};
  for (const auto& [file, name] : files) {
    const auto path = folder / name;
    if (!std::filesystem::exists(path)) continue;
    *file = {read_json(path), path.string()};
    require_object(view(*file), "an object");
  }
}

JsonView TokenizerFiles::named(const char* key) const {
  const JsonView configured = config()[key], mapped = view(special_)[key];
  const bool config_first = !config()["added_tokens_decoder"].is_null() || mapped.is_null();
  return config_first && !configured.is_null() ? configured : mapped;
}

std::vector<AddedToken> TokenizerFiles::added_tokens() const {
  std::vector<AddedToken> tokens;
  const JsonView decoder = config()["added_tokens_decoder"];
  if (decoder.is_null()) {
    for (const auto& [content, id] : added_.json.items()) {
      AddedToken token;
      token.id = checked_id({id, added_.where}, content);
      token.content = content;
      check_length(view(added_), content);
      tokens.push_back(std::move(token));
    }
    return tokens;
  }
  require_object(decoder, "added tokens by id");
  for (const auto& [key, value] : decoder.value().items()) {
    AddedToken token = read_added_token({value, fmt::format("{}.{}", decoder.where(), printable(key, 40))});
    token.id = id_of_key(decoder, key);
    tokens.push_back(std::move(token));
  }
  return tokens;
}

int32_t checked_id(const JsonView& field, std::string_view content) {
  if (!field.value().is_number_integer()) {
    field.fail(fmt::format("token \"{}\" without an integer id", printable(content, 40)), "an integer");
  }
  const int64_t id = field.integer();
  if (id < 0 || id >= kMaxVocabulary) {
    field.fail(fmt::format("token \"{}\" has id {}", printable(content, 40), id),
               fmt::format("0 to {}", kMaxVocabulary - 1));
  }
  return static_cast<int32_t>(id);
}

void check_length(const JsonView& field, std::string_view token) {
  if (token.size() <= kMaxPieceBytes) return;
  field.fail(fmt::format("a token of {} bytes (\"{}…\")", token.size(), printable(token.substr(0, 8))),
             fmt::format("at most {}", kMaxPieceBytes));
}

AddedToken read_added_token(const JsonView& entry) {
  AddedToken token;
  token.content = entry.at("content").string();
  check_length(entry, token.content);
  token.special = entry["special"].boolean(false);
  token.single_word = entry["single_word"].boolean(false);
  token.lstrip = entry["lstrip"].boolean(false);
  token.rstrip = entry["rstrip"].boolean(false);
  token.normalized = entry["normalized"].boolean(!token.special);
  return token;
}

std::vector<AddedToken> named_tokens(const TokenizerFiles& files, const TokenModel& model) {
  std::vector<AddedToken> tokens;
  std::unordered_map<std::string, size_t> by_content;
  std::unordered_map<int32_t, std::string> contents;
  int32_t next = model.size();
  const auto add = [&](AddedToken token, const std::string& where) {
    if (token.content.empty()) return;
    // The model normalizes by itself, behind the search for these, which is one for them all.
    token.normalized = false;
    const auto [other, fresh] = contents.emplace(token.id, token.content);
    if (!fresh || !by_content.emplace(token.content, tokens.size()).second) {
      throw Error(where,
                  fmt::format("added token \"{}\" (id {}) against \"{}\"", printable(token.content, 40),
                              token.id, printable(other->second, 40)),
                  "each token and id once");
    }
    next += token.id >= model.size();
    tokens.push_back(std::move(token));
  };
  const std::string where = files.config().where();
  for (AddedToken& token : files.added_tokens()) add(std::move(token), where);
  for (AddedToken& token : special_tokens(files)) {
    if (const auto known = by_content.find(token.content); known != by_content.end()) {
      tokens[known->second].special = true;
      continue;
    }
    token.id = model.id_of(token.content).value_or(next);
    add(std::move(token), where);
  }
  return tokens;
}

}  // namespace linnet

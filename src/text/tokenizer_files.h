// The files beside a tokenizer that name its special and added tokens, as transformers writes them:
// tokenizer_config.json, special_tokens_map.json, added_tokens.json.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "text/added_tokens.h"
#include "text/json_view.h"
#include "text/token_model.h"

namespace linnet {

class TokenizerFiles {
 public:
  TokenizerFiles() = default;  // none of them
  /// Those that lie in `folder`. Throws Error on one that is no JSON.
  explicit TokenizerFiles(const std::filesystem::path& folder);

  JsonView config() const { return view(config_); }
  /// A special token or list of them: tokenizer_config.json's where that holds all added tokens too
  /// (`added_tokens_decoder`), else special_tokens_map.json's, else the other's.
  JsonView named(const char* key) const;
  /// `added_tokens_decoder` (flags by id) where it is there, else added_tokens.json (ids by token).
  std::vector<AddedToken> added_tokens() const;

 private:
  struct File {
    nlohmann::json json = nlohmann::json::object();
    std::string where;
  };
  static JsonView view(const File& file) { return {file.json, file.where}; }
  File config_, special_, added_;
};

/// `id` of the token `content` if it can be one; else throws Error.
int32_t checked_id(const JsonView& field, std::string_view content);
/// Throws Error on a token that is too long.
void check_length(const JsonView& field, std::string_view token);
/// `content` and the flags of an added token, without its id.
AddedToken read_added_token(const JsonView& entry);

/// All tokens that `files` add to a sentencepiece model or mark as special, as transformers' tokenizers of
/// such models see them: a special token that neither a file nor the model gives an id gets the next one.
std::vector<AddedToken> named_tokens(const TokenizerFiles& files, const TokenModel& model);

}  // namespace linnet

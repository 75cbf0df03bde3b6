// The text that a chat model reads: a conversation, laid out by the template that came with the model.
#pragma once

#include <ctime>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace linnet {

class Tokenizer;

class ChatTemplate {
 public:
  /// Jinja, as Hugging Face runs it (trim_blocks, lstrip_blocks). `where` names it in errors. Throws Error on
  /// what is no template or asks for what Linnet does not know.
  ChatTemplate(std::string_view source, std::string where);
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  /// A model folder's: chat_template.jinja, else `chat_template` of tokenizer_config.json (of several, the
  /// one named "default"). `file`, if not empty, takes its place. The special tokens of the folder and of its
  /// tokenizer are names that it may use.
  static ChatTemplate load(const std::filesystem::path& folder, const Tokenizer& tokenizer,
                           const std::filesystem::path& file = {});
  /// The same; nothing where there is none.
  static std::optional<ChatTemplate> find(const std::filesystem::path& folder, const Tokenizer& tokenizer,
                                          const std::filesystem::path& file = {});

  /// A name that the template may use, such as bos_token.
  void set(const std::string& name, const std::string& text) { names_[name] = text; }

  /// `messages` as read_messages() gives them; `answer`: the beginning of the model's answer too. `now` is
  /// what the template shows as the date; the local time if absent. Throws Error where the template fails or
  /// refuses the conversation, and names the first message without a content where that is why.
  std::string render(const nlohmann::ordered_json& messages, bool answer, const std::tm* now = nullptr) const;

 private:
  std::string lay_out(const nlohmann::ordered_json& messages, bool answer, const std::tm* now) const;
  bool lays_out(const nlohmann::ordered_json& messages, bool answer, const std::tm* now) const;

  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::map<std::string, std::string> names_;
};

/// A conversation in JSON, `where` in errors: a list of {"role": "…", "content": …} with at least one member.
/// Members that are null are left out, as Hugging Face leaves them.
nlohmann::ordered_json read_messages(std::string_view json, const std::string& where);

}  // namespace linnet

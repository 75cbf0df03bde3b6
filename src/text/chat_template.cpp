#include "text/chat_template.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "text/jinja/interpreter.h"
#include "text/json_view.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace linnet {
namespace {

constexpr const char* kConfig = "tokenizer_config.json";

/// The template in tokenizer_config.json; nothing where there is none.
std::optional<std::string> template_of(const JsonView& field) {
  if (field.is_null()) return std::nullopt;
  if (!field.value().is_array()) return field.string();
  for (size_t i = 0; i < field.size(); ++i) {
    if (field.at(i).at("name").string() == "default") return field.at(i).at("template").string();
  }
  field.fail("no template named default", "one, or --template FILE");
}

/// "bos_token": "<s>", or an object with `content`.
void set_names(ChatTemplate& made, const JsonView& config) {
  if (!config.value().is_object()) config.fail("no object", "an object");
  for (const auto& [key, value] : config.value().items()) {
    if (!key.ends_with("_token")) continue;
    const nlohmann::json* content = &value;
    if (value.is_object() && value.contains("content")) content = &value["content"];
    if (content->is_string()) made.set(key, content->get<std::string>());
  }
}

}  // namespace

struct ChatTemplate::Impl {
  std::string where;
  jinja::Body body;
};

ChatTemplate::ChatTemplate(std::string_view source, std::string where)
    : impl_(new Impl{std::move(where), {}}) {
  impl_->body = jinja::parse(source, impl_->where);
}

ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

ChatTemplate ChatTemplate::load(const std::filesystem::path& folder, const Tokenizer& tokenizer,
                                const std::filesystem::path& file) {
  auto made = find(folder, tokenizer, file);
  if (!made)
    throw Error(folder.string(), "no chat template here",
                "one in tokenizer_config.json or chat_template.jinja, or --template FILE");
  return std::move(*made);
}

std::optional<ChatTemplate> ChatTemplate::find(const std::filesystem::path& folder,
                                               const Tokenizer& tokenizer,
                                               const std::filesystem::path& file) {
  const auto own = folder / "chat_template.jinja";
  const std::filesystem::path chosen = file.empty() && std::filesystem::exists(own) ? own : file;
  std::optional<ChatTemplate> made;
  if (!chosen.empty()) made.emplace(read_whole(chosen.string()), chosen.string());
  std::vector<nlohmann::json> configs;
  for (const char* name : {"special_tokens_map.json", kConfig}) {
    const bool there = std::filesystem::exists(folder / name);
    configs.push_back(there ? read_json(folder / name) : nlohmann::json::object());
  }
  if (!made) {
    const JsonView field = JsonView(configs.back(), (folder / kConfig).string())["chat_template"];
    const auto source = template_of(field);
    if (!source) return std::nullopt;
    made.emplace(*source, field.where());
  }
  if (const auto bos = tokenizer.bos()) made->set("bos_token", tokenizer.text_of(*bos));
  if (const auto eos = tokenizer.eos()) made->set("eos_token", tokenizer.text_of(*eos));
  for (const nlohmann::json& config : configs) set_names(*made, JsonView(config, folder.string()));
  return made;
}

std::string ChatTemplate::render(const nlohmann::ordered_json& messages, bool answer,
                                 const std::tm* now) const {
  try {
    return lay_out(messages, answer, now);
  } catch (const Error&) {
    // A template may do without a content, of a call of a tool for example. Where one would have made it
    // work, what is wrong is not the template's line.
    nlohmann::ordered_json filled = messages;
    std::optional<size_t> lacks;
    for (size_t i = 0; i < filled.size(); ++i) {
      if (filled[i].contains("content")) continue;
      filled[i]["content"] = "";
      lacks = lacks.value_or(i);
    }
    if (!lacks || !lays_out(filled, answer, now)) throw;
    throw Error(fmt::format("message {} ({})", *lacks + 1,
                            printable(filled[*lacks].value("role", std::string()), 20)),
                "no `content`", "one: the chat template asks for it");
  }
}

bool ChatTemplate::lays_out(const nlohmann::ordered_json& messages, bool answer, const std::tm* now) const {
  try {
    lay_out(messages, answer, now);
    return true;
  } catch (const Error&) {
    return false;
  }
}

std::string ChatTemplate::lay_out(const nlohmann::ordered_json& messages, bool answer,
                                  const std::tm* now) const {
  std::tm local = {};
  if (now == nullptr) {
    const std::time_t time = std::time(nullptr);
    ::localtime_r(&time, &local);
  }
  jinja::Work work(impl_->where);
  std::map<std::string, jinja::Value> variables = {{"messages", work.from_json(messages)},
                                                   {"tools", {jinja::None{}}},
                                                   {"documents", {jinja::None{}}},
                                                   {"add_generation_prompt", {answer}}};
  for (const auto& [name, text] : names_) variables[name] = work.string(valid_utf8(text));
  jinja::Interpreter interpreter(work, now != nullptr ? *now : local);
  return interpreter.render(impl_->body, std::move(variables));
}

nlohmann::ordered_json read_messages(std::string_view json, const std::string& where) {
  const nlohmann::json checked = parse_json(json, where);
  const JsonView list(checked, where);
  if (list.size() == 0) list.fail("no message", "at least one");
  for (size_t i = 0; i < list.size(); ++i) {
    const JsonView message = list.at(i);
    if (message.at("role").string().empty()) message.fail("an empty role", "system, user or assistant");
    const nlohmann::json& content = message["content"].value();
    if (!content.is_null() && !content.is_string() && !content.is_array()) {
      message["content"].fail("no text", "a string");
    }
  }
  auto messages = nlohmann::ordered_json::parse(json);  // members in the file's order
  for (auto& message : messages) {
    nlohmann::ordered_json kept = nlohmann::ordered_json::object();
    for (const auto& [key, value] : message.items()) {
      if (!value.is_null()) kept[key] = value;
    }
    message = std::move(kept);
  }
  return messages;
}

}  // namespace linnet

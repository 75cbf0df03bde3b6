// What the commands that answer a conversation share: options, messages, the template.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "cli/sampling.h"
#include "text/chat_template.h"

namespace linnet::cli {

struct ChatOptions : SamplingOptions {
  std::optional<std::string> system, chat_template;
};

void add_chat(CLI::App& app, ChatOptions& options);  // --system and --template
void add_template(CLI::App& app, ChatOptions& options);

/// {"role": …, "content": …}, the text in valid UTF-8.
nlohmann::ordered_json message_of(const char* role, std::string_view text);

/// --template, or the model folder's own.
ChatTemplate template_of(const ChatOptions& options, const Model& model, const Tokenizer& tokenizer);

}  // namespace linnet::cli

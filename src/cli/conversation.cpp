#include "cli/conversation.h"

#include "text/utf8.h"

namespace linnet::cli {

void add_chat(CLI::App& app, ChatOptions& options) {
  app.add_option("--system", options.system, "A chat's system message, before the others")->type_name("TEXT");
  add_template(app, options);
}

void add_template(CLI::App& app, ChatOptions& options) {
  app.add_option("--template", options.chat_template, "Chat template (default: the model folder's own)")
      ->type_name("FILE");
}

nlohmann::ordered_json message_of(const char* role, std::string_view text) {
  return {{"role", role}, {"content", valid_utf8(text)}};
}

ChatTemplate template_of(const ChatOptions& options, const Model& model, const Tokenizer& tokenizer) {
  return ChatTemplate::load(model.tokenizer_folder(), tokenizer, options.chat_template.value_or(""));
}

}  // namespace linnet::cli

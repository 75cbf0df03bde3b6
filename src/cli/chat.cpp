// linnet chat: turns at a terminal, or a line each from a pipe. The state keeps the history: a turn reads its
// new tokens alone.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "base/count.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/completion_json.h"
#include "cli/conversation.h"
#include "cli/input_lines.h"
#include "cli/output.h"
#include "cli/writer.h"

namespace linnet::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kMostAnswered = 1024;

struct TalkOptions : ChatOptions {
  SpeculationOptions speculation;
};

/// A conversation, and the tokens that the state has read of it.
class Chat {
 public:
  explicit Chat(const TalkOptions& options)
      : writer_(options, options.speculation, {.slots = 1, .continue_slots = true}),
        template_(template_of(options, writer_.model(), writer_.tokenizer())),
        request_(request_of(options, writer_.model(), writer_.tokenizer(), kMostAnswered, /*turns=*/true)) {
    if (options.system) set_system(*options.system);
  }

  void reset() {
    while (messages_.size() > (has_system() ? 1U : 0U)) messages_.erase(messages_.size() - 1);
    text_.clear();
    tokens_.clear();
  }

  void set_system(std::string_view text) {
    if (has_system()) messages_.erase(0);
    if (!text.empty()) messages_.insert(messages_.begin(), message_of("system", text));
  }

  /// The answer goes to standard output as it comes; Ctrl-C ends it, and what there is stays said. Returns
  /// what --json writes of it.
  Json say(std::string_view line) {
    messages_.push_back(message_of("user", line));
    const std::string text = template_.render(messages_, /*answer=*/true);
    request_.prompt = continued(text);
    catch_interrupts();  // the first Ctrl-C of every answer
    const auto live = [](size_t, std::string_view piece) { print(piece); };
    const Generation answer = writer_.engine().run({&request_, 1}, live, interrupted).front();
    print("\n");
    report(answer);
    catch_interrupts();
    Json turn = {{"user", messages_.back()["content"]}};
    turn.update(completion_json({writer_.tokenizer(), request_, answer, ""}));
    if (answer.tokens.empty()) {  // Ctrl-C before the first token
      messages_.erase(messages_.size() - 1);
      return turn;
    }
    messages_.push_back(message_of("assistant", answer.text));
    text_ = text + answer.text;
    tokens_ = request_.prompt;
    tokens_.insert(tokens_.end(), answer.tokens.begin(), answer.tokens.end());
    // An end token has no text: where the template wants it, it stands in what follows.
    if (answer.finish == Finish::kEnd || answer.finish == Finish::kStop) tokens_.pop_back();
    return turn;
  }

 private:
  bool has_system() const { return !messages_.empty() && messages_[0]["role"] == "system"; }

  /// The tokens of `text`: those that the state has read, and what follows them, if that is the same text. An
  /// answer's own tokens stay, though the tokenizer might cut its text otherwise.
  std::vector<int32_t> continued(const std::string& text) const {
    std::vector<int32_t> whole = writer_.tokenizer().encode(text);
    if (tokens_.empty() || !text.starts_with(text_)) return whole;
    std::vector<int32_t> tokens = tokens_;
    const auto rest = writer_.tokenizer().encode(std::string_view(text).substr(text_.size()));
    tokens.insert(tokens.end(), rest.begin(), rest.end());
    return same_text(tokens, whole) ? tokens : whole;
  }

  bool same_text(const std::vector<int32_t>& a, const std::vector<int32_t>& b) const {
    try {
      return writer_.tokenizer().decode(a, false) == writer_.tokenizer().decode(b, false);
    } catch (const Error&) {
      return false;  // a model's vocabulary may be padded with tokens that have no text
    }
  }

  void report(const Generation& answer) const {
    const Rates rates = rates_of({writer_.tokenizer(), request_, answer, ""});
    const auto length = static_cast<int64_t>(request_.prompt.size());
    const bool anew = !tokens_.empty() && answer.prompt_read == length;
    note(fmt::format("read {} of {}{}; answered {}, {:.1f} tokens/s; ended by {}", answer.prompt_read,
                     counted(length, "token"),
                     anew ? ", all anew: the history is no longer as it was read" : "", answer.tokens.size(),
                     rates.decode.value_or(0), ending_of(answer.finish).words));
  }

  Writer writer_;
  ChatTemplate template_;
  Request request_;
  Json messages_ = Json::array();
  std::string text_;             // of the conversation so far, as the template lays it out
  std::vector<int32_t> tokens_;  // that stand for it
};

/// Whether the line was one of the program's own, those that begin with /.
bool obey(Chat& chat, std::string_view line) {
  constexpr std::string_view kSystem = "/system";
  if (!line.starts_with('/')) return false;
  if (line == "/reset") {
    chat.reset();
  } else if (line == kSystem || line.starts_with("/system ")) {
    chat.set_system(line.substr(std::min(line.size(), kSystem.size() + 1)));
  } else {
    note(fmt::format("unknown command {}, expected /exit, /reset or /system TEXT", printable(line, 60)));
  }
  return true;
}

ExitStatus converse(TalkOptions& options) {
  options.speculation.settle(options.model);
  check_sampling(options);
  check_speculation(options.speculation);
  const JsonResult json(options);
  Chat chat(options);
  InputLines lines;
  Json answers = Json::array();
  try {
    while (const auto line = lines.next()) {
      if (*line == "/exit") break;
      if (line->empty() || obey(chat, *line)) continue;
      answers.push_back(chat.say(*line));
      json.write_so_far(answers);
    }
  } catch (const Error&) {  // Ctrl-C at a line among others: what was answered stays so
    json.write(answers);
    throw;
  }
  json.write(answers);
  return ExitStatus::kDone;
}

}  // namespace

void describe_chat(CLI::App& app, Work& work) {
  const auto options = std::make_shared<TalkOptions>();
  add_model(app, *options);
  add_device(app, *options);
  add_dtype(app, *options);
  add_state_type(app, *options);
  add_threads(app, *options);
  add_seed(app, *options);
  add_json(app, *options);
  add_chat(app, *options);
  add_sampling(app, *options, kMostAnswered);
  add_drafter(app, options->speculation);
  app.callback([&work, options] { work = [options] { return converse(*options); }; });
}

}  // namespace linnet::cli

// linnet generate: text from a prompt. Standard output carries the text alone.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "base/count.h"
#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/completion_json.h"
#include "cli/conversation.h"
#include "cli/options.h"
#include "cli/output.h"
#include "generate/engine.h"
#include "text/tokenizer.h"

namespace linnet::cli {
namespace {

constexpr int64_t kMostTokens = 256;
constexpr int kMostSlots = 8;  // samples side by side

struct GenerateOptions : ChatOptions {
  std::optional<std::string> prompt, prompt_file;
  std::optional<std::string> messages;
  std::optional<int> samples, logprobs;
  bool raw = false, echo = false, chat = false;

  bool is_chat() const { return chat || messages; }
};

void check_chat(const GenerateOptions& options) {
  if (options.messages && (options.prompt || options.prompt_file)) {
    throw Error("--messages", "given together with a prompt", "one of the two");
  }
  if (options.is_chat() && options.raw) throw Error("--raw", "given for a chat", "one of the two");
  const char* alone = options.system ? "--system" : options.chat_template ? "--template" : nullptr;
  if (alone != nullptr && !options.is_chat()) {
    throw Error(alone, "given without a chat", "--chat or --messages FILE too");
  }
}

std::string prompt_text(const GenerateOptions& options) {
  if (options.prompt && options.prompt_file) {
    throw Error("--prompt", "given together with --prompt-file", "one of the two");
  }
  if (options.prompt) return *options.prompt;
  if (!options.prompt_file && ::isatty(STDIN_FILENO) == 1) {
    throw Error("--prompt", "absent", "--prompt TEXT, --prompt-file FILE or piped standard input");
  }
  return read_whole(options.prompt_file.value_or("-"));
}

/// The messages of --messages, or the prompt as the user's; --system's before them.
nlohmann::ordered_json conversation(const GenerateOptions& options) {
  using Json = nlohmann::ordered_json;
  Json messages = Json::array();
  if (options.system) messages.push_back(message_of("system", *options.system));
  if (!options.messages) {
    messages.push_back(message_of("user", prompt_text(options)));
    return messages;
  }
  for (Json& message : read_messages(read_whole(*options.messages), *options.messages)) {
    if (options.system && messages.size() == 1 && message["role"] == "system") {
      throw Error("--system", "given, and the messages begin with one", "one of the two");
    }
    messages.push_back(std::move(message));
  }
  return messages;
}

void report(const Completion& completion) {
  const Rates rates = rates_of(completion);
  note(fmt::format("prefill {}, {:.1f} tokens/s; decode {}, {:.1f} tokens/s; state {} bytes; ended by {}",
                   counted(std::ssize(completion.request.prompt), "token"), rates.prefill.value_or(0),
                   counted(std::ssize(completion.result.tokens), "token"), rates.decode.value_or(0),
                   completion.result.state_bytes, ending_of(completion.result.finish).words));
}

/// One sample's text is printed as it becomes final; of several each whole, behind a line that says which.
void print_samples(const std::vector<Generation>& results, const std::string& echoed) {
  for (size_t i = 0; i < results.size(); ++i) {
    print(fmt::format("==> sample {} of {} <==\n{}{}\n", i + 1, results.size(), echoed, results[i].text));
  }
}

ExitStatus generate(const GenerateOptions& options) {
  const JsonResult json(options);
  check_chat(options);
  check_sampling(options);
  const nlohmann::ordered_json messages = options.is_chat() ? conversation(options) : nullptr;
  std::string text = options.is_chat() ? "" : prompt_text(options);
  const int samples = options.samples.value_or(1), slots = std::min(samples, kMostSlots);
  const Runtime runtime = open_runtime(options, {.slots = slots, .max_nodes = slots});
  const Tokenizer tokenizer = Tokenizer::load(runtime.model->tokenizer_folder());
  if (options.is_chat()) {
    const ChatTemplate chat = template_of(options, *runtime.model, tokenizer);
    text = chat.render(messages, /*answer=*/true);
  }
  Request request = request_of(options, *runtime.model, tokenizer, kMostTokens, options.is_chat());
  // A template writes the special tokens itself, BOS among them.
  request.prompt = tokenizer.encode(text, /*special=*/!options.raw && !options.is_chat());
  request.logprobs = options.logprobs;
  request.prompt_logprobs = options.logprobs && options.echo;
  std::vector<Request> requests(static_cast<size_t>(samples), request);
  for (size_t i = 0; i < requests.size(); ++i) requests[i].sequence = i;
  if (samples > 1 && request.sampling.temperature == 0) {
    warn("--samples: all the same, as the likeliest token is always taken; --temperature 1 draws them");
  }

  const auto drafter = make_no_drafter();
  Engine engine(*runtime.decoder, tokenizer, *drafter,
                {.slots = slots, .max_nodes = slots});
  const std::string echoed = options.echo ? text : "";
  if (!options.samples) print(echoed);
  const auto live = [&](size_t, std::string_view piece) {
    if (!options.samples) print(piece);
  };
  const auto results = engine.run(requests, live, interrupted);
  if (options.samples) print_samples(results, echoed);
  if (!options.samples && ::isatty(STDOUT_FILENO) == 1) print("\n");

  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (size_t i = 0; i < results.size(); ++i) {
    const Completion completion{tokenizer, requests[i], results[i], echoed};
    if (options.logprobs) print_logprobs(completion);
    report(completion);
    list.push_back(completion_json(completion));
  }
  json.write(options.samples ? list : list.front());
  const bool stopped = std::any_of(results.begin(), results.end(), [](const Generation& result) {
    return result.finish == Finish::kInterrupted;
  });
  return stopped ? ExitStatus::kInterrupted : ExitStatus::kDone;
}

}  // namespace

void describe_generate(CLI::App& app, Work& work) {
  const auto options = std::make_shared<GenerateOptions>();
  add_runtime(app, *options);
  add_weights(app, *options);
  app.add_option("-p,--prompt", options->prompt,
                 "Text to continue; \"\": from the token that begins a text (default: piped standard input)")
      ->type_name("TEXT");
  app.add_option("--prompt-file", options->prompt_file,
                 "File with the text to continue, as it stands; -: standard input")
      ->type_name("FILE");
  app.add_flag("--raw", options->raw, "Add no special token of the tokenizer's own to the prompt");
  app.add_flag("--chat", options->chat,
               "The prompt is a user's message, laid out by the model's chat template");
  add_chat(app, *options);
  app.add_option("--messages", options->messages,
                 "A conversation to answer: a JSON list of {\"role\", \"content\"}; -: standard input")
      ->type_name("FILE");
  add_sampling(app, *options, kMostTokens);
  app.add_option("--samples", options->samples,
                 "Independent texts of the prompt; --json writes a list, each with its own draws")
      ->transform(whole(1, 65536));
  app.add_option(
         "--logprobs", options->logprobs,
         "Log probability of each token and of the N likeliest beside it: in --json, and as a table on "
         "standard error")
      ->transform(whole(0, 100));
  app.add_flag("--echo", options->echo, "Print the prompt too; with --logprobs its tokens' as well");
  app.callback([&work, options] { work = [options] { return generate(*options); }; });
}

}  // namespace linnet::cli

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
#include "base/timing.h"
#include "cli/commands.h"
#include "cli/completion_json.h"
#include "cli/conversation.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/writer.h"
#include "generate/text_state.h"
#include "text/corpus.h"

namespace linnet::cli {
namespace {

constexpr int64_t kMostTokens = 256;
constexpr int kAtOnce = 8;  // texts, unless --parallel says otherwise

struct GenerateOptions : ChatOptions {
  std::optional<std::string> prompt, prompt_file;
  std::optional<std::string> messages, prompts;
  std::optional<int> samples, parallel, logprobs;
  bool raw = false, echo = false, chat = false;
  int64_t prefix_cache = 0;  // bytes
  SpeculationOptions speculation;
  std::optional<std::string> save_state, load_state;

  bool is_chat() const { return chat || messages; }
  bool continues() const { return save_state || load_state; }
  bool several() const { return samples || prompts; }
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

void check_several(const GenerateOptions& options) {
  if (!options.prompts) {
    if (options.parallel && !options.samples)
      throw Error("--parallel", "given for one text", "--samples or --prompts too");
    if (options.prefix_cache > 0) throw Error("--prefix-cache", "given for one prompt", "--prompts too");
    return;
  }
  const std::pair<const char*, bool> others[] = {{"--prompt", options.prompt.has_value()},
                                                 {"--prompt-file", options.prompt_file.has_value()},
                                                 {"--samples", options.samples.has_value()},
                                                 {"--messages", options.messages.has_value()},
                                                 {"--chat", options.chat}};
  for (const auto& [name, given] : others) {
    if (given) throw Error(name, "given together with --prompts", "one of the two");
  }
}

void check_states(const GenerateOptions& options) {
  const char* given = options.save_state ? "--save-state" : options.load_state ? "--load-state" : nullptr;
  if (given != nullptr && options.several())
    throw Error(given, fmt::format("given together with {}", options.samples ? "--samples" : "--prompts"),
                "one of the two");
  if (options.load_state && options.is_chat())
    throw Error("--load-state", "given for a chat, whose template begins a text", "one of the two");
  if (options.load_state && options.logprobs && options.echo)
    throw Error("--echo", "given with --logprobs and --load-state, whose tokens are not read again",
                "two of the three");
  const SpeculationOptions& speculation = options.speculation;
  if (options.load_state && (speculation.report || speculation.verify))
    throw Error(speculation.report ? "--report" : "--verify",
                "given with --load-state, from which a text goes on once", "one of the two");
}

std::string prompt_text(const GenerateOptions& options) {
  if (options.prompt && options.prompt_file) {
    throw Error("--prompt", "given together with --prompt-file", "one of the two");
  }
  if (options.prompt) return *options.prompt;
  if (options.load_state && !options.prompt_file) return "";  // what is piped in is not asked for
  if (!options.prompt_file && ::isatty(STDIN_FILENO) == 1) {
    throw Error("--prompt", "absent", "--prompt TEXT, --prompt-file FILE or piped standard input");
  }
  const std::string file = options.prompt_file.value_or("-");
  std::string text = read_whole(file);
  require_utf8(text, file == "-" ? "standard input" : file);
  return text;
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
                   counted(completion.result.prompt_read, "token"), rates.prefill.value_or(0),
                   counted(std::ssize(completion.result.tokens), "token"), rates.decode.value_or(0),
                   completion.result.state_bytes, ending_of(completion.result.finish).words));
}

/// One text is printed as it becomes final; of several each whole, behind a line that says which.
void print_all(const std::vector<Generation>& results, const std::vector<std::string>& echoed,
               const char* what) {
  for (size_t i = 0; i < results.size(); ++i) {
    print(
        fmt::format("==> {} {} of {} <==\n{}{}\n", what, i + 1, results.size(), echoed[i], results[i].text));
  }
}

void report_throughput(const std::vector<Generation>& results, int slots, double seconds) {
  int64_t tokens = 0, read = 0;
  for (const Generation& result : results) {
    tokens += std::ssize(result.tokens);
    read += result.prompt_read;
  }
  note(fmt::format("{} of prompts and {} of {} in {:.2f} s, {} at once: {:.1f} tokens/s",
                   counted(read, "token"), counted(tokens, "token"), counted(std::ssize(results), "text"),
                   seconds, slots, seconds > 0 ? static_cast<double>(tokens) / seconds : 0));
}

/// What is asked for, read before the model is.
struct Wanted {
  nlohmann::ordered_json messages;  // of a chat
  std::vector<std::string> texts;   // else
};

/// The records of a file that has records, whose texts may have lines of their own; else its lines.
std::vector<std::string> read_prompts(const std::string& file) {
  std::vector<std::string> prompts;
  const auto take = [&](std::string text) {
    if (!text.empty()) prompts.push_back(std::move(text));
    return true;
  };
  if (file != "-" && has_records(file, {})) {
    for_each_document(file, {}, [&](Document&& document) { return take(std::move(document.text)); });
  } else {
    for_each_text_line(file, [&](std::string_view line, size_t) { return take(std::string(line)); });
  }
  if (prompts.empty()) throw Error(file, "no prompts", "one on each line");
  return prompts;
}

Wanted read_wanted(const GenerateOptions& options) {
  Wanted wanted;
  if (options.is_chat()) {
    wanted.messages = conversation(options);
  } else if (options.prompts) {
    wanted.texts = read_prompts(*options.prompts);
  } else {
    wanted.texts.push_back(prompt_text(options));
  }
  return wanted;
}

/// A run of the command: the model, and what it is asked for.
class GenerateRun {
 public:
  explicit GenerateRun(const GenerateOptions& options)
      : options_(options),
        wanted_(read_wanted(options)),
        count_(options.samples ? static_cast<size_t>(*options.samples)
                               : std::max<size_t>(1, wanted_.texts.size())),
        slots_(static_cast<int>(std::min(count_, static_cast<size_t>(options.parallel.value_or(kAtOnce))))),
        writer_(options, options.speculation,
                {.slots = slots_,
                 .continue_slots = options.continues(),
                 .prefix_cache = static_cast<size_t>(options.prefix_cache),
                 .most = Stacks::kTwo}),
        engine_(writer_.engine()) {
    if (writer_.model().family().encoder != nullptr && options.logprobs && options.echo)
      throw Error("--echo", "given with --logprobs, and the decoder never reads the prompt",
                  "one of the two");
    if (options.is_chat())
      wanted_.texts = {template_of(options, writer_.model(), writer_.tokenizer())
                           .render(wanted_.messages, /*answer=*/true)};
    make_requests();
  }

  ExitStatus run(const JsonResult& json) {
    const auto live = [&](size_t, std::string_view piece) {
      if (!options_.several()) print(piece);
    };
    if (!options_.several()) print(echoed_.front());
    const Stopwatch watch;
    results_ = engine_.run(requests_, live, interrupted);
    const double seconds = watch.seconds();
    if (options_.several()) print_all(results_, echoed_, options_.samples ? "sample" : "prompt");
    if (!options_.several() && ::isatty(STDOUT_FILENO) == 1) print("\n");
    if (options_.save_state) save();
    auto list = reported();
    if (results_.size() > 1) report_throughput(results_, slots_, seconds);
    if (options_.prefix_cache > 0) {
      const auto& [hits, misses, tokens] = engine_.prefix_counts();
      note(fmt::format("prefix cache: {}, {}, {} not read again", counted(hits, "hit"),
                       counted(misses, "miss", "misses"), counted(tokens, "token")));
    }
    const SpeculationResult speculation = writer_.compared(requests_, results_);
    if (options_.speculation.report) {
      print_report(speculation);
      for (auto& each : list) each["speculation"] = speculation_json(speculation);
    }
    json.write(options_.several() ? list : list.front());
    if (!speculation.same && speculation.accept == "exact")
      throw Error("--verify", "plain decoding gives another text", "the same", ExitStatus::kFailed);
    const bool stopped = std::any_of(results_.begin(), results_.end(), [](const Generation& result) {
      return result.finish == Finish::kInterrupted;
    });
    return stopped ? ExitStatus::kInterrupted : ExitStatus::kDone;
  }

 private:
  void make_requests() {
    Request request =
        request_of(options_, writer_.model(), writer_.tokenizer(), kMostTokens, options_.is_chat());
    request.logprobs = options_.logprobs;
    request.typical = options_.speculation.accept == "typical";
    if (request.typical && request.sampling.temperature == 0)
      throw Error("--accept", "typical, and the likeliest token is always taken", "--temperature above 0");
    request.prompt_logprobs = options_.logprobs && options_.echo;
    if (options_.load_state) load(request);
    const std::vector<int32_t> before = request.prompt;
    // A template writes the special tokens itself, BOS among them; a text that goes on has them.
    const bool special = !options_.raw && !options_.is_chat() && !options_.load_state;
    for (size_t i = 0; i < count_; ++i) {
      const std::string& text = wanted_.texts[options_.prompts ? i : 0];
      request.prompt = before;
      const auto more = writer_.tokenizer().encode(text, special);
      // A source stays as it was read; what is given is of the text that goes on.
      std::vector<int32_t>& to = options_.load_state && starts() ? request.written : request.prompt;
      to.insert(to.end(), more.begin(), more.end());
      request.sequence = i;
      requests_.push_back(request);
      echoed_.push_back(options_.echo ? text : "");
    }
    if (options_.samples.value_or(1) > 1 && request.sampling.temperature == 0)
      warn("--samples: all the same, as the likeliest token is always taken; --temperature 1 draws them");
  }

  bool starts() const { return writer_.decoder().info().start.has_value(); }

  /// Makes the slot hold what --save-state wrote, and the request go on from it.
  void load(Request& request) {
    const MappedFile file(*options_.load_state);
    Decoder& decoder = writer_.decoder();
    request.prompt = read_text_state(file.bytes(), *options_.load_state, decoder, 0);
    const auto source = static_cast<size_t>(decoder.source_length(0));
    const auto needed = static_cast<int64_t>(source) + std::max<int64_t>(starts() ? 1 : 0, decoder.length(0));
    if (needed > std::ssize(request.prompt))
      throw Error(*options_.load_state, "fewer tokens than its state has", "a file of --save-state");
    engine_.hold(0, std::span(request.prompt).first(source + static_cast<size_t>(decoder.length(0))));
    if (!starts()) return;
    request.written.assign(request.prompt.begin() + static_cast<std::ptrdiff_t>(source) + 1,
                           request.prompt.end());
    request.prompt.resize(source);
  }

  /// The text so far with its state; an end token, which has no text, is not of it.
  void save() const {
    const Request& request = requests_.front();
    const Generation& result = results_.front();
    std::vector<int32_t> tokens = request.prompt;
    if (starts()) tokens.push_back(*writer_.decoder().info().start);
    tokens.insert(tokens.end(), request.written.begin(), request.written.end());
    tokens.insert(tokens.end(), result.tokens.begin(), result.tokens.end());
    if (result.finish == Finish::kEnd && tokens.size() > engine_.held(0).size()) tokens.pop_back();
    AtomicFile target(*options_.save_state);
    target.write(write_text_state(writer_.decoder(), 0, tokens));
    target.commit();
  }

  /// Says what each text took; what --json writes of it.
  nlohmann::ordered_json reported() const {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (size_t i = 0; i < results_.size(); ++i) {
      const Completion completion{writer_.tokenizer(), requests_[i], results_[i], echoed_[i]};
      if (options_.logprobs) print_logprobs(completion);
      report(completion);
      list.push_back(completion_json(completion));
    }
    return list;
  }

  const GenerateOptions& options_;
  Wanted wanted_;
  size_t count_;  // texts to write
  int slots_;
  Writer writer_;
  Engine& engine_;
  std::vector<Request> requests_;
  std::vector<std::string> echoed_;  // what is printed before each text
  std::vector<Generation> results_;
};

ExitStatus generate(GenerateOptions& options) {
  options.speculation.settle(options.model);
  const JsonResult json(options);
  check_chat(options);
  check_sampling(options);
  check_speculation(options.speculation);
  check_several(options);
  check_states(options);
  return GenerateRun(options).run(json);
}

}  // namespace

void describe_generate(CLI::App& app, Work& work) {
  const auto options = std::make_shared<GenerateOptions>();
  add_runtime(app, *options);
  add_weights(app, *options);
  add_state_type(app, *options);
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
  add_speculation(app, options->speculation);
  output_file(
      app.add_option("--save-state", options->save_state,
                     "Write the text and its state to this file at the end, to go on from by --load-state"))
      ->type_name("FILE");
  app.add_option("--load-state", options->load_state,
                 "Go on from what --save-state wrote with the same model; a prompt is put behind it")
      ->type_name("FILE");
  app.add_option("--prompts", options->prompts,
                 "File with a prompt on each line, - for standard input, or a .jsonl with one in each "
                 "record's `text`: "
                 "all are continued; --json writes a list")
      ->type_name("FILE");
  app.add_option("--parallel", options->parallel,
                 fmt::format("With --samples or --prompts: texts side by side (default: {})", kAtOnce))
      ->transform(whole(1, 1024));
  app.add_option("--prefix-cache", options->prefix_cache,
                 "With --prompts: bytes for the states of what prompts begin with, which is then read once "
                 "(the same to rounding)")
      ->transform(count(0))
      ->type_name("BYTES");
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

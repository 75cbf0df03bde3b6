// linnet serve: a model behind the OpenAI API. Standard output gets the one line that says where.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/conversation.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/writer.h"
#include "serve/service.h"

namespace linnet::cli {
namespace {

constexpr int64_t kCompletionTokens = 16, kChatTokens = 1024;  // tokens, unless the client or the model says
constexpr int kSideBySide = 8;                                 // texts

struct ServeOptions : ChatOptions {
  serve::HttpOptions http{.port = 8080};
  int64_t body = int64_t{8} << 20, context = 0, max_tokens = 32768, prefix_cache = 0;
  int parallel = kSideBySide, queue = 256;
  std::string name;
  bool quiet = false;
  SpeculationOptions speculation;
};

/// What texts are written with where the client says nothing: as the command line and the model say, else
/// drawn as they are, which is the API's own default.
Request standard_request(const ServeOptions& options, const Model& model, const Tokenizer& tokenizer,
                         int64_t most, bool turns) {
  SamplingOptions sampling = options;
  if (!sampling.temperature && !model.generation().temperature && !model.generation().do_sample)
    sampling.temperature = 1.0;
  Request request = request_of(sampling, model, tokenizer, most, turns);
  request.max_new_tokens = std::min(request.max_new_tokens, options.max_tokens);
  return request;
}

std::string served_name(const ServeOptions& options) {
  if (!options.name.empty()) return options.name;
  const auto folder = std::filesystem::absolute(options.model).lexically_normal();
  return (folder.has_filename() ? folder : folder.parent_path()).filename().string();
}

class ServeRun {
 public:
  explicit ServeRun(const ServeOptions& options)
      : server_(http_options(options)),
        writer_(options, options.speculation,
                {.slots = options.parallel, .prefix_cache = static_cast<size_t>(options.prefix_cache)}),
        thread_(writer_.engine(), options.parallel + options.queue),
        chat_(load_template(options)),
        service_(thread_, writer_.tokenizer(), chat_ ? &*chat_ : nullptr, service_options(options)) {}

  void run() {
    stop_if_interrupted();
    server_.stop_at_signals();
    print(fmt::format("listening on http://{}\n", server_.address()));
    server_.run([this](const serve::HttpRequest& request, const std::shared_ptr<serve::HttpReply>& reply) {
      service_.handle(request, reply);
    });
  }

 private:
  static serve::HttpOptions http_options(const ServeOptions& options) {
    serve::HttpOptions http = options.http;
    http.body = static_cast<size_t>(options.body);
    if (!options.quiet) http.log = note;
    return http;
  }

  /// Nothing where the model has none; then no_template_ says so.
  std::optional<ChatTemplate> load_template(const ServeOptions& options) {
    try {
      return template_of(options, writer_.model(), writer_.tokenizer());
    } catch (const Error& error) {
      if (options.chat_template) throw;
      no_template_ = error.what();
      return {};
    }
  }

  serve::ServiceOptions service_options(const ServeOptions& options) const {
    const Decoder::Info& info = writer_.decoder().info();
    const auto standard = [&](int64_t most, bool turns) {
      return standard_request(options, writer_.model(), writer_.tokenizer(), most, turns);
    };
    return {.name = served_name(options),
            .path = options.model,
            .completion = standard(kCompletionTokens, /*turns=*/false),
            .chat = standard(kChatTokens, /*turns=*/true),
            .vocabulary = info.vocabulary,
            .positions = info.positions,
            .context = options.context,
            .max_tokens = options.max_tokens,
            .no_template = no_template_};
  }

  serve::HttpServer server_;  // the first: replies may live as long as the engine
  Writer writer_;
  serve::EngineThread thread_;
  std::string no_template_;  // before what sets it
  std::optional<ChatTemplate> chat_;
  serve::Service service_;
};

ExitStatus run_server(ServeOptions& options) {
  options.speculation.settle(options.model);
  check_sampling(options);
  check_speculation(options.speculation);
  ServeRun(options).run();
  return ExitStatus::kDone;
}

/// What keeps clients from taking all there is.
void add_limits(CLI::App& app, ServeOptions& options) {
  app.add_option("--context", options.context,
                 "Most tokens of a prompt and its text together; 0: as many as the model can")
      ->transform(count(0))
      ->type_name("TOKENS");
  app.add_option("--max-tokens", options.max_tokens, "Most tokens that a client may ask for")
      ->transform(count(1))
      ->type_name("TOKENS");
  app.add_option("--queue", options.queue, "Texts that may wait for their turn; more are refused (429)")
      ->transform(whole(0, 65536));
  app.add_option("--connections", options.http.connections,
                 "Clients connected at once; more are refused (503)")
      ->transform(whole(1, 65536));
  app.add_option("--max-body", options.body, "Bytes of a request's body; more is refused (413)")
      ->transform(count(1))
      ->type_name("BYTES");
  app.add_option("--timeout", options.http.timeout,
                 "Seconds that a client may take to send a request, or to take a piece of the answer")
      ->check(from_to(0.001, 1e6));
}

}  // namespace

void describe_serve(CLI::App& app, Work& work) {
  const auto options = std::make_shared<ServeOptions>();
  add_model(app, *options);
  app.add_option(
         "--host", options->http.host,
         "Address to listen at; 0.0.0.0 is all of the machine's: whoever reaches it may use the model")
      ->type_name("ADDRESS")
      ->check(not_empty());
  app.add_option("--port", options->http.port, "Port to listen at; 0: a free one")
      ->transform(whole(0, 65535));
  app.add_option("--name", options->name, "What the API calls the model (default: its folder's name)")
      ->type_name("NAME")
      ->check(not_empty());
  add_template(app, *options);
  add_sampling(app, *options, kChatTokens);
  app.get_option("--max-new-tokens")
      ->description(fmt::format("Most tokens of a text whose client names no number (default: "
                                "generation_config.json's, else {}, in a chat {})",
                                kCompletionTokens, kChatTokens));
  app.get_option("--temperature")
      ->description(
          "Of texts whose client names none. 0: greedy; above: logits are divided by it, then a token drawn "
          "(default: generation_config.json's, else 1)");
  add_limits(app, *options);
  app.add_option("--parallel", options->parallel, "Texts written side by side; each has a state of its own")
      ->transform(whole(1, 1024));
  app.add_option(
         "--prefix-cache", options->prefix_cache,
         "Bytes for the states of what prompts begin with, which is then read once (the same to rounding)")
      ->transform(count(0))
      ->type_name("BYTES");
  add_drafter(app, options->speculation);
  app.add_flag("--quiet", options->quiet, "No line on standard error for each request");
  add_device(app, *options);
  add_dtype(app, *options);
  add_weights(app, *options);
  add_state_type(app, *options);
  add_threads(app, *options);
  add_instructions(app);
  app.callback([&work, options] { work = [options] { return run_server(*options); }; });
}

}  // namespace linnet::cli

#include "serve/service.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>

#include "base/count.h"
#include "base/error.h"
#include "serve/answer.h"
#include "serve/api_error.h"

namespace linnet::serve {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char *kModels = "/v1/models", *kCompletions = "/v1/completions",
                     *kChat = "/v1/chat/completions", *kHealth = "/health";

int64_t seconds_since_1970() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

/// One that JSON's numbers hold exactly, so that a client can ask for it again.
uint64_t any_seed() {
  std::random_device device;
  return (uint64_t{device()} << 21) ^ device();
}

bool is_model(std::string_view path) { return path.starts_with(std::string(kModels) + "/"); }

}  // namespace

Service::Service(EngineThread& engine, Tokenizer tokenizer, const ChatTemplate* chat, ServiceOptions options)
    : engine_(engine),
      tokenizer_(std::move(tokenizer)),
      chat_(chat),
      options_(std::move(options)),
      created_(seconds_since_1970()) {}

void Service::handle(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply) {
  try {
    if (request.path == kCompletions || request.path == kChat) {
      if (request.method != "POST") throw ApiError::method(request.method, "POST");
      return write_text(request, request.path == kChat ? Api::kChat : Api::kCompletions, reply);
    }
    const std::string json = answer_at_once(request);
    reply->send(200, [json] { return json; });
  } catch (const ApiError& error) {
    reply->send(
        error.status(), [json = error.json()] { return json; }, error.allow());
  }
}

std::string Service::answer_at_once(const HttpRequest& request) const {
  const std::string& path = request.path;
  if (path != kHealth && path != kModels && !is_model(path))
    throw ApiError(404, fmt::format("{}: no such path, expected {}, {}, {} or {}", printable(path, 80),
                                    kCompletions, kChat, kModels, kHealth));
  if (request.method != "GET" && request.method != "HEAD")
    throw ApiError::method(request.method, "GET, HEAD");
  if (path == kHealth) return R"({"status": "ok"})";
  if (path == kModels) return models_json();
  if (path.substr(std::string_view(kModels).size() + 1) != options_.name)
    throw ApiError(404, fmt::format("{}: no such model, expected {}", printable(path, 80), options_.name),
                   "model_not_found");
  return model_json();
}

std::string Service::model_json() const {
  Json json = {{"id", options_.name}, {"object", "model"}, {"created", created_}, {"owned_by", "linnet"}};
  if (const int64_t most = options_.context > 0 ? options_.context : options_.positions; most > 0)
    json["max_model_len"] = most;
  return json.dump();
}

std::string Service::models_json() const {
  return fmt::format(R"({{"object": "list", "data": [{}]}})", model_json());
}

std::vector<int32_t> Service::tokens_of(const Prompt& prompt) const {
  const auto* text = std::get_if<std::string>(&prompt);
  return text != nullptr ? tokenizer_.encode(*text, /*special=*/true)
                         : std::get<std::vector<int32_t>>(prompt);
}

std::vector<std::vector<int32_t>> Service::tokens_of(const Call& call, Api api) const {
  try {
    std::vector<std::vector<int32_t>> prompts;
    for (const Prompt& prompt : call.prompts) prompts.push_back(tokens_of(prompt));
    if (api == Api::kChat)
      prompts.push_back(tokenizer_.encode(chat_->render(call.messages, /*answer=*/true)));
    return prompts;
  } catch (const Error& error) {  // the template refuses the conversation, or the tokenizer the text
    throw ApiError(400, error.what());
  }
}

/// Holds a call to the limits; fills in what it leaves open.
void Service::settle(Call& call, const std::vector<std::vector<int32_t>>& prompts) const {
  Request& settings = call.settings;
  if (std::ssize(prompts) > engine_.most())
    throw ApiError(
        400, fmt::format("request.prompt: {} prompts, expected at most {}", prompts.size(), engine_.most()));
  if (!call.tokens_field.empty() && settings.max_new_tokens > options_.max_tokens)
    throw ApiError(400, fmt::format("request.{}: {}, expected at most {}", call.tokens_field,
                                    settings.max_new_tokens, options_.max_tokens));
  for (const auto& prompt : prompts) {
    const auto length = std::ssize(prompt);
    if (length == 0)
      throw ApiError(400,
                     "request.prompt: empty, and the tokenizer adds no token of its own, expected some text");
    for (const int32_t token : prompt) {
      if (token >= options_.vocabulary)
        throw ApiError(400, fmt::format("request.prompt: token {}, expected ids from 0 to {}", token,
                                        options_.vocabulary - 1));
    }
    if (options_.positions > 0 && length > options_.positions)
      throw ApiError(400,
                     fmt::format("request.prompt: {}, expected at most {}, the model's positions",
                                 counted(length, "token"), options_.positions),
                     "context_length_exceeded");
    const int64_t wanted = !call.tokens_field.empty() ? settings.max_new_tokens : 1;
    if (options_.context > 0 && (length > options_.context || wanted > options_.context - length))
      throw ApiError(400,
                     fmt::format("request: {} of the prompt and {} to write, expected at most {} together",
                                 counted(length, "token"), wanted, options_.context),
                     "context_length_exceeded");
    if (options_.context > 0)
      settings.max_new_tokens = std::min(settings.max_new_tokens, options_.context - length);
  }
  if (!call.seed_given) settings.seed = any_seed();
}

void Service::write_text(const HttpRequest& request, Api api, const std::shared_ptr<HttpReply>& reply) {
  const bool chats = api == Api::kChat;
  Call call = read_call(request.body, api, chats ? options_.chat : options_.completion);
  if (!call.model.empty() && call.model != options_.name && call.model != options_.path)
    throw ApiError(404,
                   fmt::format("request.model: {}, expected {}", printable(call.model, 80), options_.name),
                   "model_not_found");
  if (chats && chat_ == nullptr) throw ApiError(400, options_.no_template, "no_chat_template");
  auto prompts = tokens_of(call, api);
  settle(call, prompts);
  const size_t count = prompts.size();
  const AnswerHead head{fmt::format("{}-{:x}-{}", chats ? "chatcmpl" : "cmpl", created_, next_++),
                        options_.name, seconds_since_1970()};
  const auto answer =
      std::make_shared<Answer>(head, api, std::move(call), std::move(prompts), tokenizer_, reply);
  std::vector<Job> jobs(count);
  for (size_t i = 0; i < count; ++i) {
    Job& job = jobs[i];
    job.request = answer->request(i);
    if (answer->streams())
      job.on_text = [answer, i](std::string_view text, const Generation& so_far) {
        answer->on_text(i, text, so_far);
      };
    job.on_end = [answer, i](Generation result) { answer->on_end(i, std::move(result)); };
    job.on_error = [answer](const std::string& error, bool bad) { answer->on_error(bad ? 400 : 500, error); };
  }
  auto ids = engine_.submit(std::move(jobs));
  if (ids.empty())
    throw ApiError(429, fmt::format("{} texts are waiting or being written: try again later", engine_.most()),
                   "queue_full");
  reply->on_gone([this, ids = std::move(ids)] { engine_.cancel(ids); });
}

}  // namespace linnet::serve

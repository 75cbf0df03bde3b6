#include "serve/answer.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "serve/api_error.h"

namespace linnet::serve {
namespace {

using Json = nlohmann::ordered_json;

std::string dumped(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

const char* finish_reason(Finish finish) {
  switch (finish) {
    case Finish::kEnd:
    case Finish::kStop:
      return "stop";
    case Finish::kLength:
    case Finish::kPositions:
    case Finish::kInterrupted:
      break;
  }
  return "length";
}

/// The text of a prompt that came as ids; a vocabulary may be padded with ids that have none.
std::string text_of(const std::vector<int32_t>& tokens, const Tokenizer& tokenizer) {
  StreamingDetokenizer detokenizer(tokenizer);
  std::string text;
  for (const int32_t token : tokens) {
    if (token < tokenizer.vocabulary()) text += detokenizer.push(token);
  }
  return text + detokenizer.finish();
}

}  // namespace

Answer::Answer(AnswerHead head, Api api, Call call, std::vector<std::vector<int32_t>> prompts,
               Tokenizer tokenizer, std::shared_ptr<HttpReply> reply)
    : head_(std::move(head)),
      api_(api),
      call_(std::move(call)),
      tokenizer_(std::move(tokenizer)),
      reply_(std::move(reply)),
      choices_(prompts.size()),
      left_(prompts.size()) {
  for (size_t i = 0; i < prompts.size(); ++i) {
    Choice& choice = choices_[i];
    choice.request = call_.settings;
    choice.request.prompt = std::move(prompts[i]);
    if (!call_.echo) continue;
    const auto* text = std::get_if<std::string>(&call_.prompts[i]);
    choice.echoed = text != nullptr ? *text : text_of(choice.request.prompt, tokenizer_);
  }
}

void Answer::on_text(size_t index, std::string_view text, const Generation& so_far) {
  if (failed_) return;
  send_piece(index, piece_json(choices_[index], text, so_far), nullptr);
}

void Answer::on_end(size_t index, Generation result) {
  if (failed_) return;
  Choice& choice = choices_[index];
  choice.result = std::move(result);
  if (streams())
    send_piece(index, piece_json(choice, "", choice.result), finish_reason(choice.result.finish));
  if (--left_ == 0) finish();
}

void Answer::on_error(int status, const std::string& message) {
  if (std::exchange(failed_, true)) return;
  const std::string json = ApiError(status, message).json();
  const bool begun = std::any_of(choices_.begin(), choices_.end(), [](const Choice& c) { return c.begun; });
  if (!begun) return reply_->send(status, [json] { return json; });
  reply_->note(message);
  reply_->stream(fmt::format("data: {}\n\n", json));
  reply_->end();
}

Json Answer::head_json(const char* object) const {
  return {{"id", head_.id}, {"object", object}, {"created", head_.created}, {"model", head_.model}};
}

Json Answer::usage_json() const {
  int64_t prompt = 0, written = 0;
  for (const Choice& choice : choices_) {
    prompt += std::ssize(choice.request.prompt);
    written += std::ssize(choice.result.tokens);
  }
  return {{"prompt_tokens", prompt}, {"completion_tokens", written}, {"total_tokens", prompt + written}};
}

LogprobsJson Answer::writer_of(const Choice& choice) const {
  const std::span<const int32_t> prompt = choice.request.prompt;
  return {tokenizer_, choice.request.prompt_logprobs ? prompt.first(0) : prompt};
}

Json Answer::choice_json(size_t index) const {
  const Choice& choice = choices_[index];
  Json logprobs;
  if (choice.request.logprobs) {
    const auto rows = logprob_rows(choice.request, choice.result);
    logprobs = api_ == Api::kChat ? chat_logprobs_json(tokenizer_, rows) : writer_of(choice).write(rows);
  }
  Json json = {{"index", index}};
  if (api_ == Api::kChat) {
    json["message"] = {{"role", "assistant"}, {"content", choice.result.text}};
  } else {
    json["text"] = choice.echoed + choice.result.text;
  }
  json["logprobs"] = std::move(logprobs);
  json["finish_reason"] = finish_reason(choice.result.finish);
  return json;
}

std::string Answer::whole_json() const {
  Json json = head_json(api_ == Api::kChat ? "chat.completion" : "text_completion"), list = Json::array();
  for (size_t i = 0; i < choices_.size(); ++i) list.push_back(choice_json(i));
  json["choices"] = std::move(list);
  json["usage"] = usage_json();
  return dumped(json);
}

/// What a piece of a stream says of a choice: its text, and the log probabilities of the tokens since the
/// last.
Json Answer::piece_json(Choice& choice, std::string_view text, const Generation& so_far) const {
  const bool first = !std::exchange(choice.begun, true);
  Json logprobs;
  if (choice.request.logprobs) {
    auto rows = logprob_rows(choice.request, so_far, choice.sent);
    if (!first && choice.request.prompt_logprobs)
      rows.erase(rows.begin(), rows.begin() + std::ssize(choice.request.prompt));
    choice.sent = so_far.logprobs.size();
    if (api_ == Api::kChat) {
      logprobs = chat_logprobs_json(tokenizer_, rows);
    } else {
      if (!choice.logprobs) choice.logprobs.emplace(writer_of(choice));
      logprobs = choice.logprobs->write(rows);
    }
  }
  Json fields;
  if (api_ == Api::kChat) {
    Json delta = Json::object();
    if (first) delta["role"] = "assistant";
    if (first || !text.empty()) delta["content"] = text;
    fields["delta"] = std::move(delta);
  } else {
    fields["text"] = (first ? choice.echoed : std::string()).append(text);
  }
  fields["logprobs"] = std::move(logprobs);
  return fields;
}

void Answer::send_piece(size_t index, Json fields, const char* finish) {
  Json json = head_json(api_ == Api::kChat ? "chat.completion.chunk" : "text_completion");
  Json choice = {{"index", index}};
  choice.update(fields);
  choice["finish_reason"] = finish != nullptr ? Json(finish) : Json();
  json["choices"] = Json::array({std::move(choice)});
  if (call_.include_usage) json["usage"] = nullptr;
  send_event(json);
}

void Answer::send_event(const Json& json) { reply_->stream(fmt::format("data: {}\n\n", dumped(json))); }

void Answer::finish() {
  const Json usage = usage_json();
  reply_->note(fmt::format("{} + {} tokens, seed {}", usage["prompt_tokens"].get<int64_t>(),
                           usage["completion_tokens"].get<int64_t>(), call_.settings.seed));
  if (!streams()) {
    // Made on a thread of the server's: log probabilities of a long prompt take their time.
    return reply_->send(200, [self = shared_from_this()] { return self->whole_json(); });
  }
  if (call_.include_usage) {
    Json json = head_json(api_ == Api::kChat ? "chat.completion.chunk" : "text_completion");
    json["choices"] = Json::array();
    json["usage"] = usage;
    send_event(json);
  }
  reply_->stream("data: [DONE]\n\n");
  reply_->end();
}

}  // namespace linnet::serve

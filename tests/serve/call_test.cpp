// What a body asks for, and which ones are refused with which words.
#include "serve/call.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "serve/api_error.h"

namespace linnet {
namespace {

using serve::Api;
using serve::ApiError;
using serve::Call;
using serve::Prompt;
using serve::read_call;
using testing::ElementsAre;
using testing::HasSubstr;

Request standard() {
  Request request;
  request.sampling.temperature = 0.5;
  request.max_new_tokens = 16;
  request.end = {2};
  request.stop = {"own"};
  return request;
}

Call completion(std::string_view body) { return read_call(body, Api::kCompletions, standard()); }

std::string refused(std::string_view body, Api api = Api::kCompletions) {
  try {
    read_call(body, api, standard());
    return "taken";
  } catch (const ApiError& error) {
    EXPECT_EQ(error.status(), 400) << body.substr(0, 200);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
}

TEST(Call, TakesEveryFormOfAPrompt) {
  const auto prompts = [](const char* json) {
    return completion(fmt::format(R"({{"prompt": {}}})", json)).prompts;
  };
  EXPECT_THAT(prompts(R"("a")"), ElementsAre(Prompt("a")));
  EXPECT_THAT(prompts(R"(["a", "b"])"), ElementsAre(Prompt("a"), Prompt("b")));
  EXPECT_THAT(prompts("[1, 2]"), ElementsAre(Prompt(std::vector<int32_t>{1, 2})));
  EXPECT_THAT(prompts(R"([[1], "a"])"), ElementsAre(Prompt(std::vector<int32_t>{1}), Prompt("a")));
}

TEST(Call, WhatIsLeftOpenIsAsTheServersStandardHasIt) {
  for (const char* body :
       {R"({"prompt": "a"})", R"({"prompt": "a", "temperature": null, "stop": null, "logprobs": null,
                           "max_tokens": null, "user": "me", "n": 1, "presence_penalty": 0, "logit_bias": {}, "unknown": [1]})"}) {
    const Call call = completion(body);
    EXPECT_EQ(call.settings.sampling.temperature, 0.5);
    EXPECT_EQ(call.settings.max_new_tokens, 16);
    EXPECT_THAT(call.settings.end, ElementsAre(2));
    EXPECT_THAT(call.settings.stop, ElementsAre("own"));
    EXPECT_FALSE(call.settings.logprobs || call.echo || call.stream || call.seed_given ||
                 !call.tokens_field.empty());
  }
}

TEST(Call, TakesWhatClientsSend) {
  const Call call = completion(
      R"({"model": "m", "prompt": "a", "temperature": 0, "top_p": 0.9, "top_k": -1, "min_p": 0.1, "max_tokens": 0,
          "seed": 7, "stop": ["x", ""], "logprobs": 3, "echo": true, "stream": true, "ignore_eos": true,
          "repetition_penalty": 1.5, "stream_options": {"include_usage": true}})");
  EXPECT_EQ(call.model, "m");
  const Request& settings = call.settings;
  EXPECT_EQ(settings.sampling.temperature, 0);
  EXPECT_EQ(settings.sampling.top_p, 0.9);
  EXPECT_EQ(settings.sampling.top_k, 0);
  EXPECT_EQ(settings.sampling.min_p, 0.1);
  EXPECT_EQ(settings.sampling.repetition_penalty, 1.5);
  EXPECT_EQ(settings.max_new_tokens, 0);
  EXPECT_EQ(settings.seed, 7U);
  EXPECT_THAT(settings.stop, ElementsAre("own", "x"));
  EXPECT_TRUE(settings.end.empty());
  EXPECT_EQ(settings.logprobs, 3);
  EXPECT_TRUE(settings.prompt_logprobs && call.echo && call.stream && call.include_usage);
  const Call chat = read_call(
      R"({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}],
          "max_completion_tokens": 5.0, "logprobs": true, "top_logprobs": 2, "tool_choice": "auto", "tools": [],
          "response_format": {"type": "text"}})",
      Api::kChat, standard());
  EXPECT_EQ(chat.messages[0]["content"], "a\nb");
  EXPECT_EQ(chat.settings.max_new_tokens, 5);
  EXPECT_EQ(chat.settings.logprobs, 2);
}

TEST(Call, RefusesWhatItCannotDoNamingTheField) {
  const std::pair<const char*, const char*> rows[] = {
      {R"("prompt": 3)", "request.prompt: no prompt, expected text or a list of token ids"},
      {R"("prompt": [])", "request.prompt: no prompt"},
      {R"("prompt": [[]])", "request.prompt[0]: no prompt"},
      {R"("prompt": [1, "a"])", "request.prompt[1]"},
      {R"("prompt": [1, -1])", "request.prompt[1]: -1, expected 0 to 2147483647"},
      {R"("prompt": [1, 99999999999])", "request.prompt[1]: 99999999999, expected 0 to"},
      {R"("prompt": [1.5])", "request.prompt[0]: 1.5, expected an integer"},
      {R"("temperature": -1)", "request.temperature: -1, expected 0 to"},
      {R"("temperature": "hot")", "request.temperature: \"hot\", expected a number"},
      {R"("top_p": 1.1)", "request.top_p: 1.1, expected 0 to 1"},
      {R"("repetition_penalty": 0)", "request.repetition_penalty: 0, expected 0.01 to 100"},
      {R"("repetition_penalty": 1e-38)", "request.repetition_penalty: 1e-38, expected 0.01 to 100"},
      {R"("max_tokens": -1)", "request.max_tokens: -1, expected at least 0"},
      {R"("max_tokens": 1.5)", "request.max_tokens: 1.5, expected an integer"},
      {R"("max_tokens": 1e300)", "request.max_tokens: 1e+300, expected an integer"},
      {R"("max_tokens": 18446744073709551615)", "request.max_tokens: 18446744073709551615, expected less"},
      {R"("n": 2)", "request.n: 2, expected 1"},
      {R"("best_of": 2)", "request.best_of: 2"},
      {R"("logprobs": 21)", "request.logprobs: 21, expected 0 to 20"},
      {R"("logprobs": true)", "request.logprobs: true, expected an integer"},
      {R"("stop": 3)", "request.stop"},
      {R"("stop": [3])", "request.stop[0]: 3, expected a string"},
      {R"("stop": ["","","","","","","","","","","","","","","","",""])",
       "request.stop: 17 strings, expected at most 16"},
      {R"("stream": 1)", "request.stream: 1, expected true or false"},
      {R"("stream_options": 1)", "request.stream_options: 1, expected an object"},
      {R"("seed": -2)", "request.seed: -2, expected at least -1"},
      {R"("model": 1)", "request.model: 1, expected a string"},
      {R"("suffix": "x")", "request.suffix: asked for, which Linnet does not offer, expected nothing"},
      {R"("presence_penalty": 0.5)", "request.presence_penalty: asked for"},
      {R"("logit_bias": {"5": 1})", "request.logit_bias: asked for"}};
  for (const auto& [field, expected] : rows) {
    const bool prompt = std::string_view(field).starts_with(R"("prompt")");
    EXPECT_THAT(refused(fmt::format("{{{}{}}}", field, prompt ? "" : R"(, "prompt": "a")")),
                HasSubstr(expected));
  }
}

TEST(Call, RefusesBodiesThatAreNoRequest) {
  const std::pair<std::string, const char*> rows[] = {
      {"", "request: no body, expected a JSON object"},
      {"[]", "request: no object, expected a JSON object"},
      {"{}", "request.prompt: missing"},
      {"{\"prompt\": \"a\"", "request: not JSON at byte"},
      {"{\"prompt\": \"\xff\"}", "request: not JSON at byte"},
      {"{\"prompt\": \"\xed\xa0\x80\"}", "request: not JSON at byte"},
      {"\xEF\xBB\xBF{}", "request: begins with a byte-order mark"},
      {std::string("{\"prompt\": \"a\"}\0", 16), "request: not JSON at byte"},
      {"{\"prompt\": \"a\", \"prompt\": \"b\"}", "request: key \"prompt\" stands twice"},
      {"{\"prompt\": \"a\", \"x\": 1e999}",
       "request: 1e999, past what a number may be, expected at most 1.8e308"},
      {"{\"prompt\": " + std::string(1'000'000, '['),
       "request: JSON nested too deeply, expected at most 32 levels"}};
  for (const auto& [body, expected] : rows)
    EXPECT_THAT(refused(body), HasSubstr(expected)) << body.substr(0, 100);
}

TEST(Call, RefusesConversationsThatAreNone) {
  const std::pair<const char*, const char*> rows[] = {
      {R"({})", "request.messages: missing"},
      {R"({"messages": []})", "request.messages: no message, expected at least one"},
      {R"({"messages": 3})", "request.messages: 3, expected an array"},
      {R"({"messages": [{"role": "user"}]})", "request.messages[0].content: missing"},
      {R"({"messages": [{"content": "a"}]})", "request.messages[0].role: missing"},
      {R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})",
       "request.messages[0].content: a part that is no text"},
      {R"({"messages": [{"role": "user", "content": "a"}], "tools": [{"type": "function"}]})",
       "request.tools: asked for"},
      {R"({"messages": [{"role": "user", "content": "a"}], "response_format": {"type": "json_object"}})",
       "request.response_format: asked for"},
      {R"({"messages": [{"role": "user", "content": "a"}], "top_logprobs": 2})",
       "request.top_logprobs: given without logprobs"},
      {R"({"messages": [{"role": "user", "content": "a"}], "max_tokens": 0})",
       "request.max_tokens: 0, expected at least 1"}};
  for (const auto& [body, expected] : rows)
    EXPECT_THAT(refused(body, Api::kChat), HasSubstr(expected)) << body;
}

}  // namespace
}  // namespace linnet

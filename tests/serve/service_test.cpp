// The API on an engine, without a network: what is answered is what the engine writes, whoever else asks.
#include "serve/service.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <optional>

#include "base/error.h"
#include "tests/generate/hash_decoder.h"
#include "tests/generate/small_tokenizer.h"

namespace linnet {
namespace {

using nlohmann::json;
using serve::HttpReply;
using testing::HasSubstr;

constexpr int64_t kVocabulary = 24;

/// A client that waits for its answer.
class Reader final : public HttpReply {
 public:
  void send(int status, std::function<std::string()> body, std::string allow) override {
    const std::lock_guard lock(mutex_);
    status_ = status, text_ = body(), allow_ = std::move(allow), done_ = true;
    changed_.notify_all();
  }
  void stream(std::string piece) override {
    const std::lock_guard lock(mutex_);
    status_ = 200, text_ += piece;
    changed_.notify_all();
  }
  void end() override {
    const std::lock_guard lock(mutex_);
    done_ = true;
    changed_.notify_all();
  }
  void on_gone(std::function<void()> gone) override { gone_ = std::move(gone); }
  void note(std::string) override {}

  void go_away() { gone_(); }
  int status() {
    wait([&] { return done_; });
    return status_;
  }
  std::string allow() {
    wait([&] { return done_; });
    return allow_;
  }
  json answer() {
    wait([&] { return done_; });
    return json::parse(text_);
  }
  void wait_for_a_piece() {
    wait([&] { return !text_.empty(); });
  }
  /// The events of a stream, without the one that ends it.
  std::vector<json> events() {
    wait([&] { return done_; });
    std::vector<json> list;
    std::string_view rest = text_;
    for (size_t end = rest.find("\n\n"); end != rest.npos; end = rest.find("\n\n")) {
      EXPECT_TRUE(rest.starts_with("data: "));
      const std::string_view data = rest.substr(6, end - 6);
      rest.remove_prefix(end + 2);
      if (data != "[DONE]") list.push_back(json::parse(data));
      EXPECT_EQ(data == "[DONE]", rest.empty());
    }
    return list;
  }

 private:
  template <class Condition>
  void wait(const Condition& condition) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, condition);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::string text_, allow_;
  std::function<void()> gone_;
  int status_ = 0;
  bool done_ = false;
};

/// A decoder that can break down, once, and be held up.
struct BrittleDecoder : HashDecoder {
  using HashDecoder::HashDecoder;
  std::atomic<bool> breaks = false;
  std::atomic<int> breaks_after = -1;  // tokens of a sequence, whose logits are no numbers from there on
  std::mutex gate;                     // whoever has it holds up every step
  void step(std::span<const Branch> branches) override {
    const std::lock_guard lock(gate);
    if (breaks.exchange(false)) throw Error("logits", "not numbers", {}, ExitStatus::kFailed);
    HashDecoder::step(branches);
    for (size_t i = 0; i < branches.size(); ++i) {
      if (length(branches[i].slot) + 1 == breaks_after)
        std::fill_n(logits_.begin() + static_cast<int64_t>(i) * kVocabulary, kVocabulary, std::nanf(""));
    }
  }
};

class ServiceTest : public testing::Test {
 protected:
  explicit ServiceTest(int queue = 100)
      : engine_(decoder_, small_tokenizer(), *drafter_, {.slots = 4, .max_nodes = 4}) {
    thread_.emplace(engine_, queue);
    serve::ServiceOptions options{
        .name = "m", .path = "models/m", .vocabulary = kVocabulary, .context = 400, .max_tokens = 300};
    options.completion.max_new_tokens = options.chat.max_new_tokens = 9;
    template_.emplace("{% for m in messages %}{{ m.content }}{% endfor %}", "test");
    service_.emplace(*thread_, small_tokenizer(), &*template_, options);
  }

  std::shared_ptr<Reader> post(const json& body, const char* path = "/v1/completions") {
    auto reader = std::make_shared<Reader>();
    service_->handle({"POST", path, body.dump()}, reader);
    return reader;
  }
  std::shared_ptr<Reader> chat(json body) {
    body["messages"] = {{{"role", "user"}, {"content", "abc"}}};
    return post(body, "/v1/chat/completions");
  }
  std::pair<int, std::string> ask(const char* method, const char* path) {
    auto reader = std::make_shared<Reader>();
    service_->handle({method, path, ""}, reader);
    const int status = reader->status();
    return {status, reader->answer().dump()};
  }

  /// What an engine by itself writes.
  static Generation alone(Request request) {
    HashDecoder decoder(kVocabulary, 1);
    const auto drafter = make_no_drafter();
    Engine engine(decoder, small_tokenizer(), *drafter, {.slots = 1, .max_nodes = 1});
    return engine.run({&request, 1}).front();
  }
  static Request request(const std::string& prompt, double temperature, uint64_t seed, int64_t tokens) {
    Request request;
    request.prompt = small_tokenizer().encode(prompt);
    request.sampling.temperature = temperature;
    request.seed = seed;
    request.max_new_tokens = tokens;
    return request;
  }

  BrittleDecoder decoder_{kVocabulary, 4};
  std::unique_ptr<Drafter> drafter_ = make_no_drafter();
  Engine engine_;
  std::optional<serve::EngineThread> thread_;
  std::optional<ChatTemplate> template_;
  std::optional<serve::Service> service_;
};

TEST_F(ServiceTest, SixtyFourClientsAtOnceGetWhatEachWouldAlone) {
  std::vector<std::shared_ptr<Reader>> readers;
  const auto body = [](int i) {
    return json{{"prompt", i % 2 ? "abcab" : "dab"},
                {"temperature", 0.9},
                {"seed", i},
                {"max_tokens", 5 + i},
                {"stream", i % 3 == 0}};
  };
  for (int i = 0; i < 64; ++i) readers.push_back(post(body(i)));
  for (int i = 0; i < 64; ++i) {
    const Generation expected = alone(request(i % 2 ? "abcab" : "dab", 0.9, static_cast<uint64_t>(i), 5 + i));
    std::string text;
    if (i % 3 == 0) {
      for (const json& event : readers[static_cast<size_t>(i)]->events()) text += event["choices"][0]["text"];
    } else {
      text = readers[static_cast<size_t>(i)]->answer()["choices"][0]["text"];
    }
    EXPECT_EQ(text, expected.text) << i;
  }
}

TEST_F(ServiceTest, SaysWhatTheTextTookAndWhyItEnded) {
  const json answer = post({{"prompt", "abc"}, {"temperature", 0}, {"max_tokens", 7}})->answer();
  EXPECT_EQ(answer["object"], "text_completion");
  EXPECT_EQ(answer["model"], "m");
  EXPECT_EQ(answer["choices"].size(), 1U);
  EXPECT_EQ(answer["choices"][0]["finish_reason"], "length");
  EXPECT_TRUE(answer["choices"][0]["logprobs"].is_null());
  EXPECT_EQ(answer["usage"], json({{"prompt_tokens", 3}, {"completion_tokens", 7}, {"total_tokens", 10}}));
  const std::string text = alone(request("abc", 0, 0, 100)).text;
  ASSERT_GT(text.size(), 12U);
  const std::string stop = text.substr(8, 2);
  const json stopped =
      post({{"prompt", "abc"}, {"temperature", 0}, {"max_tokens", 100}, {"stop", stop}})->answer();
  EXPECT_EQ(stopped["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(stopped["choices"][0]["text"], text.substr(0, text.find(stop)));
}

TEST_F(ServiceTest, EchoWithLogprobsSaysHowLikelyThePromptIs) {
  Request expected = request("abcab", 0, 0, 1);
  expected.logprobs = 2;
  expected.prompt_logprobs = true;
  const Generation result = alone(expected);
  for (const int tokens : {0, 1}) {
    for (const json& prompt : {json("abcab"), json(expected.prompt)}) {
      const json choice = post({{"prompt", prompt},
                                {"temperature", 0},
                                {"max_tokens", tokens},
                                {"echo", true},
                                {"logprobs", 2}})
                              ->answer()["choices"][0];
      EXPECT_EQ(choice["text"], "abcab" + (tokens > 0 ? result.text : ""));
      EXPECT_EQ(choice["finish_reason"], "length");
      const json& logs = choice["logprobs"];
      ASSERT_EQ(logs["token_logprobs"].size(), expected.prompt.size() + static_cast<size_t>(tokens));
      EXPECT_TRUE(logs["token_logprobs"][0].is_null() && logs["top_logprobs"][0].is_null());
      for (size_t i = 0; i < result.prompt_logprobs.size(); ++i) {
        EXPECT_EQ(logs["token_logprobs"][i + 1], result.prompt_logprobs[i].logprob);
        const json& top = logs["top_logprobs"][i + 1];
        EXPECT_GE(top.size(), 2U);
        EXPECT_EQ(top[logs["tokens"][i + 1].get<std::string>()], result.prompt_logprobs[i].logprob);
      }
      if (tokens > 0) {
        EXPECT_EQ(logs["token_logprobs"].back(), result.logprobs[0].logprob);
      }
    }
  }
}

TEST_F(ServiceTest, SeveralPromptsGetAChoiceEach) {
  const json answer =
      post({{"prompt", {"abc", "dab", "k"}}, {"temperature", 0}, {"max_tokens", 4}})->answer();
  ASSERT_EQ(answer["choices"].size(), 3U);
  const char* prompts[] = {"abc", "dab", "k"};
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(answer["choices"][i]["index"], i);
    EXPECT_EQ(answer["choices"][i]["text"], alone(request(prompts[i], 0, 0, 4)).text);
  }
  EXPECT_EQ(answer["usage"]["completion_tokens"], 12);
}

TEST_F(ServiceTest, AStreamIsTheWholeAnswerInPieces) {
  uint64_t seed = 0;  // of a text with a code point of two tokens
  while (alone(request("abc", 1, seed, 200)).text.find("é") == std::string::npos) ++seed;
  for (const bool chats : {false, true}) {
    json body = {{"prompt", "abc"}, {"temperature", 1}, {"seed", seed}, {"max_tokens", 200}};
    if (chats) body["logprobs"] = true, body["top_logprobs"] = 2;
    if (!chats) body["logprobs"] = 2, body["echo"] = true;
    const json whole = (chats ? chat(body) : post(body))->answer();
    body["stream"] = true;
    body["stream_options"] = {{"include_usage", true}};
    std::string text, role;
    json logprobs = chats ? json{{"content", json::array()}} : json::object(), finish, usage;
    for (const json& event : (chats ? chat(body) : post(body))->events()) {
      if (event["choices"].empty()) {
        usage = event["usage"];
        continue;
      }
      const json& choice = event["choices"][0];
      EXPECT_TRUE(finish.is_null()) << "a piece after the last";
      finish = choice["finish_reason"];
      text += chats ? choice["delta"].value("content", "") : choice["text"].get<std::string>();
      if (chats) role += choice["delta"].value("role", "");
      for (const auto& [key, list] : choice["logprobs"].items())
        for (const json& item : list) logprobs[key].push_back(item);
    }
    const json& choice = whole["choices"][0];
    EXPECT_EQ(text, chats ? choice["message"]["content"] : choice["text"]);
    EXPECT_THAT(text, HasSubstr("é"));
    EXPECT_EQ(logprobs, choice["logprobs"]);
    EXPECT_EQ(finish, "length");
    EXPECT_EQ(usage, whole["usage"]);
    EXPECT_EQ(role, chats ? "assistant" : "");
  }
}

TEST_F(ServiceTest, HoldsClientsToItsLimits) {
  const std::pair<json, const char*> rows[] = {
      {{{"prompt", ""}},
       "request.prompt: empty, and the tokenizer adds no token of its own, expected some text"},
      {{{"prompt", {24}}}, "request.prompt: token 24, expected ids from 0 to 23"},
      {{{"prompt", "a"}, {"max_tokens", 301}}, "request.max_tokens: 301, expected at most 300"},
      {{{"prompt", "a"}, {"max_completion_tokens", 301}},
       "request.max_completion_tokens: 301, expected at most 300"},
      {{{"prompt", std::string(401, 'd')}},
       "request: 401 tokens of the prompt and 1 to write, expected at most 400 together"},
      {{{"prompt", std::string(399, 'd')}, {"max_tokens", 2}},
       "request: 399 tokens of the prompt and 2 to write"},
      {{{"prompt", std::vector<std::string>(101, "a")}},
       "request.prompt: 101 prompts, expected at most 100"}};
  for (const auto& [body, message] : rows) {
    const auto reader = post(body);
    EXPECT_EQ(reader->status(), 400);
    EXPECT_THAT(reader->answer()["error"]["message"].get<std::string>(), HasSubstr(message));
    EXPECT_EQ(reader->answer()["error"]["type"], "invalid_request_error");
  }
  const json last = post({{"prompt", std::string(399, 'd')}})->answer();
  EXPECT_EQ(last["usage"]["completion_tokens"], 1);
}

TEST_F(ServiceTest, KnowsItsPathsMethodsAndModel) {
  EXPECT_EQ(ask("GET", "/health"), std::pair(200, std::string(R"({"status":"ok"})")));
  EXPECT_THAT(ask("GET", "/v1/models").second, HasSubstr(R"("id":"m")"));
  EXPECT_THAT(ask("GET", "/v1/models/m").second, HasSubstr(R"("id":"m")"));
  EXPECT_EQ(ask("GET", "/v1/models/x").first, 404);
  EXPECT_EQ(ask("GET", "/v1/embeddings").first, 404);
  const std::pair<const char*, const char*> allowed[] = {{"/v1/completions", "POST"},
                                                         {"/v1/chat/completions", "POST"},
                                                         {"/v1/models", "GET, HEAD"},
                                                         {"/v1/models/m", "GET, HEAD"},
                                                         {"/health", "GET, HEAD"}};
  for (const auto& [path, methods] : allowed) {
    const auto reader = std::make_shared<Reader>();
    service_->handle({"DELETE", path, ""}, reader);
    EXPECT_EQ(reader->status(), 405) << path;
    EXPECT_EQ(reader->allow(), methods) << path;
  }
  EXPECT_EQ(ask("GET", "/v1/completions").first, 405);
  EXPECT_EQ(post({{"prompt", "a"}, {"model", "x"}})->status(), 404);
  for (const char* name : {"m", "models/m"})
    EXPECT_EQ(post({{"prompt", "a"}, {"model", name}})->status(), 200);
}

TEST_F(ServiceTest, AModelWithoutATemplateSaysSo) {
  serve::ServiceOptions options{.name = "m", .vocabulary = kVocabulary, .max_tokens = 300};
  options.no_template = "m: no chat template here";
  serve::Service service(*thread_, small_tokenizer(), nullptr, options);
  const auto reader = std::make_shared<Reader>();
  service.handle({"POST", "/v1/chat/completions", R"({"messages": [{"role": "user", "content": "a"}]})"},
                 reader);
  EXPECT_EQ(reader->status(), 400);
  EXPECT_EQ(reader->answer()["error"]["message"], "m: no chat template here");
}

TEST_F(ServiceTest, AClientThatGoesAwayFreesItsPlace) {
  std::vector<std::shared_ptr<Reader>> readers;
  std::unique_lock closed(decoder_.gate);
  for (int i = 0; i < 100; ++i)
    readers.push_back(post({{"prompt", "a"}, {"max_tokens", 300}, {"stream", true}}));
  const auto refused = post({{"prompt", "a"}});
  EXPECT_EQ(refused->status(), 429);
  EXPECT_EQ(refused->answer()["error"]["type"], "rate_limit_error");
  closed.unlock();
  readers.front()->wait_for_a_piece();
  for (const auto& reader : readers) reader->go_away();
  json body = {{"prompt", "abc"}, {"temperature", 0}};
  auto next = post(body);
  while (next->status() == 429) next = post(body);
  EXPECT_EQ(next->answer()["choices"][0]["text"], alone(request("abc", 0, 0, 9)).text);
}

TEST_F(ServiceTest, WhatBreaksTheEngineCostsTheTextsThatWereOpenAndNothingElse) {
  decoder_.breaks = true;
  const auto broken = post({{"prompt", "a"}});
  EXPECT_EQ(broken->status(), 500);
  EXPECT_EQ(broken->answer()["error"]["message"], "logits: not numbers");
  EXPECT_EQ(post({{"prompt", "abc"}, {"temperature", 0}})->answer()["choices"][0]["text"],
            alone(request("abc", 0, 0, 9)).text);
}

TEST_F(ServiceTest, ATextThatBreaksCostsItselfAlone) {
  decoder_.breaks_after = 40;
  std::vector<std::shared_ptr<Reader>> readers;
  std::unique_lock closed(decoder_.gate);
  // 40 tokens are reached by the second alone.
  for (const int tokens : {20, 300, 30})
    readers.push_back(post({{"prompt", "abc"}, {"temperature", 0}, {"max_tokens", tokens}}));
  closed.unlock();
  EXPECT_EQ(readers[1]->status(), 500);
  EXPECT_THAT(readers[1]->answer()["error"]["message"], HasSubstr("not"));
  for (const int i : {0, 2})
    EXPECT_EQ(readers[static_cast<size_t>(i)]->answer()["choices"][0]["text"],
              alone(request("abc", 0, 0, i == 0 ? 20 : 30)).text);
}

}  // namespace
}  // namespace linnet

// The OpenAI API on an engine: what each path answers.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>

#include "serve/call.h"
#include "serve/engine_thread.h"
#include "serve/http.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace linnet::serve {

struct ServiceOptions {
  std::string name;          // of the model, to clients
  std::string path;          // its folder as it was named, which they may use as well
  Request completion, chat;  // settings of what a client leaves open
  int64_t vocabulary = 0;    // of the model
  int64_t positions = 0;     // that it has at most; 0: no end
  int64_t context = 0;       // tokens of a prompt and its text, at most; 0: no limit
  int64_t max_tokens = 0;    // that a client may ask for
  std::string no_template;   // why there is no chat template, where there is none
};

class Service {
 public:
  /// All must outlive it. `chat` may be null.
  Service(EngineThread& engine, Tokenizer tokenizer, const ChatTemplate* chat, ServiceOptions options);

  void handle(const HttpRequest& request, const std::shared_ptr<HttpReply>& reply);

 private:
  std::string answer_at_once(const HttpRequest& request) const;
  std::string models_json() const;
  std::string model_json() const;
  void write_text(const HttpRequest& request, Api api, const std::shared_ptr<HttpReply>& reply);
  std::vector<std::vector<int32_t>> tokens_of(const Call& call, Api api) const;
  std::vector<int32_t> tokens_of(const Prompt& prompt) const;
  void settle(Call& call, const std::vector<std::vector<int32_t>>& prompts) const;

  EngineThread& engine_;
  Tokenizer tokenizer_;
  const ChatTemplate* chat_;
  ServiceOptions options_;
  int64_t created_;
  std::atomic<uint64_t> next_ = 0;
};

}  // namespace linnet::serve

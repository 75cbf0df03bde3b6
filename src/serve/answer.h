// The answer to one call: a choice for each of its prompts, whole or as events while they are written.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "generate/logprobs_json.h"
#include "serve/call.h"
#include "serve/http.h"
#include "text/tokenizer.h"

namespace linnet::serve {

/// What every JSON of an answer says.
struct AnswerHead {
  std::string id, model;
  int64_t created = 0;  // seconds since 1970
};

/// Lives as long as something may still come. All but the constructor runs on the engine's thread.
class Answer : public std::enable_shared_from_this<Answer> {
 public:
  Answer(AnswerHead head, Api api, Call call, std::vector<std::vector<int32_t>> prompts, Tokenizer tokenizer,
         std::shared_ptr<HttpReply> reply);

  bool streams() const { return call_.stream; }
  /// The request of a choice.
  const Request& request(size_t choice) const { return choices_[choice].request; }

  /// Text of a choice that became final, and what there is of it.
  void on_text(size_t choice, std::string_view text, const Generation& so_far);
  void on_end(size_t choice, Generation result);
  /// Answers with the error; what still comes of other choices is dropped.
  void on_error(int status, const std::string& message);

 private:
  struct Choice {
    Request request;
    std::string echoed;
    Generation result;
    std::optional<LogprobsJson> logprobs;  // of a stream of completions
    bool begun = false;
    size_t sent = 0;  // tokens whose log probabilities were
  };

  nlohmann::ordered_json head_json(const char* object) const;
  nlohmann::ordered_json usage_json() const;
  nlohmann::ordered_json choice_json(size_t index) const;
  std::string whole_json() const;
  LogprobsJson writer_of(const Choice& choice) const;
  nlohmann::ordered_json piece_json(Choice& choice, std::string_view text, const Generation& so_far) const;
  void send_piece(size_t choice, nlohmann::ordered_json fields, const char* finish);
  void send_event(const nlohmann::ordered_json& json);
  void finish();

  AnswerHead head_;
  Api api_;
  Call call_;
  Tokenizer tokenizer_;
  std::shared_ptr<HttpReply> reply_;
  std::vector<Choice> choices_;
  size_t left_;  // choices that have not ended
  bool failed_ = false;
};

}  // namespace linnet::serve

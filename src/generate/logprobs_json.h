// Log probabilities as the OpenAI API lays them out.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <vector>

#include "generate/sequence.h"
#include "text/tokenizer.h"

namespace linnet {

/// A token that has log probabilities, or the first of a prompt, which has none.
struct LogprobRow {
  int32_t token = 0;
  const TokenLogprobs* logprobs = nullptr;
};

/// Those of the prompt, where they were asked for, then those of the text from its token `from` on.
std::vector<LogprobRow> logprob_rows(const Request& request, const Generation& result, size_t from = 0);

/// The lists of the completions API, of a text that may come in pieces.
class LogprobsJson {
 public:
  /// `before`: what stands before the first token that is written, and has no place in the text.
  LogprobsJson(const Tokenizer& tokenizer, std::span<const int32_t> before);

  /// {"tokens", "token_logprobs", "top_logprobs", "text_offset"}: the likeliest tokens and, wherever it is
  /// not among them, the token itself; offsets in characters of the text, a code point's where a token begins
  /// inside one.
  nlohmann::ordered_json write(std::span<const LogprobRow> rows);

 private:
  size_t push(int32_t token);

  Tokenizer tokenizer_;
  StreamingDetokenizer detokenizer_;
  size_t offset_ = 0;
};

/// {"content": [{"token", "logprob", "bytes", "top_logprobs"}]}, of the chat API.
nlohmann::ordered_json chat_logprobs_json(const Tokenizer& tokenizer, std::span<const LogprobRow> rows);

}  // namespace linnet

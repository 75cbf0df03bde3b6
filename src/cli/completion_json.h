// What a generated text is reported as: JSON fields and tables that `generate` and `chat` share.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "generate/engine.h"
#include "text/tokenizer.h"

namespace linnet::cli {

struct Completion {
  const Tokenizer& tokenizer;
  const Request& request;
  const Generation& result;
  std::string echoed;  // the prompt's text, where it belongs to the result
};

/// Tokens per second; nothing where there was nothing to measure.
struct Rates {
  std::optional<double> prefill, decode;
};
Rates rates_of(const Completion& completion);

/// The fields of `generate --json`; `logprobs` as the OpenAI completions API lays them out.
nlohmann::ordered_json completion_json(const Completion& completion);

/// Each token with its log probability and the likeliest beside it, a line each, on standard error.
void print_logprobs(const Completion& completion);

}  // namespace linnet::cli

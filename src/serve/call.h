// What a client asks for: the body of a request of the OpenAI API, read and checked. Fields that nobody knows
// are passed over, as other servers of it do; one that is known and would change the answer in a way that
// Linnet does not offer is refused.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "generate/sequence.h"

namespace linnet::serve {

enum class Api { kCompletions, kChat };

/// Text, or the ids of tokens.
using Prompt = std::variant<std::string, std::vector<int32_t>>;

struct Call {
  std::string model;                // empty: not said
  std::vector<Prompt> prompts;      // of kCompletions: one or more
  nlohmann::ordered_json messages;  // of kChat, as read_messages() gives them
  Request settings;                 // all but the prompt; prompt_logprobs too
  std::string tokens_field;         // that max_new_tokens is from; empty: it was not given
  bool seed_given = false;
  bool echo = false, stream = false, include_usage = false;
};

constexpr int kMostLogprobs = 20;  // likeliest tokens beside each
constexpr int kMostStops = 16;     // stop strings

/// `standard`: settings of what the client leaves open. Throws ApiError.
Call read_call(std::string_view body, Api api, const Request& standard);

}  // namespace linnet::serve

#include "serve/call.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <optional>

#include "base/error.h"
#include "base/json.h"
#include "serve/api_error.h"
#include "text/chat_template.h"
#include "text/json_view.h"

namespace linnet::serve {
namespace {

constexpr int kDepth = 32;  // of a body's JSON

int64_t whole(const JsonView& field, int64_t low, int64_t high = std::numeric_limits<int64_t>::max()) {
  const nlohmann::json& value = field.value();
  // 16.0 is what some languages make of 16.
  const double number = value.is_number_float() ? value.get<double>() : 0.5;
  const bool integral = std::trunc(number) == number && std::abs(number) < 9e15;
  const int64_t count = integral ? static_cast<int64_t>(number) : field.integer();
  if (count < low || count > high)
    field.fail(fmt::format("{}", count), high == std::numeric_limits<int64_t>::max()
                                             ? fmt::format("at least {}", low)
                                             : fmt::format("{} to {}", low, high));
  return count;
}

double number(const JsonView& field, double low, double high) {
  const double value = field.number();
  if (!(value >= low && value <= high))
    field.fail(fmt::format("{}", value), fmt::format("{} to {}", low, high));
  return value;
}

void read_sampling(const JsonView& body, Sampling& sampling) {
  const auto set = [&](const char* name, double low, double high, double& value) {
    if (const JsonView field = body[name]; !field.is_null()) value = number(field, low, high);
  };
  set("temperature", 0, std::numeric_limits<double>::max(), sampling.temperature);
  set("top_p", 0, 1, sampling.top_p);
  set("min_p", 0, 1, sampling.min_p);
  set("repetition_penalty", Sampling::kLeastPenalty, Sampling::kMostPenalty, sampling.repetition_penalty);
  if (const JsonView field = body["top_k"]; !field.is_null())
    sampling.top_k = std::max<int64_t>(0, whole(field, -1));  // −1: all, as 0
}

std::vector<std::string> read_stops(const JsonView& field) {
  std::vector<std::string> stops;
  if (field.is_null()) return stops;
  if (field.value().is_string()) {
    stops.push_back(field.string());
  } else {
    for (size_t i = 0; i < field.size(); ++i) stops.push_back(field.at(i).string());
  }
  if (stops.size() > size_t{kMostStops})
    field.fail(fmt::format("{} strings", stops.size()), fmt::format("at most {}", kMostStops));
  std::erase(stops, "");  // what clients send for none
  return stops;
}

std::vector<int32_t> read_ids(const JsonView& list) {
  std::vector<int32_t> ids;
  ids.reserve(list.size());
  for (size_t i = 0; i < list.size(); ++i)
    ids.push_back(static_cast<int32_t>(whole(list.at(i), 0, std::numeric_limits<int32_t>::max())));
  return ids;
}

Prompt read_prompt(const JsonView& prompt) {
  if (prompt.value().is_string()) return prompt.string();
  if (prompt.value().is_array() && prompt.size() > 0) return read_ids(prompt);
  prompt.fail("no prompt", "text or a list of token ids");
}

/// A text, a list of texts, a list of ids, or a list of lists of ids.
std::vector<Prompt> read_prompts(const JsonView& field) {
  std::vector<Prompt> prompts;
  const bool several = field.value().is_array() && field.size() > 0 && !field.value().front().is_number();
  if (!several) return {read_prompt(field)};
  for (size_t i = 0; i < field.size(); ++i) prompts.push_back(read_prompt(field.at(i)));
  return prompts;
}

/// The text of a message that comes in parts, as models' templates want it.
void join_parts(nlohmann::ordered_json& content, const std::string& where) {
  if (!content.is_array()) return;
  std::string text;
  for (const auto& part : content) {
    const bool is_text = part.is_object() && part.value("type", nlohmann::ordered_json()) == "text" &&
                         part.contains("text") && part["text"].is_string();
    if (!is_text) throw Error(where, "a part that is no text", "{\"type\": \"text\", \"text\": …}");
    if (!text.empty()) text += '\n';
    text += part["text"].get<std::string>();
  }
  content = text;
}

nlohmann::ordered_json read_conversation(std::string_view body) {
  // Once more, for the order of members, which a template may show.
  const auto all = nlohmann::ordered_json::parse(body);
  if (!all.contains("messages")) throw Error("request.messages", "missing", "a list of messages");
  auto messages = read_messages(all["messages"].dump(), "request.messages");
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string where = fmt::format("request.messages[{}].content", i);
    if (!messages[i].contains("content")) throw Error(where, "missing", "a string");
    join_parts(messages[i]["content"], where);
  }
  return messages;
}

void refuse_unless_idle(const JsonView& body, const char* name) {
  const nlohmann::json& value = body[name].value();
  const bool idle = value.is_null() || value == 0 || value == false || value == "" || value == "none" ||
                    ((value.is_object() || value.is_array()) && value.empty()) ||
                    (value.is_object() && value.value("type", nlohmann::json()) == "text");
  if (!idle) body[name].fail("asked for, which Linnet does not offer", "nothing");
}

void refuse_what_is_not_offered(const JsonView& body) {
  for (const char* name : {"suffix", "presence_penalty", "frequency_penalty", "logit_bias", "response_format",
                           "tools", "functions", "tool_choice", "use_beam_search"})
    if (std::string_view(name) != "tool_choice" || body[name].value() != "auto")
      refuse_unless_idle(body, name);
  for (const char* name : {"n", "best_of"})
    if (const JsonView field = body[name]; !field.is_null() && whole(field, 0) != 1)
      field.fail(fmt::format("{}", field.value().dump()), "1");
}

/// How many likeliest tokens beside each; nothing where none are asked for.
std::optional<int> read_logprobs(const JsonView& body, Api api) {
  const JsonView field = body["logprobs"];
  if (api == Api::kCompletions)
    return field.is_null() ? std::nullopt : std::optional(static_cast<int>(whole(field, 0, kMostLogprobs)));
  const JsonView top = body["top_logprobs"];
  if (!field.boolean(false)) {
    if (!top.is_null() && top.value() != 0) top.fail("given without logprobs", "\"logprobs\": true too");
    return std::nullopt;
  }
  return top.is_null() ? 0 : static_cast<int>(whole(top, 0, kMostLogprobs));
}

void read_lengths(const JsonView& body, Api api, Call& call) {
  const char* names[] = {"max_tokens", "max_completion_tokens"};
  for (const char* name : names) {
    const JsonView field = body[name];
    if (field.is_null()) continue;
    const bool nothing_wanted = api == Api::kCompletions;
    call.settings.max_new_tokens = whole(field, nothing_wanted ? 0 : 1);
    call.tokens_field = name;
  }
  if (const JsonView field = body["seed"]; !field.is_null()) {
    const int64_t seed = whole(field, -1);
    call.seed_given = seed >= 0;  // −1: any
    if (call.seed_given) call.settings.seed = static_cast<uint64_t>(seed);
  }
}

Call read(std::string_view text, Api api, const Request& standard) {
  if (text.empty()) throw Error("request", "no body", "a JSON object");
  const nlohmann::json parsed = parse_json(text, "request", {.bytes = text.size(), .depth = kDepth});
  const JsonView body(parsed, "request");
  if (!parsed.is_object()) body.fail("no object", "a JSON object");
  Call call;
  call.settings = standard;
  refuse_what_is_not_offered(body);
  call.model = body["model"].string("");
  if (api == Api::kChat) {
    call.messages = read_conversation(text);
  } else {
    call.prompts = read_prompts(body.at("prompt"));
    call.echo = body["echo"].boolean(false);
  }
  read_sampling(body, call.settings.sampling);
  read_lengths(body, api, call);
  const auto stops = read_stops(body["stop"]);
  call.settings.stop.insert(call.settings.stop.end(), stops.begin(), stops.end());
  if (body["ignore_eos"].boolean(false)) call.settings.end.clear();
  call.settings.logprobs = read_logprobs(body, api);
  call.settings.prompt_logprobs = call.echo && call.settings.logprobs;
  call.stream = body["stream"].boolean(false);
  if (const JsonView options = body["stream_options"]; !options.is_null())
    call.include_usage = options["include_usage"].boolean(false);
  return call;
}

}  // namespace

Call read_call(std::string_view body, Api api, const Request& standard) {
  try {
    return read(body, api, standard);
  } catch (const Error& error) {
    throw ApiError(400, error.what());
  } catch (const nlohmann::json::exception& error) {
    throw ApiError(400, fmt::format("request: {}", error.what()));
  }
}

}  // namespace linnet::serve

#include "generate/logprobs_json.h"

#include <algorithm>
#include <string_view>

namespace linnet {
namespace {

using Json = nlohmann::ordered_json;

size_t characters(std::string_view text) {
  return static_cast<size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

/// The likeliest, and the token itself behind them where it is not one of them.
Json top_json(const Tokenizer& tokenizer, const TokenLogprobs& logprobs) {
  Json top = Json::object();
  for (const auto& [id, logprob] : logprobs.top) top.emplace(tokenizer.text_of(id), logprob);
  top.emplace(tokenizer.text_of(logprobs.token), logprobs.logprob);
  return top;
}

Json chat_token_json(const Tokenizer& tokenizer, int32_t id, double logprob) {
  const std::string text = tokenizer.text_of(id);
  Json bytes = Json::array();
  for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
  // A part of a code point has no text of its own.
  return {{"token", text}, {"logprob", logprob}, {"bytes", text == "\uFFFD" ? Json() : bytes}};
}

}  // namespace

std::vector<LogprobRow> logprob_rows(const Request& request, const Generation& result, size_t from) {
  std::vector<LogprobRow> rows;
  if (request.prompt_logprobs) {
    rows.push_back({request.prompt.front(), nullptr});
    for (const TokenLogprobs& row : result.prompt_logprobs) rows.push_back({row.token, &row});
  }
  for (size_t i = from; i < result.logprobs.size(); ++i)
    rows.push_back({result.logprobs[i].token, &result.logprobs[i]});
  return rows;
}

LogprobsJson::LogprobsJson(const Tokenizer& tokenizer, std::span<const int32_t> before)
    : tokenizer_(tokenizer), detokenizer_(tokenizer_) {
  for (const int32_t token : before) push(token);
  offset_ = 0;
}

/// Where the token begins.
size_t LogprobsJson::push(int32_t token) {
  const size_t begin = offset_;
  if (token < tokenizer_.vocabulary()) offset_ += characters(detokenizer_.push(token));
  return begin;
}

Json LogprobsJson::write(std::span<const LogprobRow> rows) {
  Json tokens = Json::array(), logprobs = tokens, tops = tokens, offsets = tokens;
  for (const auto& [token, row] : rows) {
    tokens.push_back(tokenizer_.text_of(token));
    logprobs.push_back(row != nullptr ? Json(row->logprob) : Json());
    tops.push_back(row != nullptr ? top_json(tokenizer_, *row) : Json());
    offsets.push_back(push(token));
  }
  return {{"tokens", tokens}, {"token_logprobs", logprobs}, {"top_logprobs", tops}, {"text_offset", offsets}};
}

Json chat_logprobs_json(const Tokenizer& tokenizer, std::span<const LogprobRow> rows) {
  Json content = Json::array();
  for (const auto& [id, row] : rows) {
    if (row == nullptr) continue;
    Json token = chat_token_json(tokenizer, id, row->logprob), top = Json::array();
    for (const auto& [other, logprob] : row->top) top.push_back(chat_token_json(tokenizer, other, logprob));
    token["top_logprobs"] = std::move(top);
    content.push_back(std::move(token));
  }
  return {{"content", content}};
}

}  // namespace linnet

#include "cli/completion_json.h"

#include <fmt/format.h>

#include <cstdio>

#include "base/error.h"
#include "cli/sampling.h"

namespace linnet::cli {
namespace {

nlohmann::ordered_json number_or_null(const std::optional<double>& x) {
  return x ? nlohmann::ordered_json(*x) : nlohmann::ordered_json();
}

/// The tokens that have log probabilities, in order; the first of a prompt has none.
std::vector<std::optional<TokenLogprobs>> rows_of(const Completion& completion) {
  std::vector<std::optional<TokenLogprobs>> rows;
  if (completion.request.prompt_logprobs) rows.emplace_back();
  for (const TokenLogprobs& row : completion.result.prompt_logprobs) rows.emplace_back(row);
  for (const TokenLogprobs& row : completion.result.logprobs) rows.emplace_back(row);
  return rows;
}

size_t characters(std::string_view text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  return count;
}

nlohmann::ordered_json logprobs_json(const Completion& completion) {
  nlohmann::ordered_json tokens = nlohmann::ordered_json::array(), logprobs = tokens, tops = tokens,
                         offsets = tokens;
  size_t offset = 0;  // in characters
  for (const auto& row : rows_of(completion)) {
    const std::string text = completion.tokenizer.text_of(row ? row->token : completion.request.prompt[0]);
    tokens.push_back(text);
    logprobs.push_back(row ? nlohmann::ordered_json(row->logprob) : nlohmann::ordered_json());
    nlohmann::ordered_json top = nlohmann::ordered_json::object();
    if (row) {
      for (const auto& [id, logprob] : row->top) top.emplace(completion.tokenizer.text_of(id), logprob);
    }
    tops.push_back(row ? top : nlohmann::ordered_json());
    offsets.push_back(offset);
    offset += characters(text);
  }
  return {{"tokens", tokens}, {"token_logprobs", logprobs}, {"top_logprobs", tops}, {"text_offset", offsets}};
}

}  // namespace

Rates rates_of(const Completion& completion) {
  const Generation& result = completion.result;
  const auto generated = static_cast<double>(result.tokens.size());
  Rates rates;
  if (result.prefill_seconds > 0)
    rates.prefill = static_cast<double>(result.prompt_read) / result.prefill_seconds;
  if (generated > 1 && result.decode_seconds > 0) rates.decode = (generated - 1) / result.decode_seconds;
  return rates;
}

nlohmann::ordered_json completion_json(const Completion& completion) {
  const Generation& result = completion.result;
  const Rates rates = rates_of(completion);
  nlohmann::ordered_json json = {{"text", completion.echoed + result.text},
                                 {"prompt_tokens", completion.request.prompt.size()},
                                 {"generated_tokens", result.tokens.size()},
                                 {"prefill_tokens_per_second", number_or_null(rates.prefill)},
                                 {"decode_tokens_per_second", number_or_null(rates.decode)},
                                 {"state_bytes", result.state_bytes},
                                 {"token_ids", result.tokens},
                                 {"seed", completion.request.seed},
                                 {"finished", ending_of(result.finish).name}};
  if (completion.request.logprobs) json["logprobs"] = logprobs_json(completion);
  return json;
}

void print_logprobs(const Completion& completion) {
  for (const auto& row : rows_of(completion)) {
    const int32_t id = row ? row->token : completion.request.prompt[0];
    std::string line = fmt::format("{:>9} {:<14}", row ? fmt::format("{:.4f}", row->logprob) : "-",
                                   '"' + printable(completion.tokenizer.text_of(id)) + '"');
    if (row) {
      for (const auto& [other, logprob] : row->top) {
        line += fmt::format("  \"{}\" {:.4f}", printable(completion.tokenizer.text_of(other)), logprob);
      }
    }
    std::fputs((line + "\n").c_str(), stderr);
  }
}

}  // namespace linnet::cli

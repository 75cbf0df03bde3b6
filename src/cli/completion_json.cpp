#include "cli/completion_json.h"

#include <fmt/format.h>

#include <cstdio>

#include "base/error.h"
#include "cli/sampling.h"
#include "generate/logprobs_json.h"

namespace linnet::cli {
namespace {

nlohmann::ordered_json number_or_null(const std::optional<double>& x) {
  return x ? nlohmann::ordered_json(*x) : nlohmann::ordered_json();
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
  if (completion.request.logprobs) {
    const Request& request = completion.request;
    const std::span<const int32_t> prompt = request.prompt;
    LogprobsJson writer(completion.tokenizer, request.prompt_logprobs ? prompt.first(0) : prompt);
    json["logprobs"] = writer.write(logprob_rows(request, result));
  }
  return json;
}

void print_logprobs(const Completion& completion) {
  for (const auto& [id, row] : logprob_rows(completion.request, completion.result)) {
    std::string line = fmt::format("{:>9} {:<14}", row != nullptr ? fmt::format("{:.4f}", row->logprob) : "-",
                                   '"' + printable(completion.tokenizer.text_of(id)) + '"');
    if (row != nullptr) {
      for (const auto& [other, logprob] : row->top) {
        line += fmt::format("  \"{}\" {:.4f}", printable(completion.tokenizer.text_of(other)), logprob);
      }
    }
    std::fputs((line + "\n").c_str(), stderr);
  }
}

}  // namespace linnet::cli

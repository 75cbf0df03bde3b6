// linnet perplexity: how well a model predicts text (docs/perplexity.md says exactly what is computed).
#include "evaluate/perplexity.h"

#include <fmt/format.h>

#include <cmath>
#include <functional>
#include <memory>
#include <optional>

#include "base/count.h"
#include "base/error.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/timing.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "evaluate/masked_meter.h"
#include "evaluate/span_meter.h"
#include "text/corpus.h"

namespace linnet::cli {
namespace {

struct PerplexityCommandOptions : SharedOptions {
  std::vector<std::filesystem::path> files;
  PerplexityOptions how;
  std::optional<int64_t> window, stride;
};

/// A number for JSON: null where there is none.
nlohmann::json finite(double x) { return std::isfinite(x) ? nlohmann::json(x) : nlohmann::json(); }

nlohmann::ordered_json result_of(const PerplexityTotals& totals, const PerplexityOptions& how,
                                 double seconds) {
  nlohmann::ordered_json result = {
      {"token_perplexity", finite(totals.token_perplexity())},
      {"word_perplexity", finite(totals.word_perplexity())},
      {"byte_perplexity", finite(totals.byte_perplexity())},
      {"bits_per_byte", finite(totals.bits_per_byte())},
      {"tokens", totals.tokens},
      {"words", totals.words},
      {"bytes", totals.bytes},
      {"seconds", seconds},
  };
  if (how.far_pairs) {
    const auto mean = [](double nats, int64_t count) {
      return finite(nats / static_cast<double>(count));  // 0/0 is not finite
    };
    const int64_t counted = totals.far_tokens + totals.other_tokens;
    result["far_pair_nats"] = mean(totals.far_nats, totals.far_tokens);
    result["far_pair_share"] = mean(static_cast<double>(totals.far_tokens), counted);
    result["other_nats"] = mean(totals.other_nats, totals.other_tokens);
  }
  return result;
}

std::string table_of(const nlohmann::ordered_json& result) {
  std::string table;
  for (const auto& [name, value] : result.items()) {
    table += fmt::format("{:<18}", name);
    if (value.is_null()) {
      table += "none";
    } else if (value.is_number_integer()) {
      table += fmt::format("{}", value.get<int64_t>());
    } else {
      table += fmt::format("{:.6g}", value.get<double>());
    }
    table += '\n';
  }
  return table;
}

/// Calls add(document, where) on the documents of the files until it says no; false then.
bool each_document(const PerplexityCommandOptions& options,
                   const std::function<bool(const Document&, const std::string&)>& add) {
  bool whole = true;
  for (const std::filesystem::path& file : options.files) {
    for_each_document(file, options.texts, [&](Document&& document) {
      return whole = add(document, fmt::format("{} ({})", file.string(), document.id));
    });
    if (!whole) break;
  }
  return whole;
}

ExitStatus report_interrupt(int64_t read) {
  note(fmt::format("interrupted after {}; nothing written", counted(read, "token")));
  return ExitStatus::kInterrupted;
}

/// Reads all documents through `meter`, a SpanMeter or a MaskedMeter, and reports what it summed: `kind`
/// names the numbers and `asked` the tokens; `what` was not there, and `wanted`, where no token was asked
/// for.
template <class Meter>
ExitStatus score_texts(const PerplexityCommandOptions& options, const JsonResult& json, Meter& meter,
                       const std::string& kind, const char* asked, const char* what, const char* wanted) {
  const Stopwatch watch;
  const LossTotals& totals = meter.totals();
  Progress progress("perplexity", "tokens", 0);
  int64_t read = 0;
  const bool whole = each_document(options, [&](const Document& document, const std::string&) {
    return meter.add(document.text, [&](int64_t more) {
      progress.update(static_cast<double>(read += more),
                      fmt::format("{:.4f} nats/{}", totals.nats_a_token(), asked));
      return !interrupted();
    });
  });
  progress.finish();
  if (!whole) return report_interrupt(read);
  if (totals.tokens == 0) throw Error("perplexity", what, wanted);
  const nlohmann::ordered_json result = {{kind + "_nats", finite(totals.nats_a_token())},
                                         {kind + "_perplexity", finite(std::exp(totals.nats_a_token()))},
                                         {kind + "_tokens", totals.tokens},
                                         {"texts", totals.texts},
                                         {"tokens", totals.text_tokens},
                                         {"seconds", watch.seconds()}};
  json.write(result);
  print(table_of(result));
  return ExitStatus::kDone;
}

/// The loss of spans, of a model with an encoder.
ExitStatus score_spans(const PerplexityCommandOptions& options, const Runtime& runtime,
                       const Tokenizer& tokenizer, const JsonResult& json) {
  refuse_given(*options.app, {"--stride", "--score-from", "--score-to", "--far-pairs"},
               fmt::format("given for {}, of which spans are scored", runtime.model->config().model_type),
               "--window alone");
  SpanMeter meter(*runtime.decoder, *runtime.model, tokenizer, options.window.value_or(SpanShape::kWindow),
                  *runtime.pool);
  return score_texts(options, json, meter, "span", "token", "no text to take spans from",
                     "documents of 2 tokens and more");
}

/// The loss of masked tokens, of an encoder.
ExitStatus score_masked(const PerplexityCommandOptions& options, const std::shared_ptr<const Model>& model,
                        const JsonResult& json) {
  const std::string why =
      fmt::format("given for {}, an encoder, of which masked tokens are scored", model->config().model_type);
  refuse_given(*options.app, {"--stride", "--score-from", "--score-to", "--far-pairs"}, why,
               "--window alone");
  refuse_given(*options.app, {"--state-type"}, why, "none: an encoder has no state");
  if (options.device != "cpu") throw Error("--device", options.device, "cpu, where encoders compute");
  const Tokenizer tokenizer = Tokenizer::load(model->tokenizer_folder());
  ThreadPool pool(options.threads);
  const auto encoder =
      Encoder::make(model, {.compute = compute_type(options.dtype), .weights = weight_type(options)}, pool);
  MaskedMeter meter(*encoder, *model, tokenizer,
                    options.window.value_or(std::min(MaskedText::kWindow, encoder->longest())), pool);
  return score_texts(options, json, meter, "masked", "masked token", "no token to mask",
                     "documents that have tokens");
}

ExitStatus perplexity(const PerplexityCommandOptions& options) {
  PerplexityOptions how = options.how;
  how.window = options.window.value_or(0);
  how.stride = options.stride.value_or(0);
  how.check();
  check_field(options, options.files);
  const JsonResult json(options);
  check_device(options);
  const auto model = open_model(options, Stacks::kTwo);
  if (model->family().is_encoder()) return score_masked(options, model, json);
  const Runtime runtime = make_runtime(options, {}, model);
  const Tokenizer tokenizer = Tokenizer::load(runtime.model->tokenizer_folder());

  if (runtime.model->encoder()) return score_spans(options, runtime, tokenizer, json);
  const Stopwatch watch;
  PerplexityMeter meter(*runtime.decoder, *runtime.model, tokenizer, how, *runtime.pool);
  Progress progress("perplexity", "tokens", 0);
  int64_t read = 0;
  const bool whole = each_document(options, [&](const Document& document, const std::string& where) {
    return meter.add(document.text, where, [&](int64_t more) {
      const PerplexityTotals& totals = meter.totals();  // of the documents before
      progress.update(
          static_cast<double>(read += more),
          totals.tokens > 0 ? fmt::format("{:.4f} bits/byte", totals.bits_per_byte()) : std::string());
      return !interrupted();
    });
  });
  progress.finish();
  if (!whole) return report_interrupt(read);
  const PerplexityTotals& totals = meter.totals();
  if (totals.tokens == 0)
    throw Error("perplexity", "no token to score", "documents that have tokens to score");
  const auto result = result_of(totals, how, watch.seconds());
  json.write(result);
  print(table_of(result));
  return ExitStatus::kDone;
}

}  // namespace

void describe_perplexity(CLI::App& app, Work& work) {
  const auto options = std::make_shared<PerplexityCommandOptions>();
  add_evaluation(app, *options);
  add_weights(app, *options);
  add_state_type(app, *options);
  add_texts(app, "FILE", options->files, "Texts")->required();
  add_field(app, *options);
  app.add_option("--window", options->window,
                 "Most tokens that are read at once, from the empty state (default: each document is one "
                 "stream; of T5 "
                 "and of encoders 512)")
      ->transform(count(1))
      ->type_name("TOKENS");
  app.add_option("--stride", options->stride,
                 "Tokens that each window after the first scores, 1 to --window "
                 "(default: --window)")
      ->transform(count(1))
      ->type_name("TOKENS");
  app.add_option("--score-from", options->how.score_from, "First token of each document that counts")
      ->transform(count(0))
      ->type_name("N");
  app.add_option("--score-to", options->how.score_to,
                 "The token after the last that counts (default: to the end)")
      ->transform(count(1))
      ->type_name("N");
  app.add_option(
         "--far-pairs", options->how.far_pairs,
         "Also the mean loss of tokens whose pair (input before, token) stood in the window more than N "
         "tokens ago, and of all others")
      ->transform(count(0))
      ->type_name("N");
  app.callback([&work, options] { work = [options] { return perplexity(*options); }; });
}

}  // namespace linnet::cli

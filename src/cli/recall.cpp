// linnet recall: what a model recalls of the text that it has read, by distance (docs/recall.md says exactly
// what is computed).
#include "evaluate/recall.h"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/documents.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/recall_result.h"
#include "evaluate/perplexity.h"
#include "model/encoder.h"
#include "model/state_size.h"

namespace linnet::cli {
namespace {

constexpr int64_t kShortestRow = 512, kLongestRow = 65536;  // of our own choice
constexpr int64_t kPastTraining = 8;                        // times the trained positions, where a model can

struct RecallCommandOptions : SharedOptions {
  std::vector<std::filesystem::path> files;
  std::optional<int64_t> context;
  std::vector<int64_t> distances;
  int64_t passage = 64, tokens = 262144;
  std::string plot;
  bool alone = false;  // neither base nor windows beside it
};

bool reads_past_training(const Model& model) {
  const auto& layers = model.attention();
  return learned_positions(model) == 0 && std::none_of(layers.begin(), layers.end(), [](const auto& layer) {
           return layer.depends_on_far_positions();
         });
}

/// --context, or what the model reads well, as far as the documents are long enough for a few rows.
int64_t choose_context(const RecallCommandOptions& options, const Model& model, const Documents& documents) {
  const int64_t positions = model.config().positions;
  if (options.context) {
    if (const int64_t most = learned_positions(model); most > 0 && *options.context > most)
      throw Error("--context", fmt::format("{} tokens, past the model's learned positions", *options.context),
                  fmt::format("at most {}", most));
    return *options.context;
  }
  const int64_t context =
      std::min(reads_past_training(model) ? kPastTraining * positions : positions, kLongestRow);
  return context_with_rows(documents, context, kShortestRow);
}

/// --distances, which must fit into every row, or powers of two times 256 that do.
std::vector<int64_t> distances_that_fit(const std::vector<RecallRow>& rows, const RecallOptions& how,
                                        const std::vector<int64_t>& wanted) {
  std::vector<int64_t> fitting;
  for (const int64_t distance : wanted)
    if (std::all_of(rows.begin(), rows.end(), [&](const auto& row) { return fits(row, how, distance); }))
      fitting.push_back(distance);
  return fitting;
}

/// The model, before it what it is held to: its base, and its windows alone at as many bytes.
std::vector<Measured> subjects_of(const std::shared_ptr<const Model>& model, bool alone) {
  std::vector<Measured> subjects;
  const auto& layers = model->attention();
  if (!alone && std::any_of(layers.begin(), layers.end(), [](const auto& layer) { return !layer.grows(); })) {
    // The softmax model that a sidecar came from: its base as it is, without a LoRA.
    const bool beside = model->lora().has_value() && model->is_sidecar();
    subjects.push_back(
        {.name = "base",
         .model = beside ? Model::open(model->base_folder(),
                                       {.check_hash = false, .state = model->attention_shape().state})
                         : softmax_of(*model)});
    subjects.push_back({.name = "window alone", .model = window_alone(*model)});
  }
  subjects.push_back({.name = "model", .model = model});
  return subjects;
}

/// False: interrupted.
bool measure(std::vector<Measured>& subjects, ComputeType compute, ThreadPool& pool) {
  double total = 0;
  for (const Measured& subject : subjects)
    for (const RecallRow& row : subject.rows)
      total += static_cast<double>(RecallMeter::cost(row, subject.how));
  Progress progress("recall", "tokens", total);
  int64_t read = 0;
  for (Measured& subject : subjects) {
    const auto decoder =
        Decoder::make(subject.model, {.compute = compute, .slots = RecallMeter::kSlots}, pool);
    RecallMeter meter(*decoder, decoder->vocabulary(), subject.how, pool, [&](int64_t more) {
      progress.update(static_cast<double>(read += more), subject.name);
      return !interrupted();
    });
    for (const RecallRow& row : subject.rows)
      if (!meter.add(row)) return false;
    subject.scores = meter.rows();
    subject.state_bytes = decoder->state_bytes(0);
  }
  return true;
}

void check_rows(const Model& model, int64_t context) {
  if (const int64_t most = tokens_that_fit(model) / RecallMeter::kSlots; context > most)
    throw Error("--context", fmt::format("{} tokens, whose states do not fit into memory", context),
                fmt::format("at most {}", most));
}

/// Gives every model the rows and distances that it reads.
void deal_rows(std::vector<Measured>& subjects, const std::vector<RecallRow>& rows, const RecallOptions& how,
               int64_t context) {
  for (Measured& subject : subjects) {
    subject.context = reads_past_training(*subject.model) || subject.name == "model"
                          ? context
                          : std::min(context, subject.model->config().positions);
    check_rows(*subject.model, subject.context);
    for (const RecallRow& row : rows) subject.rows.push_back(last_of(row, subject.context));
    subject.how = how;
    subject.how.distances = distances_that_fit(subject.rows, how, how.distances);
  }
}

ExitStatus recall(const RecallCommandOptions& options) {
  check_field(options, options.files);
  const JsonResult json(options);
  check_device(options);
  const ComputeType compute = compute_type(options.dtype);
  const auto model = open_model(options);
  require_decoder(*model);
  const Tokenizer tokenizer = Tokenizer::load(model->tokenizer_folder());
  const Documents documents = read_ids(options.files, options.texts, *model, tokenizer, options.tokens);
  const int64_t context = choose_context(options, *model, documents);
  const int64_t most = std::max<int64_t>(options.tokens / context, 2);
  if (rows_in(documents, context) < 2 || context <= 2 * options.passage)
    throw Error("recall",
                fmt::format("{} rows of {} tokens in these texts", rows_in(documents, context), context),
                "two rows or more, each longer than two passages (--context, longer documents)");
  const auto rows = make_recall_rows(documents, tokenizer, context, options.passage, most, options.seed);
  RecallOptions how{.passage = options.passage, .distances = options.distances};
  if (how.distances.empty())
    for (int64_t distance = 256; distance <= kLongestRow; distance *= 2) how.distances.push_back(distance);
  std::sort(how.distances.begin(), how.distances.end());
  how.distances.erase(std::unique(how.distances.begin(), how.distances.end()), how.distances.end());
  const auto fitting = distances_that_fit(rows, how, how.distances);
  if (fitting.empty() || (!options.distances.empty() && fitting != how.distances))
    throw Error("--distances",
                fmt::format("a passage and its needle do not fit into rows of {} tokens", context),
                fmt::format("from --passage ({}) to less than the row without both", options.passage));
  how.distances = fitting;

  std::vector<Measured> subjects = subjects_of(model, options.alone);
  deal_rows(subjects, rows, how, context);
  ThreadPool pool(options.threads);
  if (!measure(subjects, compute, pool)) {
    note("interrupted; nothing written");
    return ExitStatus::kInterrupted;
  }
  const auto result = recall_json(subjects, options.seed);
  json.write(result);
  if (!options.plot.empty())
    write_file(options.plot, recall_picture(fmt::format("What {} recalls", options.model), result));
  print(recall_text(result, how.distances));
  return ExitStatus::kDone;
}

}  // namespace

void describe_recall(CLI::App& app, Work& work) {
  const auto options = std::make_shared<RecallCommandOptions>();
  add_runtime(app, *options);
  add_state_type(app, *options);
  add_texts(app, "FILE", options->files, "Texts")->required();
  add_field(app, *options);
  app.add_option("--context", options->context,
                 "Tokens of a row (default: the model's positions, or 8 times as many where its state is of "
                 "constant size, at most 65536, as far as the texts are long enough)")
      ->transform(count(8, 1 << 20))
      ->type_name("TOKENS");
  comma_list(app.add_option("--distances", options->distances,
                            "Tokens from a passage to its second time (default: 256,512,1024,… that fit)"))
      ->transform(count(1, 1 << 20))
      ->type_name("TOKENS,…");
  app.add_option("--passage", options->passage,
                 "Tokens of a passage, of which the last three quarters are scored")
      ->transform(count(4, 4096))
      ->type_name("TOKENS");
  app.add_option("--tokens", options->tokens,
                 "Tokens of all rows, about: each row is read once and again "
                 "from each distance on, by every model that is compared")
      ->transform(count(1, int64_t{1} << 32))
      ->type_name("TOKENS");
  app.add_flag("--alone", options->alone, "Measure the model alone, without its base and windows beside it");
  output_file(app.add_option("--plot", options->plot, "Draw the curves into this file as SVG"))
      ->type_name("FILE");
  app.callback([&work, options] { work = [options] { return recall(*options); }; });
}

}  // namespace linnet::cli

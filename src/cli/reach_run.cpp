#include "cli/reach_run.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/count.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/progress.h"
#include "cli/documents.h"
#include "format/fields.h"
#include "model/encoder.h"
#include "model/slot_file.h"

namespace linnet::cli {
namespace {

constexpr int64_t kLongestReach = 8192;  // of our own choice
constexpr int64_t kPassage = 64;         // tokens; of short rows a quarter

/// What is measured in rows of `context` tokens.
ReachOptions options_of(const ReachRun& run, int64_t context) {
  ReachOptions how = run.how;
  how.near = run.near.value_or(std::min<int64_t>(256, context / 4));
  how.windows = run.windows;
  if (how.windows.empty())
    for (int64_t window = 32; window < context || how.windows.empty(); window *= 4)
      how.windows.push_back(std::min(window, context - 1));
  std::sort(how.windows.begin(), how.windows.end());
  const auto check = [&](const char* option, int64_t tokens) {
    if (tokens >= context)
      throw Error(option, counted(tokens, "token"), fmt::format("fewer than the {} of --context", context));
  };
  check("--near", how.near);
  check("--windows", how.windows.back());
  return how;
}

/// Tokens of a row: --context, or what model and texts allow.
int64_t context_of(const ReachRun& run, const Documents& documents, const Model& model,
                   const std::string& where) {
  constexpr int64_t kShortest = 32;
  const int64_t context = run.context.value_or(context_with_rows(
      documents, std::min(model.config().positions, kLongestReach), 2 * run.near.value_or(kShortest)));
  if (const int64_t rows = rows_in(documents, context); rows < 2)
    throw Error(where, fmt::format("{} rows of {} tokens in these texts", rows, context),
                "two rows or more (--context, longer documents)");
  return context;
}

}  // namespace

std::optional<MeasuredReach> run_reach(const ReachRun& run, const std::vector<std::filesystem::path>& files,
                                       const SharedOptions& options,
                                       const std::shared_ptr<const Model>& model, const std::string& where) {
  require_decoder(*model);
  if (run.context) options_of(run, *run.context);
  const Tokenizer tokenizer = Tokenizer::load(model->tokenizer_folder());
  const Documents documents = read_ids(files, options.texts, *model, tokenizer, run.tokens);
  const int64_t context = context_of(run, documents, *model, where);
  MeasuredReach measured;
  measured.context = context;
  measured.how = options_of(run, context);
  const std::vector<ReachRow> rows =
      make_reach_rows(make_recall_rows(documents, tokenizer, context, std::min(kPassage, context / 4),
                                       std::max<int64_t>(run.tokens / context, 2), options.seed),
                      measured.how.near);
  ThreadPool pool(options.threads);
  Progress progress("reach", "layer passes", reach_passes(*model, rows, measured.how));
  double done = 0;
  measured.reach = measure_reach(model, rows, measured.how, pool, [&](double more) {
    progress.update(done += more);
    return !interrupted();
  });
  progress.finish();
  if (measured.reach.nats.size() < rows.size()) return std::nullopt;
  return measured;
}

std::string measured_hash(const Model& model) {
  Hash hash;
  hash.add(fingerprint(model));
  hash.add(to_json(model.attention()).dump());
  return hash.text();
}

void check_measured(const nlohmann::json& reach, const Model& model, const std::string& where) {
  const Fields fields(reach, where);
  const std::string name = fields.string("model"), hash = fields.string("model_hash");
  if (const std::string own = measured_hash(model); hash != own)
    throw Error(where, fmt::format("measured on {} ({})", printable(name, 60), printable(hash, 60)),
                fmt::format("what was measured on {} ({})", model.folder().string(), own));
}

}  // namespace linnet::cli

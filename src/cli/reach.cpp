// linnet reach: which key-value heads of a softmax model look far, and so should keep exact tokens.
#include "evaluate/reach.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "base/count.h"
#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/plot.h"
#include "base/progress.h"
#include "cli/commands.h"
#include "cli/documents.h"
#include "cli/options.h"
#include "cli/output.h"

namespace linnet::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kShare = 0.75;          // of the loss, that the layers to keep exact should hold
constexpr int64_t kLongestReach = 8192;  // of our own choice
constexpr int64_t kPassage = 64;         // tokens; of short rows a quarter
constexpr size_t kHeadsShown = 16;

struct ReachCommandOptions : SharedOptions {
  std::vector<std::filesystem::path> files;
  ReachOptions how;
  std::optional<int64_t> context;
  int64_t tokens = 65536;
  std::string plot;
};

/// The rows, of --context tokens or of what model and texts allow.
std::vector<ReachRow> rows_of(const ReachCommandOptions& options, const Model& model, int64_t& context) {
  const Tokenizer tokenizer = Tokenizer::load(model.tokenizer_folder());
  const Documents documents = read_ids(options.files, options.texts, model, tokenizer, options.tokens);
  context = options.context.value_or(
      context_with_rows(documents, std::min(model.config().positions, kLongestReach), 2 * options.how.near));
  if (const int64_t rows = rows_in(documents, context); rows < 2)
    throw Error("reach", fmt::format("{} rows of {} tokens in these texts", rows, context),
                "two rows or more (--context, longer documents)");
  if (options.how.near >= context)
    throw Error("--near", counted(options.how.near, "token"),
                fmt::format("fewer than the {} of --context", context));
  const int64_t most = std::max<int64_t>(options.tokens / context, 2);
  return make_reach_rows(
      make_recall_rows(documents, tokenizer, context, std::min(kPassage, context / 4), most, options.seed),
      options.how.near);
}

Json losses_of(const Reach& reach, int layer, int head) {
  return {{"loss", reach.loss(layer, head)},
          {"far_pairs", json_of(reach.far_loss(layer, head))},
          {"passages", json_of(reach.passage_loss(layer, head))}};
}

Json result_of(const ReachCommandOptions& options, const Reach& reach, int64_t context) {
  Json layers = Json::array(), ranked = Json::array();
  for (int layer = 0; layer < reach.layers; ++layer) {
    Json entry = losses_of(reach, layer, reach.heads);
    for (int head = 0; head < reach.heads; ++head) entry["heads"].push_back(losses_of(reach, layer, head));
    layers.push_back(std::move(entry));
  }
  for (const HeadPlace& place : ranked_heads(reach))
    ranked.push_back(
        {{"layer", place.layer}, {"head", place.head}, {"loss", reach.loss(place.layer, place.head)}});
  ReachScores sums;
  int64_t far = 0, passages = 0;
  for (size_t r = 0; r < reach.whole.size(); ++r) {
    sums.far_nats += reach.whole[r].far_nats, far += reach.far_tokens[r];
    sums.passage_nats += reach.whole[r].passage_nats, passages += reach.passage_tokens[r];
  }
  const auto mean = [](double nats, int64_t count) {
    return count > 0 ? Json(nats / static_cast<double>(count)) : Json();
  };
  return {{"context", context},
          {"near", options.how.near},
          {"tail", options.how.tail},
          {"rows", reach.whole.size()},
          {"seed", options.seed},
          {"whole",
           {{"far_pair_nats", mean(sums.far_nats, far)},
            {"far_pair_tokens", far},
            {"passage_nats", mean(sums.passage_nats, passages)},
            {"passage_tokens", passages}}},
          {"layers", std::move(layers)},
          {"ranked_heads", std::move(ranked)},
          {"far_layers", far_layers(reach, kShare)}};
}

std::string number_of(const Json& whole, const char* name) {
  return whole[name].is_null() ? "none" : fmt::format("{:.3f}", whole[name].get<double>());
}

std::string line_of(const std::string& name, const Reach& reach, int layer, int head, double most) {
  const double loss = reach.loss(layer, head);
  const auto blocks = most > 0 ? static_cast<size_t>(24.0 * loss / most + 0.5) : 0;
  const auto signed_text = [](const Mean& mean) {
    return fmt::format("{:+.4f} ± {:.4f}", mean.mean, mean.error);
  };
  std::string line = fmt::format("{:<12}{:>17}{:>18}  {}", name, signed_text(reach.far_loss(layer, head)),
                                 signed_text(reach.passage_loss(layer, head)), std::string(blocks, '#'));
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

std::string table_of(const ReachCommandOptions& options, const Reach& reach, const Json& result) {
  const Json& whole = result["whole"];
  std::string table = fmt::format(
      "Nats per token lost with the last {} tokens alone (± one standard error, {} rows of {} tokens)\n"
      "{:<12}{:>17}{:>18}\n{:<12}{:>17}{:>18}  nats, nothing limited\n",
      options.how.near, result["rows"].dump(), result["context"].dump(), "layer", "far pairs",
      "passages again", "none", number_of(whole, "far_pair_nats"), number_of(whole, "passage_nats"));
  double most = 0;
  for (int layer = 0; layer < reach.layers; ++layer) most = std::max(most, reach.loss(layer, reach.heads));
  for (int layer = 0; layer < reach.layers; ++layer)
    table += line_of(fmt::format("{}", layer), reach, layer, reach.heads, most);
  const auto ranked = ranked_heads(reach);
  const size_t shown = std::min(ranked.size(), kHeadsShown);
  table += fmt::format("\nhead{}\n",
                       shown < ranked.size()
                           ? fmt::format(" (the first {} of {}; --json has all)", shown, ranked.size())
                           : std::string());
  for (size_t i = 0; i < shown; ++i)
    table += line_of(fmt::format("{}.{}", ranked[i].layer, ranked[i].head), reach, ranked[i].layer,
                     ranked[i].head, reach.loss(ranked[0].layer, ranked[0].head));
  return table + fmt::format(
                     "\nThe fewest layers that hold {:.0f}% of the layers' loss: linnet linearize {} "
                     "--exact-layers {}\n",
                     100 * kShare, options.model, fmt::join(far_layers(reach, kShare), ","));
}

std::string picture_of(const ReachCommandOptions& options, const Reach& reach) {
  Heatmap map{
      .title = fmt::format("{}: nats per token lost with a head's last {} tokens alone, far pairs and "
                           "passages together",
                           options.model, options.how.near),
      .across = "key-value head",
      .down = "layer",
      .rows = {}};
  for (int layer = 0; layer < reach.layers; ++layer) {
    map.rows.emplace_back();
    for (int head = 0; head < reach.heads; ++head) map.rows.back().push_back(reach.loss(layer, head));
  }
  return heatmap_svg(map);
}

ExitStatus reach(const ReachCommandOptions& options) {
  if (options.context && options.how.near >= *options.context)
    throw Error("--near", counted(options.how.near, "token"),
                fmt::format("fewer than the {} of --context", *options.context));
  check_field(options, options.files);
  const JsonResult json(options);
  if (!options.plot.empty()) check_writable_file(options.plot);
  check_device(options);
  ReachOptions how = options.how;
  how.compute = compute_type(options.dtype);
  const auto model = open_model(options);
  int64_t context = 0;
  const std::vector<ReachRow> rows = rows_of(options, *model, context);

  ThreadPool pool(options.threads);
  Progress progress("reach", "layer passes", reach_passes(*model, rows, how));
  double done = 0;
  const Reach result = measure_reach(model, rows, how, pool, [&](double more) {
    progress.update(done += more);
    return !interrupted();
  });
  progress.finish();
  if (result.whole.size() < rows.size()) {
    note("interrupted; nothing written");
    return ExitStatus::kInterrupted;
  }
  const Json out = result_of(options, result, context);
  json.write(out);
  if (!options.plot.empty()) write_file(options.plot, picture_of(options, result));
  print(table_of(options, result, out));
  return ExitStatus::kDone;
}

}  // namespace

void describe_reach(CLI::App& app, Work& work) {
  const auto options = std::make_shared<ReachCommandOptions>();
  add_runtime(app, *options);
  add_texts(app, "FILE", options->files, "Texts")->required();
  add_field(app, *options);
  app.add_option("--near", options->how.near, "Last tokens that the limited head sees")
      ->transform(count(1, 1 << 20))
      ->type_name("TOKENS");
  app.add_option(
         "--context", options->context,
         "Tokens of a row (default: the model's positions, at most 8192, as far as the texts are long "
         "enough)")
      ->transform(count(8, 1 << 20))
      ->type_name("TOKENS");
  app.add_option(
         "--tail", options->how.tail,
         "Last tokens of a row, in which the head is limited and tokens are scored; what stands before "
         "is read exactly, once")
      ->transform(count(1, 1 << 20))
      ->type_name("TOKENS");
  app.add_option("--tokens", options->tokens, "Tokens of all rows, about")
      ->transform(count(1, int64_t{1} << 32))
      ->type_name("TOKENS");
  app.add_option("--plot", options->plot, "Draw layers and heads as a heatmap into this file as SVG")
      ->type_name("FILE");
  app.callback([&work, options] { work = [options] { return reach(*options); }; });
}

}  // namespace linnet::cli

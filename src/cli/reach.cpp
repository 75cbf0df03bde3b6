// linnet reach: which key-value heads of a softmax model look far, and so should keep exact tokens.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "base/file.h"
#include "base/log.h"
#include "base/plot.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/reach_run.h"

namespace linnet::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kHeadsShown = 16;

struct ReachCommandOptions : SharedOptions {
  std::vector<std::filesystem::path> files;
  ReachRun run;
  std::string plot;
};

Json losses_of(const Reach& reach, int layer, int head) {
  Json windows = Json::array();
  for (size_t w = 0; w < reach.windows.size(); ++w)
    windows.push_back({{"window", reach.windows[w]},
                       {"loss", reach.loss(layer, head, w)},
                       {"text", json_of(reach.loss_of(kText, layer, head, w))},
                       {"far_pairs", json_of(reach.loss_of(kFarPairs, layer, head, w))},
                       {"passages", json_of(reach.loss_of(kPassage, layer, head, w))},
                       {"text_in_fact", json_of(reach.loss_of(kTextInFact, layer, head, w))}});
  return {{"windows", std::move(windows)}};
}

/// Nats per token of each part, nothing limited.
Json whole_of(const Reach& reach) {
  ReachSums nats{}, tokens{};
  for (size_t r = 0; r < reach.nats.size(); ++r) {
    for (size_t part = 0; part < kReachParts; ++part)
      nats[part] += reach.nats[r][part], tokens[part] += reach.tokens[r][part];
  }
  Json whole;
  for (const auto& [part, name] :
       {std::pair{kText, "text"}, {kFarPairs, "far_pair"}, {kPassage, "passage"}}) {
    whole[fmt::format("{}_nats", name)] = tokens[part] > 0 ? Json(nats[part] / tokens[part]) : Json();
    whole[fmt::format("{}_tokens", name)] = static_cast<int64_t>(tokens[part]);
  }
  return whole;
}

Json result_of(const ReachCommandOptions& options, const Model& model, const MeasuredReach& measured) {
  const auto& [reach, how, context] = measured;
  Json layers = Json::array(), ranked = Json::array();
  for (int layer = 0; layer < reach.layers; ++layer) {
    Json heads = Json::array();
    for (int head = 0; head < reach.heads; ++head) heads.push_back(losses_of(reach, layer, head));
    layers.push_back({{"heads", std::move(heads)}});
  }
  for (const HeadPlace& place : ranked_heads(reach))
    ranked.push_back(
        {{"layer", place.layer}, {"head", place.head}, {"loss", reach.loss(place.layer, place.head, 0)}});
  return {{"model", options.model},
          {"model_hash", measured_hash(model)},
          {"context", context},
          {"windows", reach.windows},
          {"sinks", how.sinks},
          {"near", how.near},
          {"tail", how.tail},
          {"rows", reach.nats.size()},
          {"seed", options.seed},
          {"whole", whole_of(reach)},
          {"layers", std::move(layers)},
          {"ranked_heads", std::move(ranked)}};
}

std::string number_of(const Json& whole, const char* name) {
  return whole[name].is_null() ? "none" : fmt::format("{:.3f}", whole[name].get<double>());
}

std::string line_of(const Reach& reach, const HeadPlace& place, double most) {
  const double loss = reach.loss(place.layer, place.head, 0);
  const auto blocks = most > 0 ? static_cast<size_t>(24.0 * loss / most + 0.5) : 0;
  std::string line = fmt::format("{:<6}", fmt::format("{}.{}", place.layer, place.head));
  for (const ReachPart part : {kText, kFarPairs, kPassage}) {
    const Mean mean = reach.loss_of(part, place.layer, place.head, 0);
    line += fmt::format("{:>18}", fmt::format("{:.4f} ± {:.4f}", mean.mean, mean.error));
  }
  line += "  " + std::string(blocks, '#');
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

/// What a head loses at each window, where there are several.
std::string windows_of(const Reach& reach, std::span<const HeadPlace> shown) {
  if (reach.windows.size() < 2) return "";
  std::string table =
      fmt::format("\nText + {} (far pairs + passages) by tokens seen\n{:<6}", kRecallWeight, "head");
  for (const int64_t window : reach.windows) table += fmt::format("{:>9}", window);
  table += "\n";
  for (const HeadPlace& place : shown) {
    table += fmt::format("{:<6}", fmt::format("{}.{}", place.layer, place.head));
    for (size_t w = 0; w < reach.windows.size(); ++w)
      table += fmt::format("{:>9.5f}", reach.loss(place.layer, place.head, w));
    table += "\n";
  }
  return table;
}

std::string table_of(const MeasuredReach& measured, const Json& result) {
  const auto& [reach, how, context] = measured;
  const Json& whole = result["whole"];
  const auto ranked = ranked_heads(reach);
  const std::span<const HeadPlace> shown(ranked.data(), std::min(ranked.size(), kHeadsShown));
  std::string table = fmt::format(
      "Nats per token lost with a head's last {} tokens and {} sinks alone (± one standard error, {} rows of "
      "{} tokens)\n"
      "{:<6}{:>17}{:>18}{:>18}\n{:<6}{:>17}{:>18}{:>18}  nats, nothing limited\n",
      reach.windows[0], how.sinks, result["rows"].dump(), context, "head", "text", "far pairs",
      "passages again", "none", number_of(whole, "text_nats"), number_of(whole, "far_pair_nats"),
      number_of(whole, "passage_nats"));
  for (const HeadPlace& place : shown)
    table += line_of(reach, place, reach.loss(ranked[0].layer, ranked[0].head, 0));
  if (shown.size() < ranked.size())
    table += fmt::format("the first {} of {} heads; --json has all\n", shown.size(), ranked.size());
  return table + windows_of(reach, shown);
}

std::string picture_of(const ReachCommandOptions& options, const MeasuredReach& measured) {
  const auto& [reach, how, context] = measured;
  Heatmap map{.title = fmt::format("{}: nats per token lost with a head's last {} tokens and {} sinks alone",
                                   options.model, reach.windows[0], how.sinks),
              .across = "key-value head",
              .down = "layer",
              .rows = {}};
  for (int layer = 0; layer < reach.layers; ++layer) {
    map.rows.emplace_back();
    for (int head = 0; head < reach.heads; ++head) map.rows.back().push_back(reach.loss(layer, head, 0));
  }
  return heatmap_svg(map);
}

ExitStatus reach(const ReachCommandOptions& options) {
  ReachRun run = options.run;
  run.how.compute = compute_type(options.dtype);
  refuse_repeated("--windows", run.windows);
  check_field(options, options.files);
  const JsonResult json(options);
  check_device(options);
  const auto model = open_model(options);
  const auto measured = run_reach(run, options.files, options, model, "reach");
  if (!measured) {
    note("interrupted; nothing written");
    return ExitStatus::kInterrupted;
  }
  const Json out = result_of(options, *model, *measured);
  json.write(out);
  if (!options.plot.empty()) write_file(options.plot, picture_of(options, *measured));
  print(table_of(*measured, out));
  return ExitStatus::kDone;
}

}  // namespace

void describe_reach(CLI::App& app, Work& work) {
  const auto options = std::make_shared<ReachCommandOptions>();
  add_runtime(app, *options);
  add_texts(app, "FILE", options->files, "Texts")->required();
  add_field(app, *options);
  ReachRun& run = options->run;
  comma_list(
      app.add_option(
          "--windows", run.windows,
          "Last tokens that a limited head sees, such as 64,256,1024 (default: powers of 4 from 32 on)"))
      ->transform(count(1, 1 << 20))
      ->type_name("TOKENS,…");
  app.add_option("--sinks", run.how.sinks, "First tokens that it sees too")
      ->transform(whole(0, 64))
      ->type_name("TOKENS");
  app.add_option(
         "--near", run.near,
         "Far pairs stood last more than so many tokens before (default: 256, or a quarter of a short row)")
      ->transform(count(1, 1 << 20))
      ->type_name("TOKENS");
  app.add_option(
         "--context", run.context,
         "Tokens of a row (default: the model's positions, at most 8192, as far as the texts are long "
         "enough)")
      ->transform(count(8, 1 << 20))
      ->type_name("TOKENS");
  app.add_option(
         "--tail", run.how.tail,
         "Last tokens of a row, in which the head is limited and tokens are scored; what stands before "
         "is read exactly, once")
      ->transform(count(1, 1 << 20))
      ->type_name("TOKENS");
  app.add_option("--tokens", run.tokens, "Tokens of all rows, about")
      ->transform(count(1, int64_t{1} << 32))
      ->type_name("TOKENS");
  app.add_option("--negligible", run.how.negligible,
                 "A head that loses no more at a window is not tried at wider ones in that row")
      ->check(from_to(0, 100));
  output_file(
      app.add_option("--plot", options->plot, "Draw layers and heads as a heatmap into this file as SVG"))
      ->type_name("FILE");
  app.callback([&work, options] { work = [options] { return reach(*options); }; });
}

}  // namespace linnet::cli

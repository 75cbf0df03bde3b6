#include "cli/speculation.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "generate/heads.h"

namespace linnet::cli {
namespace {

constexpr int kNodesEach = 32, kNodes = 64;  // of a sequence's tree, and of all of a step
constexpr size_t kShownNodes = 8;            // of a tree, by --report

double seconds_of(const DecodeReport& report) {
  return report.draft_seconds + report.verify_seconds + report.sampling_seconds + report.commit_seconds;
}

double ratio(double a, double b) { return b > 0 ? a / b : 0; }

double rate_of(const DecodeReport& report) {
  return ratio(static_cast<double>(report.tokens), seconds_of(report));
}

double speedup_of(const SpeculationResult& result) {
  return ratio(rate_of(result.report), rate_of(*result.plain));
}

double accepted_of(const DecodeReport& report) {
  return ratio(static_cast<double>(report.tokens), static_cast<double>(report.steps));
}

double share_of(const DecodeReport::Guesses& depth) {
  return ratio(static_cast<double>(depth.accepted), static_cast<double>(depth.reached));
}

}  // namespace

void SpeculationOptions::settle(const std::string& model) {
  if (drafter.empty()) drafter = has_heads(model) ? "auto" : "none";
}

int SpeculationOptions::nodes(int slots) const {
  return speculates() ? std::max(slots, std::min(kNodes, kNodesEach * slots)) : slots;
}

void add_drafter(CLI::App& app, SpeculationOptions& options) {
  options.app = &app;
  // A command that has a default of its own shows it by itself.
  const char* by_itself =
      options.drafter.empty() ? " (default: auto where the model has draft heads, else none)" : "";
  app.add_option(
         "--speculative", options.drafter,
         fmt::format(
             "Who guesses tokens that are then computed together; the text is the same. lookup: what "
             "followed the last tokens before, in prompt and text; heads: the model's draft heads "
             "(`linnet train-heads`); draft: a smaller model; auto: whoever of these there is, in each "
             "step those that pay; none: nobody{}",
             by_itself))
      ->check(one_of_words({"none", "lookup", "heads", "draft", "auto"}));
  app.add_option("--lookup-file", options.lookup_files,
                 "With --speculative lookup or auto: a file to look into as well; may be repeated")
      ->type_name("FILE")
      ->allow_extra_args(false);
  app.add_option("--heads", options.heads,
                 "With --speculative heads or auto: their folder (default: `heads` in MODEL)")
      ->type_name("FOLDER")
      ->check(not_empty());
  app.add_option("--draft-model", options.draft_model,
                 "With --speculative draft or auto: folder of a smaller model with the same tokenizer")
      ->type_name("FOLDER")
      ->check(not_empty());
}

void add_speculation(CLI::App& app, SpeculationOptions& options) {
  add_drafter(app, options);
  app.add_option("--tree", options.tree,
                 "With --speculative: guess within this tree alone. A file (`linnet tune-tree`, or paths of "
                 "ranks as [[0], [1], [0, 0]]), widths by depth as in 4x2x1, or mc_sim_7b_63, Medusa's own")
      ->type_name("TREE")
      ->check(not_empty());
  app.add_option(
         "--accept", options.accept,
         "With --speculative and a --temperature: exact, what the sampler draws; typical, any guess that is "
         "likely enough, which is faster and CHANGES THE DISTRIBUTION of the text")
      ->check(one_of_words({"exact", "typical"}));
  app.add_flag(
      "--every-guess", options.every_guess,
      "With --speculative: ask in every step and compute every guess, whatever it costs: to test with");
  app.add_flag(
      "--report", options.report,
      "With --speculative: decode once more plainly, and say what guessing was worth and where the time "
      "went; in --json too");
  app.add_flag("--verify", options.verify,
               "With --speculative: decode once more plainly; an error where the text is not the same");
}

void check_speculation(const SpeculationOptions& options) {
  if (options.accept == "typical" && options.verify)
    throw Error("--verify", "given with --accept typical, which writes another text", "one of the two");
  const bool chosen = options.app->count("--speculative") > 0;
  /// `drafter` is who could use them; null: whoever guesses.
  const auto refuse = [&](const char* drafter, std::initializer_list<const char*> names) {
    const std::string one = drafter == nullptr ? "" : fmt::format(" {}", drafter);
    const std::string expected = drafter == nullptr ? "lookup, heads, draft or auto" : drafter;
    if (chosen) {
      refuse_given(*options.app, names, fmt::format("given with --speculative {}", options.drafter),
                   fmt::format("--speculative {}", expected));
    } else {
      refuse_given(*options.app, names, fmt::format("given without --speculative{}", one),
                   fmt::format("--speculative {} too", expected));
    }
  };
  if (!options.speculates()) refuse(nullptr, {"--tree", "--accept", "--every-guess", "--report", "--verify"});
  if (!options.asks("lookup")) refuse("lookup", {"--lookup-file"});
  if (!options.asks("heads")) refuse("heads", {"--heads"});
  if (!options.asks("draft")) refuse("draft", {"--draft-model"});
  if (options.drafter == "draft" && options.draft_model.empty())
    throw Error("--draft-model", "not given", "the folder of a smaller model");
}

void print_report(const SpeculationResult& result) {
  const DecodeReport& report = result.report;
  const auto shares_of = [](std::span<const DecodeReport::Guesses> all) {
    std::vector<std::string> shares;
    for (const auto& one : all) shares.push_back(fmt::format("{:.0f}%", 100 * share_of(one)));
    return fmt::format("{}", fmt::join(shares, " "));
  };
  note(fmt::format("{}: {:.2f} tokens and {:.2f} nodes a step; right at depth 1, 2, …: {}", result.drafter,
                   accepted_of(report),
                   ratio(static_cast<double>(report.nodes), static_cast<double>(report.steps)),
                   report.depths.empty() ? "nothing guessed" : shares_of(report.depths)));
  if (!report.places.empty()) {
    const std::span places(report.places);
    note(fmt::format("right of those that were reached, the likeliest node, the second, …: {}{}",
                     shares_of(places.first(std::min(places.size(), kShownNodes))),
                     places.size() > kShownNodes ? " …" : ""));
  }
  const double all = seconds_of(report) / 100;
  note(fmt::format("{:.2f} s: draft {:.1f}%, verify {:.1f}%, sampling {:.1f}%, commit {:.1f}%",
                   seconds_of(report), ratio(report.draft_seconds, all), ratio(report.verify_seconds, all),
                   ratio(report.sampling_seconds, all), ratio(report.commit_seconds, all)));
  if (!result.plain) return;
  if (result.accept == "typical")
    note("typical acceptance: the text is not distributed as the sampler draws");
  note(fmt::format("{:.1f} tokens/s, plain {:.1f}: {:.2f} times as fast; {}", rate_of(report),
                   rate_of(*result.plain), speedup_of(result),
                   result.same ? "the same text" : "another text"));
}

nlohmann::ordered_json speculation_json(const SpeculationResult& result) {
  using Json = nlohmann::ordered_json;
  const DecodeReport& report = result.report;
  const auto listed = [](const std::vector<DecodeReport::Guesses>& all) {
    Json list = Json::array();
    for (const auto& one : all) list.push_back({{"reached", one.reached}, {"accepted", one.accepted}});
    return list;
  };
  Json drafters = Json::array();
  for (const auto& each : report.drafters)
    drafters.push_back({{"steps_asked", each.asked}, {"seconds", each.seconds}});
  Json costs = Json::array();
  for (const auto& known : report.costs) {
    Json steps = Json::array();
    for (const auto& [extra, takes] : known.drafted)
      steps.push_back({{"nodes", known.sequences + extra}, {"plain_steps", takes}});
    costs.push_back({{"sequences", known.sequences}, {"after_drafting", steps}, {"next_plain", known.after}});
  }
  Json json = {{"drafter", result.drafter},
               {"accept", result.accept},
               {"steps", report.steps},
               {"nodes", report.nodes},
               {"tokens", report.tokens},
               {"tokens_per_step", accepted_of(report)},
               {"by_depth", listed(report.depths)},
               {"by_node", listed(report.places)},
               {"drafters", drafters},
               {"costs", costs},
               {"lost_plain_steps", report.lost},
               {"draft_seconds", report.draft_seconds},
               {"verify_seconds", report.verify_seconds},
               {"sampling_seconds", report.sampling_seconds},
               {"commit_seconds", report.commit_seconds},
               {"tokens_per_second", rate_of(report)}};
  if (result.plain) {
    json["plain_tokens_per_second"] = rate_of(*result.plain);
    json["speedup"] = speedup_of(result);
    json["same_text"] = result.same;
  }
  return json;
}

}  // namespace linnet::cli

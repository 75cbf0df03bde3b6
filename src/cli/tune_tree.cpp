// linnet tune-tree: the tree of guesses that pays most for a model, its drafter and this machine.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <memory>
#include <vector>

#include "base/count.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/random.h"
#include "base/timing.h"
#include "cli/bench.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "cli/writer.h"
#include "text/corpus.h"

namespace linnet::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kTriedNodes = 64;  // of the trees that are tried
constexpr size_t kPassageTokens = 256,
                 kWrittenTokens = 128;  // tokens of a text that are read, and written then
constexpr std::array kTreeSizes = {1, 2, 4, 8, 16, 32, 64};

struct TuneOptions : SharedOptions {
  std::vector<std::filesystem::path> files;
  SpeculationOptions speculation;
  int64_t tokens = 8192;
  double temperature = 0;
  std::string out;
};

/// Beginnings of passages of the files, which the model then goes on with; without files of nothing at all.
std::vector<Request> passages_of(const TuneOptions& options, const Model& model, const Tokenizer& tokenizer) {
  const auto count =
      static_cast<size_t>((options.tokens + int64_t{kWrittenTokens} - 1) / int64_t{kWrittenTokens});
  std::vector<Request> requests;
  const auto add = [&](std::vector<int32_t> prompt) {
    Request request{.prompt = std::move(prompt), .max_new_tokens = kWrittenTokens};
    request.sampling.temperature = options.temperature;
    request.seed = options.seed;
    request.sequence = requests.size();
    requests.push_back(std::move(request));
    return requests.size() < count;
  };
  for (const auto& file : options.files) {
    for_each_document(file, options.texts, [&](Document&& document) {
      const auto tokens = tokenizer.encode(document.text, false);
      for (size_t at = 0; at + kPassageTokens <= tokens.size(); at += kPassageTokens + kWrittenTokens) {
        const auto begin = tokens.begin() + static_cast<int64_t>(at);
        if (!add({begin, begin + static_cast<int64_t>(kPassageTokens)})) return false;
      }
      return true;
    });
    if (requests.size() >= count) break;
  }
  if (requests.empty() && !options.files.empty())
    throw Error(options.files.front().string(), fmt::format("no passage of {} tokens", kPassageTokens),
                "longer texts");
  while (requests.empty() || (options.files.empty() && requests.size() < count))
    add(random_tokens(16, model.config().vocabulary, options.seed + requests.size()));
  return requests;
}

struct StepTimes {
  double plain;  // seconds of a step of one node
  std::vector<NodesCost> nodes;
};

/// What steps of several nodes take on the slot's text, in turns.
StepTimes measure_costs(Decoder& decoder) {
  constexpr int kRounds = 15;
  std::array<std::vector<double>, kTreeSizes.size()> seconds;
  for (int round = 0; round <= kRounds; ++round) {
    for (size_t s = 0; s < kTreeSizes.size(); ++s) {
      TokenTree tree = TokenTree::single(0);
      for (int32_t node = 1; node < kTreeSizes[s]; ++node) tree.add(node % 2, (node - 1) / 2);
      const Decoder::Branch branch{0, &tree};
      stop_if_interrupted();
      const Stopwatch watch;
      decoder.step({&branch, 1});
      if (round > 0) seconds[s].push_back(watch.seconds());
    }
  }
  StepTimes costs{median(seconds[0]), {}};
  for (size_t s = 0; s < kTreeSizes.size(); ++s)
    costs.nodes.push_back({kTreeSizes[s], median(seconds[s]) / costs.plain});
  return costs;
}

Json json_of(const RankAcceptance& acceptance, const StepTimes& costs, const TunedTree& best,
             double drafting) {
  Json depths = Json::array(), nodes = Json::array();
  for (int32_t depth = 1; depth <= acceptance.depth(); ++depth) {
    Json ranks = Json::array();
    for (int32_t rank = 0; rank < acceptance.ranks(depth); ++rank)
      ranks.push_back(acceptance.probability(depth, rank));
    depths.push_back(ranks);
  }
  for (const NodesCost& cost : costs.nodes)
    nodes.push_back({{"nodes", cost.nodes}, {"plain_steps", cost.steps}});
  return {{"acceptance", depths},           {"costs", nodes},
          {"drafting", drafting},           {"tree", Json::parse(best.shape.to_json())},
          {"tokens_per_step", best.tokens}, {"plain_steps", best.takes}};
}

void report(const RankAcceptance& acceptance, const StepTimes& costs, const TunedTree& best) {
  for (int32_t depth = 1; depth <= std::min(8, acceptance.depth()); ++depth) {
    std::string line;
    for (int32_t rank = 0; rank < std::min(8, acceptance.ranks(depth)); ++rank)
      line += fmt::format(" {:.1f}%", 100 * acceptance.probability(depth, rank));
    note(fmt::format("right at depth {}, likeliest guesses first:{}", depth, line));
  }
  std::string line;
  for (const NodesCost& cost : costs.nodes) line += fmt::format(" {}: {:.2f}", cost.nodes, cost.steps);
  note(fmt::format("a step of so many nodes over a plain one:{}", line));
  note(fmt::format("best tree: {}, depth {}; {:.2f} tokens in {:.2f} plain steps, {:.2f} times as fast",
                   counted(best.shape.size() - 1, "guess", "guesses"), best.shape.depth(), best.tokens,
                   best.takes, best.tokens / best.takes));
}

/// Where the tree goes: beside the heads, unless -o says otherwise.
std::filesystem::path out_of(const TuneOptions& options) {
  if (!options.out.empty()) return options.out;
  if (options.speculation.drafter != "heads")
    throw Error("--out", "not given, and only heads have a folder beside which the tree could stand",
                "a file's name");
  const auto folder = options.speculation.heads.empty() ? heads_folder(options.model)
                                                        : std::filesystem::path(options.speculation.heads);
  check_writable_file(folder / "tree.json");
  return folder / "tree.json";
}

ExitStatus tune_tree(const TuneOptions& options) {
  const JsonResult json(options);
  check_speculation(options.speculation);
  if (options.speculation.drafter == "none" || options.speculation.drafter == "auto")
    throw Error("--speculative", options.speculation.drafter,
                "one drafter, whose guesses the tree is to hold");
  const std::filesystem::path out = out_of(options);
  RankAcceptance acceptance;
  Writer writer(options, options.speculation, {.max_nodes = kTriedNodes, .counts = &acceptance});
  const auto requests = passages_of(options, writer.model(), writer.tokenizer());
  writer.engine().run(requests, {}, [] {
    stop_if_interrupted();
    return false;
  });
  const auto costs = measure_costs(writer.decoder());
  const DecodeReport run = writer.engine().report();
  const double drafting =
      run.draft_seconds / static_cast<double>(std::max<int64_t>(1, run.steps)) / costs.plain;
  const auto best = best_tree(acceptance, costs.nodes,
                              std::min(writer.deepest(), writer.decoder().info().tree_depth), drafting);
  write_file(out, best.shape.to_json() + "\n");
  report(acceptance, costs, best);
  json.write(json_of(acceptance, costs, best, drafting));
  return ExitStatus::kDone;
}

}  // namespace

void describe_tune_tree(CLI::App& app, Work& work) {
  const auto options = std::make_shared<TuneOptions>();
  add_runtime(app, *options);
  add_weights(app, *options);
  add_texts(app, "TEXT", options->files,
            "Texts whose passages the model goes on with (default: a few random tokens)");
  add_field(app, *options);
  options->speculation.drafter = "lookup";
  options->speculation.every_guess = true;
  add_drafter(app, options->speculation);
  app.add_option("--tokens", options->tokens, "Tokens to write, greedily or at --temperature")
      ->transform(count(1, int64_t{1} << 30));
  app.add_option("--temperature", options->temperature, "Of what is written; 0: greedy")
      ->check(from_to(0, 100));
  output_file(app.add_option("-o,--out", options->out,
                             "File for the tree, as --tree reads it (default: `tree.json` beside the heads)"))
      ->type_name("FILE");
  app.callback([&work, options] { work = [options] { return tune_tree(*options); }; });
}

}  // namespace linnet::cli

#include "cli/spending.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/count.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/reach_run.h"
#include "model/state_size.h"

namespace linnet::cli {
namespace {

/// What --state asks for.
struct Asked {
  int64_t bytes = 0, cache = 0;  // of the softmax cache at the model's longest context
  int64_t context = 0;
};

Asked asked_of(const std::string& state, const Model& model) {
  Asked asked{.context = model.config().positions};
  asked.cache = softmax_state_bytes(model.config(), model.attention_shape(), asked.context);
  const std::string expected =
      "bytes such as 4MB, or a share of the softmax cache such as 5%, above 0 and at most 100%";
  if (state.ends_with('%')) {
    double share = 0;
    const auto [end, error] = std::from_chars(state.data(), state.data() + state.size() - 1, share);
    if (error != std::errc() || end != state.data() + state.size() - 1 || !(share > 0 && share <= 100))
      throw Error("--state", printable(state, 60), expected);
    if (asked.context == 0) throw Error("--state", "a share, and the model's context has no end", "bytes");
    asked.bytes = static_cast<int64_t>(static_cast<double>(asked.cache) * share / 100);
    return asked;
  }
  const auto bytes = parse_count(state);
  if (!bytes || *bytes == 0) throw Error("--state", printable(state, 60), expected);
  asked.bytes = *bytes;
  return asked;
}

std::optional<WindowLosses> losses_of(const Spending& spending, const TrainingOptions& training,
                                      const std::shared_ptr<const Model>& model) {
  const AttentionShape shape = model->attention_shape();
  if (!spending.reach.empty()) {
    const nlohmann::json reach = read_json(spending.reach);
    check_measured(reach, *model, spending.reach);
    return read_window_losses(reach, static_cast<int>(model->config().layers), shape.kv_heads,
                              spending.recall_weight, spending.reach);
  }
  if (training.data.empty())
    throw Error("--state", "given without texts to measure on", "--data FILE, or --reach FILE");
  // Enough to tell heads apart, in seconds for a small model; `linnet reach` measures longer.
  ReachRun run{.how = {.tail = 128, .negligible = 1e-3}, .tokens = 32768};
  const auto measured = run_reach(run, training.data, training.shared, model, "--state");
  if (!measured) return std::nullopt;
  return window_losses(measured->reach, measured->context, spending.recall_weight);
}

/// One head with its window, for the table.
struct Line {
  int layer, head;
  int64_t tokens;
};

std::string choice_of(const Budgets& budgets, const Asked& asked) {
  std::vector<Line> lines;
  int group = 0;
  int64_t least = INT64_MAX;
  for (size_t i = 0; i < budgets.layers.size(); ++i) {
    const AttentionConfig& layer = budgets.layers[i];
    if (!layer.has_local()) continue;
    group = layer.group;
    for (int g = 0; g < budgets.heads; ++g)
      lines.push_back({static_cast<int>(i), g, int64_t{layer.group} * layer.local_groups.of(g)});
  }
  for (const Line& line : lines) least = std::min(least, line.tokens);
  std::stable_sort(lines.begin(), lines.end(),
                   [](const Line& a, const Line& b) { return a.tokens > b.tokens; });
  std::string text = fmt::format(
      "state: {:.2f} MB of at most {:.2f} MB, {:.2f}% of the softmax cache's {:.1f} MB at {} tokens; the "
      "least possible is {:.2f} MB\nwindows of {} tokens in groups of {}{}\n",
      static_cast<double>(budgets.bytes) * 1e-6, static_cast<double>(asked.bytes) * 1e-6,
      100.0 * static_cast<double>(budgets.bytes) / static_cast<double>(asked.cache),
      static_cast<double>(asked.cache) * 1e-6, asked.context, static_cast<double>(budgets.least_bytes) * 1e-6,
      least, group, lines.front().tokens == least ? " in every head" : ", but of these heads:");
  for (const Line& line : lines) {
    if (line.tokens == least) break;
    if (&line == &lines.front()) text += fmt::format("{:<8}{:>8}\n", "head", "tokens");
    text += fmt::format("{:<8}{:>8}\n", fmt::format("{}.{}", line.layer, line.head), line.tokens);
  }
  return text + fmt::format(
                    "expected loss, windows alone and before training, heads summed: {:.4f} nats per "
                    "token; with the narrowest {:.4f}\n",
                    budgets.loss, budgets.least_loss);
}

}  // namespace

std::optional<std::vector<AttentionConfig>> spend(
    const Spending& spending, const TrainingOptions& training, const std::shared_ptr<const Model>& model,
    const std::vector<int>& groups, const std::function<std::vector<AttentionConfig>(int)>& layers_of) {
  const Asked asked = asked_of(spending.state, *model);
  const auto losses = losses_of(spending, training, model);
  if (!losses) return std::nullopt;
  std::optional<Budgets> best;
  std::optional<Error> refused;
  for (const int group : groups) {
    try {
      Budgets budgets = spend_state(layers_of(group), model->attention_shape(), *losses, asked.bytes);
      if (!best || budgets.loss < best->loss) best = std::move(budgets);
    } catch (const Error& error) {
      if (!refused) refused = error;
    }
  }
  if (!best) throw *refused;
  print(choice_of(*best, asked));
  return std::move(best->layers);
}

void add_spending(CLI::App& app, Spending& spending) {
  app.add_option(
         "--state", spending.state,
         "Spends so much on windows, each head's as wide as what it buys is worth: bytes such as 4MB, "
         "or a share such as 5% of the softmax cache at the model's longest context")
      ->type_name("BYTES|SHARE");
  app.add_option(
         "--reach", spending.reach,
         "What windows buy, as `linnet reach --windows … --json FILE` wrote it (default: measured on --data)")
      ->type_name("FILE");
  app.add_option(
         "--recall-weight", spending.recall_weight,
         "What a nat of far pairs and of repeated passages counts beside one of ordinary text, where --state "
         "is spent")
      ->check(from_to(0, 1000));
}

}  // namespace linnet::cli

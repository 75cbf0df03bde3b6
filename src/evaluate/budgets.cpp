#include "evaluate/budgets.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

#include "attention/attention.h"
#include "base/error.h"
#include "format/fields.h"
#include "model/state_size.h"

namespace linnet {
namespace {

/// The unit in which offers' bytes are counted: what all of them are multiples of, as long as `bytes` are not
/// too many of it.
int64_t unit_of(std::span<const std::vector<Offer>> lists, int64_t bytes) {
  constexpr int64_t kMostUnits = int64_t{1} << 16;
  int64_t unit = 0;
  for (const std::vector<Offer>& offers : lists)
    for (const Offer& offer : offers) unit = std::gcd(unit, offer.bytes);
  return std::max({unit, (bytes + kMostUnits - 1) / kMostUnits, int64_t{1}});
}

/// Groups that a window may have: 1, 2, 3, 4, 6, 8, 12, … up to those that hold `context`.
std::vector<int> window_ladder(int group, int64_t context) {
  constexpr int kMostTokens = 65536;
  const int most = static_cast<int>(std::min<int64_t>((context + group - 1) / group, kMostTokens / group));
  std::vector<int> ladder;
  for (int groups = 1; groups < most; groups *= 2) {
    ladder.push_back(groups);
    if (groups > 1 && groups * 3 / 2 < most) ladder.push_back(groups * 3 / 2);
  }
  ladder.push_back(std::max(most, 1));
  return ladder;
}

AttentionConfig with_groups(const AttentionConfig& config, std::vector<int> groups) {
  AttentionConfig own = config;
  const bool alike = std::all_of(groups.begin(), groups.end(), [&](int x) { return x == groups[0]; });
  own.local_groups = alike ? PerHead(groups[0]) : PerHead(std::move(groups));
  return own;
}

/// Tokens that a query of a head sees on average: its own group is half full.
double tokens_seen(int groups, int group) { return (groups - 0.5) * group; }

/// Least groups of a head: kept tokens need a second one.
std::vector<int> least_groups(const AttentionConfig& config, int heads) {
  std::vector<int> groups;
  for (int g = 0; g < heads; ++g) groups.push_back(config.kept.of(g) > 0 ? 2 : 1);
  return groups;
}

/// Bytes that each rung of the ladder costs each head beyond the least.
std::vector<std::vector<int64_t>> rung_bytes(const AttentionConfig& config, const AttentionShape& shape,
                                             const std::vector<int>& ladder) {
  const std::vector<int> least = least_groups(config, shape.kv_heads);
  const auto bytes = [&](std::vector<int> groups) {
    const AttentionConfig own = with_groups(config, std::move(groups));
    return constant_state_bytes({&own, 1}, shape);
  };
  const int64_t from = bytes(least);
  std::vector<std::vector<int64_t>> all(least.size());
  for (size_t g = 0; g < least.size(); ++g) {
    for (const int rung : ladder) {
      std::vector<int> groups = least;
      groups[g] = std::max(groups[g], rung);
      all[g].push_back(bytes(groups) - from);
    }
  }
  return all;
}

/// Narrower windows that cost as much as the next are no use.
void drop_free_rungs(std::vector<int>& ladder, std::vector<std::vector<int64_t>>& costs) {
  const auto is_free = [](const std::vector<int64_t>& each) { return each[1] == 0; };
  while (ladder.size() > 1 && std::all_of(costs.begin(), costs.end(), is_free)) {
    ladder.erase(ladder.begin());
    for (auto& each : costs) each.erase(each.begin());
  }
}

double loss_with(const WindowLosses& losses, int layer, int head, int groups, int group) {
  if (int64_t{groups} * group >= losses.context) return 0;
  return losses.at(layer, head, tokens_seen(groups, group));
}

/// One window's loss from its entry in the JSON.
double loss_of(const nlohmann::json& window, double recall_weight, const std::string& where) {
  const Fields parts(window, where);
  const auto part = [&](const char* name) {
    const nlohmann::json* mean = parts.find(name);
    if (mean == nullptr)
      throw Error(where, fmt::format("no \"{}\"", name), "what `linnet reach --json` wrote");
    return Fields(*mean, fmt::format("{}.{}", where, name)).number_above("mean", -1e-9, 1e9);
  };
  return part("text") + recall_weight * (part("far_pairs") + part("passages"));
}

}  // namespace

double WindowLosses::at(int layer, int head, double tokens) const {
  const double* own = losses.data() + static_cast<size_t>(layer * heads + head) * windows.size();
  if (tokens >= static_cast<double>(context)) return 0;
  size_t next = 0;
  while (next < windows.size() && static_cast<double>(windows[next]) < tokens) ++next;
  if (next == 0 && windows.size() > 1) next = 1;
  if (next == 0) return own[0];
  // Past the last that was measured: on to nothing at the whole context.
  const bool past = next == windows.size();
  const double from = std::log(static_cast<double>(windows[next - 1]));
  const double to = std::log(static_cast<double>(past ? context : windows[next]));
  const double share = (std::log(tokens) - from) / (to - from);
  const double loss = own[next - 1] + share * ((past ? 0.0 : own[next]) - own[next - 1]);
  return std::max(loss, 0.0);
}

WindowLosses window_losses(const Reach& reach, int64_t context, double recall_weight) {
  WindowLosses losses{.context = context,
                      .layers = reach.layers,
                      .heads = reach.heads,
                      .windows = reach.windows,
                      .losses = {}};
  for (int layer = 0; layer < reach.layers; ++layer)
    for (int head = 0; head < reach.heads; ++head)
      for (size_t w = 0; w < reach.windows.size(); ++w)
        losses.losses.push_back(reach.loss(layer, head, w, recall_weight));
  return losses;
}

WindowLosses read_window_losses(const nlohmann::json& reach, int layers, int heads, double recall_weight,
                                const std::string& where) {
  constexpr int64_t kMost = int64_t{1} << 30;
  const Fields fields(reach, where);
  WindowLosses losses;
  losses.context = fields.integer("context", 1, kMost);
  losses.layers = layers;
  losses.heads = heads;
  losses.windows = fields.integers("windows", 1, kMost);
  const auto& windows = losses.windows;
  if (windows.empty() ||
      std::adjacent_find(windows.begin(), windows.end(), std::greater_equal<>()) != windows.end() ||
      windows.back() >= losses.context)
    fields.refuse("windows", "ascending numbers of tokens below the context");
  const auto list = [](const nlohmann::json* value, size_t size) {
    return value != nullptr && value->is_array() && value->size() == size;
  };
  const nlohmann::json* all = fields.find("layers");
  if (!list(all, static_cast<size_t>(layers)))
    fields.refuse("layers", fmt::format("an array of the model's {} layers", layers));
  for (const nlohmann::json& layer : *all) {
    const nlohmann::json* own = Fields(layer, where + ": layers").find("heads");
    if (!list(own, static_cast<size_t>(heads)))
      throw Error(where + ": heads", "of another model",
                  fmt::format("an array of its {} key-value heads", heads));
    for (const nlohmann::json& head : *own) {
      const nlohmann::json* each = Fields(head, where + ": heads").find("windows");
      if (!list(each, windows.size()))
        throw Error(where + ": windows of a head", "another number", fmt::format("{}", windows.size()));
      for (const nlohmann::json& window : *each)
        losses.losses.push_back(loss_of(window, recall_weight, where + ": windows"));
    }
  }
  return losses;
}

std::vector<size_t> buy(std::span<const std::vector<Offer>> lists, int64_t bytes) {
  const int64_t unit = unit_of(lists, bytes);
  const auto units = [&](const Offer& offer) { return static_cast<size_t>((offer.bytes + unit - 1) / unit); };
  const auto all = static_cast<size_t>(bytes / unit);
  // least[u]: what the lists so far lose at least with u units; taken[list][u]: the offer of that list.
  std::vector<double> least(all + 1, 0.0);
  std::vector<std::vector<uint16_t>> taken;
  for (const std::vector<Offer>& offers : lists) {
    std::vector<double> with(all + 1);
    std::vector<uint16_t>& own = taken.emplace_back(all + 1);
    for (size_t u = 0; u <= all; ++u) {
      with[u] = least[u] + offers[0].loss;
      for (size_t i = 1; i < offers.size() && units(offers[i]) <= u; ++i) {
        const double loss = least[u - units(offers[i])] + offers[i].loss;
        if (loss < with[u]) with[u] = loss, own[u] = static_cast<uint16_t>(i);
      }
    }
    least = std::move(with);
  }
  std::vector<size_t> bought(lists.size());
  size_t left = all;
  for (size_t list = lists.size(); list-- > 0;) {
    bought[list] = taken[list][left];
    left -= units(lists[list][bought[list]]);
  }
  return bought;
}

void check_spendable(const std::vector<AttentionConfig>& layers) {
  for (size_t i = 0; i < layers.size(); ++i) {
    if (layers[i].grows() && layers[i].window == 0)
      throw Error("--state", fmt::format("layer {} is softmax over all tokens, whose state grows", i),
                  "a state that does not grow in every layer");
  }
  if (std::none_of(layers.begin(), layers.end(), [](const auto& layer) { return layer.has_local(); }))
    throw Error("--state", fmt::format("{} has no local branch, so no windows to buy", layers[0].name()),
                "a method with one, or --set local=softmax");
}

Budgets spend_state(std::vector<AttentionConfig> layers, const AttentionShape& shape,
                    const WindowLosses& losses, int64_t bytes) {
  struct Place {
    size_t layer;
    int head;
  };
  std::vector<Place> places;
  std::vector<std::vector<int>> ladders(layers.size()), groups(layers.size());
  std::vector<std::vector<Offer>> lists;
  Budgets budgets{.heads = shape.kv_heads};
  std::optional<size_t> known;  // a layer of the same config
  std::vector<std::vector<int64_t>> costs;
  for (size_t i = 0; i < layers.size(); ++i) {
    if (!layers[i].has_local()) continue;
    layers[i].local_groups = 1;
    if (!known || !(layers[*known] == layers[i])) {
      ladders[i] = window_ladder(layers[i].group, losses.context);
      costs = rung_bytes(layers[i], shape, ladders[i]);
      drop_free_rungs(ladders[i], costs);
      known = i;
    }
    ladders[i] = ladders[*known];
    groups[i] = least_groups(layers[i], shape.kv_heads);
    for (int g = 0; g < shape.kv_heads; ++g) {
      places.push_back({i, g});
      lists.emplace_back();
      for (size_t rung = 0; rung < ladders[i].size(); ++rung)
        lists.back().push_back(
            {costs[static_cast<size_t>(g)][rung],
             loss_with(losses, static_cast<int>(i), g, ladders[i][rung], layers[i].group)});
      budgets.least_loss += lists.back().front().loss;
    }
  }
  const auto placed = [&] {
    std::vector<AttentionConfig> own = layers;
    for (size_t i = 0; i < own.size(); ++i)
      if (!groups[i].empty()) own[i] = with_groups(own[i], groups[i]);
    return own;
  };
  budgets.least_bytes = constant_state_bytes(placed(), shape);
  if (bytes < budgets.least_bytes)
    throw Error(
        "--state", fmt::format("{} bytes", bytes),
        fmt::format("at least {}, what these layers hold with the narrowest windows", budgets.least_bytes));
  const std::vector<size_t> bought = buy(lists, bytes - budgets.least_bytes);
  for (size_t i = 0; i < places.size(); ++i) {
    int& own = groups[places[i].layer][static_cast<size_t>(places[i].head)];
    own = std::max(own, ladders[places[i].layer][bought[i]]);
    budgets.loss += lists[i][bought[i]].loss;
  }
  budgets.layers = placed();
  budgets.bytes = constant_state_bytes(budgets.layers, shape);
  return budgets;
}

}  // namespace linnet

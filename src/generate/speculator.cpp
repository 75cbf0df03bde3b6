#include "generate/speculator.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace linnet {
namespace {

constexpr int64_t kFirstCalls = 4;    // of a drafter, before what it gained is asked for
constexpr double kAgain = 0.006;      // of the time, that asking those costs again which did not gain
constexpr int64_t kCalls = 8;         // calls that an average remembers
constexpr int64_t kFewTokens = 32;    // that a drafter reads in passing
constexpr int64_t kPieces = 3;        // that it reads before what a token took is believed
constexpr double kDearToken = 0.005;  // of a plain step, that reading one is taken to cost until then

void check_draft(const Draft& draft, const Drafter::Context& context) {
  const TokenTree& tree = draft.tree;
  const size_t size = draft.reached.size();
  bool good = tree.size() >= 1 && tree.size() <= context.max_nodes && tree.token(0) == context.tokens.back();
  good = good && (size == 0 || size == static_cast<size_t>(tree.size()));
  for (int32_t i = 1; good && i < tree.size(); ++i)
    good = tree.parent(i) >= 0 && tree.depth(i) <= context.max_depth;
  if (good) return;
  throw Error("drafter", fmt::format("a tree of {} nodes that breaks the rules", tree.size()),
              fmt::format("the chosen token as the only root, at most {} nodes and depth {}",
                          context.max_nodes, context.max_depth),
              ExitStatus::kFailed);
}

/// In which of the ranges of what is expected a step lies: where a guess is at hand, another is worth less.
size_t range_of(double saved) { return saved < 0.05 ? 0 : saved < 0.5 ? 1 : saved < 1.5 ? 2 : 3; }

}  // namespace

void Speculator::Average::add(double number, int64_t memory) {
  count = std::min(count + 1, memory);
  value += (number - value) / static_cast<double>(count);
}

Speculator::Speculator(std::vector<Drafter*> drafters, const Options& options, Clock clock)
    : options_(options), clock_(std::move(clock)) {
  for (Drafter* drafter : drafters) {
    asked_.emplace_back();
    asked_.back().drafter = drafter;
    if (options.step_bytes > 0)
      asked_.back().guessed_cost =
          static_cast<double>(drafter->bytes()) / static_cast<double>(options.step_bytes);
  }
}

void Speculator::begin(int slot) {
  for (Asked& asked : asked_) asked.drafter->begin(slot);
  budget_.begin(slot);
}

void Speculator::end(int slot) {
  for (Asked& asked : asked_) asked.drafter->end(slot);
  budget_.end(slot);
}

std::vector<Speculator::Report> Speculator::reports() const {
  std::vector<Report> reports;
  for (const Asked& asked : asked_) reports.push_back(asked.report);
  return reports;
}

std::span<const TokenTree> Speculator::propose(std::span<const Drafter::Context> contexts) {
  ++step_;
  slots_.clear();
  merged_.resize(contexts.size());
  for (size_t i = 0; i < contexts.size(); ++i) {
    slots_.push_back(contexts[i].slot);
    merged_[i].clear();
    merged_[i].add(contexts[i].tokens.back(), -1, 1);
  }
  tokens_.assign(slots_.size(), 0);
  budget_.next(slots_);
  const bool plain = options_.budget && budget_.needs_plain();
  TreeBudget::Choice choice;
  for (Asked& asked : asked_) {
    asked.now =
        !plain && (!options_.budget || (is_worth_asking(asked, choice.saved) && has_read(asked, contexts) &&
                                        budget_.may_guess(costs_of(asked))));
    if (!asked.now) continue;
    const double start = clock_();
    ask(asked, contexts);
    merge(asked);
    budget_.asked(costs_of(asked), asked.drives_out());
    const auto next = choose();
    asked.seconds = clock_() - start;
    asked.gains[range_of(choice.saved)].add(next.saved - choice.saved - asked.costs(), kCalls);
    choice = next;
  }
  keep(options_.budget ? choice.extra : options_.max_nodes - static_cast<int>(slots_.size()));
  return trees_;
}

/// What asking costs, the steps after it included. The time of a single call may be another program's: it is
/// believed for as long as it takes to count no more.
double Speculator::costs_of(const Asked& asked) const {
  double call = asked.costs();
  if (asked.cost.count() == 1 && pays_for(asked, call)) call = std::min(call, asked.guessed_cost);
  return call + (asked.drives_out() ? budget_.slows(call) : 0);
}

/// Whether it was not asked for so long that such a cost does not count.
bool Speculator::pays_for(const Asked& asked, double cost) const {
  return static_cast<double>(step_ - asked.last) * kAgain >= cost;
}

/// Whether the drafter has read the texts but for a few tokens; where it has not, it reads on as far as that
/// may cost now.
bool Speculator::has_read(Asked& asked, std::span<const Drafter::Context> contexts) {
  const double second = budget_.in_plain_steps(1);
  bool all = true;
  for (const Drafter::Context& context : contexts) {
    int64_t left = asked.drafter->read(context.slot, context.tokens, 0);
    while (left > kFewTokens) {
      const double may = second > 0 ? budget_.for_reading() : 0;
      const bool first = asked.reading.count() < kPieces;  // to measure by; one costs no more than a call
      const double token = first ? std::max(kDearToken, asked.guessed_cost / kFewTokens)
                                 : std::max(second * asked.reading.median(), 1e-9);
      const double most = std::min(may / token, static_cast<double>(first ? kFewTokens : left));
      if (most < kFewTokens) break;
      const double start = clock_();
      const int64_t before = left;
      left = asked.drafter->read(context.slot, context.tokens, static_cast<int64_t>(most));
      const double seconds = clock_() - start;
      asked.reading.add(seconds / static_cast<double>(before - left));
      asked.report.seconds += seconds;
      budget_.drafters_read(seconds);
    }
    all = all && left <= kFewTokens;
  }
  return all;
}

bool Speculator::is_worth_asking(const Asked& asked, double saved) const {
  const double cost = costs_of(asked);
  if (!budget_.may_guess(cost)) return false;
  const Average& gain = asked.gains[range_of(saved)];
  if (gain.count < kFirstCalls || gain.value > 0) return true;
  return pays_for(asked, cost);
}

void Speculator::ask(Asked& asked, std::span<const Drafter::Context> contexts) {
  asked.last = step_;
  ++asked.report.asked;
  asked.drafts.resize(contexts.size());
  asked.drafter->propose(contexts, asked.drafts);
  for (size_t i = 0; i < contexts.size(); ++i) check_draft(asked.drafts[i], contexts[i]);
}

/// Adds the drafter's guesses to those that are there. Of a node's children one is right at most: what was
/// there before is believed first.
void Speculator::merge(const Asked& asked) {
  for (size_t i = 0; i < merged_.size(); ++i) {
    const TokenTree& tree = asked.drafts[i].tree;
    const auto reached = asked.acceptance.reached(asked.drafts[i]);
    Draft& merged = merged_[i];
    std::vector<double> left =
        merged.reached;  // [merged nodes] how likely none of a node's children is reached
    for (int32_t node = 1; node < merged.tree.size(); ++node)
      left[static_cast<size_t>(merged.tree.parent(node))] -= merged.reached[static_cast<size_t>(node)];
    const auto shaped = options_.shape != nullptr ? options_.shape->places_of(asked.drafts[i])
                                                  : std::vector<int32_t>(reached.size(), 0);
    std::vector<int32_t> places(reached.size(), 0);  // of the draft's nodes in the merged tree
    for (int32_t node = 1; node < tree.size(); ++node) {
      if (shaped[static_cast<size_t>(node)] < 0) continue;
      const int32_t parent = places[static_cast<size_t>(tree.parent(node))];
      int32_t place = child_of(merged.tree, parent, tree.token(node));
      if (place < 0) {
        place = merged.add(tree.token(node), parent, 0);
        left.push_back(0);
      }
      const auto p = static_cast<size_t>(place);
      const double more = std::clamp(reached[static_cast<size_t>(node)] - merged.reached[p], 0.0,
                                     std::max(0.0, left[static_cast<size_t>(parent)]));
      merged.reached[p] += more;
      left[p] += more;
      left[static_cast<size_t>(parent)] -= more;
      places[static_cast<size_t>(node)] = place;
    }
  }
}

TreeBudget::Choice Speculator::choose() {
  order_.clear();
  for (size_t i = 0; i < merged_.size(); ++i) {
    for (int32_t node = 1; node < merged_[i].tree.size(); ++node)
      order_.push_back({merged_[i].reached[static_cast<size_t>(node)], i, node});
  }
  // No node is likelier than its parent, which stands before it among equals.
  std::stable_sort(order_.begin(), order_.end(),
                   [](const Node& a, const Node& b) { return a.reached > b.reached; });
  order_.resize(std::min(order_.size(), static_cast<size_t>(options_.max_nodes) - slots_.size()));
  std::vector<double> reached;
  for (const Node& node : order_) reached.push_back(node.reached);
  return budget_.choose(reached);
}

/// The trees of the roots and the first `extra` nodes.
void Speculator::keep(int extra) {
  std::vector<std::vector<int32_t>> kept(merged_.size());
  for (size_t i = 0; i < order_.size() && i < static_cast<size_t>(extra); ++i)
    kept[order_[i].draft].push_back(order_[i].node);
  trees_.resize(merged_.size());
  for (size_t i = 0; i < merged_.size(); ++i) trees_[i] = part_of(merged_[i].tree, kept[i]);
  order_.clear();
}

void Speculator::followed(int slot, std::span<const int32_t> tokens) {
  const size_t i = static_cast<size_t>(std::find(slots_.begin(), slots_.end(), slot) - slots_.begin());
  tokens_[i] = static_cast<int>(tokens.size());
  for (Asked& asked : asked_) {
    if (!asked.now) continue;
    const double start = clock_();
    asked.acceptance.followed(asked.drafts[i], tokens);
    asked.drafter->followed(slot, asked.drafts[i], tokens);
    asked.seconds += clock_() - start;
  }
}

void Speculator::measured(int nodes, double seconds) {
  double drafting = 0;
  for (Asked& asked : asked_) {
    if (!asked.now) continue;
    asked.report.seconds += asked.seconds;
    const double cost = budget_.in_plain_steps(asked.seconds);
    if (cost > 0) asked.cost.add(cost);
    drafting += asked.costs();
  }
  budget_.measured(nodes, tokens_, drafting, seconds);
}

}  // namespace linnet

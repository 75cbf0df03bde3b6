#include "generate/tree_budget.h"

#include <algorithm>
#include <utility>

namespace linnet {
namespace {

constexpr double kLoss = 0.012;       // of all time, that guesses may lose
constexpr double kFirstLoss = 0.75;   // plain steps more
constexpr double kShortLoss = 0.026;  // of the time, at most: any token may be the text's last
constexpr double kDearNode = 1;       // of a plain step, that a node may cost before any was measured
constexpr double kTold = 8;  // steps whose guesses were judged, after which half is believed of the next
constexpr double kTeaching =
    0.3;  // of these, before a node's cost is known: for guesses that are not computed
constexpr double kFading = 1 - 1.0 / 512;  // of a step that is remembered, at each later one
constexpr double kWorthIt = 1.03;          // times as fast as plain steps, that a tree has to promise
constexpr double kWorthTrying = 1.05;  // times the best known rate, that a size promises which is not known

}  // namespace

void TreeBudget::measured(const Step& step) {
  const int extra = step.nodes - step.sequences;
  for (auto& [sequences, ledger] : ledgers_) {
    for (double& steps : ledger.steps) steps *= kFading;
    for (double* sum : {&ledger.after, &ledger.others, &ledger.tokens, &ledger.drafting}) *sum *= kFading;
  }
  Ledger& ledger = ledgers_[step.sequences];
  ledger.costs.add(extra, step.drafted, step.seconds);
  if (std::ssize(ledger.steps) <= extra) ledger.steps.resize(static_cast<size_t>(extra) + 1);
  const bool follows = std::exchange(ledger.drafted, step.drafted);
  ++(step.drafted ? ledger.steps[static_cast<size_t>(extra)] : follows ? ledger.after : ledger.others);
  ledger.tokens += static_cast<double>(step.tokens) / step.sequences;
  ledger.drafting += step.drafting;
  weigh();
}

/// What was lost so far, by what is known now of what steps take.
void TreeBudget::weigh() {
  plainly_ = lost_ = 0;
  for (const auto& [sequences, ledger] : ledgers_) {
    double took = ledger.drafting + ledger.others + ledger.after * ledger.costs.after();
    for (size_t extra = 0; extra < ledger.steps.size(); ++extra) {
      if (ledger.steps[extra] > 0)
        took += ledger.steps[extra] * ledger.costs.expected(static_cast<int>(extra));
    }
    plainly_ += ledger.tokens;
    lost_ += took - ledger.tokens;
  }
}

bool TreeBudget::is_short() const {
  const double all = plainly_ + left_;
  return kShortLoss * all < kFirstLoss + kLoss * all;
}

double TreeBudget::allowance() const {
  return is_short() ? kShortLoss * plainly_ : kFirstLoss + kLoss * plainly_;
}

bool TreeBudget::may_lose(double plain_steps) const { return lost_ + plain_steps <= allowance(); }

double TreeBudget::slows(int sequences) const {
  const auto found = ledgers_.find(sequences);
  return found == ledgers_.end() ? 0 : found->second.costs.expected(0) + found->second.costs.after() - 2;
}

bool TreeBudget::may_guess(int sequences, double drafting) const {
  const auto found = ledgers_.find(sequences);
  if (found == ledgers_.end()) return false;
  const StepCosts& costs = found->second.costs;
  const double loses =
      drafting + costs.expected(costs.knows_nodes() || !is_short() ? 1 : 0) + costs.after() - 2;
  if (costs.knows_nodes() || !is_short()) return may_lose(loses);
  // Guesses teach though none is computed: what they may cost leaves room for the first that is.
  return lost_ + loses <= kTeaching * allowance();
}

bool TreeBudget::needs_plain(int sequences) const {
  const auto found = ledgers_.find(sequences);
  return found == ledgers_.end() || found->second.costs.needs_plain();
}

double TreeBudget::in_plain_steps(int sequences, double seconds) const {
  const auto found = ledgers_.find(sequences);
  return found == ledgers_.end() ? 0 : found->second.costs.in_plain_steps(seconds);
}

std::vector<TreeBudget::Known> TreeBudget::known() const {
  std::vector<Known> all;
  for (const auto& [sequences, ledger] : ledgers_)
    all.push_back({sequences, ledger.costs.measured(), ledger.costs.after()});
  return all;
}

TreeBudget::Choice TreeBudget::choose(int sequences, std::span<const double> reached) const {
  const auto found = ledgers_.find(sequences);
  if (found == ledgers_.end()) return {};
  const StepCosts& costs = found->second.costs;
  const double now = costs.expected(0);  // the drafting is done
  Choice choice{.saved = 1 - now};
  // For each sequence; rates to that of plain steps.
  double tokens = 1, best = kWorthIt / now, allowed = best, hoped = 0;
  const double told = found->second.steps.empty() ? 0 : found->second.steps[0];
  const double believed = told / (told + kTold);
  int unknown = 0;
  for (size_t i = 0; i < reached.size(); ++i) {
    const int extra = static_cast<int>(i) + 1;
    tokens += reached[i] / sequences;
    const double takes = costs.expected(extra), least = costs.least(extra);
    if (tokens / takes > best) {
      best = tokens / takes;
      choice.saved = tokens - takes;
    }
    const double loses = costs.knows_nodes() || !is_short()
                             ? takes - 1
                             : now + kDearNode * extra - 1 - believed * (tokens - 1);
    if (extra > costs.next() || !may_lose(loses)) continue;
    if (tokens / takes > allowed) {
      allowed = tokens / takes;
      choice.extra = extra;
    }
    const bool doubles = (extra & (extra + 1)) == 0;  // 1, 3, 7, …: what lies between is told by them
    if (doubles && least < takes && tokens / least > hoped) {
      hoped = tokens / least;
      unknown = extra;
    }
  }
  if (hoped > kWorthTrying * allowed) choice.extra = unknown;
  return choice;
}

}  // namespace linnet

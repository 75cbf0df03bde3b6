#include "generate/tree_budget.h"

#include <algorithm>
#include <utility>

namespace linnet {
namespace {

constexpr double kLoss = 0.026;    // of a text's time, that its guesses may lose: with what is not
                                   // known to the point it stays below 3%
constexpr double kPrompt = 64;     // plain steps of a prompt that count for guesses: those of a long one
                                   // would let a short text lose much of its own time
constexpr double kReading = 0.5;   // of that, for drafters that read
constexpr double kTeaching = 0.3;  // of that, for guesses before a node may be computed
constexpr double kFading = 1 - 1.0 / 512;  // of what is remembered, at each later step
constexpr double kWorthIt = 1.03;          // times as fast as plain steps, that a tree has to promise
constexpr double kWorthTrying = 1.05;  // times the best known rate, that a size promises which is not known

}  // namespace

void TreeBudget::end(int slot) {
  forgotten_ += lost_by(accounts_[slot]);
  accounts_.erase(slot);
}

/// What steps took beyond plain ones of as many sequences, and in these.
double TreeBudget::lost_in(int sequences, const Steps& steps) const {
  const StepCosts& costs = costs_.at(sequences);
  double took = steps.drafting + steps.others + steps.after * costs.after();
  for (size_t extra = 0; extra < steps.drafted.size(); ++extra) {
    if (steps.drafted[extra] > 0) took += steps.drafted[extra] * costs.expected(static_cast<int>(extra));
  }
  return took - steps.tokens;
}

double TreeBudget::lost_by(const Account& account) const {
  double lost = 0;
  for (const auto& [sequences, steps] : account.steps) lost += lost_in(sequences, steps);
  return account.drafters > 0 && costs().plain() > 0 ? lost + account.drafters / costs().plain() : lost;
}

/// In plain steps of the next step's sequences, by what is known now of what steps take. The prompt counts
/// once a plain step told what one takes.
TreeBudget::Balance TreeBudget::balance(const Account& account) const {
  Balance sum;
  bool plain = false;
  for (const auto& [sequences, steps] : account.steps) {
    const double seconds = costs_.at(sequences).plain();
    const double unit = seconds > 0 && costs().plain() > 0 ? seconds / costs().plain() : 1;
    sum.plainly += unit * steps.tokens;
    sum.lost += unit * lost_in(sequences, steps);
    plain = plain || steps.after + steps.others > 0;
  }
  sum.bears = kLoss * sum.plainly;
  if (!plain || costs().plain() <= 0) return sum;
  const double prompt = account.reading / costs().plain(), drafters = account.drafters / costs().plain();
  sum.plainly += prompt;
  sum.lost += drafters;
  sum.bears += std::min(kLoss * prompt, kLoss * kPrompt + drafters);
  return sum;
}

void TreeBudget::next(std::span<const int> slots) {
  slots_.assign(slots.begin(), slots.end());
  sequences_ = static_cast<int>(slots.size());
  costs_.try_emplace(sequences_);
  drives_out_ = false;
  const auto room = [](const Balance& one) { return one.bears - one.lost; };
  balance_ = balance(accounts_[slots.front()]);
  for (const int slot : slots.subspan(1)) {
    const Balance one = balance(accounts_[slot]);
    if (room(one) < room(balance_)) balance_ = one;
  }
}

void TreeBudget::measured(int nodes, std::span<const int> tokens, double drafting, double seconds) {
  const int extra = nodes - sequences_;
  const bool drafted = drives_out_ || extra > 0;
  StepCosts& costs = costs_[sequences_];
  const bool follows = costs.drafted();
  costs.add(extra, drafted, seconds);
  for (size_t i = 0; i < slots_.size(); ++i) {
    Account& account = accounts_[slots_[i]];
    forgotten_ += (1 - kFading) * lost_by(account);
    for (double* sum : {&account.reading, &account.drafters}) *sum *= kFading;
    for (auto& [sequences, steps] : account.steps) {
      for (double& count : steps.drafted) count *= kFading;
      for (double* sum : {&steps.after, &steps.others, &steps.tokens, &steps.drafting}) *sum *= kFading;
    }
    Steps& steps = account.steps[sequences_];
    if (std::ssize(steps.drafted) <= extra) steps.drafted.resize(static_cast<size_t>(extra) + 1);
    ++(drafted ? steps.drafted[static_cast<size_t>(extra)] : follows ? steps.after : steps.others);
    steps.tokens += tokens[i];
    steps.drafting += drafting;
  }
}

bool TreeBudget::needs_plain() const { return costs().needs_plain(); }

double TreeBudget::slows(double drafting) const {
  return costs().knows_after() ? costs().expected(0) + costs().after() - 2 : drafting;
}

bool TreeBudget::may_guess(double cost) const {
  if (balance_.lost + cost + costs().most(1) - costs().expected(0) <= balance_.bears) return true;
  // Guesses teach though none is computed: what they may cost leaves room for the first that is.
  return balance_.lost + cost <= kTeaching * balance_.bears;
}

void TreeBudget::asked(double cost, bool drives_out) {
  balance_.lost += cost;
  drives_out_ = drives_out_ || drives_out;
}

double TreeBudget::for_reading() const { return kReading * kLoss * balance_.plainly - balance_.lost; }

void TreeBudget::drafters_read(double seconds) {
  for (const int slot : slots_) accounts_[slot].drafters += seconds;
  if (costs().plain() > 0) balance_.lost += seconds / costs().plain();
}

double TreeBudget::in_plain_steps(double seconds) const { return costs().in_plain_steps(seconds); }

std::vector<TreeBudget::Known> TreeBudget::known() const {
  std::vector<Known> all;
  for (const auto& [sequences, costs] : costs_) all.push_back({sequences, costs.measured(), costs.after()});
  return all;
}

double TreeBudget::lost() const {
  double lost = forgotten_;
  for (const auto& [slot, account] : accounts_) lost += lost_by(account);
  return lost;
}

TreeBudget::Choice TreeBudget::choose(std::span<const double> reached) const {
  const double now = drives_out_ ? costs().expected(0) : 1;  // the drafting is done
  Choice choice{.saved = 1 - now};
  // For each sequence; rates to that of plain steps.
  double tokens = 1, best = kWorthIt / now, allowed = best, hoped = 0;
  int unknown = 0;
  for (size_t i = 0; i < reached.size(); ++i) {
    const int extra = static_cast<int>(i) + 1;
    tokens += reached[i] / sequences_;
    const double takes = costs().expected(extra), least = costs().least(extra);
    if (tokens / takes > best) {
      best = tokens / takes;
      choice.saved = tokens - takes;
    }
    const double loses = costs().most(extra) - now;
    if (extra > costs().next() || balance_.lost + loses > balance_.bears) continue;
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

#include "generate/step_costs.h"

#include <algorithm>
#include <utility>

namespace linnet {
namespace {

constexpr double kNode = 0.08;        // of a plain step, that a node is taken to cost before any was measured
constexpr double kDearNode = 1;       // and at most: it is computed as if alone, or begins a block of rows
constexpr double kLeastNode = 0.005;  // and at least, past the largest that was
constexpr double kSpike = 2.0;        // times what was expected: another program had the processor
constexpr int64_t kSure = 32;     // steps that a size's cost is sure for, for each time that it was measured
constexpr int64_t kSurest = 512;  // and at most
constexpr int64_t kNear = 4;      // steps for which a plain one tells what a plain one takes
constexpr int64_t kPlainEvery = 32;   // steps after which a plain one is made to measure by
constexpr int64_t kKnown = 6;         // measurements; until then a plain step follows each one
constexpr int64_t kKnownAfter = 3;    // of what follows drafting; until then two plain steps do
constexpr int64_t kAfterAgain = 256;  // steps after which that is measured again

}  // namespace

size_t Recent::size() const { return static_cast<size_t>(std::min<int64_t>(count_, std::ssize(last_))); }

void Recent::add(double number) {
  last_[static_cast<size_t>(count_++) % last_.size()] = number;
  auto sorted = last_;
  const auto middle = sorted.begin() + static_cast<int64_t>((size() - 1) / 2);
  std::nth_element(sorted.begin(), middle, sorted.begin() + static_cast<int64_t>(size()));
  median_ = *middle;
}

double Recent::cut_mean() const {
  constexpr double kMost = 4;  // times the median
  double sum = 0;
  for (size_t i = 0; i < size(); ++i) sum += std::min(last_[i], kMost * median_);
  return size() > 0 ? sum / static_cast<double>(size()) : 0;
}

void StepCosts::add(int extra, bool drafted, double seconds) {
  ++step_;
  last_ = extra;
  const bool follows = std::exchange(drafted_, drafted);
  if (!drafted) {
    if (!follows && after_drafted_ > 0) {
      after_step_ = step_;
      after_.add(std::clamp(after_drafted_ / seconds, 1.0, kSpike));
    }
    after_drafted_ = follows ? seconds : 0;
    plain_step_ = step_;
    plain_ = follows ? seconds / after() : seconds;
    return;
  }
  after_drafted_ = 0;
  const double ratio = std::max(1.0, in_plain_steps(seconds));
  if (in_plain_steps(seconds) <= 0) return;
  if (std::ssize(sizes_) <= extra) sizes_.resize(static_cast<size_t>(extra) + 1);
  // Nothing makes nodes dearer than computing each alone but other programs.
  const double most = std::min(kSpike * expected(extra), at(0) + kDearNode * std::max(extra, 1));
  Size& size = sizes_[static_cast<size_t>(extra)];
  size.ratio.add(std::min(ratio, most));
  size.step = step_;
}

double StepCosts::in_plain_steps(double seconds) const {
  return plain_ > 0 && step_ - plain_step_ <= kNear ? seconds / plain_ : 0;
}

bool StepCosts::needs_plain() const {
  if (plain_ <= 0 || step_ - plain_step_ >= (knows_nodes() ? kPlainEvery : kNear)) return true;
  const bool sure = after_.count() >= kKnownAfter && step_ - after_step_ < kAfterAgain;
  if (after_drafted_ > 0 && !sure) return true;
  return last_ > 0 && (!knows(last_) || sizes_[static_cast<size_t>(last_)].ratio.count() < kKnown);
}

bool StepCosts::knows(int extra) const {
  return extra >= 0 && extra < std::ssize(sizes_) && sizes_[static_cast<size_t>(extra)].ratio.count() > 0;
}

bool StepCosts::is_sure(int extra) const {
  if (extra == 0) return true;
  if (!knows(extra)) return false;
  const Size& size = sizes_[static_cast<size_t>(extra)];
  return step_ - size.step < std::min(kSure * size.ratio.count(), kSurest);
}

int StepCosts::known_below(int extra) const {
  int size = std::min(extra, static_cast<int>(sizes_.size()) - 1);
  while (size > 0 && !knows(size)) --size;
  return std::max(0, size);
}

int StepCosts::known_above(int extra) const {
  for (int size = extra; size < std::ssize(sizes_); ++size) {
    if (knows(size)) return size;
  }
  return 0;
}

double StepCosts::at(int extra) const {
  return knows(extra) ? sizes_[static_cast<size_t>(extra)].ratio.median() : 1;
}

double StepCosts::expected(int extra) const {
  const int below = known_below(extra), above = known_above(extra);
  if (below == extra) return at(below);
  if (above > 0) return at(below) + (at(above) - at(below)) * (extra - below) / (above - below);
  const double slope = below > 0 ? std::max(kLeastNode, (at(below) - at(0)) / below) : kNode;
  return at(below) + slope * (extra - below);
}

double StepCosts::most(int extra) const {
  const int largest = known_below(static_cast<int>(sizes_.size()));
  if (largest == 0) return at(0) + kDearNode * extra;
  const bool once = knows(extra) && sizes_[static_cast<size_t>(extra)].ratio.count() == 1;
  return expected(extra) + (extra > largest || once ? kDearNode : 0);
}

std::vector<std::pair<int, double>> StepCosts::measured() const {
  std::vector<std::pair<int, double>> all;
  for (int extra = 0; extra < std::ssize(sizes_); ++extra) {
    if (knows(extra)) all.emplace_back(extra, at(extra));
  }
  return all;
}

double StepCosts::least(int extra) const {
  int below = std::min(extra, static_cast<int>(sizes_.size()));
  while (!is_sure(below)) --below;
  return below == extra ? at(extra) : std::min(at(below) + kLeastNode, expected(extra));
}

}  // namespace linnet

// What steps take over a plain one, on this machine. Others may use the machine too, for moments or for
// minutes: times are held against the plain step just before alone, and medians are taken. Drafting drives
// weights out of the caches: a step after it takes longer, and so does a plain one that follows. Sizes that
// were not computed yet are taken to lie on a line, and may turn out as cheap as smaller ones.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace linnet {

/// The last numbers of a series.
class Recent {
 public:
  void add(double number);
  int64_t count() const { return count_; }  // of all that were added
  double median() const { return median_; }
  /// The mean, what is far above the median cut to it: now and then more is true, much more is a disturbance.
  double cut_mean() const;

 private:
  std::array<double, 13> last_{};
  int64_t count_ = 0;
  double median_ = 0;
  size_t size() const;
};

class StepCosts {
 public:
  /// A step took so many seconds with `extra` nodes beside its roots; `drafted`: it has some, or weights were
  /// driven out before it.
  void add(int extra, bool drafted, double seconds);
  /// So many seconds in plain steps; 0 where no plain step is near enough to say.
  double in_plain_steps(double seconds) const;
  /// Whether a plain step is needed to measure by: the first step with nodes is to find one near.
  bool needs_plain() const;

  /// The largest size that may be tried: hardly more than twice what was computed, however cheap it looks.
  int next() const { return 2 * known_below(static_cast<int>(sizes_.size())) + 1; }
  /// What a step of so many extra nodes takes after drafting, in plain steps.
  double expected(int extra) const;
  /// And at most: what lies past the sizes that were measured, or was measured once, is a guess.
  double most(int extra) const;
  /// Seconds of the last plain step, as if no drafted one had been before it; 0: none was.
  double plain() const { return plain_; }
  /// Whether the last step was drafted.
  bool drafted() const { return drafted_; }
  /// What a plain step takes that follows such a step.
  double after() const { return knows_after() ? after_.median() : 1; }
  bool knows_after() const { return after_.count() > 0; }
  /// What was measured: nodes beside the roots, and plain steps.
  std::vector<std::pair<int, double>> measured() const;
  /// The least that it may take: what fewer nodes took. The same as `expected` where that is sure: measured
  /// lately, and the oftener the longer ago.
  double least(int extra) const;

 private:
  struct Size {
    Recent ratio;
    int64_t step = 0;  // when it was measured last
  };
  bool knows(int extra) const;
  bool knows_nodes() const { return known_below(static_cast<int>(sizes_.size())) > 0; }
  bool is_sure(int extra) const;
  /// The largest known size of at most `extra` nodes, and the smallest of at least so many; 0: none.
  int known_below(int extra) const;
  int known_above(int extra) const;
  double at(int extra) const;

  std::vector<Size> sizes_;  // [extra]
  Recent after_;
  double plain_ = 0;          // plain()
  double after_drafted_ = 0;  // and of the last step, if it was plain and the one before it drafted
  int64_t step_ = 0, plain_step_ = 0, after_step_ = 0;
  int last_ = 0;          // extra nodes of the last step
  bool drafted_ = false;  // the last step
};

}  // namespace linnet

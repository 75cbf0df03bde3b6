// Rows as integers with scales: the search for a group's scale and offset.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/bfloat16.h"
#include "kernels/cpu/weights.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/quantize_row.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#ifndef LINNET_QUANTIZE_ROW
#define LINNET_QUANTIZE_ROW
namespace linnet::kernels {
namespace {

constexpr float kLeast4 = -8, kMost4 = 7;  // integers of int4

/// A group's numbers, and what an error in each weighs (null: ones).
struct Group {
  const float* numbers;
  const float* importance;
  int64_t size;  // a multiple of kScaleGroup
};

/// What integers q of a group stand for: q · scale + offset.
struct Line {
  float scale = 0, offset = 0;

  float inverse() const { return std::isfinite(1 / scale) ? 1 / scale : 0; }
  Line stored() const {
    return {bfloat16_to_float(float_to_bfloat16(scale)), bfloat16_to_float(float_to_bfloat16(offset))};
  }
};

/// Sums over a group: of weights w, integers q that a line gives and numbers x.
struct Sums {
  double w = 0, q = 0, qq = 0, x = 0, qx = 0;
};

}  // namespace
}  // namespace linnet::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace linnet::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Float = hn::CappedTag<float, kScaleGroup>;
using Vector = hn::Vec<Float>;

HWY_INLINE Vector integers(const Line& line, Vector x) {
  const Float d;
  const Vector q = hn::Mul(hn::Sub(x, hn::Set(d, line.offset)), hn::Set(d, line.inverse()));
  return hn::Min(hn::Max(hn::Round(q), hn::Set(d, kLeast4)), hn::Set(d, kMost4));
}

HWY_INLINE Vector importance_at(const Group& group, int64_t i) {
  const Float d;
  return group.importance == nullptr ? hn::Set(d, 1.0f) : hn::LoadU(d, group.importance + i);
}

/// The sum of importance × squared error of a group.
float error_of(const Group& group, const Line& line) {
  const Float d;
  Vector sum = hn::Zero(d);
  for (int64_t i = 0; i < group.size; i += static_cast<int64_t>(hn::Lanes(d))) {
    const Vector x = hn::LoadU(d, group.numbers + i);
    const Vector off =
        hn::Sub(x, hn::MulAdd(integers(line, x), hn::Set(d, line.scale), hn::Set(d, line.offset)));
    sum = hn::MulAdd(hn::Mul(importance_at(group, i), off), off, sum);
  }
  return hn::GetLane(hn::SumOfLanes(d, sum));
}

Sums sums_of(const Group& group, const Line& line) {
  const Float d;
  Vector sw = hn::Zero(d), sq = sw, sqq = sw, sx = sw, sqx = sw;
  for (int64_t i = 0; i < group.size; i += static_cast<int64_t>(hn::Lanes(d))) {
    const Vector x = hn::LoadU(d, group.numbers + i), w = importance_at(group, i), q = integers(line, x);
    const Vector wq = hn::Mul(w, q);
    sw = hn::Add(sw, w), sq = hn::Add(sq, wq), sx = hn::MulAdd(w, x, sx);
    sqq = hn::MulAdd(wq, q, sqq), sqx = hn::MulAdd(wq, x, sqx);
  }
  const auto total = [&](Vector sum)
                         HWY_ATTR { return static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum))); };
  return {total(sw), total(sq), total(sqq), total(sx), total(sqx)};
}

}  // namespace linnet::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::kernels {

HWY_EXPORT(error_of);
HWY_EXPORT(sums_of);

namespace {

/// The line through a group's numbers, each at the integer that `line` gives it, with the least error; with
/// an offset or through zero.
Line fitted(const Group& group, const Line& line, bool with_offset) {
  const Sums sums = HWY_DYNAMIC_DISPATCH(sums_of)(group, line);
  if (!with_offset) return sums.qq > 0 ? Line{static_cast<float>(sums.qx / sums.qq), 0} : line;
  const double spread = sums.w * sums.qq - sums.q * sums.q;
  if (!(spread > 1e-6 * sums.w * sums.qq)) return line;
  const double scale = (sums.w * sums.qx - sums.q * sums.x) / spread;
  return {static_cast<float>(scale), static_cast<float>((sums.x - scale * sums.q) / sums.w)};
}

/// Of scales around that by which the largest number is −8 or, with an offset, the group's ends are −8 and 7,
/// and of each fitted to the integers that it gives, the best.
Line best_line(const Group& group, bool with_offset) {
  constexpr int kSteps = 9;  // to either side
  const auto [low, high] = std::minmax_element(group.numbers, group.numbers + group.size);
  const float largest = std::abs(*low) > std::abs(*high) ? *low : *high;
  Line best;
  float least = std::numeric_limits<float>::infinity();
  const auto take = [&](const Line& line) {
    const Line stored = line.stored();
    const float error = HWY_DYNAMIC_DISPATCH(error_of)(group, stored);
    if (error < least || best.scale == 0) best = stored, least = error;
  };
  for (int step = -kSteps; step <= kSteps; ++step) {
    const float more = 0.1f * static_cast<float>(step);
    Line line{largest / (kLeast4 + more), 0};
    if (with_offset) {
      line.scale = (*high - *low) / (kMost4 - kLeast4 + more);
      line.offset = (*high + *low) / 2 + line.scale / 2;  // −8 and 7 lie around −1/2
    }
    take(line);
    take(fitted(group, line, with_offset));
  }
  return best;
}

Line int8_line(const Group& group) {
  float largest = 0;
  for (int64_t i = 0; i < group.size; ++i) largest = std::max(largest, std::abs(group.numbers[i]));
  return Line{largest / 127, 0}.stored();
}

int integer_of(const Line& line, float number, float least, float most) {
  return static_cast<int>(std::clamp(std::nearbyint((number - line.offset) * line.inverse()), least, most));
}

}  // namespace

void quantize_row(const Weights& form, const float* numbers, const float* importance, const IntegerRow& to) {
  auto* bytes = reinterpret_cast<uint8_t*>(to.numbers);
  const bool int8 = form.type == WeightType::kInt8;
  for (int64_t g = 0; g < form.groups(); ++g) {
    const int64_t begin = g * form.group;
    const Group group{numbers + begin, importance == nullptr ? nullptr : importance + begin, form.group};
    const Line line = int8 ? int8_line(group) : best_line(group, to.offsets != nullptr);
    to.scales[g] = float_to_bfloat16(line.scale);
    if (to.offsets != nullptr) to.offsets[g] = float_to_bfloat16(line.offset);
    for (int64_t i = begin; i < begin + form.group; ++i) {
      if (int8) {
        bytes[i] = static_cast<uint8_t>(integer_of(line, numbers[i], -127, 127));
        continue;
      }
      const auto number = static_cast<uint8_t>(integer_of(line, numbers[i], kLeast4, kMost4) + 8);
      bytes[i / 2] = static_cast<uint8_t>(i % 2 == 0 ? number : bytes[i / 2] | number << 4);
    }
  }
}

}  // namespace linnet::kernels
#endif  // HWY_ONCE

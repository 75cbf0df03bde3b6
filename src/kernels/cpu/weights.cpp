#include "kernels/cpu/weights.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/bfloat16.h"

namespace linnet::kernels {
namespace {

/// The integers of a row, as they stand for themselves.
template <class T>
void read_integers(WeightType type, const std::byte* row, int64_t in, T* numbers) {
  if (type == WeightType::kInt8) {
    std::copy_n(reinterpret_cast<const int8_t*>(row), in, numbers);
    return;
  }
  for (int64_t i = 0; i < in; i += 2) {
    const int both = static_cast<int>(row[i / 2]);
    numbers[i] = static_cast<T>((both & 15) - 8);
    numbers[i + 1] = static_cast<T>((both >> 4) - 8);
  }
}

template <class T>
void read(const Weights& weights, int64_t index, T* numbers) {
  const std::byte* row = weights.data + index * weights.row_bytes();
  if (weights.type == WeightType::kFloat32) {
    std::copy_n(reinterpret_cast<const float*>(row), weights.in, numbers);
    return;
  }
  if (weights.type == WeightType::kBFloat16) {
    const auto* from = reinterpret_cast<const uint16_t*>(row);
    std::transform(from, from + weights.in, numbers, bfloat16_to_float);
    return;
  }
  read_integers(weights.type, row, weights.in, numbers);
  for (int64_t g = 0; g < weights.groups(); ++g) {
    const int64_t at = index * weights.groups() + g;
    const T scale = bfloat16_to_float(weights.scales[at]);
    const T offset = weights.offsets == nullptr ? 0 : bfloat16_to_float(weights.offsets[at]);
    T* of_group = numbers + g * weights.group;
    for (int64_t i = 0; i < weights.group; ++i) of_group[i] = of_group[i] * scale + offset;
  }
}

float rounded(float number) { return bfloat16_to_float(float_to_bfloat16(number)); }

/// A group's numbers and what an error in each weighs.
struct Group {
  const float* numbers;
  const float* importance;  // null: ones
  int64_t size;

  float weight(int64_t i) const { return importance == nullptr ? 1 : importance[i]; }
};

/// What integers q of a group stand for: q · scale + offset.
struct Line {
  float scale = 0, offset = 0;

  float integer_of(float number, float least, float most) const {
    const float inverse = std::isfinite(1 / scale) ? 1 / scale : 0;
    return std::clamp(std::nearbyint((number - offset) * inverse), least, most);
  }
  Line stored() const { return {rounded(scale), rounded(offset)}; }
};

constexpr float kLeast4 = -8, kMost4 = 7;

double error_of(const Group& group, const Line& line) {
  double error = 0;
  for (int64_t i = 0; i < group.size; ++i) {
    const float off =
        group.numbers[i] - line.offset - line.scale * line.integer_of(group.numbers[i], kLeast4, kMost4);
    error += static_cast<double>(group.weight(i) * off * off);
  }
  return error;
}

/// The line through a group's numbers, each rounded to the integer that `line` gives it, with the least
/// error; with an offset or through zero.
Line fitted(const Group& group, const Line& line, bool with_offset) {
  double w = 0, q = 0, qq = 0, x = 0, qx = 0;
  for (int64_t i = 0; i < group.size; ++i) {
    const double weight = group.weight(i), number = group.numbers[i];
    const double integer = line.integer_of(group.numbers[i], kLeast4, kMost4);
    w += weight, q += weight * integer, qq += weight * integer * integer;
    x += weight * number, qx += weight * integer * number;
  }
  if (!with_offset) return qq > 0 ? Line{static_cast<float>(qx / qq), 0} : line;
  const double spread = w * qq - q * q;
  if (!(spread > 1e-9 * w * qq)) return line;
  const double scale = (w * qx - q * x) / spread;
  return {static_cast<float>(scale), static_cast<float>((x - scale * q) / w)};
}

/// Scales around that by which the largest number is −8 or, with an offset, the group's ends are −8 and 7,
/// each then fitted to the integers that it gives.
Line best_line(const Group& group, bool with_offset) {
  constexpr int kSteps = 9;  // to either side
  const auto [low, high] = std::minmax_element(group.numbers, group.numbers + group.size);
  const float largest = std::abs(*low) > std::abs(*high) ? *low : *high;
  Line best;
  double least = std::numeric_limits<double>::infinity();
  const auto take = [&](const Line& line) {
    const Line stored = line.stored();
    const double error = error_of(group, stored);
    if (error < least) best = stored, least = error;
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
  return {rounded(largest / 127), 0};
}

}  // namespace

void read_row(const Weights& weights, int64_t index, float* numbers) { read(weights, index, numbers); }
void read_row(const Weights& weights, int64_t index, double* numbers) { read(weights, index, numbers); }

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
        bytes[i] = static_cast<uint8_t>(static_cast<int>(line.integer_of(numbers[i], -127, 127)));
        continue;
      }
      const auto number = static_cast<uint8_t>(line.integer_of(numbers[i], kLeast4, kMost4) + 8);
      bytes[i / 2] = static_cast<uint8_t>(i % 2 == 0 ? number : bytes[i / 2] | number << 4);
    }
  }
}

}  // namespace linnet::kernels

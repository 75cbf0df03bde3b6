#include "attention/distance_bias.h"

#include <cmath>
#include <cstdlib>

namespace linnet {

// In float32, as transformers computes it: at some distances the logarithm is a whole number of buckets.
int64_t DistanceBuckets::of(int64_t distance) const {
  int64_t own = count, first = 0, far = -std::min<int64_t>(distance, 0);
  if (both_sides) {
    own /= 2;
    if (distance > 0) first = own;
    far = std::abs(distance);
  }
  const int64_t exact = own / 2;
  if (far < exact) return first + far;
  const auto ratio = static_cast<float>(far) / static_cast<float>(exact);
  const auto logarithm = static_cast<float>(std::log(static_cast<double>(ratio)));
  const auto whole = static_cast<float>(std::log(static_cast<double>(most) / static_cast<double>(exact)));
  const float share = logarithm / whole * static_cast<float>(own - exact);
  return first + std::min(exact + static_cast<int64_t>(share), own - 1);
}

DistanceBias::DistanceBias(const DistanceBuckets& buckets, std::span<const double> matrix, int64_t heads)
    : reach_(buckets.most), numbers_(static_cast<size_t>(heads * (2 * reach_ + 1))) {
  auto to = numbers_.begin();
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t distance = -reach_; distance <= reach_; ++distance)
      *to++ = matrix[static_cast<size_t>(buckets.of(distance) * heads + head)];
  }
}

}  // namespace linnet

#include "base/statistics.h"

#include <fmt/format.h>

#include <cmath>
#include <numeric>

namespace linnet {

Mean mean_of(std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  return {mean, n > 1 ? std::sqrt(squares / (n - 1) / n) : 0.0};
}

Mean ratio_of(std::span<const double> parts, std::span<const double> wholes) {
  const auto n = static_cast<double>(parts.size());
  const double whole = std::accumulate(wholes.begin(), wholes.end(), 0.0);
  const double ratio = std::accumulate(parts.begin(), parts.end(), 0.0) / whole;
  double squares = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const double off = parts[i] - ratio * wholes[i];
    squares += off * off;
  }
  return {ratio, n > 1 ? std::sqrt(squares * n / (n - 1)) / std::fabs(whole) : 0.0};
}

std::string text_of(const Mean& mean, int digits) {
  return fmt::format("{:.{}f} ± {:.{}f}", mean.mean, digits, mean.error, digits);
}

}  // namespace linnet

// Means with what chance leaves open of them.
#pragma once

#include <span>
#include <string>

namespace linnet {

struct Mean {
  double mean = 0, error = 0;  // one standard error; 0 of a single number
};
Mean mean_of(std::span<const double> values);
/// The sum of `parts` over the sum of `wholes`, pairs of one sample each; its error is the delta method's.
Mean ratio_of(std::span<const double> parts, std::span<const double> wholes);
/// "1.2345 ± 0.0067".
std::string text_of(const Mean& mean, int digits = 4);

}  // namespace linnet

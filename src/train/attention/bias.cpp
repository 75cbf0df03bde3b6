#include "train/attention/bias.h"

namespace linnet::train {

at::Tensor bias_of(const ParameterMap& parameters) {
  const auto found = parameters.find(kDistanceBias);
  return found != parameters.end() ? found->second : at::Tensor();
}

at::Tensor bias_at(const at::Tensor& bias, const at::Tensor& distances) {
  const int64_t reach = bias.size(1) / 2;
  auto shape = distances.sizes().vec();
  shape.insert(shape.begin(), bias.size(0));
  return bias.index_select(1, (distances.clamp(-reach, reach) + reach).flatten().to(bias.device(), true))
      .view(shape);
}

}  // namespace linnet::train

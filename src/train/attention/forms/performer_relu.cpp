#include <cmath>

#include "train/attention/summary.h"

namespace linnet::train {
namespace {

/// relu(Ωy)/√f + 10⁻³ with y = x/d^¼.
at::Tensor performer_relu_features(const at::Tensor& x, const ParameterMap& parameters, std::string_view,
                                   at::Tensor&) {
  const at::Tensor projected = random_projection(x, parameters);
  const double root = std::sqrt(static_cast<double>(projected.size(2)));
  return (at::relu(projected) / root + 1e-3).to(x.scalar_type());
}

}  // namespace

Form performer_relu_form() { return form_of_features<performer_relu_features>(); }

}  // namespace linnet::train

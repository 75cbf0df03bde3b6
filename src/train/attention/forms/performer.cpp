#include <cmath>

#include "train/attention/summary.h"
#include "train/ops.h"

namespace linnet::train {
namespace {

/// exp(Ωy − ½‖y‖²)/√f with y = x/d^¼, the largest exponent of each row kept apart. It cancels, so it gets no
/// gradient.
at::Tensor performer_features(const at::Tensor& x, const ParameterMap& parameters, std::string_view,
                              at::Tensor& exponent) {
  const at::Tensor projected = random_projection(x, parameters);
  const double half = 0.5 / std::sqrt(static_cast<double>(x.size(2)));  // of |x|², as y is x/d^¼
  const at::Tensor exponents = projected - x.to(projected.scalar_type()).square().sum(-1, true) * half;
  exponent = exponents.detach().amax(-1, true);
  const double root = std::sqrt(static_cast<double>(projected.size(2)));
  return (at::exp(exponents - exponent) / root).to(x.scalar_type());
}

}  // namespace

Form performer_form() { return form_of_features<performer_features>(); }

}  // namespace linnet::train

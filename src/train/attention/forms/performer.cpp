#include <cmath>

#include "train/attention/summary.h"
#include "train/ops.h"

namespace linnet::train {
namespace {

/// exp(Ωy − ½‖y‖²)/√f with y = x/d^¼, the largest exponent of each row kept apart. It cancels, so it gets no
/// gradient.
at::Tensor performer_features(const at::Tensor& x, const ParameterMap& parameters, std::string_view,
                              at::Tensor& exponent) {
  const auto type = sum_type(x.scalar_type());
  const at::Tensor projection = parameters.find("projection")->second.to(x.scalar_type());  // [G, f, d]
  const int64_t kv_heads = projection.size(0), f = projection.size(1), heads = x.size(0), d = x.size(2);
  const double scale = std::pow(static_cast<double>(d), -0.25);
  // Query heads that share a key-value head share its projection.
  const at::Tensor shared = x.reshape({kv_heads, heads / kv_heads * x.size(1), d});
  const at::Tensor projected =
      at::bmm(shared, projection.transpose(1, 2)).view({heads, x.size(1), f}).to(type) * scale;
  const at::Tensor half = x.to(type).square().sum(-1, true) * (0.5 * scale * scale);
  const at::Tensor exponents = projected - half;
  exponent = exponents.detach().amax(-1, true);
  return (at::exp(exponents - exponent) / std::sqrt(static_cast<double>(f))).to(x.scalar_type());
}

}  // namespace

Form performer_form() { return form_of_features<performer_features>(); }

}  // namespace linnet::train

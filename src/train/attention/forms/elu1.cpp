#include "train/attention/summary.h"

namespace linnet::train {
namespace {

/// 1 + elu(x), without the cancellation of exp(x) − 1 + 1.
at::Tensor elu1_features(const at::Tensor& x, const ParameterMap&, std::string_view, at::Tensor&) {
  return at::relu(x) + at::exp(at::clamp_max(x, 0.0));
}

}  // namespace

Form elu1_form() { return form_of_features<elu1_features>(); }

}  // namespace linnet::train

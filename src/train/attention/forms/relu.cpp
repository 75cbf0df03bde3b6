#include "train/attention/summary.h"

namespace linnet::train {
namespace {

at::Tensor relu_features(const at::Tensor& x, const ParameterMap&, std::string_view, at::Tensor&) {
  return at::relu(x);
}

}  // namespace

Form relu_form() { return form_of_features<relu_features>(); }

}  // namespace linnet::train

#include "train/attention/summary.h"

namespace linnet::train {
namespace {

at::Tensor elu_features(const at::Tensor& x, const ParameterMap&, std::string_view, at::Tensor&) {
  return at::elu(x);
}

}  // namespace

Form elu1_form();

Form transnormer_t1_form() { return form_of_features<elu_features>(); }
Form transnormer_t2_form() { return elu1_form(); }

}  // namespace linnet::train

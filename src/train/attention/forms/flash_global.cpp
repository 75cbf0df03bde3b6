#include "train/attention/summary.h"

namespace linnet::train {
namespace {

at::Tensor same_features(const at::Tensor& x, const ParameterMap&, std::string_view, at::Tensor&) {
  return x;
}

}  // namespace

Form flash_global_form() { return form_of_features<same_features>(); }
Form flash_global_inclusive_form() { return flash_global_form(); }

}  // namespace linnet::train

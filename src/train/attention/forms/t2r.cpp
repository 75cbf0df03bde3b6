#include "train/attention/summary.h"

namespace linnet::train {
namespace {

/// relu(Wx + b).
at::Tensor t2r_features(const at::Tensor& x, const ParameterMap& parameters, std::string_view side,
                        at::Tensor&) {
  const auto tensor = [&](const char* name) {
    return parameters.find(std::string(side) + name)->second.to(x.scalar_type());
  };
  return at::relu(at::baddbmm(tensor("bias").unsqueeze(1), x, tensor("weight").transpose(1, 2)));
}

}  // namespace

Form t2r_form() { return form_of_features<t2r_features>(); }

}  // namespace linnet::train

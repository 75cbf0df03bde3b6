#include "train/attention/summary.h"

namespace linnet::train {
namespace {

/// [softmax(Wx), softmax(−Wx)]: both products in one, both softmaxes in one pass.
at::Tensor hedgehog_features(const at::Tensor& x, const ParameterMap& parameters, std::string_view side,
                             at::Tensor&) {
  const at::Tensor w =
      parameters.find(std::string(side) + "weight")->second.to(x.scalar_type());  // [heads, d, d]
  const int64_t d = x.size(2);
  const at::Tensor y = at::bmm(x, at::cat({w, -w}, 1).transpose(1, 2));
  return at::softmax(y.view({x.size(0), x.size(1), 2, d}), -1).view({x.size(0), x.size(1), 2 * d});
}

}  // namespace

Form hedgehog_form() { return form_of_features<hedgehog_features>(); }
Form grouped_form() { return hedgehog_form(); }

}  // namespace linnet::train

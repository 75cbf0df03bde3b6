#include "model/classifier.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "format/tensor.h"

namespace linnet {

Classifier::Product Classifier::product(const Model& model, std::string_view module) {
  if (module.empty()) return {};
  const std::string name(module);
  Product product{to_float(*model.head_tensor(module, "weight"), name + ".weight"), {}};
  if (model.family().classifier.biased)
    product.bias = to_float(*model.head_tensor(module, "bias"), name + ".bias");
  return product;
}

Classifier::Classifier(const Model& model)
    : labels_(model.config().labels), row_(model.family().classifier.row) {
  if (labels_.empty())
    throw Error(model.folder().string(), "has no classification head",
                "a classifier, as linnet finetune --task writes one");
  dense_ = product(model, model.family().classifier.dense);
  out_ = product(model, model.family().classifier.out);
}

std::vector<double> Classifier::Product::of(std::span<const double> x) const {
  std::vector<double> y(weight.size() / x.size());
  for (size_t i = 0; i < y.size(); ++i) {
    const float* w = weight.data() + i * x.size();
    y[i] = bias.empty() ? 0 : bias[i];
    for (size_t j = 0; j < x.size(); ++j) y[i] += w[j] * x[j];
  }
  return y;
}

std::vector<double> Classifier::logits(std::span<const float> row) const {
  std::vector<double> x(row.begin(), row.end());
  if (!dense_.weight.empty()) {
    x = dense_.of(x);
    for (double& number : x) number = std::tanh(number);
  }
  return out_.of(x);
}

std::vector<double> Classifier::log_probabilities(std::span<const float> row) const {
  std::vector<double> numbers = logits(row);
  const double largest = *std::ranges::max_element(numbers);
  double sum = 0;
  for (const double number : numbers) sum += std::exp(number - largest);
  for (double& number : numbers) number -= largest + std::log(sum);
  if (!std::isfinite(sum))
    throw Error("logits", "the model's output is not a finite number",
                "finite logits (check the weights with `linnet inspect`)", ExitStatus::kFailed);
  return numbers;
}

}  // namespace linnet

#include "train/optimizer.h"

#include <cmath>

#include "train/compat.h"

namespace linnet::train {
namespace {

std::vector<at::Tensor> gradients_of(const std::vector<at::Tensor>& parameters) {
  std::vector<at::Tensor> gradients;
  gradients.reserve(parameters.size());
  for (const at::Tensor& parameter : parameters) {
    if (!parameter.grad().defined()) parameter.mutable_grad() = at::zeros_like(parameter);
    gradients.push_back(parameter.grad());
  }
  return gradients;
}

/// Some kernels for a whole list of tensors, where this libtorch has them; else one each.
void scale_all(std::vector<at::Tensor>& tensors, const at::Tensor& factor) {
  static const compat::Operator together("aten::_foreach_mul_", "Tensor");
  if (factor.is_cuda() && together.exists()) {
    together({{"self", tensors}, {"other", factor}});
    return;
  }
  for (at::Tensor& tensor : tensors) tensor.mul_(factor);
}

/// One kernel for a whole list of tensors, where this libtorch has it for CUDA. The step count is a tensor
/// there; one stands for all parameters.
bool fused_step(std::vector<at::Tensor>& parameters, const std::vector<at::Tensor>& gradients,
                std::vector<at::Tensor>& first, std::vector<at::Tensor>& second, int64_t step,
                double learning_rate, double weight_decay, const AdamWOptions& options) {
  static const compat::Operator fused("aten::_fused_adamw_");
  if (!parameters.front().is_cuda() || !fused.exists()) return false;
  const at::Tensor count =
      at::full({}, static_cast<double>(step), parameters.front().options().dtype(at::kFloat));
  const std::vector<at::Tensor> counts(parameters.size(), count);
  fused({{"self", parameters},
         {"grads", gradients},
         {"exp_avgs", first},
         {"exp_avg_sqs", second},
         {"max_exp_avg_sqs", std::vector<at::Tensor>{}},
         {"state_steps", counts},
         {"lr", learning_rate},
         {"beta1", options.beta1},
         {"beta2", options.beta2},
         {"weight_decay", weight_decay},
         {"eps", options.epsilon},
         {"amsgrad", false},
         {"maximize", false}});
  return true;
}

}  // namespace

AdamW::AdamW(std::vector<Parameter> parameters, const AdamWOptions& options)
    : parameters_(std::move(parameters)), options_(options), groups_(2) {
  at::NoGradGuard no_gradients;
  groups_[0].weight_decay = options.weight_decay;
  for (const Parameter& parameter : parameters_) {
    first_.push_back(at::zeros_like(parameter.tensor));
    second_.push_back(at::zeros_like(parameter.tensor));
    Group& group = groups_[parameter.tensor.dim() > 1 ? 0 : 1];
    group.parameters.push_back(parameter.tensor);
    group.first.push_back(first_.back());
    group.second.push_back(second_.back());
  }
  std::erase_if(groups_, [](const Group& group) { return group.parameters.empty(); });
}

void AdamW::set_steps(int64_t steps) { steps_ = steps; }

at::Tensor AdamW::clip_gradients(double maximum) {
  at::NoGradGuard no_gradients;
  std::vector<at::Tensor> gradients;
  for (const Group& group : groups_) {
    const auto of_group = gradients_of(group.parameters);
    gradients.insert(gradients.end(), of_group.begin(), of_group.end());
  }
  const at::Tensor norm = at::linalg_vector_norm(at::stack(at::_foreach_norm(gradients, 2)), 2);
  if (maximum > 0) {
    const at::Tensor scale = at::clamp_max(maximum / (norm + 1e-6), 1.0);
    scale_all(gradients, scale);
  }
  return norm;
}

void AdamW::step(double learning_rate) {
  at::NoGradGuard no_gradients;
  ++steps_;
  for (Group& group : groups_) update(group, learning_rate);
}

void AdamW::update(Group& group, double learning_rate) {
  const auto gradients = gradients_of(group.parameters);
  const double beta1 = options_.beta1, beta2 = options_.beta2;
  if (!fused_step(group.parameters, gradients, group.first, group.second, steps_, learning_rate,
                  group.weight_decay, options_)) {
    const double correction1 = 1.0 - std::pow(beta1, static_cast<double>(steps_));
    const double correction2 = 1.0 - std::pow(beta2, static_cast<double>(steps_));
    if (group.weight_decay != 0)
      at::_foreach_mul_(group.parameters, 1.0 - learning_rate * group.weight_decay);
    at::_foreach_mul_(group.first, beta1);
    at::_foreach_add_(group.first, gradients, 1.0 - beta1);
    at::_foreach_mul_(group.second, beta2);
    at::_foreach_addcmul_(group.second, gradients, gradients, 1.0 - beta2);
    auto denominator = at::_foreach_sqrt(group.second);
    at::_foreach_div_(denominator, std::sqrt(correction2));
    at::_foreach_add_(denominator, options_.epsilon);
    at::_foreach_addcdiv_(group.parameters, group.first, denominator, -learning_rate / correction1);
  }
  for (at::Tensor& parameter : group.parameters) parameter.mutable_grad().reset();
}

}  // namespace linnet::train

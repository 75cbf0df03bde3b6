// AdamW (Loshchilov and Hutter, arXiv 1711.05101, algorithm 2, as torch.optim.AdamW computes it) on float32
// masters.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "train/module.h"

namespace linnet::train {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
  double weight_decay = 0.0;  // of tensors with two or more dimensions; gains, biases and logits have none
};

class AdamW {
 public:
  AdamW(std::vector<Parameter> parameters, const AdamWOptions& options);

  /// The gradients' L2 norm over all parameters, a scalar that stays on the device (no synchronization).
  /// Where `maximum` > 0, gradients are scaled by min(1, maximum / (norm + 1e-6)).
  at::Tensor clip_gradients(double maximum);
  /// One update with the gradients that stand, which it then releases. A parameter without one counts as 0.
  void step(double learning_rate);

  int64_t steps() const { return steps_; }
  const std::vector<Parameter>& parameters() const { return parameters_; }

  /// First and second moments, in the order of parameters(). For checkpoints.
  const std::vector<at::Tensor>& first() const { return first_; }
  const std::vector<at::Tensor>& second() const { return second_; }
  void set_steps(int64_t steps);

 private:
  struct Group {  // what is updated with one weight decay
    std::vector<at::Tensor> parameters, first, second;
    double weight_decay = 0.0;
  };
  void update(Group& group, double learning_rate);

  std::vector<Parameter> parameters_;
  AdamWOptions options_;
  std::vector<at::Tensor> first_, second_;
  std::vector<Group> groups_;
  int64_t steps_ = 0;
};

}  // namespace linnet::train

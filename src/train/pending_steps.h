// Steps whose numbers still lie on the device, and the log's lines that they become: what all runs share.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "train/checkpoint.h"
#include "train/log.h"

namespace linnet::train {

class PendingSteps {
 public:
  bool empty() const { return steps_.empty(); }
  /// A step's line but for its loss and its gradients' norm, which are scalars.
  void add(const LogLine& line, const at::Tensor& loss, const at::Tensor& norm);
  /// All lines with these numbers, brought from the device together. Throws Error, status 1, naming the step
  /// and the newest of `checkpoints`, on one that is not finite.
  std::vector<LogLine> take(const Checkpoints& checkpoints);

 private:
  struct Step {
    LogLine line;
    at::Tensor loss, norm;
  };
  std::vector<Step> steps_;
};

}  // namespace linnet::train

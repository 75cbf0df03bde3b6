#include "train/pending_steps.h"

#include <fmt/format.h>

#include <cmath>
#include <utility>

#include "base/error.h"

namespace linnet::train {
namespace {

void check_finite(const LogLine& line, const Checkpoints& checkpoints) {
  if (std::isfinite(line.loss) && std::isfinite(line.gradient_norm)) return;
  const auto saved = checkpoints.newest();
  throw Error(fmt::format("step {}", line.step),
              fmt::format("training diverged: loss {}, gradient norm {}", line.loss, line.gradient_norm),
              fmt::format("finite numbers: try a lower --lr, or --dtype float32{}",
                          saved ? "; the last checkpoint is " + saved->string() : ""),
              ExitStatus::kFailed);
}

}  // namespace

void PendingSteps::add(const LogLine& line, const at::Tensor& loss, const at::Tensor& norm) {
  steps_.push_back({line, loss, norm});
}

std::vector<LogLine> PendingSteps::take(const Checkpoints& checkpoints) {
  std::vector<at::Tensor> numbers;
  for (const Step& step : steps_) {
    numbers.push_back(step.loss.to(at::kDouble));
    numbers.push_back(step.norm.to(at::kDouble));
  }
  const at::Tensor values = at::stack(numbers).cpu();
  std::vector<LogLine> lines;
  for (size_t i = 0; i < steps_.size(); ++i) {
    LogLine& line = lines.emplace_back(std::move(steps_[i].line));
    line.loss = values.data_ptr<double>()[2 * i];
    line.gradient_norm = values.data_ptr<double>()[2 * i + 1];
    check_finite(line, checkpoints);
  }
  steps_.clear();
  return lines;
}

}  // namespace linnet::train

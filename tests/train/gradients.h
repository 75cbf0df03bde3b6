// Gradients held to central differences.
#pragma once

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "tests/train/random_rows.h"
#include "train/ops.h"

namespace linnet::train {

/// f's gradient at `inputs` against differences along random directions; `skipped` names get none.
inline void check_gradients(const std::function<at::Tensor(const Tensors&)>& f, const Tensors& inputs,
                            const std::vector<std::string>& names, const std::string& what,
                            const std::set<std::string>& skipped = {}) {
  auto generator = at::detail::createCPUGenerator(5);
  Tensors leaves;
  for (const at::Tensor& x : inputs) leaves.push_back(x.detach().clone().set_requires_grad(true));
  const at::Tensor out = f(leaves);
  const at::Tensor weight = at::randn(out.sizes(), generator, at::kDouble);
  const Tensors gradients = torch::autograd::grad({(out * weight).sum()}, leaves, {}, false, false, true);
  at::NoGradGuard off;
  constexpr double kStep = 1e-6;  // a norm of numbers near 0 curves within 1e-5
  for (size_t i = 0; i < leaves.size(); ++i) {
    if (skipped.contains(names[i])) continue;
    for (int direction = 0; direction < 2; ++direction) {
      const at::Tensor toward = at::randn(leaves[i].sizes(), generator, at::kDouble);
      const auto at_step = [&](double step) {
        Tensors moved = leaves;
        moved[i] = leaves[i] + toward * step;
        return (f(moved) * weight).sum().item<double>();
      };
      const double expected = (at_step(kStep) - at_step(-kStep)) / (2 * kStep);
      const double actual = gradients[i].defined() ? (gradients[i] * toward).sum().item<double>() : 0.0;
      EXPECT_NEAR(actual, expected, 1e-6 * (1.0 + std::abs(expected))) << what << ", " << names[i];
    }
  }
}

}  // namespace linnet::train

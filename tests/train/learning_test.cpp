#include "train/learning.h"

#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "base/error.h"

namespace linnet::train {
namespace {

/// A model of two layers with the attention of an object.
Module module_with(const char* attention) {
  Module module(Model::open(LINNET_TEST_DATA "/hf/llama-gqa-tied"), {.compute = at::kDouble});
  const auto layers =
      parse_attention(nlohmann::json::parse(attention), static_cast<int>(module.config().layers), "test");
  module.set_attention(layers, 9);
  return module;
}

/// What is said of a training of some tensors on rows of `context` tokens; "" where it can learn.
std::string refusal(const Module& module, Objective objective, Train what, int64_t context) {
  Phase phase{.name = "test", .objective = objective};
  phase.trainable.what = what;
  phase.rows.context = context;
  try {
    check_learning(module, {phase}, "--method");
  } catch (const Error& error) {
    EXPECT_EQ(error.status(), ExitStatus::kBadInput);
    return error.what();
  }
  return "";
}

/// The largest gradient that distillation on rows of `context` tokens gives a tensor.
double largest_gradient(Module& module, Train what, int64_t context) {
  Trainable trainable{.what = what};
  trainable.keep_teacher = true;
  module.set_trainable(trainable);
  const at::Tensor tokens = at::arange(2 * context, at::kLong).mul(7).remainder(150).view({2, context});
  const at::Tensor loss = module.distill_loss({tokens, {}});
  if (!loss.requires_grad()) return 0;
  std::vector<at::Tensor> leaves;
  for (const Parameter& parameter : module.parameters()) leaves.push_back(parameter.tensor);
  double largest = 0;
  for (const at::Tensor& gradient : torch::autograd::grad({loss}, leaves, {}, {}, {}, true))
    if (gradient.defined()) largest = std::max(largest, gradient.abs().max().item<double>());
  return largest;
}

TEST(Learning, IsRefusedUpToTheLastRowsWithoutAGradientAndNoFurther) {
  const struct {
    const char* attention;
    int64_t longest;  // rows from which nothing is distilled
  } rows[] = {
      {R"({"method": "grouped", "group": 4, "local_groups": 2, "sinks": 0})", 8},
      {R"({"method": "grouped", "group": 4, "local_groups": 2, "sinks": 3, "taps": 0})", 8},
      {R"({"method": "grouped", "group": 4, "local_groups": 2, "sinks": 4})", 12},
      {R"({"method": "grouped", "group": 4, "local_groups": 1, "sinks": 0, "layers": {"1": {"method": "softmax"}}})",
       4},
      {R"({"method": "grouped", "group": 16, "layers": {"1": {"method": "grouped", "group": 2, "sinks": 1}}})",
       8},
      {R"({"method": "relu", "local": "softmax", "group": 4})", 4},
  };
  for (const auto& row : rows) {
    Module module = module_with(row.attention);
    for (const Train what : {Train::kNew, Train::kLora, Train::kAll}) {
      for (const int64_t context : {row.longest, row.longest + 1}) {
        const std::string said = refusal(module, Objective::kDistill, what, context);
        const double gradient = largest_gradient(module, what, context);
        if (context == row.longest) {
          EXPECT_LT(gradient, 1e-12) << row.attention;
          EXPECT_NE(said.find("expected more than " + std::to_string(row.longest)), std::string::npos)
              << row.attention << said;
          EXPECT_NE(said.find("--set group="), std::string::npos) << said;
        } else {
          EXPECT_GT(gradient, 1e-10) << row.attention;
          EXPECT_EQ(said, "") << row.attention;
        }
      }
    }
  }
}

TEST(Learning, OfNewTensorsNeedsSomeThatReachAToken) {
  const struct {
    const char* attention;
    Objective objective;
    Train what;
    int64_t context;
    const char* said;  // "": it can learn
  } rows[] = {
      // Taps and a gain learn from every token, once the student is not the teacher or the text is.
      {R"({"method": "grouped", "group": 64})", Objective::kNextToken, Train::kNew, 16, ""},
      {R"({"method": "grouped", "group": 64, "taps": 0})", Objective::kNextToken, Train::kNew, 16,
       "--context: 16"},
      {R"({"method": "grouped", "group": 64, "taps": 0})", Objective::kNextToken, Train::kLora, 16, ""},
      {R"({"method": "hedgehog", "local": "relu", "group": 64})", Objective::kTransfer, Train::kNew, 16, ""},
      {R"({"method": "hedgehog"})", Objective::kTransfer, Train::kNew, 2, ""},
      {R"({"method": "grouped", "alpha": 1, "taps": 0})", Objective::kDistill, Train::kNew, 16,
       "--method: every layer's attention is exact"},
      {R"({"method": "softmax", "window": 8})", Objective::kDistill, Train::kAll, 8,
       "--method: every layer's attention is exact"},
      {R"({"method": "softmax", "window": 8})", Objective::kDistill, Train::kAll, 9, ""},
      {R"({"method": "softmax"})", Objective::kNextToken, Train::kAll, 16, ""},
      {R"({"method": "relu"})", Objective::kDistill, Train::kNew, 16, "--train: nothing to train"},
      {R"({"method": "relu"})", Objective::kDistill, Train::kLora, 16, ""},
      {R"({"method": "flash_local"})", Objective::kDistill, Train::kNew, 16, "--train: nothing to train"},
  };
  for (const auto& row : rows) {
    const std::string said = refusal(module_with(row.attention), row.objective, row.what, row.context);
    EXPECT_EQ(said.empty(), *row.said == '\0') << row.attention << said;
    EXPECT_NE(said.find(row.said), std::string::npos) << row.attention << said;
  }
}

TEST(Learning, TheLongestRowsOfAllPhasesDecide) {
  const Module module =
      module_with(R"({"method": "grouped", "group": 4, "local_groups": 2, "sinks": 0, "taps": 0})");
  Phase brief{.name = "short", .objective = Objective::kTransfer};
  brief.trainable.what = Train::kNew;
  brief.rows.context = 8;
  Phase last = brief;
  last.rows.context = 9;
  EXPECT_THROW(check_learning(module, {brief, brief}, ""), Error);
  check_learning(module, {brief, last}, "");
}

TEST(Learning, OfDocumentsApartGoesByTheLongestDocument) {
  const Module module =
      module_with(R"({"method": "grouped", "group": 4, "local_groups": 2, "sinks": 0, "taps": 0})");
  Phase phase{.name = "test", .objective = Objective::kDistill};
  phase.trainable.what = Train::kNew;
  phase.rows.context = 64;
  check_learning(module, {phase}, "--set", 9);
  const auto said = [&](const Module& of, int64_t longest) -> std::string {
    testing::internal::CaptureStderr();
    try {
      check_learning(of, {phase}, "--set", longest);
    } catch (const Error& error) {
      testing::internal::GetCapturedStderr();
      return error.what();
    }
    return testing::internal::GetCapturedStderr();
  };
  EXPECT_EQ(said(module, 8),
            "--packing: documents of at most 8: every layer sees all of such documents in its local branch: "
            "nothing can learn, expected stream, or documents of more than 8, or smaller groups (--set "
            "group=16)");
  phase.objective = Objective::kNextToken;  // taps learn from it, the summaries' tensors do not
  const Module taps =
      module_with(R"({"method": "grouped", "group": 4, "local_groups": 2, "sinks": 0, "taps": 3})");
  EXPECT_EQ(said(taps, 9), "");
  EXPECT_NE(said(taps, 8).find("in documents of 8 tokens 2 of 2 layers see all in their local branch"),
            std::string::npos);
}

}  // namespace
}  // namespace linnet::train

// What a training step takes of memory as rows grow, counted and not timed: a linear method asks for twice
// as many bytes of tensors for twice the tokens, in all and at once. A temporary of n×n numbers would show.
#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "attention/method.h"
#include "tests/train/random_rows.h"
#include "train/compat.h"

namespace linnet::train {
namespace {

/// Hands on to the allocator that was there before it, whose place it takes while it lives, and counts.
class CountedMemory final : public compat::TensorAllocator {
 public:
  CountedMemory() : before_(c10::GetAllocator(at::kCPU)) { c10::SetCPUAllocator(this, kPriority); }
  ~CountedMemory() override { c10::SetCPUAllocator(before_, kPriority); }
  CountedMemory(const CountedMemory&) = delete;

  c10::DataPtr take(size_t bytes) override {
    auto* const held = new Held{this, before_->allocate(bytes)};
    held->bytes = static_cast<int64_t>(bytes);
    all_ += held->bytes;
    most_ = std::max(most_, now_ += held->bytes);
    return {held->data.get(), held, give_back, c10::Device(c10::kCPU)};
  }

  int64_t all() const { return all_; }    // bytes handed out
  int64_t most() const { return most_; }  // bytes held at once

 private:
  static constexpr uint8_t kPriority = 200;
  struct Held {
    CountedMemory* memory;
    c10::DataPtr data;
    int64_t bytes = 0;
  };
  static void give_back(void* context) {
    const std::unique_ptr<Held> held(static_cast<Held*>(context));
    held->memory->now_ -= held->bytes;
  }

  c10::Allocator* before_;
  int64_t all_ = 0, most_ = 0, now_ = 0;
};

struct Taken {
  int64_t all, most;
};

/// What one forward and backward pass takes of memory beside its inputs.
Taken step_of(const AttentionConfig& config, int64_t n) {
  Sample sample(config, {2, 1, 4, 4}, 1, n, 5, at::kFloat);
  std::vector<at::Tensor> inputs;
  for (at::Tensor* x : each_of(sample.rows)) inputs.push_back(x->set_requires_grad(true));
  for (auto& [name, x] : sample.parameters) inputs.push_back(x.set_requires_grad(true));
  const CountedMemory memory;
  torch::autograd::grad({sample.run().square().sum()}, inputs, {}, {}, false, true);
  return {memory.all(), memory.most()};
}

TEST(LinearCost, TwiceTheTokensTakeTwiceTheMemory) {
  // Many of all chunks and blocks that a form goes by; in small groups, so that their sums are what is large.
  constexpr int64_t kTokens = 4096;
  for (const Method* method : methods()) {
    if (method->grows) continue;
    for (const char* option : {R"({})", R"({"taps": 3, "decay": "learned", "local": "softmax"})",
                               R"({"taps": 3, "local": "softmax", "sinks": 2, "local_groups": 3})"}) {
      const auto object = nlohmann::json::parse(option);
      if (!goes_with(*method, object)) continue;
      const AttentionConfig config = parse_layer_attention(with_options(*method, object, 4), "test");
      const Taken half = step_of(config, kTokens), whole = step_of(config, 2 * kTokens);
      const auto ratio = [](int64_t more, int64_t less) {
        return static_cast<double>(more) / static_cast<double>(less);
      };
      EXPECT_LT(ratio(whole.all, half.all), 2.1) << method->name << " with " << option << ", in all";
      EXPECT_LT(ratio(whole.most, half.most), 2.1) << method->name << " with " << option << ", at once";
    }
  }
}

}  // namespace
}  // namespace linnet::train

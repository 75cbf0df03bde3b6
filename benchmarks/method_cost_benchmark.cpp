// What every method of the registry costs as a sequence grows: prefill and decode in the runtime, forward and
// backward in training. A linear method takes twice the time for twice the tokens, and its memory over the
// rows that it is given grows no faster.
//
//     cmake --preset release -DLINNET_BENCHMARKS=ON && ninja -C build/release bench_method_cost
//     build/release/bin/bench_method_cost [--device cuda] [--longest 32768] [--augmented] [--threads N]
//     [--processor-time] [METHOD…]
//
// One layer of the shipped model's shape (6 heads of 64), float32 in the runtime, float32 (CPU) or bfloat16
// (CUDA) in training, one sequence. Each number is the median of three runs (of prefill 15), by the clock or,
// with --processor-time, of what the process's threads computed: on a busy machine, with one thread. Prints a
// table of Markdown and the page faults of training; the peak memory is of the process so far (CPU) or of the
// device, so name one METHOD per run to read it. Training: from the outputs' gradient to those of all inputs.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "attention/method.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/timing.h"
#include "benchmarks/rotary.h"
#include "train/attention/parallel.h"
#include "train/compat.h"
#include "train/module.h"
#include "train/tensor_memory.h"

namespace linnet {
namespace {

const AttentionShape kShape{6, 6, 64, 64};
constexpr int64_t kRow = 6 * 64;
constexpr int64_t kChunk = 512;  // tokens of a prefill: what the Decoder gives a layer at once

struct Arguments {
  at::Device device = at::kCPU;
  int64_t longest = 32768;
  bool augmented = false;  // a local branch and taps beside the summary
  int threads = 0;
  bool processor_time = false;
  std::vector<std::string_view> methods;
};

Arguments parse(int count, char** given) {
  Arguments arguments;
  for (int i = 1; i < count; ++i) {
    const std::string_view text = given[i];
    const auto next = [&] { return std::string(++i < count ? given[i] : ""); };
    if (text == "--device")
      arguments.device = train::parse_device(next());
    else if (text == "--longest")
      arguments.longest = std::stoll(next());
    else if (text == "--threads")
      arguments.threads = std::stoi(next());
    else if (text == "--processor-time")
      arguments.processor_time = true;
    else if (text == "--augmented")
      arguments.augmented = true;
    else
      arguments.methods.push_back(text);
  }
  return arguments;
}

int64_t page_faults() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  return used.ru_minflt;
}

class Layer {
 public:
  Layer(const AttentionConfig& config, int64_t tokens, bool processor_time)
      : config_(config), processor_time_(processor_time) {
    for (const ParameterSpec& spec : parameter_specs(config, kShape)) {
      storage_[spec.name] = initial_parameter(spec, config, 1, 0);
      parameters_[spec.name] = {DType::kF32, spec.shape,
                                std::as_bytes(std::span<const float>(storage_[spec.name]))};
    }
    const Rotation rotation = rotary(kShape.head_size);
    attention_ = make_attention<float>(config, kShape, parameters_, &rotation, "benchmark");
    for (std::vector<float>* x : {&q_, &k_, &v_, &out_}) {
      x->resize(kRow * tokens);
      for (size_t i = 0; i < x->size(); ++i) (*x)[i] = static_cast<float>(normal(1, 2, i));
    }
  }

  double prefill_seconds(int64_t tokens, ThreadPool& pool) {
    constexpr int kRuns = 15;  // they are short
    const auto state = attention_->make_state();
    return seconds_of(
        [&] {
          state->reset();
          for (int64_t at = 0; at < tokens; at += kChunk)
            attention_->prefill(*state, rows(std::min(kChunk, tokens - at), at),
                                {out_.data() + at * kRow, 64, kRow}, pool);
        },
        kRuns);
  }

  /// Of one token at the end of `tokens`.
  double decode_seconds(int64_t tokens, ThreadPool& pool) {
    constexpr int kSteps = 128;
    const auto state = attention_->make_state();
    attention_->prefill(*state, rows(tokens), {out_.data(), 64, kRow}, pool);
    const TokenTree tree = TokenTree::single(0);
    const int32_t root[] = {0};
    return seconds_of([&] {
             for (int i = 0; i < kSteps; ++i) {
               attention_->attend(*state, tree, rows(1), {out_.data(), 64, kRow}, pool);
               attention_->commit(*state, root, rows(1), pool);
             }
           }) /
           kSteps;
  }

  int64_t state_bytes() const { return attention_->layout().bytes; }

  /// Forward and backward of all inputs and trained tensors.
  double training_seconds(int64_t tokens, const at::Device& device) const {
    const auto type = device.is_cuda() ? at::kBFloat16 : at::kFloat;
    const auto leaf = [&](at::Tensor x, at::ScalarType as) {
      return x.to(device, as).detach().set_requires_grad(true);
    };
    const auto draw = [&] { return leaf(at::randn({6, 1, tokens, 64}), type).transpose(0, 1); };
    train::Rows in{draw(), draw(), draw(), {}, {}};
    if (config_.feature_position == FeaturePosition::kNone) in.summary_q = draw(), in.summary_k = draw();
    std::vector<at::Tensor> wanted = {in.q, in.k, in.v};
    train::ParameterMap parameters;
    for (const ParameterSpec& spec : parameter_specs(config_, kShape)) {
      const auto& numbers = storage_.at(spec.name);
      at::Tensor x = at::tensor(at::ArrayRef<float>(numbers)).view(spec.shape);
      parameters[spec.name] = spec.trained ? leaf(x, at::kFloat) : x.to(device);
      if (spec.trained) wanted.push_back(parameters[spec.name]);
    }
    const train::Documents documents({}, 1, tokens, device);
    const auto forward = [&] { return train::parallel(in, documents, parameters, config_, nullptr); };
    const at::Tensor of_outputs = at::randn_like(forward().detach());  // what the next layer would hand back
    return seconds_of([&] {
      const auto gradients = torch::autograd::grad({forward()}, wanted, {of_outputs}, {}, false, true);
      gradients[2].sum().item<float>();  // waits for the device
    });
  }

 private:
  template <class Work>
  double seconds_of(const Work& work, int runs = 3) const {
    if (!processor_time_) return median_seconds(runs, work);
    work();
    std::vector<double> seconds;
    for (int run = 0; run < runs; ++run) {
      const std::clock_t begin = std::clock();
      work();
      seconds.push_back(static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC);
    }
    return median(seconds);
  }

  Rows<float> rows(int64_t tokens, int64_t first = 0) const {
    const auto part = [&](const std::vector<float>& x) {
      return HeadRows<const float>{x.data() + first * kRow, 64, kRow};
    };
    return {tokens, part(q_), part(k_), part(v_), part(q_), part(k_)};
  }

  AttentionConfig config_;
  bool processor_time_;
  std::map<std::string, std::vector<float>> storage_;
  ParameterTensors parameters_;
  std::unique_ptr<Attention<float>> attention_;
  std::vector<float> q_, k_, v_, out_;
};

AttentionConfig config_of(const Method& method, bool augmented) {
  nlohmann::json object{{"method", method.name}};
  if (augmented && !method.grows) {
    if (method.defaults.local == LocalWeight::kNone) object["local"] = "softmax";
    object["local_groups"] = 4;
    object["taps"] = 4;
  }
  return parse_layer_attention(object, "benchmark");
}

void run(const Arguments& arguments) {
  ThreadPool pool(train::set_threads(arguments.threads));
  const int64_t longest = arguments.longest, half = longest / 2;
  fmt::print(
      "| method | state, KB | prefill {}, µs/token | ×2 | decode at {}, {}, µs | training {}, µs/token | ×2 "
      "| peak memory, MB | page faults per step |\n",
      longest, half / 16, longest, longest);
  fmt::print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
  for (const Method* method : methods()) {
    const auto& wanted = arguments.methods;
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), method->name) == wanted.end()) continue;
    if (method->grows) continue;
    Layer layer(config_of(*method, arguments.augmented), longest, arguments.processor_time);
    const double before = layer.prefill_seconds(half, pool), all = layer.prefill_seconds(longest, pool);
    const double short_decode = layer.decode_seconds(half / 16, pool),
                 decode = layer.decode_seconds(longest, pool);
    const double half_training = layer.training_seconds(half, arguments.device);
    const int64_t faults = page_faults();
    const double training = layer.training_seconds(longest, arguments.device);
    fmt::print(
        "| {} | {:.1f} | {:.2f} | {:.2f} | {:.1f}, {:.1f} | {:.2f} | {:.2f} | {} | {} |\n", method->name,
        static_cast<double>(layer.state_bytes()) / 1024, all / longest * 1e6, all / before,
        short_decode * 1e6, decode * 1e6, training / longest * 1e6, training / half_training,
        (arguments.device.is_cpu() ? peak_memory() : train::compat::peak_device_memory(arguments.device)) >>
            20,
        (page_faults() - faults) / 4);
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace linnet

int main(int count, char** arguments) {
  linnet::train::keep_tensor_memory();
  linnet::run(linnet::parse(count, arguments));
  return 0;
}

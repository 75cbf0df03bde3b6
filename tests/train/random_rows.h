// Random attentions and sequences as tensors, and the same ones as the runtime takes them.
#pragma once

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "attention/attention.h"
#include "attention/method.h"
#include "attention/rotation.h"
#include "tests/attention/options.h"
#include "train/attention/documents.h"
#include "train/attention/parallel.h"

namespace linnet::train {

inline AttentionConfig config_of(const std::string& json) {
  return parse_layer_attention(nlohmann::json::parse(json), "test");
}

/// The same with taps that look ahead, which no JSON can ask for.
inline AttentionConfig looking_ahead(AttentionConfig config, int future) {
  config.future_taps = future;
  return config;
}

/// Every row of the registry with every part of the augmentation that goes with it, in groups of 4.
inline std::vector<std::string> test_configs() {
  const char* options[] = {
      R"({})",
      R"({"window": 5})",
      R"({"taps": 3})",
      R"({"feature_position": "none"})",
      R"({"local": "softmax", "alpha": 0.25})",
      R"({"local": "softmax", "alpha": 1, "taps": 3, "sinks": 2, "local_groups": 3})",
      R"({"local": "relu2", "decay": 0.75})",
      R"({"local": "laplace", "local_groups": 2, "gate": true})",
      R"({"local": "relu", "sinks": 4})",
      R"({"local": "yoso", "bits": 3, "sinks": 1})",
      R"({"local": "softmax", "denominator": "shared", "decay": "learned", "gate": true, "taps": 5,
          "local_groups": 2, "sinks": 3})",
      R"({"local": "softmax", "group": 1, "local_groups": 2, "sinks": 1})",
      R"({"local": "softmax", "alpha": 0.75, "group": 2, "local_groups": 17, "sinks": 1, "taps": 2})",
      R"({"local": "relu", "local_groups": [3, 1], "sinks": 2, "taps": 3})",
      R"({"local": "softmax", "denominator": "shared", "gate": true, "local_groups": [1, 2]})",
      R"({"local": "softmax", "local_groups": 2, "kept": 5, "sinks": 2, "gate": true, "decay": "learned"})",
      R"({"local": "softmax", "local_groups": 3, "kept": 30, "group": 1, "decay": 0.7, "feature_position": "none"})",
      R"({"local": "softmax", "local_groups": [2, 4], "kept": [9, 0], "sinks": 1, "decay": "learned", "taps": 2})",
      R"({"local": "softmax", "local_groups": 2, "kept": [6, 9], "keep": "random", "sinks": 1, "gate": true})",
  };
  std::vector<std::string> configs;
  for (const Method* method : methods()) {
    for (const char* option : options) {
      const auto object = nlohmann::json::parse(option);
      if (goes_with(*method, object)) configs.push_back(with_options(*method, object, 4).dump());
    }
  }
  return configs;
}

inline at::Tensor random_tensor(std::vector<int64_t> shape, at::Generator& generator,
                                at::ScalarType type = at::kDouble) {
  return at::randn(shape, generator, at::kDouble).to(type);
}

struct Sample {
  AttentionConfig config;
  AttentionShape shape;
  Rows rows;  // [B, H | G, n, ...]
  ParameterMap parameters;

  Sample(const AttentionConfig& c, const AttentionShape& s, int64_t batch, int64_t n, uint64_t seed,
         at::ScalarType type = at::kDouble)
      : config(c), shape(s) {
    auto generator = at::detail::createCPUGenerator(seed);
    const auto draw = [&](int64_t heads, int64_t size) {
      return random_tensor({batch, heads, n, size}, generator, type);
    };
    rows = {
        draw(s.heads, s.head_size), draw(s.kv_heads, s.head_size), draw(s.kv_heads, s.value_size), {}, {}};
    if (c.feature_position == FeaturePosition::kNone) {
      rows.summary_q = draw(s.heads, s.head_size);
      rows.summary_k = draw(s.kv_heads, s.head_size);
    }
    for (const ParameterSpec& spec : parameter_specs(c, s)) {
      parameters[spec.name] =
          random_tensor(spec.shape, generator, type == at::kDouble ? type : at::kFloat) * 0.5;
    }
  }

  /// Makes k what the rotation makes of summary_k, where there is one, row i at position i.
  void turn_keys(const Rotation& rotation) {
    if (!rows.summary_k.defined()) return;
    const int64_t half = std::ssize(rotation.inverse_frequencies);
    const at::Tensor frequencies = at::tensor(rotation.inverse_frequencies, at::kDouble);
    const at::Tensor angles = at::outer(at::arange(rows.k.size(2), at::kDouble), frequencies);
    const auto parts = rows.summary_k.split_with_sizes({half, half, rows.k.size(3) - 2 * half}, 3);
    rows.k = at::cat({parts[0] * angles.cos() - parts[1] * angles.sin(),
                      parts[1] * angles.cos() + parts[0] * angles.sin(), parts[2]},
                     3);
  }

  at::Tensor run(const at::Tensor& documents = {}, const Rotation* sinks = nullptr) const {
    return parallel(rows, Documents(documents, rows.q.size(0), rows.q.size(2), at::kCPU), parameters, config,
                    sinks);
  }
};

/// A contiguous tensor's numbers as a file would hold them.
inline TensorView view_of(const at::Tensor& x) {
  return {x.scalar_type() == at::kDouble ? DType::kF64 : DType::kF32,
          x.sizes().vec(),
          {static_cast<const std::byte*>(x.data_ptr()), x.nbytes()}};
}

/// The tensors of rows that there are.
inline std::vector<at::Tensor*> each_of(Rows& rows) {
  std::vector<at::Tensor*> all;
  for (at::Tensor* x : {&rows.q, &rows.k, &rows.v, &rows.summary_q, &rows.summary_k}) {
    if (x->defined()) all.push_back(x);
  }
  return all;
}

/// A sample's attention as the runtime makes it.
template <class T>
class RuntimeAttention {
 public:
  explicit RuntimeAttention(const Sample& sample, const Rotation* sinks = nullptr) {
    ParameterTensors parameters;
    for (const auto& [name, x] : sample.parameters)
      parameters[name] = view_of(kept_[name] = x.detach().contiguous());
    attention_ = make_attention<T>(sample.config, sample.shape, parameters, sinks, "test");
  }

  const Attention<T>& attention() const { return *attention_; }

  /// Row b of the batch, its numbers in `held`; as many as there are queries.
  linnet::Rows<T> rows(const Rows& r, int64_t b, std::vector<at::Tensor>& held) const {
    const auto of = [&](const at::Tensor& x) -> HeadRows<const T> {
      if (!x.defined()) return {};
      held.push_back(x.select(0, b).detach().to(c10::CppTypeToScalarType<T>::value).contiguous());
      return {held.back().template data_ptr<T>(), held.back().stride(0), held.back().stride(1)};
    };
    return {r.q.size(2), of(r.q), of(r.k), of(r.v), of(r.summary_q), of(r.summary_k)};
  }

 private:
  std::map<std::string, at::Tensor> kept_;
  std::unique_ptr<Attention<T>> attention_;
};

/// The runtime's prefill of each row of the batch: [B, n, H, e].
template <class T>
at::Tensor runtime_prefill(const Sample& sample, const Rotation* sinks = nullptr) {
  const RuntimeAttention<T> runtime(sample, sinks);
  ThreadPool pool(1);
  const int64_t batch = sample.rows.q.size(0), n = sample.rows.q.size(2);
  at::Tensor out =
      at::empty({batch, sample.shape.heads, n, sample.shape.value_size}, c10::CppTypeToScalarType<T>::value);
  for (int64_t b = 0; b < batch; ++b) {
    std::vector<at::Tensor> held;
    const auto in = runtime.rows(sample.rows, b, held);
    const at::Tensor to = out.select(0, b);
    const auto state = runtime.attention().make_state();
    runtime.attention().prefill(*state, in, {to.data_ptr<T>(), to.stride(0), to.stride(1)}, pool);
  }
  return out.transpose(1, 2);
}

/// Root mean square of the difference over that of what is expected.
inline double relative_error(const at::Tensor& actual, const at::Tensor& expected) {
  const at::Tensor a = actual.detach().to(at::kDouble), b = expected.detach().to(at::kDouble);
  return ((a - b).norm() / b.norm().clamp_min(1e-300)).item<double>();
}

}  // namespace linnet::train

// `t2r`:
//
//     o_t = φ_q(q_t)ᵀ S_t / max(φ_q(q_t)·z_t, 10⁻⁶),   S_t = Σ_s φ_k(k_s) v_sᵀ,  z_t = Σ_s φ_k(k_s),
//     φ(x) = relu(Wx + b),  W and b learned, their own for each query head and key-value head
//
// over the tokens that t sees globally: Transformer-to-RNN (Kasai et al. 2021, "Finetuning Pretrained
// Transformers into RNNs", section 3.1), W from the identity and b from 0. State: d(e + 1) numbers per
// key-value head. Cost of a token: d² + de multiply-adds per query head and the same per key-value head.
#include <algorithm>

#include "attention/features.h"
#include "attention/method.h"
#include "attention/methods/projection.h"

namespace linnet {
namespace {

template <class T>
class T2rMap final : public FeatureMap<T> {
 public:
  T2rMap(const AttentionShape& shape, const Parameters<T>& parameters)
      : size_(shape.head_size), queries_(side(parameters, "q.")), keys_(side(parameters, "k.")) {}

  int64_t features() const override { return size_; }

  void queries(int64_t head, int64_t count, const T* x, int64_t x_row, T* phi, T*) const override {
    queries_.rows(head, count, x, x_row, phi);
    kernels::relu(count * queries_.row(), phi, phi);
  }

  void keys(int64_t kv_head, int64_t n, const T* x, int64_t x_row, T* phi, T*) const override {
    keys_.columns(kv_head, n, x, x_row, phi);
    kernels::relu(size_ * n, phi, phi);
  }

 private:
  Projection<T> side(const Parameters<T>& parameters, const std::string& name) const {
    return {parameters.find(name + "weight")->second, size_, size_, parameters.find(name + "bias")->second};
  }

  int64_t size_;
  Projection<T> queries_, keys_;
};

template <class T>
std::unique_ptr<Summary<T>> make_t2r(const AttentionConfig& config, const AttentionShape& shape,
                                     const Parameters<T>& parameters) {
  return make_features<T>(std::make_unique<T2rMap<T>>(shape, parameters), config, shape, parameters);
}

std::vector<ParameterSpec> t2r_parameters(const AttentionConfig&, const AttentionShape& shape) {
  const int64_t d = shape.head_size;
  return {{"q.weight", {shape.heads, d, d}, {}},
          {"q.bias", {shape.heads, d}, {}},
          {"k.weight", {shape.kv_heads, d, d}, {}},
          {"k.bias", {shape.kv_heads, d}, {}}};
}

std::vector<float> t2r_initial(const ParameterSpec& spec, const AttentionConfig&, uint64_t, int) {
  if (spec.name.ends_with(".weight")) return identity_matrices(spec.shape[0], spec.shape[1]);
  if (spec.name.ends_with(".bias")) return std::vector<float>(spec.shape[0] * spec.shape[1], 0.0f);
  return {};
}

}  // namespace

const Method& t2r_method() {
  static const Method row = [] {
    Method m;
    m.name = "t2r";
    m.description = "learned features relu(Wx + b), normalized by their sum";
    m.cost = "2d² + 2de";
    m.summary = SummaryKind::kFeatures;
    m.parameters = t2r_parameters;
    m.initial = t2r_initial;
    m.make_float = make_t2r<float>;
    m.make_double = make_t2r<double>;
    return m;
  }();
  return row;
}

}  // namespace linnet

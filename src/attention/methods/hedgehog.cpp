// `hedgehog`:
//
//     o_t = φ_q(q_t)ᵀ S_t / max(φ_q(q_t)·z_t, 10⁻⁶),   S_t = Σ_s φ_k(k_s) v_sᵀ,  z_t = Σ_s φ_k(k_s),
//     φ(x) = [softmax(Wx), softmax(−Wx)],  W learned, its own for each query head and key-value head
//
// over the tokens that t sees globally (Zhang et al. 2024, "The Hedgehog & the Porcupine", section 4.1; W
// from the identity). State: 2d(e + 1) numbers a key-value head. Cost of a token: d² + 2de multiply-adds a
// query head and the same a key-value head, 2d exponentials each.
//
// `grouped` reads with the same map: its row is this one with other defaults.
#include "attention/features.h"
#include "attention/method.h"
#include "attention/methods/projection.h"
#include "kernels/cpu/attention_kernels.h"

namespace linnet {
namespace {

template <class T>
class HedgehogMap final : public FeatureMap<T> {
 public:
  HedgehogMap(const AttentionShape& shape, const Parameters<T>& parameters)
      : size_(shape.head_size),
        queries_(parameters.find("q.weight")->second, size_, size_),
        keys_(parameters.find("k.weight")->second, size_, size_) {}

  int64_t features() const override { return 2 * size_; }

  void queries(int64_t head, int64_t count, const T* x, int64_t x_row, T* phi, T*) const override {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    T* y = scratch.take<T>(count * queries_.row());
    queries_.rows(head, count, x, x_row, y);
    kernels::hedgehog_rows(count, size_, y, queries_.row(), phi, kernels::padded(2 * size_));
  }

  void keys(int64_t kv_head, int64_t n, const T* x, int64_t x_row, T* phi, T*) const override {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    T* y = scratch.take<T>(size_ * n);
    keys_.columns(kv_head, n, x, x_row, y);
    kernels::hedgehog_columns(size_, n, y, n, phi, n);
  }

 private:
  int64_t size_;
  Projection<T> queries_, keys_;
};

template <class T>
std::unique_ptr<Summary<T>> make_hedgehog(const AttentionConfig& config, const AttentionShape& shape,
                                          const Parameters<T>& parameters) {
  return make_features<T>(std::make_unique<HedgehogMap<T>>(shape, parameters), config, shape, parameters);
}

std::vector<ParameterSpec> hedgehog_parameters(const AttentionConfig&, const AttentionShape& shape) {
  const int64_t d = shape.head_size;
  return {{"q.weight", {shape.heads, d, d}, {}}, {"k.weight", {shape.kv_heads, d, d}, {}}};
}

/// The identity: what a softmax over a query's own coordinates starts from.
std::vector<float> hedgehog_initial(const ParameterSpec& spec, const AttentionConfig&, uint64_t, int) {
  if (!spec.name.ends_with(".weight")) return {};
  return identity_matrices(spec.shape[0], spec.shape[1]);
}

}  // namespace

const Method& hedgehog_method() {
  static const Method row = [] {
    Method m;
    m.name = "hedgehog";
    m.description = "learned features [softmax(Wx), softmax(-Wx)], normalized by their sum";
    m.cost = "2d² + 4de";
    m.summary = SummaryKind::kFeatures;
    m.parameters = hedgehog_parameters;
    m.initial = hedgehog_initial;
    m.make_float = make_hedgehog<float>;
    m.make_double = make_hedgehog<double>;
    return m;
  }();
  return row;
}

}  // namespace linnet

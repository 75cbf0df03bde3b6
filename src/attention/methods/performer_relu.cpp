// `performer_relu`:
//
//     o_t = φ(q_t)ᵀ S_t / max(φ(q_t)·z_t, 10⁻⁶),   S_t = Σ_s φ(k_s) v_sᵀ,  z_t = Σ_s φ(k_s),
//     φ(x) = relu(Ωy)/√f + 10⁻³,  y = x/d^¼
//
// over the tokens that t sees globally: the generalized attention of Performers with the ReLU kernel
// (Choromanski et al. 2021, "Rethinking Attention with Performers", section 4.2 and appendix D.2). Rows of Ω
// are random and orthogonal, drawn once and stored with the model (tensor `projection` [G, f, d]); nothing is
// learned.
//
// State: f(e + 1) numbers per key-value head. Cost of a token: fd + fe multiply-adds per query head and the
// same per key-value head.
#include <cmath>

#include "attention/features.h"
#include "attention/method.h"
#include "attention/methods/orthogonal.h"
#include "attention/methods/projection.h"

namespace linnet {
namespace {

template <class T>
class PerformerReluMap final : public FeatureMap<T> {
 public:
  PerformerReluMap(const AttentionShape& shape, const std::vector<T>& rows)
      : repeat_(shape.heads / shape.kv_heads),
        features_(static_cast<int64_t>(rows.size()) / shape.kv_heads / shape.head_size),
        projection_(
            scaled_rows(rows, std::pow(double(shape.head_size), -0.25) / std::sqrt(double(features_))),
            features_, shape.head_size) {}

  int64_t features() const override { return features_; }

  void queries(int64_t head, int64_t count, const T* x, int64_t x_row, T* phi, T*) const override {
    projection_.rows(head / repeat_, count, x, x_row, phi);
    kernels::relu(count * projection_.row(), phi, phi);
    for (int64_t r = 0; r < count; ++r, phi += projection_.row()) raise(features_, phi);
  }

  void keys(int64_t kv_head, int64_t n, const T* x, int64_t x_row, T* phi, T*) const override {
    projection_.columns(kv_head, n, x, x_row, phi);
    kernels::relu(features_ * n, phi, phi);
    raise(features_ * n, phi);
  }

 private:
  static void raise(int64_t count, T* x) {
    for (int64_t i = 0; i < count; ++i) x[i] += T(1e-3);
  }

  int64_t repeat_, features_;
  Projection<T> projection_;
};

template <class T>
std::unique_ptr<Summary<T>> make_performer_relu(const AttentionConfig& config, const AttentionShape& shape,
                                                const Parameters<T>& parameters) {
  return make_features<T>(std::make_unique<PerformerReluMap<T>>(shape, parameters.find("projection")->second),
                          config, shape, parameters);
}

}  // namespace

const Method& performer_relu_method() {
  static const Method row = [] {
    Method m;
    m.name = "performer_relu";
    m.description = "random features relu(Ωx) + 0.001, normalized by their sum";
    m.cost = "2fd + 2fe";
    m.summary = SummaryKind::kFeatures;
    m.options = {kProjectionRows};
    m.parameters = projection_parameters;
    m.initial = projection_initial;
    m.make_float = make_performer_relu<float>;
    m.make_double = make_performer_relu<double>;
    return m;
  }();
  return row;
}

}  // namespace linnet

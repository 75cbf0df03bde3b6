// `performer`:
//
//     o_t = φ(q_t)ᵀ S_t / φ(q_t)·z_t,   S_t = Σ_s φ(k_s) v_sᵀ,  z_t = Σ_s φ(k_s),
//     φ(x) = exp(Ωy − ½‖y‖²)/√f,  y = x/d^¼
//
// over the tokens that t sees globally: FAVOR+ (Choromanski et al. 2021, "Rethinking Attention with
// Performers"), whose φ(q)·φ(k) is exp(q·k/√d) on average over Ω. Rows of Ω are random and orthogonal, drawn
// once and stored with the model (tensor `projection` [G, f, d]); nothing is learned.
//
// Features are exponentials, so each carries its largest exponent apart: per query, freely, and in the state
// a running maximum over keys (the original subtracts the maximum of the whole sequence, which tells early
// tokens about late ones). Both cancel in the division, which is therefore without ε.
//
// State: f(e + 1) numbers and that maximum per key-value head. Cost of a token: fd + 2fe multiply-adds per
// query head, f exponentials.
#include <algorithm>
#include <cmath>

#include "attention/features.h"
#include "attention/method.h"
#include "attention/methods/orthogonal.h"
#include "attention/methods/projection.h"

namespace linnet {
namespace {

template <class T>
class PerformerMap final : public FeatureMap<T> {
 public:
  PerformerMap(const AttentionShape& shape, const std::vector<T>& projection)
      : size_(shape.head_size),
        repeat_(shape.heads / shape.kv_heads),
        features_(static_cast<int64_t>(projection.size()) / shape.kv_heads / size_),
        scale_(std::pow(T(size_), T(-0.25))),
        projection_(projection, features_, size_) {}

  int64_t features() const override { return features_; }
  bool scaled() const override { return true; }

  void queries(int64_t head, int64_t count, const T* x, int64_t x_row, T* phi, T* exponents) const override {
    projection_.rows(head / repeat_, count, x, x_row, phi);
    for (int64_t r = 0; r < count; ++r, x += x_row, phi += projection_.row()) {
      const T largest = *std::max_element(phi, phi + features_) * scale_;
      exponents[r] = largest - T(0.5) * scale_ * scale_ * kernels::dot(x, x, x_row);
      for (int64_t i = 0; i < features_; ++i) phi[i] = feature(phi[i], largest);
    }
  }

  void keys(int64_t kv_head, int64_t n, const T* x, int64_t x_row, T* phi, T* exponents) const override {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    projection_.columns(kv_head, n, x, x_row, phi);
    T* largest = scratch.take<T>(n);
    std::copy_n(phi, n, largest);
    for (int64_t i = 1; i < features_; ++i) {
      for (int64_t s = 0; s < n; ++s) largest[s] = std::max(largest[s], phi[i * n + s]);
    }
    kernels::column_squares(size_, n, x, x_row, exponents);
    for (int64_t s = 0; s < n; ++s) {
      largest[s] *= scale_;
      exponents[s] = largest[s] - T(0.5) * scale_ * scale_ * exponents[s];
    }
    for (int64_t i = 0; i < features_; ++i) {
      for (int64_t s = 0; s < n; ++s) phi[i * n + s] = feature(phi[i * n + s], largest[s]);
    }
  }

 private:
  T feature(T projected, T largest) const {
    return std::exp(projected * scale_ - largest) / std::sqrt(T(features_));
  }

  int64_t size_, repeat_, features_;
  T scale_;  // d^−¼
  Projection<T> projection_;
};

template <class T>
std::unique_ptr<Summary<T>> make_performer(const AttentionConfig& config, const AttentionShape& shape,
                                           const Parameters<T>& parameters) {
  return make_features<T>(std::make_unique<PerformerMap<T>>(shape, parameters.find("projection")->second),
                          config, shape, parameters);
}

}  // namespace

const Method& performer_method() {
  static const Method row = [] {
    Method m;
    m.name = "performer";
    m.line = "random positive features exp(Ωx - |x|²/2), whose products are softmax's on average";
    m.summary = SummaryKind::kFeatures;
    m.division = Division::kPositiveSum;
    m.options = {kProjectionRows};
    m.parameters = projection_parameters;
    m.initial = projection_initial;
    m.make_float = make_performer<float>;
    m.make_double = make_performer<double>;
    return m;
  }();
  return row;
}

}  // namespace linnet

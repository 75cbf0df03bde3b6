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
// State: f(e + 1) numbers and two for that maximum per key-value head. Cost of a token: fd + fe multiply-adds
// and f exponentials per query head, the same per key-value head.
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
  PerformerMap(const AttentionShape& shape, const std::vector<T>& rows)
      : size_(shape.head_size),
        repeat_(shape.heads / shape.kv_heads),
        features_(static_cast<int64_t>(rows.size()) / shape.kv_heads / size_),
        half_(T(0.5) / std::sqrt(T(size_))),
        projection_(scaled_rows(rows, std::pow(double(size_), -0.25)), features_, size_) {}

  int64_t features() const override { return features_; }
  bool scaled() const override { return true; }

  void queries(int64_t head, int64_t count, const T* x, int64_t x_row, T* phi, T* exponents) const override {
    projection_.rows(head / repeat_, count, x, x_row, phi);
    kernels::favor_rows(count, features_, phi, projection_.row(), exponents);
    for (int64_t r = 0; r < count; ++r, x += x_row) exponents[r] -= half_ * kernels::dot(x, x, x_row);
  }

  void keys(int64_t kv_head, int64_t n, const T* x, int64_t x_row, T* phi, T* exponents) const override {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    projection_.columns(kv_head, n, x, x_row, phi);
    kernels::favor_columns(features_, n, phi, n, exponents);
    T* squares = scratch.take<T>(n);
    kernels::column_squares(size_, n, x, x_row, squares);
    for (int64_t s = 0; s < n; ++s) exponents[s] -= half_ * squares[s];
  }

 private:
  int64_t size_, repeat_, features_;
  T half_;  // ½‖y‖² is this times ‖x‖²
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
    m.description = "random positive features exp(Ωx - ‖x‖²/2), whose products are softmax's on average";
    m.cost = "2fd + 2fe";
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

// `relu`:
//
//     o_t = φ(q_t)ᵀ S_t / max(φ(q_t)·z_t, 10⁻⁶),   S_t = Σ_s φ(k_s) v_sᵀ,  z_t = Σ_s φ(k_s),  φ(x) = relu(x)
//
// over the tokens that t sees globally. The features of the paper's ReLU baseline; normalized as in
// Katharopoulos et al. 2020, equation 5. State: d(e + 1) numbers a key-value head. Cost of a token: 2de
// multiply-adds a head, nothing learned.
#include "attention/features.h"
#include "attention/method.h"
#include "kernels/cpu/attention_kernels.h"

namespace linnet {
namespace {

template <class T>
std::unique_ptr<Summary<T>> make(const AttentionConfig&, const AttentionShape& shape, const Parameters<T>&) {
  return make_features<T>(std::make_unique<PointwiseMap<T>>(kernels::relu<T>, shape.head_size),
                          shape.value_size);
}

}  // namespace

const Method& relu_method() {
  static const Method row = [] {
    Method m;
    m.name = "relu";
    m.line = "features relu(x), normalized by their sum";
    m.defaults.method = "relu";
    m.summary = SummaryKind::kFeatures;
    m.make_float = make<float>;
    m.make_double = make<double>;
    return m;
  }();
  return row;
}

}  // namespace linnet

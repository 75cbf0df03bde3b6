// `elu1`:
//
//     o_t = φ(q_t)ᵀ S_t / max(φ(q_t)·z_t, 10⁻⁶),   S_t = Σ_s φ(k_s) v_sᵀ,  z_t = Σ_s φ(k_s)
//     φ(x) = 1 + elu(x)
//
// over the tokens that t sees globally. Katharopoulos et al. 2020, equations 5 and 7.
// State: d(e + 1) numbers a key-value head. Cost of a token: 2de multiply-adds a head, nothing learned.
#include "attention/method.h"
#include "attention/methods/pointwise.h"
#include "kernels/cpu/attention_kernels.h"

namespace linnet {

const Method& elu1_method() {
  static const Method row = pointwise_row<kernels::elu1<float>, kernels::elu1<double>>(
      "elu1", "features 1 + elu(x), normalized by their sum");
  return row;
}

}  // namespace linnet

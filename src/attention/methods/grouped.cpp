// `grouped`, what Linnet recommends:
//
//     o_t = α_t L_t + (1 − α_t) G_t + Σ_{j<4} w_j ⊙ v_{t−j},   α_t = σ(a + γ·q_t)
//     L_t = softmax over the own group of 64, the three before it and the first 4 tokens
//     G_t = φ_q(q_t)ᵀ S_t / max(φ_q(q_t)·z_t, 10⁻⁶): hedgehog's features of all other earlier
//           tokens, unrotated, older groups fading by a learned λ
//
// The grouped linear attention with local augmentation of You et al. 2024 ("When Linear Attention Meets
// Autoregressive Decoding", sections 3 and 4), its parts chosen by our own runs (docs/methods/grouped.md).
// State: 2d(e + 1) + (256 + 4)(d + e) + 3e numbers a key-value head, keys being held once, rotated. Cost of a
// token: about 230(d + e) multiply-adds a query head in the local branch, d² + 2de in the summary.
#include "attention/method.h"

namespace linnet {

const Method& hedgehog_method();

const Method& grouped_method() {
  static const Method row = [] {
    Method m = hedgehog_method();
    m.name = "grouped";
    m.description =
        "hedgehog with softmax over four groups and sinks, gate, decay, taps: what Linnet recommends where "
        "every head has the same window";
    m.cost = "2d² + 4de";
    m.defaults.group = 64;
    m.defaults.local_groups = 4;
    m.defaults.sinks = 4;
    m.defaults.local = LocalWeight::kSoftmax;
    m.defaults.gate = true;
    m.defaults.decay_learned = true;
    m.defaults.feature_position = FeaturePosition::kNone;
    m.defaults.taps = 4;
    return m;
  }();
  return row;
}

}  // namespace linnet

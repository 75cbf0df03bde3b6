// `paper`, the LLaMA form of the reference implementation of You et al. 2024 ("When Linear Attention Meets
// Autoregressive Decoding"), as its code computes it:
//
//     o_t = L_t + α G_t + Σ_{j<32} w_j ⊙ v_{t−j},   queries and keys of unit length (after rotary embedding)
//     L_t = Σ_s relu(q_t·k_s)² v_s over the own group of 64 up to t
//     G_t = q_tᵀ S_t,   S_t = Σ_s k_s v_sᵀ over all groups before
//
// Nothing is divided. α [H] is learned, stored as it is and starts at 0. State: de + 2C(d + e) + 31e numbers
// per key-value head, keys being the normalized ones. Cost of a token: de multiply-adds and at most C(d + e)
// per query head, de per key-value head.
#include "attention/method.h"
#include "attention/methods/pointwise.h"

namespace linnet {
namespace {

std::vector<float> paper_initial(const ParameterSpec& spec, const AttentionConfig&, uint64_t, int) {
  return std::vector<float>(spec.name == "alpha" ? spec.shape[0] : 0, 0.0f);
}

}  // namespace

const Method& paper_method() {
  static const Method row = [] {
    Method m =
        identity_row("paper",
                     "the paper's own code: unit queries and keys, relu(cos)² over the own group, plus "
                     "α times an undivided sum of all groups before, 32 taps");
    m.division = Division::kNone;
    m.mix = Mix::kAdditive;
    m.unit_rows = true;
    m.defaults.local = LocalWeight::kRelu2Unit;
    m.defaults.taps = 32;
    m.initial = paper_initial;
    return m;
  }();
  return row;
}

}  // namespace linnet

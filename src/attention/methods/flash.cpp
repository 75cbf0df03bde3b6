// `flash`, the mixed chunk attention of FLASH (Hua et al. 2022, "Transformer Quality in Linear Time",
// section 3.2):
//
//     o_t = L_t + α G_t
//     L_t = Σ_s relu(q_t·k_s / √d)² v_s / C          over the own group of 256 up to t
//     G_t = q_tᵀ S_t / max(c_t, 1),   S_t = Σ_s k_s v_sᵀ,  c_t = how many s there are, over all groups before
//
// In FLASH α is 1 (`"alpha": 1`); here it is learned [H] unless told, starts there and is stored as it is.
// State: de + 2C(d + e) numbers per key-value head. Cost of a token: de multiply-adds and at most C(d + e)
// per query head, de per key-value head.
#include "attention/method.h"
#include "attention/methods/pointwise.h"

namespace linnet {
namespace {

std::vector<float> flash_initial(const ParameterSpec& spec, const AttentionConfig&, uint64_t, int) {
  return std::vector<float>(spec.name == "alpha" ? spec.shape[0] : 0, 1.0f);
}

}  // namespace

const Method& flash_method() {
  static const Method row = [] {
    Method m =
        identity_row("flash",
                     "FLASH's mixed chunks: relu(x)² over the own group, plus α times keys and values of the "
                     "groups before, divided by their number");
    m.division = Division::kCount;
    m.mix = Mix::kAdditive;
    m.inclusive = false;
    m.defaults.group = 256;
    m.defaults.local = LocalWeight::kRelu2;
    m.initial = flash_initial;
    return m;
  }();
  return row;
}

}  // namespace linnet

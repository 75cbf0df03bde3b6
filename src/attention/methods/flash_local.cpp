// `flash_local`:
//
//     o_t = Σ_s relu(q_t·k_s / √d)² v_s / C
//
// over the tokens of the own group up to t: the local half of FLASH (Hua et al. 2022, "Transformer Quality in
// Linear Time", section 3.2). There is no summary; nothing is learned. State: C(d + e) numbers per key-value
// head. Cost of a token: at most C(d + e) multiply-adds per query head.
#include "attention/method.h"

namespace linnet {

const Method& flash_local_method() {
  static const Method row = [] {
    Method m;
    m.name = "flash_local";
    m.description = "a local branch alone, weights relu(x)^2 over the own group";
    m.cost = "C(d + e) at most";
    m.defaults.local = LocalWeight::kRelu2;
    return m;
  }();
  return row;
}

}  // namespace linnet

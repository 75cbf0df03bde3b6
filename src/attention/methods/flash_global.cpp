// `flash_global` and `flash_global_inclusive`:
//
//     o_t = q_tᵀ S_t / max(c_t, 1),   S_t = Σ_s k_s v_sᵀ,  c_t = how many s there are
//
// over the tokens of all groups before the own one (`flash_global`: 0 in the first group), or over all tokens
// up to t (inclusive): the global half of FLASH (Hua et al. 2022, "Transformer Quality in Linear Time",
// section 3.3), which is linear attention without a feature map, divided by a count. Nothing is learned.
// State: de numbers per key-value head. Cost of a token: de multiply-adds per query head and the same per
// key-value head.
#include "attention/features.h"
#include "attention/method.h"
#include "attention/methods/pointwise.h"

namespace linnet {
namespace {

Method flash_row(std::string_view name, std::string_view description, bool inclusive) {
  Method row = identity_row(name, description);
  row.division = Division::kCount;
  row.inclusive = inclusive;
  return row;
}

}  // namespace

const Method& flash_global_method() {
  static const Method row =
      flash_row("flash_global", "keys and values of the groups before, divided by their number", false);
  return row;
}

const Method& flash_global_inclusive_method() {
  static const Method row = flash_row("flash_global_inclusive",
                                      "keys and values of all tokens so far, divided by their number", true);
  return row;
}

}  // namespace linnet

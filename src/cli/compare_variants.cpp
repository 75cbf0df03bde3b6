#include "cli/compare_variants.h"

#include "attention/presets.h"

namespace linnet::cli {

Augmented augmented(const Method& method, const std::string& variant, const nlohmann::json& sizes) {
  Augmented result;
  if (method.grows) {
    if (variant != "plain") result.left_out = "softmax takes no augmentation";
    return result;
  }
  const bool local = variant.starts_with("local") || variant == "budgets";
  const bool convolves = variant.find("conv") != variant.npos;
  const bool gates = variant == "local+conv+gate+decay" || variant == "budgets";
  const Augmentation& own = method.defaults;
  const bool has_local = own.local != LocalWeight::kNone, has_summary = method.summary != SummaryKind::kNone;
  if (local && !has_summary) result.left_out = "has no summary to stand beside a local branch";
  if (!local && has_local && has_summary) result.left_out = "its local branch is part of it";
  if (!result.left_out.empty()) return result;
  nlohmann::json& set = result.set;
  if (variant != "budgets") set["group"] = sizes["group"];
  if (local && !has_local) set["local"] = sizes["local"];
  if (local && variant != "budgets") set["local_groups"] = sizes["local_groups"];
  if (own.taps > 0 && !convolves && variant != "budgets") set["taps"] = 0;
  if (own.taps == 0 && convolves) set["taps"] = sizes["taps"];
  // Gate and decay as far as the row takes them.
  const auto turn = [&](const char* key, bool is_own, const nlohmann::json& on, const nlohmann::json& off) {
    nlohmann::json changed = set;
    changed["method"] = method.name;
    changed[key] = on;
    if (gates && !is_own && is_attention(changed)) set[key] = on;
    if (!gates && is_own) set[key] = off;
  };
  turn("gate", own.gate, true, false);
  turn("decay", own.decay_learned, "learned", 1);
  return result;
}

}  // namespace linnet::cli

// Which attentions the tests run over: every row of the registry with a table of options. A new row is tested
// without a new test.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "attention/method.h"

namespace linnet {

struct NamedConfig {
  std::string name;
  AttentionConfig config;
  bool rotate = false;  // keys turn with their positions, which run past the trained ones
};

/// Whether a row takes these options: what the config's rules would refuse is not asked of it.
inline bool goes_with(const Method& method, const nlohmann::json& object) {
  if (method.grows) return object.size() == object.count("window");
  if (object.contains("window")) return false;
  const auto any = [&](std::initializer_list<const char*> keys) {
    return std::any_of(keys.begin(), keys.end(), [&](const char* key) { return object.contains(key); });
  };
  if (method.summary == SummaryKind::kNone && any({"alpha", "gate"})) return false;
  if (method.mix == Mix::kAdditive && any({"gate", "denominator"})) return false;
  const bool sums = method.division == Division::kSum || method.division == Division::kPositiveSum;
  if (!sums && object.contains("denominator")) return false;
  const bool kept = object.contains("kept");
  if (kept && !sums) return false;
  return method.summary == SummaryKind::kFeatures || (!kept && !any({"decay", "denominator"}));
}

/// The row with these options, in groups of `group` tokens (unless they name another) and sinks that fit.
inline nlohmann::json with_options(const Method& method, nlohmann::json object, int group) {
  object["method"] = method.name;
  if (method.grows) return object;
  if (!object.contains("group")) object["group"] = group;
  const int most = object["group"];
  if (object.value("sinks", method.defaults.sinks) > most) object["sinks"] = most;
  return object;
}

/// Every row × every option, with groups of `group` tokens.
inline std::vector<NamedConfig> all_configs(int group) {
  const char* options[] = {
      R"({})",
      R"({"window": 5})",
      R"({"taps": 4})",
      R"({"taps": 4, "feature_position": "none"})",
      R"({"local": "softmax", "taps": 4})",
      R"({"local": "softmax", "alpha": 0.25})",
      R"({"local": "softmax", "alpha": 1, "local_groups": 1})",
      R"({"local": "softmax", "alpha": 1, "local_groups": 3, "sinks": 2, "taps": 3})",
      R"({"local": "softmax", "local_groups": 2, "taps": 7, "feature_position": "none"})",
      R"({"local": "softmax", "gate": true, "decay": "learned", "sinks": 1, "local_groups": 1})",
      R"({"local": "softmax", "gate": true, "decay": 0.7, "sinks": 3, "local_groups": 3, "taps": 4})",
      R"({"local": "softmax", "decay": 0.5, "sinks": 4, "local_groups": 2, "feature_position": "none"})",
      R"({"local": "softmax", "denominator": "shared", "taps": 2})",
      R"({"local": "softmax", "denominator": "shared", "gate": true, "decay": "learned", "local_groups": 2})",
      R"({"local": "relu2", "decay": 0.8})",
      R"({"local": "laplace", "local_groups": 2, "sinks": 2})",
      R"({"local": "relu", "taps": 1})",
      R"({"local": "yoso", "gate": true, "sinks": 1})",
      R"({"local": "yoso", "bits": 3, "local_groups": 2, "alpha": 0.5})",
      R"({"local": "softmax", "local_groups": [1, 3], "sinks": 1})",
      R"({"local": "softmax", "local_groups": 2, "kept": 7, "sinks": 2, "gate": true, "decay": 0.8})",
      R"({"local": "softmax", "local_groups": [2, 3], "kept": [0, 9], "taps": 3, "feature_position": "none"})",
      R"({"local": "softmax", "local_groups": [4, 2], "kept": [3, 16], "decay": "learned"})",
      R"({"local": "softmax", "local_groups": [2, 3], "kept": [5, 11], "keep": "random", "sinks": 1})",
  };
  std::vector<NamedConfig> configs;
  for (const Method* method : methods()) {
    for (const char* option : options) {
      const auto options = nlohmann::json::parse(option);
      if (!goes_with(*method, options)) continue;
      const auto object = with_options(*method, options, group);
      const AttentionConfig config = parse_layer_attention(object, "test");
      configs.push_back({object.dump(), config, false});
      const bool both_keys = config.has_local() && config.feature_position == FeaturePosition::kNone;
      if (config.sinks > 0 || config.kept.most() > 0 || both_keys)
        configs.push_back({object.dump() + " with turned keys", config, true});
    }
  }
  return configs;
}

}  // namespace linnet

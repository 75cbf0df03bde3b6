#include <fmt/format.h>

#include <numeric>

#include "attention/config.h"
#include "attention/method.h"
#include "base/error.h"

namespace linnet {

std::vector<ParameterSpec> parameter_specs(const AttentionConfig& config, const AttentionShape& shape) {
  const Method& method = *config.method;
  const int64_t heads = shape.heads, kv_heads = shape.kv_heads;
  std::vector<ParameterSpec> specs;
  if (config.alpha_learned) specs.push_back({"alpha", {heads}, {}});
  if (config.gate) specs.push_back({"gate", {heads, shape.head_size}, {}});
  if (config.decay_learned) specs.push_back({"decay", {kv_heads}, {}});
  if (config.taps > 0) specs.push_back({"taps", {heads, config.taps, shape.value_size}, {}});
  if (config.future_taps > 0)
    specs.push_back({std::string(kFutureTaps), {heads, config.future_taps, shape.value_size}, {}});
  if (config.local == LocalWeight::kRelu) specs.push_back({"local_gain", {heads, shape.value_size}, 1.0});
  if (!config.has_summary()) return specs;
  if (method.gain) specs.push_back({"gain", {heads, shape.value_size}, 1.0});
  if (method.parameters) {
    for (auto& spec : method.parameters(config, shape)) specs.push_back(std::move(spec));
  }
  return specs;
}

std::vector<float> initial_parameter(const ParameterSpec& spec, const AttentionConfig& config, uint64_t seed,
                                     int layer) {
  const Method& method = *config.method;
  if (method.initial) {
    std::vector<float> own = method.initial(spec, config, seed, layer);
    if (!own.empty()) return own;
  }
  const int64_t count =
      std::accumulate(spec.shape.begin(), spec.shape.end(), int64_t{1}, std::multiplies<int64_t>());
  if (spec.absent) return std::vector<float>(count, static_cast<float>(*spec.absent));
  if (spec.name == "alpha") return std::vector<float>(count, 2.0f);
  if (spec.name == "gate" || spec.name == "taps" || spec.name == kFutureTaps)
    return std::vector<float>(count, 0.0f);
  if (spec.name == "decay") {  // from fast to slow over the heads: sigmoid(1) = 0.73 … sigmoid(5) = 0.993
    std::vector<float> logits(count, 3.0f);
    for (int64_t g = 0; g < count && count > 1; ++g) logits[g] = 1.0f + 4.0f * float(g) / float(count - 1);
    return logits;
  }
  throw Error(spec.name, fmt::format("no parameter of {}", method.name), "one that it lists");
}

}  // namespace linnet

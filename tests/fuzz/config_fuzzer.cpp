// Any bytes as config.json: an Error, or sizes within their ranges, finite rotary frequencies, and an
// attention that is written as it was read.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>

#include "attention/config.h"
#include "base/error.h"
#include "base/json.h"
#include "format/model_config.h"

namespace {

void check_model(const nlohmann::json& json) {
  const auto config = linnet::ModelConfig::parse(json, "config.json");
  if (config.heads % config.kv_heads != 0 || config.layers < 1) std::abort();
  if (config.model_type == "gpt2") return;
  for (double frequency : linnet::rope_frequencies(config).inverse) {
    if (!std::isfinite(frequency) || frequency < 0) std::abort();
  }
}

void check_attention(const nlohmann::json& json) {
  const auto found = json.find("linear_attention");
  if (found == json.end()) return;
  const auto layers = linnet::parse_attention(*found, 3, "config.json");
  if (linnet::parse_attention(linnet::to_json(layers), 3, "written") != layers) std::abort();
}

template <class Check>
void guarded(const Check& check) {
  try {
    check();
  } catch (const linnet::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  guarded([&] {
    const auto json =
        linnet::parse_json({reinterpret_cast<const char*>(data), size}, "config.json", {.depth = 32});
    guarded([&] { check_model(json); });
    guarded([&] { linnet::GenerationConfig::parse(json, "generation_config.json"); });
    if (json.is_object()) guarded([&] { check_attention(json); });
  });
  return 0;
}

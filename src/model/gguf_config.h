// What a GGUF file's metadata says of a model, as config.json says it. Internal to import_gguf.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "format/gguf.h"

namespace linnet {

/// An architecture that can be imported: one row each.
struct GgufArchitecture {
  std::string_view name;        // general.architecture, and what its keys begin with
  std::string_view model_type;  // config.json's
  /// Rows of q and k stand in the order of pairs that turn together, (0, d/2), (1, d/2 + 1) …, head by head.
  bool permuted;
};

const GgufArchitecture& architecture_of(const GgufFile& file);

/// config.json, as ModelConfig::parse takes it.
nlohmann::json gguf_config(const GgufFile& file, const GgufArchitecture& architecture);

constexpr std::string_view kRopeFactors = "rope_freqs.weight";

}  // namespace linnet

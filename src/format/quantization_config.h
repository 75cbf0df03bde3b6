// `quantization_config` of a config.json: what Linnet writes and reads of it
// (docs/formats.md#quantized-folders). Which matrices are in integers, and in groups of how many, is what the
// tensors say.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace linnet {

/// Matrices that are written alike.
struct QuantizedModules {
  std::vector<std::string> targets;  // modules' names or classes, as compressed-tensors matches them
  int bits = 8;                      // 4 or 8
  int64_t group = 32;                // of a row share a scale; 0: all
  bool offsets = false;              // groups have an offset beside their scale
};

/// The object for config.json. `ignored`: modules of these classes that stay as they were.
nlohmann::json quantization_config(const std::vector<QuantizedModules>& modules,
                                   const std::vector<std::string>& ignored);

/// Throws Error on an object that is another engine's, or says what Linnet does not compute.
void check_quantization_config(const nlohmann::json& object, const std::string& where);

}  // namespace linnet

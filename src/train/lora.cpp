#include "train/lora.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/nearest.h"
#include "base/random.h"
#include "model/model.h"
#include "model/write_model.h"

namespace linnet::train {
namespace {

std::string_view last_part(std::string_view module) { return module.substr(module.rfind('.') + 1); }

}  // namespace

std::vector<std::string> attention_targets(const Family& family) {
  std::vector<std::string> targets;
  for (const std::string_view module : {family.q, family.k, family.v, family.o}) {
    if (!module.empty()) targets.emplace_back(last_part(module));
  }
  return targets;
}

bool is_target(std::string_view module, const std::vector<std::string>& targets) {
  return std::find(targets.begin(), targets.end(), last_part(module)) != targets.end();
}

void check_targets(const Family& family, const std::vector<std::string>& targets) {
  std::vector<std::string_view> known;
  for (int slot = 0; slot < kMatrices; ++slot) {
    const std::string_view module = last_part(module_of(family, slot));
    if (!module.empty() && std::find(known.begin(), known.end(), module) == known.end())
      known.push_back(module);
  }
  for (const std::string& target : targets) {
    if (std::find(known.begin(), known.end(), target) == known.end()) {
      throw Error("--lora-targets", fmt::format("\"{}\"", target), one_of(target, known));
    }
  }
}

LoraWeights fresh_lora(const Family& family, const ModelConfig& config, int layer, std::string_view module,
                       int rank, double scale, uint64_t seed, at::Device device, at::ScalarType type) {
  const ModuleShape shape = module_shape(family, config, module);
  const std::string a = lora_name(family, layer, module, 'A'), b = lora_name(family, layer, module, 'B');
  return {{a,
           draw_uniform({rank, shape.in}, 1.0 / std::sqrt(static_cast<double>(shape.in)), seed, a)
               .to(device, type),
           {},
           false},
          {b, at::zeros({shape.out, rank}, at::TensorOptions().device(device).dtype(type)), {}, false},
          scale};
}

}  // namespace linnet::train

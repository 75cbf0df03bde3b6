// Tiny models of every family, as folders, for tests.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/random.h"
#include "format/safetensors.h"
#include "model/family.h"
#include "tests/format/files.h"

namespace linnet {

struct TinyModel {
  nlohmann::json config;
  std::map<std::string, OwnedTensor> tensors;

  void add(const std::string& name, std::vector<int64_t> shape, DType type = DType::kF32) {
    int64_t count = 1;
    for (int64_t size : shape) count *= size;
    std::vector<float> numbers(static_cast<size_t>(count));
    for (size_t i = 0; i < numbers.size(); ++i) {
      numbers[i] = static_cast<float>(0.1 * normal(1, std::hash<std::string>{}(name), i));
    }
    tensors[name] = {type, std::move(shape), from_float(numbers, type)};
  }

  std::vector<NamedTensor> views() const {
    std::vector<NamedTensor> out;
    for (const auto& [name, tensor] : tensors) out.push_back({name, tensor.view()});
    return out;
  }

  /// The folder `name` below `parent`.
  std::filesystem::path write(const std::filesystem::path& parent, const std::string& name) const {
    const auto folder = parent / name;
    std::filesystem::create_directories(folder);
    write_file(folder / "config.json", config.dump());
    write_sharded(folder, views(), size_t{1} << 30);
    return folder;
  }
};

/// Every tensor that the config's family asks for. `prefix`: the names begin with the family's.
inline TinyModel make_tiny(nlohmann::json json, DType type = DType::kF32, bool prefix = true) {
  const ModelConfig config = ModelConfig::parse(json, "tiny");
  const Family& family = family_of(config.model_type, "tiny");
  TinyModel model{std::move(json), {}};
  const auto add = [&](const std::string& name, std::string_view module) {
    const ModuleShape shape = module_shape(family, config, module);
    model.add(name + ".weight", shape.weight(), type);
    if (shape.biased) model.add(name + ".bias", {shape.out}, type);
  };
  const std::string before(prefix ? family.prefix : "");
  for (std::string_view module : {family.embedding, family.position_embedding, family.final_norm}) {
    if (!module.empty()) add(before + std::string(module), module);
  }
  for (int layer = 0; layer < config.layers; ++layer) {
    for (std::string_view module : layer_modules(family)) {
      add(before + layer_prefix(family, layer) + std::string(module), module);
    }
  }
  if (!config.tied_embeddings) add(std::string(family.head), family.head);
  return model;
}

inline nlohmann::json tiny_llama_config() {
  return {{"model_type", "llama"},    {"hidden_size", 16},           {"num_hidden_layers", 2},
          {"num_attention_heads", 4}, {"num_key_value_heads", 2},    {"intermediate_size", 24},
          {"vocab_size", 30},         {"hidden_act", "silu"},        {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5},     {"tie_word_embeddings", true}, {"custom_field", "kept"}};
}

inline nlohmann::json tiny_gpt2_config() {
  return {{"model_type", "gpt2"}, {"n_embd", 16},      {"n_layer", 2},
          {"n_head", 4},          {"n_positions", 32}, {"vocab_size", 30}};
}

}  // namespace linnet

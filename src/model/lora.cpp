// LoRA (Hu et al. 2021) in PEFT's two files: adapter_config.json and adapter_model.safetensors.
#include <fmt/format.h>

#include <cmath>
#include <set>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "format/fields.h"
#include "model/checks.h"
#include "model/model.h"
#include "model/write_model.h"

namespace linnet {
namespace {

using Json = nlohmann::json;

// Fields whose other values would make another computation: their only accepted value, as JSON.
constexpr std::pair<std::string_view, std::string_view> kAccepted[] = {
    {"peft_type", "\"LORA\""}, {"bias", "\"none\""},        {"use_dora", "false"},
    {"lora_bias", "false"},    {"rank_pattern", "{}"},      {"alpha_pattern", "{}"},
    {"modules_to_save", "[]"}, {"layer_replication", "[]"},
};

LoraConfig parse_adapter(const Json& json, const std::string& where) {
  const Fields fields(json, where);
  for (const auto& [key, accepted] : kAccepted) {
    const Json* value = fields.find(key);
    if (value != nullptr && value->dump() != accepted) fields.refuse(key, accepted);
  }
  LoraConfig config;
  config.rank = static_cast<int>(fields.integer("r", 1, 1 << 16));
  config.alpha = fields.number_above("lora_alpha", 0, 1e6);
  if (fields.boolean("use_rslora", false)) config.alpha *= std::sqrt(config.rank);
  return config;
}

// The last part of a module's name, as PEFT's target_modules has it: "self_attn.q_proj" is "q_proj".
std::string target_name(std::string_view module) { return std::string(module.substr(module.rfind('.') + 1)); }

// sum += scale · B A, sum as the file has it: [out, in], or [in, out] where transposed.
void add_product(const std::vector<float>& b, const std::vector<float>& a, float scale,
                 const ModuleShape& shape, std::vector<float>& sum) {
  const auto out = static_cast<size_t>(shape.out), in = static_cast<size_t>(shape.in), rank = b.size() / out;
  std::vector<float> row(in);
  for (size_t o = 0; o < out; ++o) {
    std::fill(row.begin(), row.end(), 0.0f);
    for (size_t r = 0; r < rank; ++r) {
      const float factor = b[o * rank + r];
      for (size_t i = 0; i < in; ++i) row[i] += factor * a[r * in + i];
    }
    for (size_t i = 0; i < in; ++i) sum[shape.transposed ? i * out + o : o * in + i] += scale * row[i];
  }
}

}  // namespace

std::string lora_name(const Family& family, int layer, std::string_view module, char part) {
  return fmt::format("base_model.model.{}{}{}.lora_{}.weight", family.prefix, layer_prefix(family, layer),
                     module, part);
}

void Model::read_adapter() {
  const auto file = folder_ / "adapter_config.json";
  lora_ = parse_adapter(read_json(file, {.bytes = 1 << 20, .depth = 16}), file.string());
  if (!std::filesystem::exists(folder_ / "adapter_model.safetensors") &&
      std::filesystem::exists(folder_ / "adapter_model.bin")) {
    throw Error((folder_ / "adapter_model.bin").string(),
                "a pickle file, which can run any code when it is read", "adapter_model.safetensors");
  }
  adapter_ = TensorStore::open_file(folder_ / "adapter_model.safetensors");
}

void Model::check_adapter() {
  if (!adapter_) return;
  const auto file = folder_ / "adapter_model.safetensors";
  std::set<std::string, std::less<>> known;
  std::set<std::string> targets;
  for (int layer = 0; layer < config_.layers; ++layer) {
    for (std::string_view module : layer_modules(*family_)) {
      const ModuleShape shape = module_shape(*family_, config_, module);
      const std::string a = lora_name(*family_, layer, module, 'A'),
                        b = lora_name(*family_, layer, module, 'B');
      if (shape.in == 0 || (adapter_->find(a) == nullptr && adapter_->find(b) == nullptr)) continue;
      require_tensor(*adapter_, a, {lora_->rank, shape.in}, file);
      require_tensor(*adapter_, b, {shape.out, lora_->rank}, file);
      known.insert({a, b});
      targets.insert(target_name(module));
    }
  }
  for (const auto& [name, tensor] : adapter_->tensors()) {
    if (!known.contains(name)) {
      throw Error(adapter_->where(name), "no LoRA of a layer's matrix", "lora_A and lora_B of such alone");
    }
  }
  if (known.empty()) throw Error(file.string(), "no tensors", "lora_A and lora_B of at least one matrix");
  lora_->targets.assign(targets.begin(), targets.end());
}

std::map<std::string, OwnedTensor> merge_lora(const Model& model) {
  std::map<std::string, OwnedTensor> merged;
  if (!model.lora()) return merged;
  const auto scale = static_cast<float>(model.lora()->alpha / model.lora()->rank);
  for (int layer = 0; layer < model.config().layers; ++layer) {
    for (std::string_view module : layer_modules(model.family())) {
      const auto pair = model.lora_of(layer, module);
      if (!pair) continue;
      stop_if_interrupted();
      const std::string name = model.module_name(layer, module) + ".weight";
      const TensorView& weight = *model.layer_tensor(layer, module, "weight");
      std::vector<float> sum = to_float(weight, name);
      const ModuleShape shape = module_shape(model.family(), model.config(), module);
      add_product(to_float(*pair->b, name), to_float(*pair->a, name), scale, shape, sum);
      merged.emplace(name, OwnedTensor{weight.type, weight.shape, from_float(sum, weight.type)});
    }
  }
  return merged;
}

}  // namespace linnet

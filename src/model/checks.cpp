#include "model/checks.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "base/interrupt.h"
#include "model/model.h"
#include "model/quantized.h"

namespace linnet {
namespace {

bool is_floating(DType type) {
  return type == DType::kF64 || type == DType::kF32 || type == DType::kF16 || type == DType::kBF16;
}

constexpr std::string_view kLinear = "linear_attention.";

bool is_linear(std::string_view name) { return name.find(kLinear) != std::string_view::npos; }

}  // namespace

const TensorView& require_tensor(const TensorStore& store, std::string_view name,
                                 const std::vector<int64_t>& shape, const std::filesystem::path& place,
                                 const std::string& asker) {
  const TensorView* tensor = store.find(name);
  if (tensor == nullptr) {
    throw Error(place.string(), fmt::format("no tensor \"{}\"", name),
                "it, of shape " + to_string(shape) + asker);
  }
  if (tensor->shape != shape) {
    throw Error(store.where(name), "shape " + to_string(tensor->shape), to_string(shape) + asker);
  }
  if (!is_floating(tensor->type)) {
    throw Error(store.where(name), fmt::format("numbers of type {}", name_of(tensor->type)),
                "F64, F32, F16 or BF16");
  }
  return *tensor;
}

void Model::check_base() const {
  const auto check = [&](const std::string& name, const ModuleShape& shape) {
    if (shape.in == 0 || !is_quantized() || !quantized_matrix(base_, name, shape))
      require_tensor(base_, name + ".weight", shape.weight(), base_folder_);
    if (shape.biased) require_tensor(base_, name + ".bias", {shape.out}, base_folder_);
  };
  for (std::string_view module : outer_modules(*family_))
    check(full_name(module), module_shape(*family_, config_, module));
  for (int layer = 0; layer < config_.layers; ++layer) {
    for (std::string_view module : layer_modules(*family_)) {
      check(module_name(layer, module), module_shape(*family_, config_, module));
    }
  }
  if (encoder_) encoder_->check_base();
}

void Model::check_classifier() const {
  for (const std::string_view module : {family_->classifier.dense, family_->classifier.out}) {
    if (module.empty()) continue;
    const std::string name(module);
    const ModuleShape shape = module_shape(*family_, config_, module);
    require_tensor(base_, name + ".weight", shape.weight(), base_folder_);
    if (shape.biased) require_tensor(base_, name + ".bias", {shape.out}, base_folder_);
  }
}

// The head of tied embeddings may stand in the file too, as long as it is the embedding.
void Model::check_head() const {
  if (config_.is_classifier()) return check_classifier();
  if (!has_head()) return;
  const std::string name = std::string(family_->head) + ".weight";
  const ModuleShape shape = module_shape(*family_, config_, family_->head);
  if (!config_.tied_embeddings) {
    if (!is_quantized() || !quantized_matrix(base_, std::string(family_->head), shape))
      require_tensor(base_, name, shape.weight(), base_folder_);
    return;
  }
  const TensorView* head = base_.find(name);
  if (head == nullptr) return;
  require_tensor(base_, name, shape.weight(), base_folder_);
  const TensorView* embedding = base_.find(full_name(family_->embedding) + ".weight");
  if (embedding == nullptr || head->type != embedding->type ||
      !std::ranges::equal(head->bytes, embedding->bytes)) {
    throw Error(base_.where(name), "differs from the embedding, to which config.json ties it",
                "the same numbers, or tie_word_embeddings false");
  }
}

/// An attention of one of the model's stacks, and what its new tensors begin with.
struct Model::AttentionPlace {
  const AttentionConfig* config;
  std::string prefix, name;
};

std::vector<Model::AttentionPlace> Model::attention_places() const {
  std::vector<AttentionPlace> places;
  for (int layer = 0; layer < config_.layers; ++layer) {
    const auto i = static_cast<size_t>(layer);
    places.push_back({&attention_[i], linear_prefix(layer), fmt::format("layer {}", layer)});
    if (!cross_attention_.empty())
      places.push_back({&cross_attention_[i], cross_prefix(layer), fmt::format("layer {}'s cross", layer)});
  }
  if (!encoder_) return places;
  for (AttentionPlace& place : encoder_->attention_places()) {
    place.name = "the encoder's " + place.name;
    places.push_back(std::move(place));
  }
  return places;
}

void Model::check_added() const {
  const TensorStore& store = linear_store();
  const auto file = added_ ? folder_ / "linear_attention.safetensors" : base_folder_;
  std::set<std::string, std::less<>> known;
  const std::vector<AttentionPlace> places = attention_places();
  const auto asker = [&](const AttentionPlace& place) {
    return fmt::format(", for {} in {}", place.config->name(), place.name);
  };
  // A tensor that may be absent is in every layer that asks for it, or in none.
  std::map<std::string, std::string, std::less<>> present;  // such tensors, and a layer that has it
  const auto each = [&](const auto& take) {
    for (const AttentionPlace& place : places) {
      for (const ParameterSpec& spec : parameter_specs(*place.config, attention_shape()))
        take(place, spec, place.prefix + spec.name);
    }
  };
  each([&](const AttentionPlace& place, const ParameterSpec& spec, const std::string& name) {
    if (spec.absent && store.find(name) != nullptr) present.emplace(spec.name, place.name);
  });
  each([&](const AttentionPlace& place, const ParameterSpec& spec, const std::string& name) {
    const auto other = present.find(spec.name);
    if (spec.absent && other == present.end()) return;
    const std::string as = spec.absent ? fmt::format(", as {} has one", other->second) : "";
    require_tensor(store, name, spec.shape, file, asker(place) + as);
    known.insert(name);
  });
  for (const auto& [name, tensor] : store.tensors()) {
    if ((added_ || is_linear(name)) && !known.contains(name)) {
      std::string expected = "the tensors of linear_attention alone";
      for (const AttentionPlace& place : places) {
        if (name.starts_with(place.prefix)) expected += asker(place);
      }
      throw Error(store.where(name), "a tensor that the config does not ask for", expected);
    }
  }
}

// What encoders may have beside their layers: a pooler, and what stands before the head's matrix.
void Model::check_optional() const {
  const auto check = [&](std::string_view module) {
    const ModuleShape shape = module_shape(*family_, config_, module);
    require_tensor(base_, full_name(module) + ".weight", shape.weight(), base_folder_);
    if (shape.biased) require_tensor(base_, full_name(module) + ".bias", {shape.out}, base_folder_);
  };
  if (has_pooler()) check(family_->pooler);
  if (family_->head_dense.empty() || !has_head()) return;
  check(family_->head_dense);
  check(family_->head_norm);
  const std::string own = std::string(family_->head) + ".bias",
                    bias = std::string(family_->head_bias) + ".bias";
  require_tensor(base_, base_.find(own) != nullptr ? own : bias, {config_.vocabulary}, base_folder_);
}

bool is_buffer(std::string_view name) {
  return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias") ||
         name.ends_with(".attention.bias") || name.ends_with(".attention.masked_bias") ||
         name.ends_with(".rotary_emb.inv_freq") || name.ends_with("embeddings.position_ids") ||
         name == "encoder.embed_tokens.weight" || name == "decoder.embed_tokens.weight";
}

std::vector<NamedTensor> Model::added_tensors() const {
  std::vector<NamedTensor> out;
  for (const auto& [name, tensor] : linear_store().tensors()) {
    if (added_ || is_linear(name)) out.push_back({name, tensor});
  }
  return out;
}

bool Model::added_are_trained() const {
  const auto& metadata = linear_store().metadata();
  const auto mark = metadata.find(kTrainedMark.first);
  return mark != metadata.end() && mark->second == kTrainedMark.second;
}

std::vector<NamedTensor> Model::lora_tensors() const {
  std::vector<NamedTensor> out;
  if (!adapter_) return out;
  for (const auto& [name, tensor] : adapter_->tensors()) out.push_back({name, tensor});
  return out;
}

std::set<std::string> Model::used_tensors() const {
  std::set<std::string> used;
  if (encoder_) used = encoder_->used_tensors();
  const auto use = [&](const std::string& name, std::string_view module) {
    used.insert(name + ".weight");
    if (is_quantized()) {
      for (std::string_view part : kIntegerParts) used.insert(name + std::string(part));
    }
    if (module_shape(*family_, config_, module).biased) used.insert(name + ".bias");
  };
  std::vector<std::string_view> outer = outer_modules(*family_);
  for (std::string_view module : head_modules(*family_)) outer.push_back(module);
  if (!family_->pooler.empty()) outer.push_back(family_->pooler);
  for (std::string_view module : outer) use(full_name(module), module);
  if (!family_->head_bias.empty()) used.insert(std::string(family_->head_bias) + ".bias");
  if (config_.is_classifier()) {
    for (std::string_view module : {family_->classifier.dense, family_->classifier.out}) {
      used.insert(std::string(module) + ".weight");
      used.insert(std::string(module) + ".bias");
    }
  }
  for (int layer = 0; layer < config_.layers; ++layer) {
    for (std::string_view module : layer_modules(*family_)) use(module_name(layer, module), module);
  }
  return used;
}

std::vector<std::string> Model::unused_tensors() const {
  const std::set<std::string> used = used_tensors();
  std::vector<std::string> unused;
  for (const auto& [name, tensor] : base_.tensors()) {
    if (!used.contains(name) && !is_linear(name)) unused.push_back(name);
  }
  return unused;
}

const StoreReading& Model::reading() const {
  std::call_once(reading_->once, [&] { reading_->found = read_store(base_, reading_->how); });
  return reading_->found;
}

const std::string& Model::weights_hash() const { return reading().hash; }

std::vector<std::string> Model::broken_tensors() const {
  std::vector<std::string> broken;
  for (const std::string& name : reading().broken) broken.push_back(base_.where(name));
  for (const TensorStore* store : {added_ ? &*added_ : nullptr, adapter_ ? &*adapter_ : nullptr}) {
    if (store == nullptr) continue;
    for (const auto& [name, tensor] : store->tensors()) {
      stop_if_interrupted();
      if (!is_sound(tensor)) broken.push_back(store->where(name));
    }
  }
  return broken;
}

}  // namespace linnet

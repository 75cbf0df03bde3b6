#include "model/model.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "format/fields.h"
#include "model/quantized.h"
#include "model/teacher.h"
#include "model/write_model.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr JsonLimits kConfigLimits{.bytes = 10'000'000, .depth = 32};

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(path, error);
}

bool has_weights(const fs::path& folder) {
  return is_there(folder / "model.safetensors") || is_there(folder / "model.safetensors.index.json");
}

bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\\\0", 3)) == name.npos;
}

// The folder that stands beside `folder` under `name`, however `folder` was spelled.
fs::path beside(const fs::path& folder, const std::string& name) {
  return named_folder(folder).parent_path() / name;
}

/// The value of `key` in what begins a README.md between two lines of `---`, as model cards do; empty where
/// it is not there.
std::string_view card_value(std::string_view card, std::string_view key) {
  constexpr std::string_view kFence = "---\n";
  if (!card.starts_with(kFence)) return {};
  card.remove_prefix(kFence.size());
  while (!card.empty() && !card.starts_with(kFence)) {
    std::string_view line = card.substr(0, card.find('\n'));
    card.remove_prefix(std::min(line.size() + 1, card.size()));
    if (!line.starts_with(key) || !line.substr(key.size()).starts_with(": ")) continue;
    line.remove_prefix(key.size() + 2);
    return line;
  }
  return {};
}

/// What is expected where the base of a sidecar or LoRA in `folder` is missing: its README.md may say where
/// from.
std::string wanted_base(const fs::path& folder) {
  constexpr const char* kElse = "or --base to say where it is";
  try {
    const MappedFile card(folder / "README.md");
    const std::string_view from = card_value(card.text(), "base_from");
    if (!from.empty())
      return fmt::format("it, from {} as its README.md says, {}", printable(from, 120), kElse);
  } catch (const Error&) {  // without one nobody says
  }
  return fmt::format("it, {}", kElse);
}

fs::path base_of_sidecar(const fs::path& folder, const Fields& fields, const Model::OpenOptions& options) {
  const std::string name = fields.string("base");
  if (!is_plain_name(name)) fields.refuse("base", "the plain name of a folder beside the sidecar");
  if (options.base) return *options.base;
  fs::path base = beside(folder, name);
  std::error_code error;
  if (!fs::is_directory(base, error)) {
    throw Error(base.string(), "the sidecar's base is not there", wanted_base(folder));
  }
  return base;
}

}  // namespace

std::shared_ptr<const Model> Model::open(const fs::path& folder, const OpenOptions& options) {
  std::error_code error;
  if (!fs::is_directory(folder, error)) {
    throw Error(folder.string(), is_there(folder) ? "not a folder" : "no such folder", "a model folder");
  }
  std::shared_ptr<Model> model(new Model);
  model->folder_ = folder;
  model->reading_->how = options.reading;
  const fs::path config = folder / "config.json";
  if (!is_there(config) || (is_there(folder / "adapter_config.json") && !has_weights(folder) &&
                            !is_there(folder / "linear_attention.safetensors"))) {
    if (!is_there(folder / "adapter_config.json")) {
      throw Error(folder.string(), "no config.json", "a model folder, a sidecar or a PEFT LoRA folder");
    }
    model->open_lora(options);
  } else {
    const Json json = read_json(config, kConfigLimits);
    if (json.is_object() && (json.contains("base") || json.contains("base_hash"))) {
      model->open_sidecar(json, options);
    } else {
      if (options.base)
        throw Error("--base", "given for a folder with its own weights", "a sidecar or a LoRA");
      model->open_plain(folder);
    }
  }
  model->set_attention(std::move(model->attention_));
  model->check_base();
  model->check_head();
  model->check_optional();
  model->check_added();
  model->check_adapter();
  model->set_state(options.state);
  if (options.check_hash) model->check_hash();
  if (options.check_numbers) {
    const auto broken = model->broken_tensors();
    if (!broken.empty()) throw Error(broken.front(), kUnsound, kSound);
  }
  return model;
}

std::shared_ptr<const Model> Model::with_attention(std::vector<AttentionConfig> layers) const {
  auto other = std::shared_ptr<Model>(new Model(*this));
  other->set_attention(std::move(layers));
  return other;
}

std::vector<AttentionConfig> Model::all_attention() const {
  std::vector<AttentionConfig> all = attention_;
  all.insert(all.end(), cross_attention_.begin(), cross_attention_.end());
  if (encoder_) all.insert(all.end(), encoder_->attention_.begin(), encoder_->attention_.end());
  return all;
}

void Model::set_attention(std::vector<AttentionConfig> all) {
  if (family_->encoder == nullptr) {
    attention_ = std::move(all);
    return;
  }
  const auto layers = config_.layers;
  cross_attention_.assign(all.begin() + layers, all.begin() + 2 * layers);
  std::shared_ptr<Model> encoder(new Model(*this));
  encoder->encoder_ = nullptr;
  encoder->cross_attention_.clear();
  encoder->config_ = config_.of_encoder();
  encoder->family_ = encoder->config_.family;
  encoder->attention_.assign(all.begin() + 2 * layers, all.end());
  encoder_ = std::move(encoder);
  attention_.assign(all.begin(), all.begin() + layers);
}

std::shared_ptr<const Model> Model::with_labels(const std::vector<std::string>& labels, int64_t pad,
                                                int64_t texts) const {
  if (family_->classifier.out.empty())
    throw Error(folder_.string(), fmt::format("{} has no classifiers", family_->model_type),
                "another family");
  Json raw = config_.raw;
  raw["architectures"] = {family_->classifier_architecture()};
  raw["id2label"] = Json::object();
  raw["label2id"] = Json::object();
  for (size_t id = 0; id < labels.size(); ++id) {
    raw["id2label"][std::to_string(id)] = labels[id];
    raw["label2id"][labels[id]] = id;
  }
  raw["pad_token_id"] = pad;
  raw["texts_per_example"] = texts;
  for (const char* key : {"problem_type", "num_labels", "torch_dtype"}) raw.erase(key);
  raw["dtype"] = "float32";  // of what is trained, where a rate is small next to bf16's steps
  auto other = std::shared_ptr<Model>(new Model(*this));
  other->config_ = ModelConfig::parse(raw, (base_folder_ / "config.json").string());
  return other;
}

void Model::open_plain(const fs::path& folder) {
  const fs::path file = folder / "config.json";
  const Json json = read_json(file, kConfigLimits);
  if (json.is_object() && (json.contains("base") || json.contains("base_hash"))) {
    throw Error(file.string(), "a sidecar", "a base: a folder with its own weights");
  }
  config_ = ModelConfig::parse(json, file.string());
  family_ = config_.family;
  generation_ = GenerationConfig::read(folder, config_.vocabulary);
  base_folder_ = tokenizer_folder_ = folder;
  base_ = TensorStore::open_folder(folder);
  if (family_->is_encoder()) {  // as BERT's first folders have them
    base_.rename_ends(".LayerNorm.gamma", ".LayerNorm.weight");
    base_.rename_ends(".LayerNorm.beta", ".LayerNorm.bias");
  }
  prefix_ = family_->prefix;
  for (const std::string_view prefix : {family_->prefix, family_->classifier.prefix, std::string_view()}) {
    if (!has_matrix(base_, std::string(prefix).append(family_->embedding))) continue;
    prefix_ = prefix;
    break;
  }
  const auto linear = json.find("linear_attention");
  attention_ = attention_over(config_, linear == json.end() ? Json() : *linear, file.string());
}

void Model::open_sidecar(const Json& config, const OpenOptions& options) {
  const std::string where = (folder_ / "config.json").string();
  const Fields fields(config, where);
  for (const auto& [key, value] : config.items()) {
    if (key != "linear_attention" && key != "base" && key != "base_hash") {
      throw Error(where, fmt::format("\"{}\" in a sidecar", printable(key, 60)),
                  "exactly linear_attention, base and base_hash");
    }
  }
  base_hash_ = fields.string("base_hash");
  if (base_hash_.size() != 41 || base_hash_.compare(0, 9, "xxh3-128:") != 0 ||
      base_hash_.find_first_not_of("0123456789abcdef", 9) != std::string::npos) {
    fields.refuse("base_hash", "xxh3-128: and 32 hexadecimal digits");
  }
  if (fields.find("linear_attention") == nullptr) fields.refuse("linear_attention", "an object");
  open_plain(base_of_sidecar(folder_, fields, options));
  if (config_.raw.contains("linear_attention")) {
    throw Error((base_folder_ / "config.json").string(), "has linear_attention itself",
                "a base: an ordinary folder without it");
  }
  attention_ = attention_over(config_, config["linear_attention"], where);
  added_ = TensorStore::open_file(folder_ / "linear_attention.safetensors");
  is_sidecar_ = true;
  if (is_there(folder_ / "adapter_config.json")) read_adapter();
}

void Model::open_lora(const OpenOptions& options) {
  const fs::path file = folder_ / "adapter_config.json";
  const Json json = read_json(file, kConfigLimits);
  const Fields fields(json, file.string());
  const std::string name = fields.optional_string("base_model_name_or_path").value_or("");
  std::error_code error;
  fs::path base = options.base.value_or(is_plain_name(name) ? beside(folder_, name) : fs::path(name));
  if (!options.base && !fs::is_directory(base, error)) base = name;
  if (!fs::is_directory(base, error)) {
    throw Error(file.string(),
                fmt::format("the base \"{}\" is no folder here", printable(base.string(), 200)),
                wanted_base(folder_));
  }
  open_plain(base);
  is_sidecar_ = true;
  read_adapter();
}

void Model::check_hash() const {
  if (base_hash_.empty()) return;
  if (weights_hash() != base_hash_) {
    throw Error(base_folder_.string(),
                fmt::format("another base than the sidecar was made from ({})", weights_hash()), base_hash_);
  }
}

void Model::set_state(std::optional<StateType> type) {
  // Of a quantized folder what is no matrix tells the type that the model was in.
  const TensorView* weights = tensor(is_quantized() ? family_->final_norm : family_->embedding, "weight");
  const bool narrow = weights != nullptr && weights->type == DType::kBF16;
  state_ = type.value_or(narrow ? StateType::kBFloat16 : StateType::kComputed);
}

AttentionShape Model::attention_shape() const {
  AttentionShape shape = shape_of(*family_, config_);
  shape.state = state_;
  return shape;
}

std::string Model::full_name(std::string_view module) const {
  return is_of_head(*family_, module) ? std::string(module) : std::string(prefix_).append(module);
}

const TensorView* Model::original(const std::string& name) const {
  const auto saved = saved_.find(name);
  return saved != saved_.end() ? &saved->second : base_.find(name);
}

const TensorView* Model::tensor(std::string_view module, std::string_view part) const {
  if (module.empty()) return nullptr;
  if (part == "bias" && !module_shape(*family_, config_, module).biased) return nullptr;
  if (module == family_->head && part == "bias") {
    // Files have it under the one name, the other, or both: then the matrix's own is computed with.
    const TensorView* own = original(std::string(module) + ".bias");
    return own != nullptr ? own : original(std::string(family_->head_bias) + ".bias");
  }
  if (module == family_->head && config_.tied_embeddings) return nullptr;
  return original(full_name(module).append(".").append(part));
}

bool Model::has_head() const {
  if (family_->head.empty() || config_.is_classifier()) return false;
  return family_->head_dense.empty() || original(std::string(family_->head_dense) + ".weight") != nullptr;
}

bool Model::has_pooler() const { return tensor(family_->pooler, "weight") != nullptr; }

const TensorView* Model::layer_tensor(int layer, std::string_view module, std::string_view part) const {
  if (module.empty()) return nullptr;
  if (part == "bias" && !module_shape(*family_, config_, module).biased) return nullptr;
  return original(module_name(layer, module).append(".").append(part));
}

std::optional<kernels::Weights> Model::quantized(int layer, std::string_view module) const {
  if (module.empty() || (module == family_->head && config_.tied_embeddings)) return std::nullopt;
  const std::string name = full_module_name(layer, module);
  if (saved_.contains(name + ".weight")) return std::nullopt;
  return quantized_matrix(base_, name, module_shape(*family_, config_, module));
}

std::string Model::module_name(int layer, std::string_view module) const {
  return std::string(prefix_).append(layer_prefix(*family_, layer)).append(module);
}

std::string Model::linear_prefix(int layer) const {
  return module_name(layer, family_->attention).append("linear_attention.");
}

std::string Model::cross_prefix(int layer) const {
  return module_name(layer, family_->cross_attention).append("linear_attention.");
}

ParameterTensors Model::parameters_under(const std::string& prefix) const {
  ParameterTensors out;
  const auto& all = linear_store().tensors();
  for (auto at = all.lower_bound(prefix); at != all.end() && at->first.starts_with(prefix); ++at) {
    out.emplace(at->first.substr(prefix.size()), at->second);
  }
  return out;
}

}  // namespace linnet

#include "model/lora.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "format/fields.h"
#include "model/checks.h"
#include "model/model.h"
#include "model/quantized.h"
#include "model/write_model.h"
#include "text/regex.h"

namespace linnet {
namespace {

using Json = nlohmann::json;

constexpr int64_t kMaxRank = 1 << 16;
constexpr double kMaxAlpha = 1e6;
constexpr std::string_view kAdapter = "base_model.model.";  // what all names in PEFT's file begin with

// Fields whose other values would make another computation: their only accepted value, as JSON, and what to
// say of it.
constexpr struct {
  std::string_view key, accepted, expected;
} kAccepted[] = {
    {"peft_type", "\"LORA\"", "\"LORA\""},
    {"bias", "\"none\"", "\"none\": trained biases are not read"},
    {"use_dora", "false", "false: DoRA is not computed"},
    {"lora_bias", "false", "false"},
    {"layer_replication", "[]", "null"},
};

// The patterns of an object {pattern: number}, in its order; `read` checks a number.
template <class Number, class Read>
std::vector<std::pair<std::string, Number>> patterns(const nlohmann::ordered_json& json, const char* key,
                                                     Read read) {
  std::vector<std::pair<std::string, Number>> out;
  const auto found = json.find(key);
  if (found == json.end()) return out;
  for (const auto& [pattern, number] : found->items()) out.emplace_back(pattern, read(pattern));
  return out;
}

// Python's re.match(rf"(.*\.)?({pattern})$", module), which is what PEFT asks.
Regex pattern_of(const std::string& pattern, const std::string& where) {
  return {fmt::format("\\A(?:.*\\.)?(?:{})\\z", pattern), where};
}

// The number of the first pattern that matches each module; none where none does.
template <class Number>
class Patterns {
 public:
  Patterns(const std::vector<std::pair<std::string, Number>>& patterns, const std::string& where) {
    for (const auto& [pattern, number] : patterns) patterns_.emplace_back(pattern_of(pattern, where), number);
  }
  Number of(const std::string& module, Number otherwise) const {
    for (const auto& [pattern, number] : patterns_) {
      bool matches = false;
      pattern.for_each_match(module, [&](size_t, size_t) { matches = true; });
      if (matches) return number;
    }
    return otherwise;
  }

 private:
  std::vector<std::pair<Regex, Number>> patterns_;
};

std::vector<std::string> saved_modules_of(const Fields& fields) {
  std::vector<std::string> saved;
  const Json* value = fields.find("modules_to_save");
  if (value == nullptr) return saved;
  constexpr const char* kExpected = "a list of module names";
  if (!value->is_array()) fields.refuse("modules_to_save", kExpected);
  for (const Json& name : *value) {
    if (!name.is_string() || name.get<std::string>().empty()) fields.refuse("modules_to_save", kExpected);
    saved.push_back(name);
  }
  return saved;
}

/// Calls visit(stack, layer, module) on every module of every layer.
void each_layer_module(const std::vector<const Model*>& stacks, const auto& visit) {
  for (const Model* stack : stacks) {
    for (int layer = 0; layer < stack->config().layers; ++layer) {
      for (const std::string_view module : layer_modules(stack->family())) visit(*stack, layer, module);
    }
  }
}

/// The family with the prefix that the file's names have: a classifier's LoRA was trained on the classifier,
/// or on the language model that it was made of, and transformers may call their modules otherwise.
Family as_named_in(const TensorStore& adapter, const Family& family) {
  Family named = family;
  const std::string begin = std::string(kAdapter).append(family.classifier.prefix);
  const auto first = adapter.tensors().lower_bound(begin);
  if (!family.classifier.prefix.empty() && first != adapter.tensors().end() &&
      first->first.starts_with(begin))
    named.prefix = family.classifier.prefix;
  return named;
}

/// Whether PEFT takes a module for one of modules_to_save: its name, or that of one that it is a part of,
/// ends so.
bool is_saved_as(const std::string& module, const std::string& wanted) {
  return (module + ".").find(wanted + ".") != std::string::npos;
}

// The last part of a module's name, as PEFT's target_modules has it: "self_attn.q_proj" is "q_proj".
std::string target_name(std::string_view module) { return std::string(module.substr(module.rfind('.') + 1)); }

}  // namespace

LoraConfig read_adapter_config(const std::filesystem::path& file) {
  constexpr JsonLimits kLimits{.bytes = 1 << 20, .depth = 16};
  const Json json = read_json(file, kLimits);
  const Fields fields(json, file.string());
  for (const auto& [key, accepted, expected] : kAccepted) {
    const Json* value = fields.find(key);
    if (value != nullptr && value->dump(-1, ' ', false, Json::error_handler_t::replace) != accepted)
      fields.refuse(key, expected);
  }
  LoraConfig config;
  config.rank = static_cast<int>(fields.integer("r", 1, kMaxRank));
  config.alpha = fields.number_above("lora_alpha", 0, kMaxAlpha);
  config.rank_stabilized = fields.boolean("use_rslora", false);
  config.saved = saved_modules_of(fields);
  // The first pattern that matches counts, so the file's order does; it was checked above.
  const auto ordered = nlohmann::ordered_json::parse(MappedFile(file).text());
  const auto object = [&](const char* key) {
    static const Json none = Json::object();
    const Json* value = fields.find(key);
    if (value != nullptr && !value->is_object()) fields.refuse(key, "an object {pattern: number}");
    return Fields(value == nullptr ? none : *value, fmt::format("{}: {}", file.string(), key));
  };
  const Fields ranks = object("rank_pattern"), alphas = object("alpha_pattern");
  config.rank_pattern = patterns<int>(ordered, "rank_pattern", [&](const std::string& pattern) {
    return static_cast<int>(ranks.integer(pattern, 1, kMaxRank));
  });
  config.alpha_pattern = patterns<double>(ordered, "alpha_pattern", [&](const std::string& pattern) {
    return alphas.number_above(pattern, 0, kMaxAlpha);
  });
  return config;
}

std::map<std::string, LoraNumbers> lora_numbers(const LoraConfig& config,
                                                std::span<const std::string> modules,
                                                const std::string& where) {
  const Patterns<int> ranks(config.rank_pattern, where + ": rank_pattern");
  const Patterns<double> alphas(config.alpha_pattern, where + ": alpha_pattern");
  std::map<std::string, LoraNumbers> numbers;
  for (const std::string& module : modules) {
    const int rank = ranks.of(module, config.rank);
    const double alpha = alphas.of(module, config.alpha);
    numbers[module] = {rank, alpha / (config.rank_stabilized ? std::sqrt(rank) : rank)};
  }
  return numbers;
}

std::string adapter_module(const Family& family, int layer, std::string_view module) {
  if (layer >= 0) return fmt::format("{}{}{}", family.prefix, layer_prefix(family, layer), module);
  return is_of_head(family, module) ? std::string(module) : fmt::format("{}{}", family.prefix, module);
}

std::string lora_name(const Family& family, int layer, std::string_view module, char part) {
  return fmt::format("{}{}.lora_{}.weight", kAdapter, adapter_module(family, layer, module), part);
}

void Model::read_adapter() {
  lora_ = read_adapter_config(folder_ / "adapter_config.json");
  if (!std::filesystem::exists(folder_ / "adapter_model.safetensors") &&
      std::filesystem::exists(folder_ / "adapter_model.bin")) {
    throw Error((folder_ / "adapter_model.bin").string(),
                "a pickle file, which can run any code when it is read", "adapter_model.safetensors");
  }
  adapter_ = TensorStore::open_file(folder_ / "adapter_model.safetensors");
}

// Pairs of a layer's matrices, and whole tensors in place of the base's (modules_to_save); nothing else.
void Model::check_adapter() {
  if (!adapter_) return;
  const auto file = folder_ / "adapter_model.safetensors";
  std::vector<std::string> modules;
  each_layer_module(stacks(), [&](const Model& stack, int layer, std::string_view module) {
    modules.push_back(adapter_module(as_named_in(*adapter_, stack.family()), layer, module));
  });
  lora_numbers_ = lora_numbers(*lora_, modules, (folder_ / "adapter_config.json").string());
  std::set<std::string, std::less<>> known;
  std::set<std::string> targets;
  each_layer_module(stacks(), [&](const Model& stack, int layer, std::string_view module) {
    const Family family = as_named_in(*adapter_, stack.family());
    const ModuleShape shape = module_shape(family, stack.config(), module);
    const std::string a = lora_name(family, layer, module, 'A'), b = lora_name(family, layer, module, 'B');
    if (shape.in == 0 || (adapter_->find(a) == nullptr && adapter_->find(b) == nullptr)) return;
    const int64_t rank = lora_numbers_.at(adapter_module(family, layer, module)).rank;
    require_tensor(*adapter_, a, {rank, shape.in}, file);
    require_tensor(*adapter_, b, {shape.out, rank}, file);
    known.insert({a, b});
    targets.insert(target_name(module));
  });
  take_saved_modules();
  for (const auto& [name, tensor] : adapter_->tensors()) {
    if (!known.contains(name) && !saved_names_.contains(name)) {
      throw Error(adapter_->where(name), "no LoRA of a layer's matrix, and no whole tensor of the model",
                  "lora_A and lora_B of such, and modules_to_save");
    }
  }
  if (known.empty()) throw Error(file.string(), "no tensors", "lora_A and lora_B of at least one matrix");
  lora_->targets.assign(targets.begin(), targets.end());
  if (encoder_) set_attention(all_attention());  // the encoder's stack with all of this
}

std::vector<const Model*> Model::stacks() const {
  if (!encoder_) return {this};
  return {this, encoder_.get()};
}

// PEFT writes a module of modules_to_save under its own name, older versions under NAME.modules_to_save.
void Model::take_saved_modules() {
  std::set<std::string> known, modules;
  const auto take = [&](const Model& stack, int layer, std::string_view module) {
    if (module.empty()) return;
    const std::string name = adapter_module(as_named_in(*adapter_, stack.family()), layer, module);
    known.insert(name);
    const std::string own = stack.full_module_name(layer, module);
    const ModuleShape shape = module_shape(stack.family(), stack.config(), module);
    for (const std::string_view part : {"weight", "bias"}) {
      if (part == "bias" && !shape.biased) continue;
      for (const std::string_view between : {".", ".modules_to_save.", ".modules_to_save.default."}) {
        const std::string in_file = fmt::format("{}{}{}{}", kAdapter, name, between, part);
        if (adapter_->find(in_file) == nullptr) continue;
        const auto expected = part == "bias" ? std::vector{shape.out} : shape.weight();
        saved_[fmt::format("{}.{}", own, part)] = require_tensor(*adapter_, in_file, expected, folder_);
        saved_names_.insert(in_file);
        modules.insert(name);
      }
    }
  };
  for (const Model* stack : stacks()) {
    for (const std::string_view module : outer_modules(stack->family())) take(*stack, -1, module);
    for (const std::string_view module : head_modules(stack->family())) take(*stack, -1, module);
  }
  if (config_.is_classifier()) {
    for (const std::string_view module : {family_->classifier.dense, family_->classifier.out})
      take(*this, -1, module);
  }
  each_layer_module(stacks(), take);
  for (const std::string& wanted : lora_->saved) {
    const auto is_among = [&](const std::set<std::string>& names) {
      return std::any_of(names.begin(), names.end(),
                         [&](const std::string& name) { return is_saved_as(name, wanted); });
    };
    // Of every classifier PEFT says so, whichever of the two it has.
    const bool is_unasked = config_.is_classifier() && (wanted == "classifier" || wanted == "score");
    if (!is_among(modules) && (is_among(known) || !is_unasked))
      throw Error((folder_ / "adapter_config.json").string(),
                  fmt::format("\"modules_to_save\" names \"{}\"", printable(wanted, 60)),
                  "its tensors in adapter_model.safetensors, and a module of the model");
  }
  untie_saved();
}

// PEFT saves a copy of one of two tied modules and leaves the other as it was: they are tied no more.
void Model::untie_saved() {
  if (!config_.tied_embeddings) return;
  const std::string head = std::string(family_->head) + ".weight",
                    embedding = full_name(family_->embedding) + ".weight";
  if (!saved_.contains(head) && !saved_.contains(embedding)) return;
  if (quantized_matrix(base_, full_name(family_->embedding),
                       module_shape(*family_, config_, family_->embedding)))
    throw Error(base_folder_.string(), "the embedding is in integers, and the LoRA has its own or its head's",
                "the base that was quantized");
  const auto now = [&](const std::string& name) {
    const auto found = saved_.find(name);
    return found == saved_.end() ? *base_.find(embedding) : found->second;
  };
  const TensorView rows = now(embedding), logits = now(head);
  if (rows.type == logits.type && std::ranges::equal(rows.bytes, logits.bytes)) {
    saved_.erase(head);
    return;
  }
  saved_[head] = logits;
  config_.tied_embeddings = false;
  config_.raw["tie_word_embeddings"] = false;
  if (config_.head_scale != 1) config_.raw["scale_decoder_outputs"] = true;  // as before
}

std::vector<NamedTensor> Model::saved_modules() const {
  std::vector<NamedTensor> out;
  for (const std::string& name : saved_names_) out.push_back({name, *adapter_->find(name)});
  return out;
}

std::optional<LoraPair> Model::lora_of(int layer, std::string_view module) const {
  if (!adapter_ || module.empty()) return std::nullopt;
  const Family family = as_named_in(*adapter_, *family_);
  const TensorView* a = adapter_->find(lora_name(family, layer, module, 'A'));
  const TensorView* b = adapter_->find(lora_name(family, layer, module, 'B'));
  if (a == nullptr || b == nullptr) return std::nullopt;
  return LoraPair{a, b, lora_numbers_.at(adapter_module(family, layer, module)).scale};
}

void add_lora_row(std::span<const float> b, std::span<const float> a, double scale, std::span<double> row) {
  for (size_t r = 0; r < b.size(); ++r) {
    const double factor = scale * static_cast<double>(b[r]);
    const float* from = a.data() + r * row.size();
    for (size_t i = 0; i < row.size(); ++i) row[i] += factor * static_cast<double>(from[i]);
  }
}

OwnedTensor merge_lora(const TensorView& weight, const LoraPair& lora, const ModuleShape& shape,
                       std::string_view where) {
  std::vector<float> sum = to_float(weight, where);
  const std::vector<float> a = to_float(*lora.a, where), b = to_float(*lora.b, where);
  const auto out = static_cast<size_t>(shape.out), in = static_cast<size_t>(shape.in), rank = b.size() / out;
  std::vector<double> row(in);
  for (size_t o = 0; o < out; ++o) {
    const auto at = [&](size_t i) { return shape.transposed ? i * out + o : o * in + i; };
    for (size_t i = 0; i < in; ++i) row[i] = sum[at(i)];
    add_lora_row(std::span(b).subspan(o * rank, rank), a, lora.scale, row);
    for (size_t i = 0; i < in; ++i) sum[at(i)] = static_cast<float>(row[i]);
  }
  return {weight.type, weight.shape, from_float(sum, weight.type)};
}

std::map<std::string, OwnedTensor> merge_lora(const Model& whole) {
  std::map<std::string, OwnedTensor> merged;
  each_layer_module(whole.stacks(), [&](const Model& model, int layer, std::string_view module) {
    const auto pair = model.lora_of(layer, module);
    if (!pair) return;
    stop_if_interrupted();
    const std::string name = model.module_name(layer, module) + ".weight";
    if (model.quantized(layer, module))
      throw Error(model.base_folder().string(),
                  "its matrices are in integers, which LoRA cannot be merged into",
                  "the base that was quantized");
    merged.emplace(name, merge_lora(*model.layer_tensor(layer, module, "weight"), *pair,
                                    module_shape(model.family(), model.config(), module), name));
  });
  return merged;
}

}  // namespace linnet

#include "model/write_model.h"

#include <fmt/format.h>

#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "model/quantized.h"
#include "model/teacher.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

// What a tokenizer may consist of in a Hugging Face folder.
constexpr std::string_view kTokenizerFiles[] = {
    "tokenizer.json",          "tokenizer.model",   "spiece.model", "vocab.txt",  "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.json",   "merges.txt", "chat_template.jinja"};

/// What the files of weights say of themselves: transformers asks for the format.
std::map<std::string, std::string> metadata_of(bool trained) {
  std::map<std::string, std::string> metadata = {{"format", "pt"}};
  if (trained) metadata.insert(kTrainedMark);
  return metadata;
}

void write_json(const fs::path& file, const Json& json) { write_file(file, json.dump(2) + "\n"); }

void copy_if_there(const fs::path& from, const fs::path& to) {
  std::error_code error;
  if (fs::is_regular_file(from, error)) write_file(to, MappedFile(from).text());
}

void copy_tokenizer(const fs::path& from, const fs::path& folder) {
  std::error_code error;
  if (from.empty()) return;
  if (fs::is_directory(from, error)) {
    for (std::string_view name : kTokenizerFiles) copy_if_there(from / name, folder / name);
    return;
  }
  // One file, whatever its name, with what stands beside it in a folder of a tokenizer's own.
  write_file(folder / (from.extension() == ".model" ? "tokenizer.model" : "tokenizer.json"),
             MappedFile(from).text());
  for (std::string_view name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    copy_if_there(from.parent_path() / name, folder / name);
  }
}

void write_adapter(const fs::path& folder, const LoraAdapter& lora, const BaseReference& base,
                   const Family& family) {
  // In the patterns' own order: the first that matches counts.
  nlohmann::ordered_json config = {{"peft_type", "LORA"},
                                   {"task_type", family.encoder != nullptr ? "SEQ_2_SEQ_LM" : "CAUSAL_LM"},
                                   {"base_model_name_or_path", base.name},
                                   {"r", lora.config.rank},
                                   {"lora_alpha", lora.config.alpha},
                                   {"lora_dropout", 0.0},
                                   {"target_modules", lora.config.targets},
                                   {"fan_in_fan_out", family.transposed},
                                   {"bias", "none"},
                                   {"inference_mode", true}};
  if (lora.config.rank_stabilized) config["use_rslora"] = true;
  for (const auto& [pattern, rank] : lora.config.rank_pattern) config["rank_pattern"][pattern] = rank;
  for (const auto& [pattern, alpha] : lora.config.alpha_pattern) config["alpha_pattern"][pattern] = alpha;
  if (!lora.config.saved.empty()) config["modules_to_save"] = lora.config.saved;
  write_file(folder / "adapter_config.json", config.dump(2) + "\n");
  write_safetensors(folder / "adapter_model.safetensors", lora.tensors, metadata_of(false));
}

}  // namespace

BaseReference base_reference(const Model& base) {
  return {named_folder(base.base_folder()).filename().string(), base.weights_hash()};
}

void write_sidecar(const fs::path& out, const std::vector<AttentionConfig>& attention,
                   std::span<const NamedTensor> tensors, const BaseReference& base, const LoraAdapter* lora,
                   const ModelConfig& config, bool replace, bool trained) {
  AtomicFolder folder(out, replace);
  const Json object = config.encoder_layers > 0 ? attention_object(config, attention) : to_json(attention);
  write_json(folder.path() / "config.json",
             {{"linear_attention", object}, {"base", base.name}, {"base_hash", base.hash}});
  write_safetensors(folder.path() / "linear_attention.safetensors", tensors, metadata_of(trained));
  if (lora != nullptr) write_adapter(folder.path(), *lora, base, *config.family);
  folder.commit();
}

void write_lora(const fs::path& out, const LoraAdapter& lora, const BaseReference& base, const Family& family,
                bool replace) {
  AtomicFolder folder(out, replace);
  write_adapter(folder.path(), lora, base, family);
  folder.commit();
}

void write_folder(const fs::path& out, const Json& config, std::span<const NamedTensor> tensors,
                  const fs::path& tokenizer, size_t shard_bytes, bool replace, bool trained) {
  AtomicFolder folder(out, replace);
  write_json(folder.path() / "config.json", config);
  write_sharded(folder.path(), tensors, shard_bytes, metadata_of(trained));
  copy_tokenizer(tokenizer, folder.path());
  folder.commit();
}

void write_full(const fs::path& out, const Model& model, std::span<const NamedTensor> changed,
                const std::vector<AttentionConfig>& attention, size_t shard_bytes, bool replace, bool trained,
                const Json& quantization) {
  std::map<std::string, NamedTensor, std::less<>> all;
  // A matrix takes the place of what it was before, in integers or not.
  const auto put = [&](NamedTensor one) {
    const auto erase = [&](std::string_view own, std::string_view other) {
      if (one.name.ends_with(own)) all.erase(one.name.substr(0, one.name.size() - own.size()).append(other));
    };
    for (const std::string_view part : kIntegerParts) erase(kPlainWeight, part);
    erase(kPackedWeight, kPlainWeight);
    all.insert_or_assign(one.name, std::move(one));
  };
  for (const auto& [name, tensor] : model.base_tensors().tensors()) all.insert({name, {name, tensor}});
  for (const auto& [name, tensor] : model.saved_tensors()) put({name, tensor});
  for (const NamedTensor& one : changed) put(one);
  // A tied head that stands in the base's file too would stay behind a changed embedding.
  // A classifier has none at all.
  if (model.config().is_classifier()) {
    std::vector<std::string_view> modules = head_modules(model.family());
    modules.push_back(model.family().head_bias);
    for (const std::string_view module : modules)
      for (const char* part : {".weight", ".bias"}) all.erase(model.full_module_name(-1, module) + part);
  }
  if (model.config().tied_embeddings) all.erase(std::string(model.family().head) + ".weight");
  // So would the head's bias that stands there under two names.
  const auto own = all.find(std::string(model.family().head) + ".bias"),
             other = all.find(std::string(model.family().head_bias) + ".bias");
  if (own != all.end() && other != all.end()) {
    other->second.tensor = own->second.tensor;
    other->second.make = own->second.make;
  }
  std::vector<NamedTensor> tensors;
  for (auto& [name, tensor] : all) tensors.push_back(std::move(tensor));

  Json config = model.config().raw;
  config.erase("linear_attention");
  Json linear = attention_object(model.config(), attention);
  if (!linear.is_null()) config["linear_attention"] = std::move(linear);
  if (!quantization.is_null()) config["quantization_config"] = quantization;

  AtomicFolder folder(out, replace);
  write_json(folder.path() / "config.json", config);
  write_sharded(folder.path(), tensors, shard_bytes, metadata_of(trained));
  copy_tokenizer(model.tokenizer_folder(), folder.path());
  if (!model.config().is_classifier())
    copy_if_there(model.base_folder() / "generation_config.json", folder.path() / "generation_config.json");
  folder.commit();
}

}  // namespace linnet

// Model folders as Linnet writes them (docs/formats.md). Each appears whole or not at all.
#pragma once

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "attention/config.h"
#include "format/safetensors.h"
#include "model/model.h"

namespace linnet {

constexpr size_t kShardBytes = size_t{5'000'000'000};  // what transformers writes

/// LoRA as PEFT's files hold it.
struct LoraAdapter {
  LoraConfig config;
  std::vector<NamedTensor>
      tensors;  // by lora_name(): A [rank, in], B [out, rank]; and Model::saved_modules()
};

/// The base that a sidecar or a LoRA stands on.
struct BaseReference {
  std::string name;  // the plain name of the folder
  std::string hash;  // of its weights; of a LoRA alone: not written
};
BaseReference base_reference(const Model& base);

/// `attention` as Model::all_attention(), of the base's `config`. `tensors`: the new tensors alone, by their
/// full names. `lora` may be null. `replace` allows an existing folder to be replaced, when all is written;
/// `trained` marks the new tensors as trained. Throws Error on a full disk, with nothing left behind.
void write_sidecar(const std::filesystem::path& out, const std::vector<AttentionConfig>& attention,
                   std::span<const NamedTensor> tensors, const BaseReference& base, const LoraAdapter* lora,
                   const ModelConfig& config, bool replace, bool trained = false);

/// PEFT's two files alone.
void write_lora(const std::filesystem::path& out, const LoraAdapter& lora, const BaseReference& base,
                const Family& family, bool replace);

/// A whole folder: config.json, the weights (in shards above `shard_bytes`), and the tokenizer's files copied
/// from `tokenizer` (a folder, or one tokenizer file; empty: none).
void write_folder(const std::filesystem::path& out, const nlohmann::json& config,
                  std::span<const NamedTensor> tensors, const std::filesystem::path& tokenizer,
                  size_t shard_bytes, bool replace, bool trained = false);

/// A whole folder from an open model (a sidecar's base gives what is not in `changed`): every original field
/// and tensor, a LoRA's modules_to_save in the base's place, those in `changed` replaced or added,
/// `linear_attention` where a layer is not plain softmax, the tokenizer's files and generation_config.json.
/// LoRA is not merged by this: `changed` has what merge_lora() gives. `quantization`: the quantization_config
/// of matrices in integers among `changed`; null: the model's own.
void write_full(const std::filesystem::path& out, const Model& model, std::span<const NamedTensor> changed,
                const std::vector<AttentionConfig>& attention, size_t shard_bytes, bool replace,
                bool trained = false, const nlohmann::json& quantization = {});

/// The model's matrices that have LoRA, with it merged, by their names in the base's files.
std::map<std::string, OwnedTensor> merge_lora(const Model& model);

}  // namespace linnet

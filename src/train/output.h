// What a training run leaves: a folder by the rules of docs/formats.md. The run's OUT already holds its log,
// so the model is written whole into a folder inside it and then moved up, config.json last.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "model/model.h"
#include "train/module.h"

namespace linnet::train {

/// Which kind of folder a run writes.
enum class OutputKind {
  kSidecar,  // the new tensors beside an untouched base; LoRA beside them
  kLora,     // PEFT's two files alone
  kFull,     // everything, LoRA merged
};

/// A fresh model: config.json from `config` (as `C` had it, with type and special tokens, and the module's
/// linear attention where it has one), weights in bf16, tokenizer files copied from `tokenizer`.
void write_pretrained(const std::filesystem::path& out, const Module& module, const nlohmann::json& config,
                      const std::filesystem::path& tokenizer, size_t shard_bytes);

/// A classifier, always in full, with what was trained, LoRA merged into it, and the head in float32. `base`
/// is the module's model as a classifier (Model::with_labels).
void write_classifier(const std::filesystem::path& out, const Module& module,
                      const std::vector<Parameter>& head, const Model& base, size_t shard_bytes);

/// A trained form of `base` (plain, or a sidecar that is trained on). `trained`: whether a step was taken;
/// the new tensors are marked so then, or where the base's were.
void write_trained(const std::filesystem::path& out, const Module& module, const Model& base, OutputKind kind,
                   size_t shard_bytes, bool trained);

/// Whether a file of this name in OUT is a model that a killed run had not finished; the next one that is
/// written there removes it.
bool is_unfinished(const std::filesystem::path& name);

/// One line where the folder will not find its base by itself: "pass --base …". Empty where it will.
std::string base_hint(const std::filesystem::path& out, const Model& base);

}  // namespace linnet::train

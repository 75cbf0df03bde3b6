#include "train/output.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/remove_folder.h"
#include "model/teacher.h"
#include "model/write_model.h"
#include "train/lora.h"
#include "train/tensor_io.h"

namespace linnet::train {
namespace {

namespace fs = std::filesystem;

/// Tensors for a file, with what they view.
struct Held {
  std::vector<at::Tensor> memory;
  std::vector<NamedTensor> tensors;

  void add(const Parameter& parameter, at::ScalarType type) {
    memory.push_back(for_file(parameter.tensor, type));
    tensors.push_back({parameter.name, view_of(memory.back())});
  }
};

constexpr const char* kUnfinished = "model.unfinished";

/// Fills a folder inside `out` by `write`, then moves its files up, config.json last: whoever sees it sees a
/// complete model. Throws Error, with nothing moved, where a file of a name that it needs stands there
/// already.
void install(const fs::path& out, const std::function<void(const fs::path&)>& write) {
  const fs::path inside = out / kUnfinished;
  std::vector<fs::path> left;
  if (fs::is_directory(out))
    for (const auto& entry : fs::directory_iterator(out))
      if (is_unfinished(entry.path().filename())) left.push_back(entry.path());
  for (const fs::path& one : left) remove_folder(one);
  try {
    write(inside);
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(inside)) files.push_back(entry.path());
    std::sort(files.begin(), files.end(), [](const fs::path& a, const fs::path& b) {
      const bool a_last = a.filename() == "config.json", b_last = b.filename() == "config.json";
      return a_last != b_last ? b_last : a < b;
    });
    for (const fs::path& file : files)
      if (fs::exists(fs::symlink_status(out / file.filename())))
        throw Error((out / file.filename()).string(), "is there already and is not overwritten",
                    "a folder without it: move it away");
    for (const fs::path& file : files) fs::rename(file, out / file.filename());
  } catch (...) {
    remove_folder(inside);
    throw;
  }
  remove_folder(inside);
}

Held added_tensors(const Module& module) {
  Held held;
  for (const Parameter& parameter : module.tensors())
    if (parameter.kind == ParameterKind::kAdded) held.add(parameter, at::kFloat);
  return held;
}

/// The base's own tensors that were trained, in the types they have in its files, or, `wide`, in float32.
void add_trained_base(const Module& module, const Model& base, Held& held, bool wide = false) {
  for (const Parameter& parameter : module.parameters()) {
    if (parameter.kind != ParameterKind::kBase) continue;
    const TensorView* original = base.base_tensors().find(parameter.name);
    held.add(parameter, original != nullptr && !wide ? floating_type(*original, parameter.name) : at::kFloat);
  }
}

struct HeldLora {
  Held held;
  LoraAdapter adapter;
};

std::optional<HeldLora> lora_of(const Module& module, const Model& base) {
  HeldLora lora;
  for (const Parameter& parameter : module.tensors())
    if (parameter.kind == ParameterKind::kLora) lora.held.add(parameter, at::kFloat);
  if (lora.held.tensors.empty()) return std::nullopt;
  lora.adapter.config = base.lora() ? *base.lora()
                                    : LoraConfig{.rank = module.trainable().lora_rank,
                                                 .alpha = module.trainable().lora_alpha,
                                                 .targets = module.trainable().lora_targets};
  if (lora.adapter.config.targets.empty()) lora.adapter.config.targets = attention_targets(module.family());
  lora.adapter.tensors = lora.held.tensors;
  for (NamedTensor& saved : base.saved_modules()) lora.adapter.tensors.push_back(std::move(saved));
  return lora;
}

/// Every matrix under a LoRA, with it merged, in the type that its base has, or, `wide`, in float32: of a
/// trained matrix, its master.
std::map<std::string, OwnedTensor> merged_matrices(const Module& module, const Model& base,
                                                   bool wide = false) {
  std::map<std::string, at::Tensor> trained;
  for (const Parameter& parameter : module.parameters())
    if (parameter.kind == ParameterKind::kBase)
      trained[parameter.name] = for_file(parameter.tensor, at::kFloat);
  std::map<std::string, OwnedTensor> merged;
  for (const Module::Lora& lora : module.loras()) {
    const at::Tensor a = for_file(lora.a, at::kFloat), b = for_file(lora.b, at::kFloat);
    const TensorView a_view = view_of(a), b_view = view_of(b);
    const auto saved = base.saved_tensors().find(lora.weight);
    const TensorView& original =
        saved != base.saved_tensors().end() ? saved->second : *base.base_tensors().find(lora.weight);
    const auto master = trained.find(lora.weight);
    const TensorView weight = master == trained.end() ? original : view_of(master->second);
    const OwnedTensor widened{
        DType::kF32, weight.shape,
        wide ? from_float(to_float(weight, lora.weight), DType::kF32) : std::vector<std::byte>()};
    OwnedTensor sum =
        merge_lora(wide ? widened.view() : weight, {&a_view, &b_view, lora.scale}, lora.shape, lora.weight);
    if (!wide && sum.type != original.type)
      sum = {original.type, sum.shape, from_float(to_float(sum.view(), lora.weight), original.type)};
    merged.emplace(lora.weight, std::move(sum));
  }
  return merged;
}

}  // namespace

void write_pretrained(const fs::path& out, const Module& module, const nlohmann::json& config,
                      const fs::path& tokenizer, size_t shard_bytes) {
  Held held;
  for (const Parameter& parameter : module.tensors())
    if (parameter.kind != ParameterKind::kExperiment) held.add(parameter, at::kBFloat16);
  nlohmann::json written = config;
  written["architectures"] = {module.family().architecture};
  // Of a decoder alone none has to be there; transformers' own (SmolLM3's is 128004) may lie past this
  // vocabulary.
  if (const Family& family = module.family(); !family.is_encoder() && family.encoder == nullptr)
    written.emplace("pad_token_id", nullptr);
  nlohmann::json attention = attention_object(module.config(), module.all_attention());
  const bool linear = !attention.is_null();
  if (linear) written["linear_attention"] = std::move(attention);
  written.erase("dtype");
  written.erase("quantization_config");  // of the model whose shape this is
  written["torch_dtype"] = "bfloat16";
  install(out, [&](const fs::path& folder) {
    write_folder(folder, written, held.tensors, tokenizer, shard_bytes, /*replace=*/false,
                 /*trained=*/linear);
    if (fs::exists(folder / "generation_config.json")) return;
    nlohmann::json generation = nlohmann::json::object();
    for (const char* key : {"bos_token_id", "eos_token_id"})
      if (written.contains(key)) generation[key] = written[key];
    write_file(folder / "generation_config.json", generation.dump(2) + "\n");
  });
}

void write_trained(const fs::path& out, const Module& module, const Model& base, OutputKind kind,
                   size_t shard_bytes, bool trained) {
  const Held added = added_tensors(module);
  const bool marked = !added.tensors.empty() && (trained || base.added_are_trained());
  const std::optional<HeldLora> lora = lora_of(module, base);
  const LoraAdapter* adapter = lora ? &lora->adapter : nullptr;
  if (kind == OutputKind::kLora) {
    if (adapter == nullptr) throw Error(out.string(), "no LoRA was trained", "--train lora");
    return install(out, [&](const fs::path& folder) {
      write_lora(folder, *adapter, base_reference(base), module.family(), /*replace=*/false);
    });
  }
  const auto sidecar = [&](const fs::path& folder) {
    write_sidecar(folder, module.all_attention(), added.tensors, base_reference(base), adapter,
                  module.config(),
                  /*replace=*/false, marked);
  };
  if (kind == OutputKind::kSidecar) return install(out, sidecar);

  Held changed = added;
  add_trained_base(module, base, changed);
  std::map<std::string, OwnedTensor> merged;
  if (adapter != nullptr) {
    merged = merged_matrices(module, base);
    // After the trained matrices themselves: the last of a name is what is written.
    for (const auto& [name, tensor] : merged) changed.tensors.push_back({name, tensor.view()});
  }
  install(out, [&](const fs::path& folder) {
    write_full(folder, base, changed.tensors, module.all_attention(), shard_bytes, /*replace=*/false, marked);
  });
}

void write_classifier(const fs::path& out, const Module& module, const std::vector<Parameter>& head,
                      const Model& base, size_t shard_bytes) {
  Held changed = added_tensors(module);
  const bool marked = !changed.tensors.empty();
  add_trained_base(module, base, changed, /*wide=*/true);
  const auto merged = merged_matrices(module, base, /*wide=*/true);
  // After the trained matrices themselves: the last of a name is what is written.
  for (const auto& [name, tensor] : merged) changed.tensors.push_back({name, tensor.view()});
  for (const Parameter& parameter : head) changed.add(parameter, at::kFloat);
  install(out, [&](const fs::path& folder) {
    write_full(folder, base, changed.tensors, module.all_attention(), shard_bytes, /*replace=*/false, marked);
  });
}

bool is_unfinished(const fs::path& name) {
  const std::string text = name.string();  // or that of the folder under which it is filled
  return text == kUnfinished || text.starts_with(fmt::format(".{}.", kUnfinished));
}

std::string base_hint(const fs::path& out, const Model& base) {
  std::error_code error;
  const fs::path beside = named_folder(out).parent_path() / base_reference(base).name;
  if (fs::equivalent(beside, base.base_folder(), error)) return {};
  return fmt::format("{} is not beside {}: pass --base {} wherever it is used", out.string(),
                     base.base_folder().string(), base.base_folder().string());
}

}  // namespace linnet::train

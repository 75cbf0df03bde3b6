// Any bytes as one JSON file of a model folder, sound files beside it: an Error, or a model whose prefill and
// decoding agree. The first byte says which file: '0' config.json, '1' generation_config.json, '2' the
// shards' index, '3' a sidecar's config.json, '4' a LoRA's adapter_config.json.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/random.h"
#include "base/remove_folder.h"
#include "model/decoder.h"
#include "model/write_model.h"

namespace {

namespace fs = std::filesystem;
using linnet::Model;
using nlohmann::json;

constexpr std::string_view kConfig =
    R"({"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "intermediate_size": 8, "vocab_size": 8, "max_position_embeddings": 16})";

linnet::OwnedTensor tensor(const std::string& name, std::vector<int64_t> shape) {
  const auto count = std::accumulate(shape.begin(), shape.end(), int64_t{1}, std::multiplies<>());
  const std::string_view hashed = name;
  uint64_t stream = 0;
  for (char c : hashed) stream = stream * 31 + static_cast<unsigned char>(c);
  std::vector<float> numbers(static_cast<size_t>(count));
  for (size_t i = 0; i < numbers.size(); ++i)
    numbers[i] = static_cast<float>(0.3 * linnet::normal(1, stream, i));
  return {linnet::DType::kF32, std::move(shape), from_float(numbers, linnet::DType::kF32)};
}

using Tensors = std::map<std::string, linnet::OwnedTensor>;

std::vector<linnet::NamedTensor> views(const Tensors& tensors) {
  std::vector<linnet::NamedTensor> out;
  for (const auto& [name, one] : tensors) out.push_back({name, one.view()});
  return out;
}

/// A base in two shards, a sidecar with a LoRA, and a LoRA alone.
class Folders {
 public:
  Folders() : root_(make_root()), base_(root_ / "base"), sidecar_(root_ / "sidecar"), lora_(root_ / "lora") {
    for (const fs::path& folder : {base_, sidecar_, lora_}) fs::create_directory(folder);
    write_base();
    const std::string adapter = R"({"base_model_name_or_path": "base", "peft_type": "LORA", "r": 2,
                                    "lora_alpha": 4, "target_modules": ["q_proj"]})";
    Tensors pair;
    for (const auto& [part, shape] : {std::pair('A', std::vector<int64_t>{2, 8}), {'B', {8, 2}}}) {
      const std::string name = linnet::lora_name(Model::open(base_)->family(), 1, "self_attn.q_proj", part);
      pair.emplace(name, tensor(name, shape));
    }
    for (const fs::path& folder : {sidecar_, lora_}) {
      write_safetensors(folder / "adapter_model.safetensors", views(pair));
      keep(folder / "adapter_config.json", adapter);
    }
    keep(sidecar_ / "config.json", R"({"base": "base", "base_hash": "xxh3-128:)" + std::string(32, '0') +
                                       R"(", "linear_attention": {"method": "relu"}})");
  }
  ~Folders() { linnet::remove_folder(root_); }

  void try_with(unsigned which, std::string_view text) {
    const fs::path files[] = {base_ / "config.json", base_ / "generation_config.json",
                              base_ / "model.safetensors.index.json", sidecar_ / "config.json",
                              lora_ / "adapter_config.json"};
    const fs::path& file = files[which % std::size(files)];
    linnet::write_file(file, text);
    if (file == files[3]) write_added(text);
    try {
      use(file.parent_path());
    } catch (const linnet::Error&) {
    }
    linnet::write_file(file, sound_.at(file));
  }

 private:
  static fs::path make_root() {
    // Kept in memory where that is offered: each input is a file.
    std::error_code error;
    const fs::path memory = "/dev/shm";
    const fs::path parent = fs::is_directory(memory, error) ? memory : fs::temp_directory_path();
    std::string name = (parent / "linnet-fuzz-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    return name;
  }

  void keep(const fs::path& file, const std::string& text) {
    sound_[file] = text;
    linnet::write_file(file, text);
  }

  void write_base() {
    const auto config = linnet::ModelConfig::parse(json::parse(kConfig), "config.json");
    const linnet::Family& family = linnet::family_of(config.model_type, "config.json");
    Tensors all;
    const auto add = [&](std::string name, std::string_view module) {
      name += ".weight";
      all.emplace(name, tensor(name, module_shape(family, config, module).weight()));
    };
    const std::string prefix(family.prefix);
    add(std::string(family.head), family.head);
    add(prefix + std::string(family.embedding), family.embedding);
    add(prefix + std::string(family.final_norm), family.final_norm);
    for (int layer = 0; layer < config.layers; ++layer) {
      for (std::string_view module : layer_modules(family)) {
        add(prefix + layer_prefix(family, layer) + std::string(module), module);
      }
    }
    json map;
    Tensors shards[2];
    for (auto& [name, one] : all) {
      const size_t shard = map.size() % 2;
      map[name] = "s" + std::to_string(shard);
      shards[shard].emplace(name, std::move(one));
    }
    for (int i = 0; i < 2; ++i) write_safetensors(base_ / ("s" + std::to_string(i)), views(shards[i]));
    keep(base_ / "config.json", std::string(kConfig));
    keep(base_ / "generation_config.json", R"({"eos_token_id": 2})");
    keep(base_ / "model.safetensors.index.json", json{{"weight_map", map}}.dump());
  }

  /// The new tensors that a sidecar's config asks for, so that any attention that is accepted also computes.
  void write_added(std::string_view text) const {
    Tensors added;
    try {
      const json config = linnet::parse_json(text, "config.json");
      const auto linear = config.is_object() ? config.find("linear_attention") : config.end();
      if (linear == config.end()) return;
      const auto base = Model::open(base_, {.check_numbers = false});
      const auto layers = linnet::parse_attention(*linear, 2, "config.json");
      for (int layer = 0; layer < 2; ++layer) {
        for (const auto& spec :
             parameter_specs(layers[static_cast<size_t>(layer)], base->attention_shape())) {
          const std::string name = base->linear_prefix(layer) + spec.name;
          added.emplace(name, tensor(name, spec.shape));
        }
      }
    } catch (const linnet::Error&) {
      return;
    }
    write_safetensors(sidecar_ / "linear_attention.safetensors", views(added));
  }

  void use(const fs::path& folder) {
    const auto model = Model::open(folder, {.check_hash = false});
    const auto decoder = linnet::Decoder::make(
        model, {.compute = linnet::ComputeType::kFloat64, .slots = 2, .max_nodes = 1, .chunk = 5}, pool_);
    const auto vocabulary = static_cast<size_t>(decoder->vocabulary());
    constexpr int32_t kTokens[] = {3, 1, 4, 1, 5, 2, 6, 5, 3, 5, 0, 7};
    std::vector<float> logits(std::size(kTokens) * vocabulary);
    decoder->prefill(0, kTokens, 0, logits);
    size_t at = 0;
    for (int32_t token : kTokens) {
      const linnet::TokenTree tree = linnet::TokenTree::single(token);
      const linnet::Decoder::Branch branch{1, &tree};
      decoder->step({&branch, 1});
      for (float stepped : decoder->logits(0)) {
        const float whole = logits[at++];
        if (std::isfinite(whole) && !(std::abs(stepped - whole) <= 1e-4f * (1 + std::abs(whole))))
          std::abort();
      }
      const int32_t root = 0;
      decoder->commit(0, {&root, 1});
    }
  }

  linnet::ThreadPool pool_{1};
  fs::path root_, base_, sidecar_, lora_;
  std::map<fs::path, std::string> sound_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Folders folders;
  if (size == 0) return 0;
  folders.try_with(static_cast<unsigned>(*data - '0') & 0xFF,
                   {reinterpret_cast<const char*>(data) + 1, size - 1});
  return 0;
}

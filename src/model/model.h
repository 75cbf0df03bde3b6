// A model as it lies in folders: plain, linearized in full, a sidecar with its base, or a LoRA with its base.
// Opening checks everything that can be checked without computing; nothing later meets a bad shape.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "attention/attention.h"
#include "attention/config.h"
#include "format/model_config.h"
#include "format/safetensors.h"
#include "format/store_reading.h"
#include "kernels/cpu/weights.h"
#include "model/family.h"
#include "model/lora.h"

namespace linnet {

/// Stands in the `__metadata__` of the file that holds new tensors once they were trained.
inline const std::pair<const std::string, std::string> kTrainedMark = {"linear_attention", "trained"};

class Model {
 public:
  struct OpenOptions {
    std::optional<std::filesystem::path> base;  // --base: where a sidecar's or LoRA's base lies
    bool check_numbers = true;  // weights that are not sound are an error that names the tensor
    bool check_hash = true;     // a sidecar's base_hash (commands that load weights)
    ReadingOptions reading;     // how the base's weights are read for these two
    /// Of sequences that it reads; empty: bf16 where the weights are in bf16.
    std::optional<StateType> state = StateType::kComputed;
  };

  /// Throws Error on whatever is wrong with the folder or its base.
  static std::shared_ptr<const Model> open(const std::filesystem::path& folder, const OpenOptions& options);
  static std::shared_ptr<const Model> open(const std::filesystem::path& folder) { return open(folder, {}); }

  /// A model of this config.json's shape with random weights, which are in memory alone: for measuring speed.
  /// In bf16 unless the file's dtype is float32; what linear attention adds starts as linearize starts it.
  static std::shared_ptr<const Model> random(const std::filesystem::path& config, uint64_t seed,
                                             std::optional<StateType> state = StateType::kComputed);

  /// The same weights under other attentions, as all_attention() has them.
  std::shared_ptr<const Model> with_attention(std::vector<AttentionConfig> layers) const;

  /// The same weights as a classifier's, whose head is not among them, and the config.json of one: without a
  /// head over the vocabulary, with the labels by id and, for transformers, the token that fills up a batch;
  /// `texts`: of an example, 1 or 2 (ModelConfig::texts).
  /// Throws Error where the family has none.
  std::shared_ptr<const Model> with_labels(const std::vector<std::string>& labels, int64_t pad,
                                           int64_t texts) const;

  const ModelConfig& config() const { return config_; }
  const GenerationConfig& generation() const { return generation_; }
  const Family& family() const { return *family_; }
  const std::vector<AttentionConfig>& attention() const { return attention_; }
  /// Of a family with an encoder, one a layer: what reads the encoder's rows.
  const std::vector<AttentionConfig>& cross_attention() const { return cross_attention_; }
  /// attention(), cross_attention() and the encoder's attention(), in this order (model/teacher.h).
  std::vector<AttentionConfig> all_attention() const;
  /// The encoder's stack as a model of its own, of the same files; null: the family has none.
  const std::shared_ptr<const Model>& encoder() const { return encoder_; }
  /// This, and encoder() where there is one.
  std::vector<const Model*> stacks() const;
  /// Of a layer, with the type in which states hold keys and values.
  AttentionShape attention_shape() const;

  /// Where the tokenizer lies: the folder, or a sidecar's base.
  const std::filesystem::path& tokenizer_folder() const { return tokenizer_folder_; }
  const std::filesystem::path& folder() const { return folder_; }
  /// Whether the weights lie in another folder: a sidecar, or a LoRA alone.
  bool is_sidecar() const { return is_sidecar_; }
  /// The folder itself unless a sidecar or LoRA.
  const std::filesystem::path& base_folder() const { return base_folder_; }
  /// As the sidecar's config.json has it; "" for other folders.
  const std::string& base_hash() const { return base_hash_; }
  const std::optional<LoraConfig>& lora() const { return lora_; }

  /// An original tensor by module and part, e.g. layer_tensor(3, family.q, "weight"), or what a LoRA's
  /// modules_to_save has in its place; LoRA itself not applied. nullptr where the model has none (a bias that
  /// the config leaves out, the head of tied embeddings).
  const TensorView* tensor(std::string_view module, std::string_view part) const;
  /// Whether the folder has what predicts tokens, which encoders may lack.
  bool has_head() const;
  /// Whether it has the family's pooler: tanh(W x + b) of the first token's row.
  bool has_pooler() const;
  const TensorView* layer_tensor(int layer, std::string_view module, std::string_view part) const;
  /// The matrix of a module where the folder has it in integers (its "weight" is none of floats then, or
  /// there is none); in place. `layer` −1: of no layer.
  std::optional<kernels::Weights> quantized(int layer, std::string_view module) const;
  /// Whether any matrix is.
  bool is_quantized() const { return config_.raw.contains("quantization_config"); }
  /// The full name under which a layer's module stands in the file: "model.layers.3.self_attn.q_proj".
  std::string module_name(int layer, std::string_view module) const;

  /// A tensor of a classifier's head, by its module's full name.
  const TensorView* head_tensor(std::string_view module, std::string_view part) const {
    return original(std::string(module).append(".").append(part));
  }

  /// A module's LoRA, if it has one.
  std::optional<LoraPair> lora_of(int layer, std::string_view module) const;
  /// Whole tensors that a LoRA has in place of the base's (modules_to_save): by the base's names, and as they
  /// stand in the LoRA's file.
  const std::map<std::string, TensorView, std::less<>>& saved_tensors() const { return saved_; }
  std::vector<NamedTensor> saved_modules() const;

  /// The same, and of a module of no layer (`layer` −1): "model.embed_tokens", "lm_head".
  std::string full_module_name(int layer, std::string_view module) const {
    return layer < 0 ? full_name(module) : module_name(layer, module);
  }

  /// What a layer's new tensors begin with: "model.layers.3.self_attn.linear_attention.".
  std::string linear_prefix(int layer) const;
  std::string cross_prefix(int layer) const;  // and those of its cross-attention
  /// New tensors of a layer, by their name after `linear_attention.`.
  ParameterTensors linear_parameters(int layer) const { return parameters_under(linear_prefix(layer)); }
  ParameterTensors cross_parameters(int layer) const { return parameters_under(cross_prefix(layer)); }

  const TensorStore& base_tensors() const { return base_; }
  /// The new tensors of linear attention, a sidecar's or a full folder's, by full name.
  std::vector<NamedTensor> added_tensors() const;
  /// Whether training took a step on them (kTrainedMark); else they are what they start from, or were written
  /// by another program.
  bool added_are_trained() const;
  /// A LoRA's tensors, as they stand in its file.
  std::vector<NamedTensor> lora_tensors() const;
  /// Tensors of the folders that no module uses (masks that old GPT-2 files hold, for instance).
  std::vector<std::string> unused_tensors() const;
  /// Of the base's tensors, which are read once for this and for broken_tensors(), if opening did not.
  const std::string& weights_hash() const;
  /// Names of the tensors, with their files, whose numbers are not sound (format/tensor.h).
  std::vector<std::string> broken_tensors() const;

 private:
  Model() = default;
  void open_plain(const std::filesystem::path& folder);
  void set_state(std::optional<StateType> type);
  /// Takes the attentions of all stacks, and makes the encoder's.
  void set_attention(std::vector<AttentionConfig> all);
  ParameterTensors parameters_under(const std::string& prefix) const;
  void open_sidecar(const nlohmann::json& config, const OpenOptions& options);
  void open_lora(const OpenOptions& options);
  void read_adapter();
  void check_hash() const;
  struct AttentionPlace;
  std::vector<AttentionPlace> attention_places() const;
  void check_base() const;
  void check_head() const;
  void check_optional() const;
  void check_classifier() const;
  void check_added() const;
  void check_adapter();
  void take_saved_modules();
  void untie_saved();
  const TensorView* original(const std::string& name) const;
  std::string full_name(std::string_view module) const;
  std::set<std::string> used_tensors() const;
  const StoreReading& reading() const;
  const TensorStore& linear_store() const { return added_ ? *added_ : base_; }

  ModelConfig config_;
  GenerationConfig generation_;
  const Family* family_ = nullptr;
  std::vector<AttentionConfig> attention_, cross_attention_;
  std::shared_ptr<const Model> encoder_;
  std::filesystem::path folder_, base_folder_, tokenizer_folder_;
  std::string base_hash_;
  StateType state_ = StateType::kComputed;
  bool is_sidecar_ = false;
  std::string_view prefix_;  // of the base's names: the family's, or "" where the folder goes without
  TensorStore base_;
  std::optional<TensorStore> added_, adapter_;
  std::optional<LoraConfig> lora_;
  std::map<std::string, LoraNumbers> lora_numbers_;
  std::map<std::string, TensorView, std::less<>> saved_;
  std::set<std::string, std::less<>> saved_names_;  // in the adapter's file

  struct Reading {
    ReadingOptions how;
    std::once_flag once;
    StoreReading found;
  };
  std::shared_ptr<Reading> reading_ = std::make_shared<Reading>();  // of base_; copies of the model share it
};

}  // namespace linnet

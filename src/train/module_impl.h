// The module's tensors and their state of training. Internal to module.cpp and module_impl.cpp.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "train/layer.h"
#include "train/module.h"
#include "train/weights.h"

namespace linnet::train {

struct Module::Impl {
  Impl(std::shared_ptr<const Model> model, const Options& options);
  Impl(const ModelConfig& config, uint64_t seed, const Options& options);

  /// A module's weight and bias, and its LoRA where it has one.
  struct Unit {
    Weight weight, bias;
    std::optional<LoraWeights> lora;
  };
  struct Layer {
    std::array<Unit, kModules> units;
    std::map<std::string, Weight, std::less<>> added;  // by the name after `linear_attention.`
  };

  AttentionShape shape() const;
  void set_attention(std::vector<AttentionConfig> layers, uint64_t seed);
  void set_trainable(const Trainable& trainable);
  std::vector<Parameter> list(bool trained_only) const;

  Pass pass(const Batch& batch) const;
  /// Final normed hidden rows of a batch whose pass is `pass`.
  at::Tensor hidden(const Batch& batch, const Pass& pass, bool teacher) const;
  /// The residual stream's start, [B, n, hidden] in the sums' type.
  at::Tensor embed(const Batch& batch, const Documents& documents, bool teacher) const;
  LayerTensors layer_tensors(int layer, bool teacher) const;
  /// What the head's matrix multiplies, of final hidden rows [.., hidden]: these, or what stands before the
  /// matrix of them. With a bias, a 1 behind each.
  at::Tensor head_rows(const at::Tensor& hidden, bool teacher) const;
  /// [vocabulary, hidden] in the compute type; with a bias, that behind each row. Throws Error where there is
  /// no head.
  at::Tensor head_matrix(bool teacher) const;
  bool head_is_shared() const;  // by teacher and student

  std::shared_ptr<const Model> model;  // null: fresh
  uint64_t seed = 0;                   // of fresh weights
  ModelConfig config;
  const Family* family;
  Options options;
  std::vector<AttentionConfig> attention, teacher;  // the student's, and the base's own softmax
  std::optional<Rotation> sinks;
  Trainable trainable;
  Unit embedding, positions, token_types, embedding_norm, final_norm;  // undefined where absent
  Unit head_dense, head_norm, head, pooler;
  std::vector<Layer> layers;

 private:
  void build();
  void build_head();
  at::ScalarType sums() const { return sum_type(options.compute); }
  std::string prefix(int layer) const;  // "model.layers.3."
  /// The tensor of a module's part from the model, or drawn; undefined where there is none. In `type`, or,
  /// where it is to stay `frozen` on a CPU, as it stands in the file.
  at::Tensor source(int layer, std::string_view module, std::string_view part, at::ScalarType type,
                    bool frozen) const;
  Unit unit(int layer, std::string_view module, bool norm);
  void train(Unit& unit, int layer, std::string_view module, bool on);
  void add_lora();
  template <class Visit>
  void each_unit(Visit visit);
};

}  // namespace linnet::train

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
  /// `owner`: of an encoder's stack, the decoder's, whose embedding it reads.
  Impl(std::shared_ptr<const Model> model, const Options& options, const Impl* owner = nullptr);
  Impl(const ModelConfig& config, uint64_t seed, const Options& options, const Impl* owner = nullptr);

  /// A module's weight and bias, and its LoRA where it has one.
  struct Unit {
    Weight weight, bias;
    std::optional<LoraWeights> lora;
  };
  struct Layer {
    std::array<Unit, kModules> units;
    std::map<std::string, Weight, std::less<>> added;  // by the name after `linear_attention.`
    std::map<std::string, Weight, std::less<>> cross_added;
  };

  AttentionShape shape() const;
  void set_attention(std::vector<AttentionConfig> layers, uint64_t seed);
  void set_trainable(const Trainable& trainable);
  std::vector<Parameter> list(bool trained_only) const;

  Pass pass(const Batch& batch) const;
  /// `pass` with the encoder's rows of the batch's source, where there is an encoder.
  Pass with_source(Pass pass, const Batch& batch, bool teacher) const;
  /// Attention transfer through the stack (Module::transfer_loss), added to `loss`; returns the teacher's
  /// final rows.
  at::Tensor transfer(const Batch& batch, const Pass& pass, at::Tensor& loss) const;
  at::Tensor normed_end(const at::Tensor& x, const Pass& pass, bool teacher) const;
  const Unit& shared_embedding() const { return owner != nullptr ? owner->embedding : embedding; }
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
  std::vector<AttentionConfig> cross, cross_teacher;
  const Impl* owner = nullptr;
  std::unique_ptr<Impl> encoder;  // null: the family has none
  std::optional<Rotation> sinks;
  Trainable trainable;
  Unit embedding, positions, relative_bias, token_types, embedding_norm,
      final_norm;  // undefined where absent
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
  void read_added(int layer);
  std::map<std::string, Weight, std::less<>> fresh_added(const AttentionConfig& config,
                                                         std::string_view module, int layer,
                                                         uint64_t from) const;
  /// The stack's bias by distance, [H, 2 reach + 1]; undefined: none.
  at::Tensor distance_bias(bool teacher) const;
  double deviation_of(std::string_view module) const;
  template <class Visit>
  void each_unit(Visit visit);
};

}  // namespace linnet::train

// A model as libtorch trains it: the same family rows, tensors and attention configs as the runtime's
// Decoder, differentiable. Trained tensors are float32 leaves (float64 when computing in float64), cast to
// the compute type where they are used; frozen ones stand once (on a CPU: in the mapped file), and teacher
// and student share them.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "attention/config.h"
#include "model/model.h"

namespace linnet::train {

/// Token rows. Rows are packed: positions, groups and attention start anew in each document of a row.
struct Batch {
  at::Tensor tokens;     // [rows, length] int64, on any device
  at::Tensor documents;  // [rows, length] int32 on the CPU, non-decreasing along a row; undefined: one
                         // document a row, which is faster
  // Of encoders, whose rows are one sequence each:
  at::Tensor lengths;  // [rows] int64 on the CPU: what stands behind is padding, whose rows mean nothing;
                       // undefined: all is the sequence
  at::Tensor types;    // [rows, length] int64: kinds of tokens; undefined: 0
  // Where the model has an encoder, what it reads: [rows, source length] int64, and how much of each row is
  // no padding, as `lengths`.
  at::Tensor source = {}, source_lengths = {};
};

enum class Mode {
  kStudent,  // the configured attention, LoRA applied
  kTeacher,  // the base's own softmax attention and weights, without LoRA and without gradients
};

enum class ParameterKind {
  kBase,
  kAdded,
  kLora,
  kExperiment,  // future taps: trained, never written
};

/// A tensor by its full name in a file: "model.layers.0.self_attn.q_proj.weight",
/// "model.layers.0.self_attn.linear_attention.alpha", or PEFT's
/// "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight".
struct Parameter {
  std::string name;
  at::Tensor tensor;  // in the file's shape; trained: a leaf in float32 or float64 that requires a gradient
  ParameterKind kind;
};

enum class Train {
  kNew,        // the linear_attention.* tensors
  kLora,       // those and LoRA
  kAttention,  // those and q, k, v, o with their biases and norms
  kAll,        // every tensor
};
/// "new", "lora", "attention", "all"; throws Error on another.
Train parse_train(std::string_view name);

struct Trainable {
  Train what = Train::kAll;
  int lora_rank = 8;
  double lora_alpha = 16.0;
  std::vector<std::string> lora_targets;  // module names ("q_proj"); empty: the family's q, k, v, o
  bool embeddings_and_norms = false;      // in full beside LoRA (the paper's recipe)
  bool keep_teacher = false;  // keep the base's own weights where they are trained, so that Mode::kTeacher
                              // stays the base; otherwise it sees the trained ones
  uint64_t seed = 0;          // of LoRA's A
};

class Module {
 public:
  struct Options {
    at::Device device = at::kCPU;
    at::ScalarType compute = at::kFloat;  // kFloat, kBFloat16; kDouble in tests
    bool checkpointing = false;           // keep only each layer's input, compute the rest again in backward
    bool pooler = false;  // an encoder's pooler too, drawn where its folder has none: nothing else reads it
  };

  /// Everything frozen until set_trainable(). Attention, new tensors and LoRA as the folder has them.
  Module(std::shared_ptr<const Model> model, const Options& options);
  /// Fresh weights: normal 0.02, the projections into the residual 0.02 / √(2·layers), norms 1, biases 0; a
  /// function of the seed, the tensor's name and the place in it alone. Softmax attention.
  Module(const ModelConfig& config, uint64_t seed, const Options& options);
  ~Module();
  Module(Module&&) noexcept;
  Module& operator=(Module&&) noexcept;

  const ModelConfig& config() const;
  const Family& family() const;
  const std::vector<AttentionConfig>& attention() const;
  /// As Model::all_attention().
  std::vector<AttentionConfig> all_attention() const;
  AttentionShape attention_shape() const;
  const Options& options() const;

  /// Replaces the attention, of all stacks; new tensors start from initial_parameter(). Call it before
  /// set_trainable().
  void set_attention(std::vector<AttentionConfig> layers, uint64_t seed);
  /// Throws Error where a LoRA target matches no module, or nothing would be trained.
  void set_trainable(const Trainable& trainable);
  const Trainable& trainable() const;

  /// What is trained, in a fixed order: base tensors, then new ones, then LoRA.
  std::vector<Parameter> parameters() const;
  /// Every tensor, trained or frozen, in the same order. Frozen base tensors may be in the compute type: to
  /// write them unchanged, take them from the model's folder.
  std::vector<Parameter> tensors() const;

  /// A matrix's LoRA: the full name of the weight beside which it stands, A [rank, in], B [out, rank].
  struct Lora {
    std::string weight;
    at::Tensor a, b;
    double scale;
    ModuleShape shape;
  };
  std::vector<Lora> loras() const;

  /// Final normed hidden rows [rows, length, hidden], in the compute type.
  at::Tensor hidden(const Batch& batch, Mode mode = Mode::kStudent) const;
  /// An encoder's pooler of first tokens' hidden rows [.., hidden]: tanh(W x + b). Throws Error where there
  /// is none.
  at::Tensor pooled(const at::Tensor& first, Mode mode = Mode::kStudent) const;
  bool has_pooler() const;
  /// Whether it predicts tokens: encoders may have no head. What follows needs one.
  bool has_head() const;
  /// [..., vocabulary] float32 (float64).
  at::Tensor logits(const at::Tensor& hidden, Mode mode = Mode::kStudent) const;

  /// Σ weights · −ln p(target), a scalar in float32 (float64). targets [rows, length] int64; weights
  /// [rows, length] float, undefined: 1 / (rows · length) each. Never holds all logits at once.
  at::Tensor next_token_loss(const at::Tensor& hidden, const at::Tensor& targets,
                             const at::Tensor& weights = {}) const;
  /// −ln p(target) of every token, [rows, length] float32 (float64), without gradients.
  at::Tensor token_losses(const at::Tensor& hidden, const at::Tensor& targets,
                          Mode mode = Mode::kStudent) const;

  /// Attention transfer: one pass of the frozen teacher feeds all layers; the sum over the linear layers of
  /// the squared error of attention outputs before the output projection, divided by the teacher's mean
  /// square. Gradients reach the new tensors only. Throws Error where no layer is linear.
  at::Tensor transfer_loss(const Batch& batch) const;
  /// Distillation: KL(teacher ‖ student) over the vocabulary at temperature 1, the mean over all tokens; a
  /// scalar in float32 (float64). Never holds all logits at once. Of encoders, which may have no vocabulary's
  /// head, the squared error of the final hidden rows, divided by the teacher's mean square.
  at::Tensor distill_loss(const Batch& batch) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// "cpu", "cuda" or "cuda:N"; throws Error where it is none of these or not there.
at::Device parse_device(const std::string& name);
/// "float32", "bfloat16", "float64"; throws Error on another.
at::ScalarType parse_compute(const std::string& name);
/// The same the other way round.
std::string_view compute_name(at::ScalarType compute);
/// bf16 on a GPU and on a processor that multiplies it, else float32: without such instructions every product
/// of bf16 is one of float32 with its numbers turned there and back, at a ninth of float32's speed
/// (docs/training.md).
at::ScalarType fastest_compute(const at::Device& device, bool processor_multiplies_bfloat16);
at::ScalarType fastest_compute(const at::Device& device);  // on this processor
/// Threads of all CPU operations (libtorch's default is 1 on some machines); < 1: one a processor. Returns
/// how many.
int set_threads(int threads);
/// Floating-point operations a second of large products on a GPU (median of several).
double matrix_rate(const at::Device& device, at::ScalarType type);

}  // namespace linnet::train

// The module's tensors: read from a model or freshly drawn, frozen in the compute type or trained as float32
// leaves.
#pragma once

#include <ATen/ATen.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "format/tensor.h"
#include "kernels/cpu/weights.h"
#include "model/family.h"
#include "train/attention/parallel.h"

namespace linnet::train {

/// The numbers of a file's tensor, on `device` as `type`. Throws Error naming `where` if it isn't of floats.
at::Tensor load_tensor(const TensorView& view, at::Device device, at::ScalarType type,
                       const std::string& where);

/// The same on the CPU in the type of the file and, where the bytes are aligned, in place: to be read alone.
/// `owner` keeps them mapped.
at::Tensor map_tensor(const TensorView& view, std::shared_ptr<const void> owner, const std::string& where);

/// A matrix in integers [out, in] as float32 numbers on the CPU; `transposed`: [in, out].
at::Tensor widened(const kernels::Weights& weights, bool transposed);

/// Normal numbers times `deviation`, a function of (seed, name, place) alone.
at::Tensor draw_tensor(const std::vector<int64_t>& shape, double deviation, uint64_t seed,
                       std::string_view name);

/// Uniform numbers in ±bound; likewise.
at::Tensor draw_uniform(const std::vector<int64_t>& shape, double bound, uint64_t seed,
                        std::string_view name);

/// What a layer is made of; LoRA may stand beside the matrices, which come first.
enum Slot {
  kQ,
  kK,
  kV,
  kO,
  kGate,
  kUp,
  kDown,
  kCrossQ,
  kCrossK,
  kCrossV,
  kCrossO,
  kAttentionNorm,
  kFeedForwardNorm,
  kQNorm,
  kKNorm,
  kAttentionPostNorm,
  kFeedForwardPostNorm,
  kAffine,
  kCrossNorm,
  kModules
};
constexpr int kMatrices = kCrossO + 1;

/// The family's name of a module of a layer; "" where it has none.
std::string_view module_of(const Family& family, int slot);
inline bool is_norm(int slot) { return slot >= kAttentionNorm; }
inline bool is_attention(int slot) {
  return slot <= kO || (slot >= kCrossQ && slot <= kCrossO) ||
         (is_norm(slot) && slot != kFeedForwardNorm && slot != kFeedForwardPostNorm);
}

/// One tensor of the model. `frozen` is what computing reads where it isn't trained, and converts as it does:
/// on a CPU a model's tensor as it stands in its file, else in the compute type; norms in the sums' type.
struct Weight {
  std::string name;
  at::Tensor frozen;
  at::Tensor master;  // a leaf in the sums' type; undefined until trained
  bool trained = false;

  bool defined() const { return frozen.defined() || master.defined(); }
  /// What the student (or the teacher) computes with, before any cast.
  at::Tensor value(bool teacher) const;
};

/// A module's LoRA: y += scale · B(A x).
struct LoraWeights {
  Weight a, b;  // [r, in], [out, r]
  double scale = 0.0;
};

/// The tensors that one layer's forward pass reads, gradients attached.
struct LayerTensors {
  std::array<at::Tensor, kModules> weight, bias;  // undefined where absent
  std::array<at::Tensor, kMatrices> lora_a, lora_b;
  std::array<double, kMatrices> lora_scale{};
  ParameterMap added, cross_added;  // with the stack's bias by distance (attention/bias.h)
  bool rotated = true;              // queries and keys are, by their positions

  /// Calls visit(tensor) for each that is defined, in a fixed order.
  template <class Visit>
  void each(Visit visit) {
    for (auto* list : {&weight, &bias}) {
      for (at::Tensor& x : *list) {
        if (x.defined()) visit(x);
      }
    }
    for (auto* list : {&lora_a, &lora_b}) {
      for (at::Tensor& x : *list) {
        if (x.defined()) visit(x);
      }
    }
    for (auto& [name, x] : added) visit(x);
    for (auto& [name, x] : cross_added) visit(x);
  }
};

}  // namespace linnet::train

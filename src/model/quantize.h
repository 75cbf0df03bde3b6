// A model folder with its matrices in integers (docs/formats.md#quantized-folders).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/cpu/weights.h"
#include "model/input_moments.h"
#include "model/model.h"

namespace linnet {

/// Throws Error, at `where`, unless rows of `form` can be cut into its groups; `instead`: what else to do.
void check_scale_group(const kernels::Weights& form, const std::string& where, const std::string& instead);

/// A matrix in integers, its numbers owned.
class Integers {
 public:
  /// Room for one of `form`'s type, sizes and group.
  Integers(const kernels::Weights& form, bool offsets);
  /// Fills it from a matrix of the same sizes. `importance` [in]: what an error at each input weighs, or
  /// empty.
  void take(const kernels::Weights& from, std::span<const float> importance, ThreadPool& pool);
  /// √(Σ (number − what stands for it)² / Σ number²) of what was last taken.
  double relative_error() const { return relative_error_; }
  const kernels::Weights& view() const { return view_; }

  std::vector<std::byte> numbers;
  std::vector<uint16_t> scales, offsets;

 private:
  kernels::Weights view_;
  double relative_error_ = 0;
};

struct QuantizeOptions {
  kernels::WeightType type = kernels::WeightType::kInt8;  // of the layers' matrices
  int64_t group = kernels::kScaleGroup;                   // numbers of a row that share a scale; 0: all
  bool symmetric = false;                                 // int4 with scales alone, without offsets
  bool keep_embedding = false;                            // and vocabulary matrix, as they are
  std::vector<std::string> int8;  // matrices of layers that are in int8 all the same, such as "down_proj"
  /// What an error at each input of a module weighs, by its name ("model.layers.0.mlp.down_proj"); may lack
  /// some.
  std::map<std::string, std::vector<float>> importance;
  std::function<void(double done, double total)> report;  // parameters

  bool offsets() const { return type == kernels::WeightType::kInt4 && !symmetric; }
};

/// QuantizeOptions::importance of all layers' matrices: what their products' inputs were on a text.
std::map<std::string, std::vector<float>> importance_of(const Model& model, const InputMoments& inputs);

/// What became of one matrix.
struct QuantizedTensor {
  std::string name, type;
  int64_t parameters = 0, bytes = 0;
  double relative_error = 0;  // Integers::relative_error
};

/// Writes the model, with a LoRA merged and new tensors in place, as one folder whose matrices are in
/// integers: the embedding and the vocabulary matrix in int8. One matrix at a time is in memory, and scales.
/// The folder appears whole or not at all. Throws Error on a model that is in integers already, and on rows
/// that do not divide.
std::vector<QuantizedTensor> write_quantized(const std::filesystem::path& out, const Model& model,
                                             const QuantizeOptions& options, size_t shard_bytes,
                                             ThreadPool& pool);

}  // namespace linnet

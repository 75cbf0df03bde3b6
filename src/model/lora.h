// LoRA (Hu et al. 2021) as PEFT's two files hold it: adapter_config.json and adapter_model.safetensors. A
// module's weight is W + scale · B A.
#pragma once

#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "format/tensor.h"
#include "model/family.h"

namespace linnet {

/// adapter_config.json, as far as it is computed. A pattern is a regular expression; the first, in the file's
/// order, that matches a module's name from its beginning or from after one of its dots to its end gives that
/// module's number.
struct LoraConfig {
  int rank = 0;
  double alpha = 0.0;
  std::vector<std::string> targets;  // module names, e.g. "q_proj"
  bool rank_stabilized = false;      // PEFT's use_rslora: alpha / √rank in place of alpha / rank
  std::vector<std::pair<std::string, int>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  std::vector<std::string> saved;  // modules_to_save: what their names end with
};

/// Throws Error on what would compute something else: DoRA, biases, layer replication, other methods.
LoraConfig read_adapter_config(const std::filesystem::path& file);

struct LoraNumbers {
  int64_t rank;
  double scale;
};
/// By name as in PEFT's files ("model.layers.3.self_attn.q_proj"), of every one of `modules`. Throws Error
/// (at `where`) on a pattern that is no regular expression.
std::map<std::string, LoraNumbers> lora_numbers(const LoraConfig& config,
                                                std::span<const std::string> modules,
                                                const std::string& where);

/// A module as PEFT names it: "model.layers.3.self_attn.q_proj", "lm_head". `layer` −1: of no layer.
std::string adapter_module(const Family& family, int layer, std::string_view module);
/// The name of a layer's module's `A` or `B` in the file:
/// "base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight".
std::string lora_name(const Family& family, int layer, std::string_view module, char part);

/// What one module has: A [rank, in] and B [out, rank].
struct LoraPair {
  const TensorView *a, *b;
  double scale;
};

/// row += scale · b A, one row of a matrix [out, in]: b [rank] is B's, A [rank, in] whole.
void add_lora_row(std::span<const float> b, std::span<const float> a, double scale, std::span<double> row);

/// A matrix as its file has it, with LoRA merged: sums in float64, rounded to float32 and then to the file's
/// type. Throws Error naming `where` if a tensor is not of floats.
OwnedTensor merge_lora(const TensorView& weight, const LoraPair& lora, const ModuleShape& shape,
                       std::string_view where);

}  // namespace linnet

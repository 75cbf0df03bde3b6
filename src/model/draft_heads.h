// Draft heads: what guesses the tokens after the next one from a model's final hidden row. A folder of a
// config.json and one safetensors file (docs/formats.md), of two kinds:
//   Medusa     head k guesses the token k + 2 places on from the row alone: blocks h + SiLU(W h + b), then a
//              vocabulary matrix, its own or the model's (Cai et al., arXiv 2401.10774)
//   recursive  one head fed with the token that it guessed last: s + output SiLU(input [s; e] + b), s from
//              the row on and e the token's embedding, each divided by its root mean square, then a
//              vocabulary matrix (Ankner et al., arXiv 2402.05109)
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "format/safetensors.h"
#include "model/model.h"

namespace linnet {

enum class HeadKind { kMedusa, kRecursive };

struct DraftHeads {
  HeadKind kind = HeadKind::kRecursive;
  std::filesystem::path folder;
  int count = 0;                // tokens guessed in a row: Medusa's heads, turns of the recursive one
  int blocks = 0;               // of a Medusa head
  bool own_vocabulary = false;  // else the model's vocabulary matrix
  std::vector<int32_t> tokens;  // those that are guessed, ascending; empty: all
  TensorStore tensors;

  /// A tensor that open_heads() found there.
  const TensorView& tensor(const std::string& name) const { return *tensors.find(name); }
  std::string where(const std::string& name) const { return tensor_at(tensors.where(name), name); }
};

/// Added to the mean square that rows are divided by the root of.
constexpr double kRecursiveHeadEpsilon = 1e-6;

/// Names of the recursive head's tensors, and of the list of tokens that either kind may have.
namespace head_names {
inline constexpr const char* kInput = "input.weight";            // [inner, 2 hidden]
inline constexpr const char* kInputBias = "input.bias";          // [inner]
inline constexpr const char* kOutput = "output.weight";          // [hidden, inner]
inline constexpr const char* kVocabulary = "vocabulary.weight";  // [tokens, hidden], +1 row: none of the list
inline constexpr const char* kTokens = "tokens";                 // I32 [tokens]
/// Medusa's: block `j` of head `i`, and the head's own vocabulary matrix, which stands after its blocks.
std::string medusa_weight(int head, int block);
std::string medusa_bias(int head, int block);
std::string medusa_vocabulary(int head, int blocks);
}  // namespace head_names

/// Of everything that a model's hidden rows depend on: what heads are trained for.
std::string model_hash(const Model& model);

/// Reads a folder and checks it whole. Throws Error on anything that is not heads of this model, naming both
/// models where they are another's.
DraftHeads open_heads(const std::filesystem::path& folder, const Model& model);

/// Where a model's heads lie unless told: the folder `heads` in its own.
std::filesystem::path heads_folder(const std::filesystem::path& model);
bool has_heads(const std::filesystem::path& model);
/// The model's heads that lie there, read and checked whole; none.
std::optional<DraftHeads> heads_beside(const Model& model);

/// Writes heads of `model`, of which `form` says all but the tensors, `out`'s files appearing one by one,
/// config.json last. Medusa's in the published layout: version 2 without vocabulary matrices, else the first.
/// They name their model's folder: `known_as` where that is still filled under a temporary name.
void write_heads(const std::filesystem::path& out, const DraftHeads& form,
                 std::span<const NamedTensor> tensors, const Model& model,
                 const std::filesystem::path& known_as = {});
/// The same heads beside another form of their model.
void copy_heads(const DraftHeads& heads, const Model& model, const std::filesystem::path& known_as);

}  // namespace linnet

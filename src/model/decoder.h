// The engine's view of a model: prompt in, a token tree computed, logits of its nodes fetched where they are
// wanted, a path committed. Batches of sequences, each with its own state slot. Every buffer of a step is
// planned once; a step allocates nothing.
#pragma once

#include <climits>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "attention/attention.h"
#include "attention/tree.h"
#include "base/thread_pool.h"
#include "kernels/cpu/weights.h"
#include "model/input_moments.h"
#include "model/model.h"
#include "model/profile.h"

namespace linnet {

enum class ComputeType {
  kAuto,  // bf16 weights are read as they are; long prefills multiply in bf16 where the machine is fast at it
  kFloat32,   // all arithmetic in float32
  kBFloat16,  // as auto, whatever type the weights are stored in
  kFloat64,   // all arithmetic in float64, by the plain reference: slow, for tests
};
/// "auto", "float32", "bfloat16", "float64"; throws Error on another.
ComputeType compute_type(std::string_view name);
std::string_view name_of(ComputeType type);

class Decoder {
 public:
  struct Options {
    ComputeType compute = ComputeType::kAuto;
    int slots = 1;                               // sequences that may be open at once
    int max_nodes = 64;                          // nodes of all trees of one step
    int chunk = 512;                             // tokens that a prefill takes through the layers at a time
    std::optional<kernels::WeightType> weights;  // matrices as these integers; else as they are stored
    Profile* profile = nullptr;                  // told where the time goes; outlives the decoder
    InputMoments* inputs = nullptr;              // told what layers' products read; outlives the decoder
    std::string device = "cpu";                  // or "cuda", "cuda:N"
    /// Of a model with an encoder: what it has read of every sequence, for those who look at a decoder alone.
    /// Empty: nothing until read_source().
    std::vector<int32_t> source = {};
  };

  /// What whoever drives a decoder has to know of it.
  struct Info {
    int64_t vocabulary = 0;
    int64_t positions = 0;       // learned positions end here; 0: no end
    int64_t memory = INT64_MAX;  // tokens of a sequence whose state fits into it
    int tree_depth = INT_MAX;    // of trees: the least group, so that no bit depends on them (mathematics, 4)
    int chunk = 512;             // prefilled in pieces of a multiple of this, a prompt has the same bits
    /// Of a model with an encoder, which reads the prompt: the token that the decoder writes on from.
    std::optional<int32_t> start;
  };

  /// The decoder keeps its own reference to the model. Throws Error on a device that is not there.
  static std::unique_ptr<Decoder> make(std::shared_ptr<const Model> model, const Options& options,
                                       ThreadPool& pool);
  /// One that computes in float32 with attentions of `make`: where a test plants faults.
  static std::unique_ptr<Decoder> make(std::shared_ptr<const Model> model, const Options& options,
                                       ThreadPool& pool, const MakeAttention<float>& make);
  virtual ~Decoder() = default;

  virtual const Info& info() const = 0;
  int64_t vocabulary() const { return info().vocabulary; }

  /// Makes a slot the empty sequence.
  virtual void reset(int slot) = 0;
  /// And, of a model with an encoder, one that is written from these tokens: the encoder reads them all, and
  /// what the layers remember of them stays with the slot until the next reset. Throws Error where the model
  /// has none.
  virtual void read_source(int slot, std::span<const int32_t> tokens);
  virtual int64_t length(int slot) const = 0;
  /// Tokens of what read_source() read; 0: nothing.
  virtual int64_t source_length(int) const { return 0; }
  /// Makes slot `to` what slot `from` is.
  virtual void copy(int from, int to) = 0;
  /// Bytes allocated for the slot's state (softmax: bytes of the tokens held).
  virtual size_t state_bytes(int slot) const = 0;

  /// What computing takes, for those who measure it.
  struct Cost {
    size_t step_weight_bytes;     // weights that a step reads, whatever its number of nodes
    int64_t layer_parameters;     // numbers in the matrices of all layers: a prefilled token's multiply-adds
    kernels::WeightType prefill;  // what prefill multiplies; float64 counts as float32
  };
  virtual Cost cost() const = 0;

  /// Commits `tokens`. Writes the logits [tokens.size() − first, vocabulary] of the tokens from index `first`
  /// on (first == tokens.size(): none). Throws Error on a token out of range or past learned positions.
  virtual void prefill(int slot, std::span<const int32_t> tokens, size_t first, std::span<float> logits) = 0;

  struct Branch {
    int slot;
    const TokenTree* tree;
  };
  /// Computes the nodes of each branch's tree. States are untouched. A sequence gets the same bits alone,
  /// beside any neighbours, and in any tree.
  virtual void step(std::span<const Branch> branches) = 0;
  /// Of the last step, until the next call that computes or commits: the logits [vocabulary] of a node, all
  /// branches' nodes counted in order; the id of the largest of them, the lowest among equals (throws Error,
  /// status: failed, where none is a finite number); the final hidden row [hidden] that heads read. After a
  /// prefill hidden(row) is of the row-th of its last chunk's logits.
  virtual std::span<const float> logits(int node) const = 0;
  virtual int32_t likeliest(int node) const = 0;
  virtual std::span<const float> hidden(int row) const = 0;

  /// Commits nodes of the last step's `branch` (its place in step's argument): a path from the root. Once a
  /// branch; throws Error on anything else.
  virtual void commit(int branch, std::span<const int32_t> path) = 0;

  /// A slot's whole state as bytes (versioned, checked on load), and back. A rejected load leaves it
  /// untouched. What the layers remember of a source is part of it.
  virtual std::vector<std::byte> save(int slot) const = 0;
  virtual void load(int slot, std::span<const std::byte> bytes) = 0;
};

/// The id of the largest logit, the lowest among equals; throws Error (status: failed) if none is a number.
int32_t argmax(std::span<const float> logits);

/// Throws Error (where: --device) on a name that is none, or of a device that this build does not compute on.
void check_device(const std::string& name);

}  // namespace linnet

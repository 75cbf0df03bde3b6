// Whole sequences through a model's layers, nothing kept: the tokens of an encoder see all others of their
// sequence, those of a decoder the ones before them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "attention/attention.h"
#include "base/thread_pool.h"
#include "kernels/cpu/weights.h"
#include "model/decoder.h"
#include "model/model.h"
#include "model/profile.h"

namespace linnet {

class Encoder {
 public:
  struct Options {
    ComputeType compute = ComputeType::kAuto;
    std::optional<kernels::WeightType> weights;  // matrices as these integers; else as they are stored
    Profile* profile = nullptr;                  // told where the time goes; outlives the encoder
  };

  struct Sequence {
    std::span<const int32_t> tokens;
    std::span<const int32_t> types = {};  // of the tokens; empty: all are of kind 0
  };

  /// The encoder keeps its own reference to the model.
  static std::unique_ptr<Encoder> make(std::shared_ptr<const Model> model, const Options& options,
                                       ThreadPool& pool);
  /// One that computes in float32 with attentions of `make`: where a test plants faults.
  static std::unique_ptr<Encoder> make(std::shared_ptr<const Model> model, const Options& options,
                                       ThreadPool& pool, const MakeAttention<float>& make);
  virtual ~Encoder() = default;

  virtual int64_t hidden_size() const = 0;
  /// Tokens of the longest sequence; INT64_MAX where positions have no end.
  virtual int64_t longest() const = 0;

  /// The rows after the last layer of all tokens, the sequences one after the other: [Σ tokens, hidden].
  /// Sequences share products alone: none sees another, and there is no padding. A model with an encoder
  /// reads each with both stacks, and the rows are the decoder's, which is given it shifted by its start
  /// token. Throws Error on a token or kind that the model has not, and on a sequence past the positions.
  virtual void encode(std::span<const Sequence> sequences, std::span<float> out) = 0;

  /// Of rows [rows, hidden] that encode() gave, first tokens' mostly: the pooler's [rows, hidden]. Throws
  /// Error where the model has none.
  virtual void pool(std::span<const float> rows, std::span<float> out) = 0;
  /// Of rows [rows, hidden] that encode() gave: logits [rows, vocabulary] of what was masked there. Throws
  /// Error where the model has no head.
  virtual void logits(std::span<const float> rows, std::span<float> out) = 0;
};

/// Throws Error on an encoder, which predicts no next token.
void require_decoder(const Model& model);

}  // namespace linnet

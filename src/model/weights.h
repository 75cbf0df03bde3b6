// A model's weights as the runtime computes with them, prepared once. What lies in the mapped files is used
// there: bf16 stays bf16, float32 stays float32. Copies are made of what cannot be: float16 (to float32),
// GPT-2's transposed matrices, matrices under a LoRA, float32 under --dtype bfloat16.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "attention/attention.h"
#include "attention/distance_bias.h"
#include "model/decoder.h"
#include "model/linear.h"
#include "model/model.h"

namespace linnet {

/// gain and bias of what is normed together, mostly [hidden]; bias: zeros where the file has none. Empty
/// where the family has no such norm.
template <class T>
struct NormWeights {
  std::vector<T> gain, bias;

  explicit operator bool() const { return !gain.empty(); }
};

/// How a model's weights are prepared.
struct WeightOptions {
  ComputeType compute = ComputeType::kAuto;
  std::optional<kernels::WeightType>
      stored;  // matrices turned into these integers; else as they lie in files
};

template <class T>
struct LayerWeights {
  NormWeights<T> attention_norm, attention_post_norm, feed_forward_norm, feed_forward_post_norm;
  NormWeights<T> q_norm, k_norm;  // of a head's queries and keys, or of all heads' together
  NormWeights<T> affine;          // of a gated unit: gain and bias [4, head_size]
  bool rotated;                   // queries and keys are, by their positions
  bool summary_rotated;           // of a gated unit: the summary's own are too
  // hidden to [q: heads, head_size; k: kv_heads, head_size; v: kv_heads, value_size]; of a gated unit to [z;
  // v]
  Linear qkv;
  Linear o;     // [heads, value_size] to hidden
  Linear up;    // hidden to [gate; up] or [up]; of a gated unit to its gate
  Linear down;  // intermediate to hidden; a gated unit has none
  std::unique_ptr<Attention<T>> attention;

  /// What reads an encoder's rows, between the two; in a stack without one all of it is empty.
  struct Cross {
    NormWeights<T> norm;
    Linear q;   // hidden to [heads, head_size]
    Linear kv;  // the encoder's hidden to [k: kv_heads, head_size; v: kv_heads, value_size]
    Linear o;   // [heads, value_size] to hidden
    std::unique_ptr<Attention<T>> attention;
  };
  std::optional<Cross> cross;
};

template <class T>
struct ModelWeights {
  Matrix embedding;             // [vocabulary, hidden]
  Matrix position_embedding;    // [positions, hidden]; no rows where positions are rotary
  Matrix token_type_embedding;  // [token types, hidden]; no rows where the family has none
  NormWeights<T> embedding_norm;
  std::unique_ptr<const DistanceBias> bias;  // of the layers' scores; null: none
  std::vector<LayerWeights<T>> layers;
  NormWeights<T> final_norm;
  // Before the head, where the family has them: hidden to hidden, activated, normed. Without a head, as an
  // encoder may be, all are empty.
  Linear head_dense;
  NormWeights<T> head_norm;
  Linear head;    // hidden to vocabulary
  Linear pooler;  // hidden to hidden; empty where there is none

  /// Throws Error on a tensor that the model needs and lacks. `make` is make_attention, or what a test plants
  /// a fault with.
  ModelWeights(const Model& model, const WeightOptions& how, ThreadPool& pool,
               const MakeAttention<T>& make = make_attention<T>);

  /// Weight bytes that one decode step reads: all matrices once, one row of each embedding.
  size_t bytes_a_step() const;
  int64_t widest_input() const;  // of all products
};

extern template struct ModelWeights<float>;
extern template struct ModelWeights<double>;

}  // namespace linnet

// Rows on their way through a model: embedding, layers, final norm and logits. Knows no sequence and no
// state: whoever calls it says what the attention of a layer does with its rows.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/array.h"
#include "base/thread_pool.h"
#include "base/timing.h"
#include "format/rope.h"
#include "kernels/cpu/elementwise.h"
#include "model/input_moments.h"
#include "model/profile.h"
#include "model/weights.h"

namespace linnet {

/// A step gives a row the same bits whatever rows it goes with; a prefill may multiply in larger blocks.
enum class Stage { kStep, kPrefill };

/// What a stage computes; planned once for `rows` rows. A step keeps queries, keys and
/// values of all layers until commit; a prefill needs one layer's at a time.
template <class T>
struct Activations {
  int64_t rows = 0;
  Room<T> hidden;          // [rows, hidden]: the residual stream
  Room<T> normed;          // [rows, hidden]: what the next block reads of it, where that has a norm
  Room<T> delta;           // [rows, hidden]: what a block adds
  Room<T> mixed;           // [rows, heads, value_size]: attention's outputs
  Room<T> cross_q;         // [rows, heads, head_size]: what reads an encoder's rows
  Room<T> inner;           // [rows, intermediate or twice that]
  Room<T> cosines, sines;  // [rows, rotary size / 2]
  // A layer: [rows, q k v], [rows, q k]. Of a gated unit [rows, z v], [rows, 4, head_size], q and k of the
  // local branch and q and k of the summary, rotated where they are.
  std::vector<Room<T>> projected, rotated;
  std::vector<int32_t> tokens;     // [rows]
  std::vector<int64_t> positions;  // [rows]: of learned positions the matrix's row
  std::vector<int32_t> types;      // [rows]: kinds of tokens, where the family has them
};

template <class T>
class Forward {
 public:
  Forward(const Model& model, const WeightOptions& how, ThreadPool& pool,
          const MakeAttention<T>& make = make_attention<T>);

  const ModelWeights<T>& weights() const { return weights_; }
  /// From now on `profile`, which outlives this, is told where time goes; null: nothing is.
  void tell(Profile* profile) { profile_ = profile; }
  /// And `inputs`, what the layers' products read.
  void tell(InputMoments* inputs) { inputs_ = inputs; }
  bool rotary() const { return !rope_.inverse.empty(); }

  /// Room for `rows` rows in `a`, keeping queries, keys and values of the last `kept_layers` layers.
  void plan(Activations<T>& a, int64_t rows, size_t kept_layers) const;
  /// Room for logits of steps of up to `rows` rows, so that they allocate nothing.
  void plan_steps(int64_t rows);

  /// The layers and the final norm of the rows whose tokens and positions stand in `a`.
  /// attend(layer, out) writes the attention's outputs [rows, heads, value_size] of all rows; rows_of gives
  /// it the queries, keys and values.
  template <class Attend>
  void run(Activations<T>& a, int64_t rows, Stage stage, Attend&& attend) {
    run_layers(a, rows, stage, std::function<void(size_t, HeadRows<T>)>(std::ref(attend)), {});
  }
  /// The same of a stack that reads an encoder: read(layer, queries, out) writes what the queries of all rows
  /// find in its rows.
  using Read = std::function<void(size_t layer, const Rows<T>& queries, HeadRows<T> out)>;
  template <class Attend>
  void run(Activations<T>& a, int64_t rows, Stage stage, Attend&& attend, const Read& read) {
    run_layers(a, rows, stage, std::function<void(size_t, HeadRows<T>)>(std::ref(attend)), read);
  }
  /// Keys and values of a layer's cross-attention, of an encoder's final rows [rows, hidden]; they stand in
  /// `room`.
  Rows<T> cross_rows(size_t layer, std::span<const T> encoded, Room<T>& room);
  /// The same in pieces: the rows' residual stream and angles, then a layer after the other, which reads
  /// `hidden` whatever stood before it.
  void embed(Activations<T>& a, int64_t rows);
  template <class Attend>
  void run_layer(size_t layer, Activations<T>& a, int64_t rows, Stage stage, Attend&& attend) {
    enter(layer, a, rows);
    one_layer(layer, a, rows, stage, std::function<void(size_t, HeadRows<T>)>(std::ref(attend)), {});
  }
  Rows<T> rows_of(const Activations<T>& a, size_t layer, int64_t begin, int64_t count) const;

  /// The rows [rows, hidden] that the last layer left, after the final norm where there is one.
  const T* final_rows(const Activations<T>& a) const { return read_of(weights_.final_norm, a); }
  /// Logits `out` [rows, vocabulary] of final rows `x` [rows, hidden].
  void logits(const T* x, int64_t rows, Stage stage, float* out);
  /// The pooler's rows `out` [rows, hidden], tanh(W x + b), of final rows `x`.
  void pool_rows(const T* x, int64_t rows, T* out);
  /// The rows [rows, hidden] that the last call of logits() read.
  std::span<const float> hidden() const { return {final_.data(), final_rows_ * hidden_}; }

 private:
  using Attend = std::function<void(size_t layer, HeadRows<T> out)>;

  void run_layers(Activations<T>& a, int64_t rows, Stage stage, const Attend& attend, const Read& read);
  /// What a layer reads of a stream that no layer before it has left for it.
  void enter(size_t layer, Activations<T>& a, int64_t rows);
  /// A layer, from what it reads of the stream to what the next one, or the head, does.
  void one_layer(size_t layer, Activations<T>& a, int64_t rows, Stage stage, const Attend& attend,
                 const Read& read);
  /// Does the work, and tells the profile what it took.
  template <class Work>
  void timed(Operation operation, size_t layer, const Linear* linear, const Work& work) {
    if (profile_ == nullptr) return work();
    const Stopwatch watch;
    work();
    profile_->add(operation, layer, watch.seconds(), linear != nullptr ? linear->bytes() : 0);
  }
  void product(Linear& linear, const T* x, int64_t x_stride, int64_t rows, Room<T>& y, Stage stage);
  /// Queries and keys of `kept`: normed and scaled where they are, then rotated.
  void prepare_heads(Activations<T>& a, size_t layer, int64_t rows);
  /// A gated unit's: the activation of [z; v], then four affine maps of z, rotated.
  void prepare_unit(Activations<T>& a, size_t layer, int64_t rows);
  /// Numbers of a row of `projected` and of `rotated`.
  int64_t projected_size() const {
    return (unit_ ? 1 : heads_ + kv_heads_) * head_size_ + kv_heads_ * value_size_;
  }
  int64_t rotated_size() const { return (unit_ ? 4 : heads_ + kv_heads_) * head_size_; }
  void rotate(Activations<T>& a, size_t kept, int64_t rows);
  /// What a block with the norm `norm` reads of the stream.
  const T* read_of(const NormWeights<T>& norm, const Activations<T>& a) const {
    return norm ? a.normed.data() : a.hidden.data();
  }
  /// The block's output, which stands in `delta`, into the stream, and what the next block reads of that
  /// into `normed`.
  void add_delta(Activations<T>& a, int64_t rows, const NormWeights<T>& post_norm,
                 const NormWeights<T>& next);
  void normalize(const NormWeights<T>& norm, const T* x, int64_t rows, T* y);
  /// The same on this thread alone; with `delta` of x += delta.
  void norm_rows(const NormWeights<T>& norm, const T* x, int64_t rows, T* y) const;
  void add_and_norm_rows(const NormWeights<T>& norm, T* x, const T* delta, int64_t rows, T* y) const;
  void add_embedding(const Matrix& matrix, int64_t index, T* row, T* room) const;
  void activate(Room<T>& inner, int64_t rows);
  void cap_logits(T* logits, int64_t rows);

  ThreadPool& pool_;
  ModelWeights<T> weights_;
  int64_t hidden_, heads_, kv_heads_, head_size_, value_size_, inner_, vocabulary_;
  double norm_epsilon_, embedding_scale_, query_scale_, logit_cap_;
  bool parallel_;         // attention and feed-forward both read the layer's input
  RopeFrequencies rope_;  // empty where positions are learned
  NormKind norm_;
  bool gated_, norm_after_sum_;
  bool unit_;  // layers are gated units
  kernels::Unary activation_, head_activation_;
  ProductScratch scratch_;
  Room<T> transformed_;  // [rows, hidden] that the head's matrix reads, where others stand before it
  Room<T> wide_logits_;  // where T is not float
  Room<float> final_;    // [rows, hidden] that the last logits were made of
  size_t final_rows_ = 0;
  Profile* profile_ = nullptr;
  InputMoments* inputs_ = nullptr;
};

extern template class Forward<float>;
extern template class Forward<double>;

}  // namespace linnet

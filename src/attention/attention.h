// One layer's attention, ready to run: prefill, attend on a token tree, commit; for encoders the
// bidirectional form, for decoders that read an encoder's tokens the cross form. Everything that methods
// share (local branch, sinks, mix, gate, decay, convolution, folding, trees) lives behind this interface
// once; what a method is of its own is its summary (attention/summary.h) and its row in the registry
// (attention/method.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "attention/config.h"
#include "attention/tree.h"
#include "base/thread_pool.h"
#include "format/tensor.h"

namespace linnet {

/// Rows of heads with strides, so that a projection's output, a file's tensor and a cache are all read in
/// place. Number x of row r of head h: data[h * head_stride + r * row_stride + x].
template <class T>
struct HeadRows {
  T* data = nullptr;
  int64_t head_stride = 0, row_stride = 0;

  T* row(int64_t head, int64_t index) const { return data + head * head_stride + index * row_stride; }
};

/// Queries, keys and values of `count` rows; row i is token i of a prefill or node i of a tree.
template <class T>
struct Rows {
  int64_t count = 0;
  HeadRows<const T> q;  // [heads, count, head_size], rotated
  HeadRows<const T> k;  // [kv_heads, count, head_size], rotated
  HeadRows<const T> v;  // [kv_heads, count, value_size]
  // What the summary reads where feature_position is none: before rotary. Or its own (own_summary_rows).
  HeadRows<const T> summary_q;
  HeadRows<const T> summary_k;  // where a Rotation says how k came of it, the state holds k alone
};

struct Rotation;  // attention/rotation.h

/// What a layer's state holds for one sequence, in numbers; bytes are what is allocated.
struct StateLayout {
  int64_t summary = 0;        // numbers of all key-value heads
  int64_t waiting = 0;        // tokens that may wait to be folded; as `kept`, of the head that has most
  int64_t sinks = 0;          // tokens
  int64_t kept = 0;           // tokens
  int64_t recent = 0;         // values kept for the convolution
  int64_t numbers = 0;        // in all: the above of all key-value heads, without what pads them
  int64_t token_numbers = 0;  // of these: keys and values that are held in the shape's StateType
  int64_t bytes = 0;          // 0 for `softmax`, whose state grows: see State::bytes()
};

/// One layer of one sequence. Copying is called clone, because it is not free.
template <class T>
class State {
 public:
  virtual ~State() = default;
  virtual int64_t length() const = 0;  // committed tokens
  virtual size_t bytes() const = 0;    // allocated; of `softmax`: of the tokens held
  virtual void reset() = 0;            // the empty sequence; allocates nothing
  virtual std::unique_ptr<State> clone() const = 0;
  /// Exactly what load() needs, independent of the machine's threads and kernels.
  virtual void save(std::vector<std::byte>& out) const = 0;
  /// Throws Error and leaves the state untouched if the bytes are not of this layer's layout.
  virtual void load(std::span<const std::byte>& in) = 0;
};

/// What a decoder reads of an encoder's tokens: made once, the same for every query.
template <class T>
class Memory {
 public:
  virtual ~Memory() = default;
  virtual int64_t length() const = 0;  // tokens in it
  virtual size_t bytes() const = 0;    // allocated; does not depend on the length, `softmax` apart
  virtual std::span<const T> numbers() const = 0;  // all that it holds
};

/// A sequence and its tree among those of a step.
template <class T>
struct StateTree {
  const State<T>* state;
  const TokenTree* tree;
};

/// T is the type of sums and states: float, or double under --dtype float64.
template <class T>
class Attention {
 public:
  virtual ~Attention() = default;

  virtual StateLayout layout() const = 0;
  virtual std::unique_ptr<State<T>> make_state() const = 0;

  /// Outputs [heads, tree.size(), value_size] of a tree's nodes: node i's is what the last token of the
  /// sequence (committed tokens, then i's ancestors, then i) would get. The state is untouched. Row i of
  /// `rows` is node i.
  virtual void attend(const State<T>& state, const TokenTree& tree, const Rows<T>& rows, HeadRows<T> out,
                      ThreadPool& pool) const = 0;
  /// The same of several sequences at once, the same bits: rows and outputs of each tree's nodes follow those
  /// of the tree before. Unless a method knows better, one after the other.
  virtual void attend_all(std::span<const StateTree<T>> branches, const Rows<T>& rows, HeadRows<T> out,
                          ThreadPool& pool) const;

  /// The state after the tokens of `path` (indices of rows, root first) in order: bit for bit what committing
  /// them one by one gives.
  virtual void commit(State<T>& state, std::span<const int32_t> path, const Rows<T>& rows,
                      ThreadPool& pool) const = 0;

  /// Outputs [heads, rows.count, value_size] of the next rows.count tokens, and the state after them. Linear
  /// in the count for every method but softmax.
  virtual void prefill(State<T>& state, const Rows<T>& rows, HeadRows<T> out, ThreadPool& pool) const = 0;

  /// The bidirectional form (docs/attention.md): outputs [heads, rows.count, value_size] of a whole sequence
  /// whose tokens see each other in both directions; rows.count is its length, without any padding. Nothing
  /// is kept. Linear in the count for every method but softmax.
  virtual void encode(const Rows<T>& rows, HeadRows<T> out, ThreadPool& pool) const = 0;

  /// The cross form's one summary of an encoder's tokens, of which rows.k, rows.v and rows.summary_k are
  /// read. Throws Error where the layer has no summary: a local branch is of one sequence.
  virtual std::unique_ptr<Memory<T>> summarize(const Rows<T>& rows, ThreadPool& pool) const = 0;
  /// The cross form: outputs [heads, rows.count, value_size] of a decoder's queries, rows.q and
  /// rows.summary_q [heads, rows.count, head_size], each of which reads all of `memory`, which this layer
  /// made.
  virtual void read_memory(const Memory<T>& memory, const Rows<T>& rows, HeadRows<T> out,
                           ThreadPool& pool) const = 0;
  /// A memory of `length` tokens whose numbers are taken off the front of the bytes. Throws Error where there
  /// are fewer.
  virtual std::unique_ptr<Memory<T>> load_memory(int64_t length, std::span<const std::byte>& in) const = 0;
};

/// Throws Error where a layer has no summary, and so no cross form.
void check_cross(const AttentionConfig& config);

/// Learned tensors by their name after `linear_attention.`.
using ParameterTensors = std::map<std::string, TensorView, std::less<>>;

/// `rotation`: how the rows' k come of their summary_k and their positions. Null where nothing is known of
/// it: then sinks' keys stay as they stand, and a state holds both keys of a token where both are read.
/// Throws Error (where: `where` and the tensor's name) on a missing tensor, a wrong shape or a NaN.
template <class T>
std::unique_ptr<Attention<T>> make_attention(const AttentionConfig& config, const AttentionShape& shape,
                                             const ParameterTensors& parameters, const Rotation* rotation,
                                             const std::string& where);
/// What a sequence's state is under float32 arithmetic, from the config alone, in a model: one that says how
/// its keys turn.
StateLayout state_layout(const AttentionConfig& config, const AttentionShape& shape);

template <class T>
using MakeAttention = std::function<std::unique_ptr<Attention<T>>(
    const AttentionConfig&, const AttentionShape&, const ParameterTensors&, const Rotation*,
    const std::string&)>;
extern template std::unique_ptr<Attention<float>> make_attention<float>(const AttentionConfig&,
                                                                        const AttentionShape&,
                                                                        const ParameterTensors&,
                                                                        const Rotation*, const std::string&);
extern template std::unique_ptr<Attention<double>> make_attention<double>(const AttentionConfig&,
                                                                          const AttentionShape&,
                                                                          const ParameterTensors&,
                                                                          const Rotation*,
                                                                          const std::string&);

}  // namespace linnet

// Whole sequences through a stack's layers, nothing kept: what an Encoder computes, and what a Decoder reads
// a source with.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "attention/attention.h"
#include "base/array.h"
#include "base/thread_pool.h"
#include "model/encoder.h"
#include "model/forward.h"
#include "model/model.h"

namespace linnet {

/// What a decoder's layers, one each, remember of an encoder's rows.
template <class T>
using Memories = std::vector<std::shared_ptr<const Memory<T>>>;

/// Of an encoder's final rows [rows, hidden], by the cross-attention of `decoder`.
template <class T>
Memories<T> memories_of(Forward<T>& decoder, std::span<const T> encoded, ThreadPool& pool);

template <class T>
class WholeSequences {
 public:
  using Sequence = Encoder::Sequence;

  WholeSequences(std::shared_ptr<const Model> model, const WeightOptions& how, ThreadPool& pool,
                 const MakeAttention<T>& make = make_attention<T>);

  Forward<T>& forward() { return forward_; }
  /// As Encoder::longest().
  int64_t longest() const;
  /// The final rows of all tokens [Σ tokens, hidden], which stand until the next call. Sequences share
  /// products alone. `sources`: of a stack that reads an encoder, what each sequence reads. Throws Error as
  /// Encoder::encode() does.
  std::span<const T> run(std::span<const Sequence> sequences, std::span<const Memories<T>> sources = {});

 private:
  void check(const Sequence& sequence) const;
  void place(std::span<const Sequence> sequences);
  void attend(const Attention<T>& attention, const Rows<T>& rows, HeadRows<T> out) {
    if (model_->family().is_encoder()) return attention.encode(rows, out, pool_);
    attention.prefill(*attention.make_state(), rows, out, pool_);
  }

  std::shared_ptr<const Model> model_;
  ThreadPool& pool_;
  Forward<T> forward_;
  Activations<T> rows_;
};

extern template class WholeSequences<float>;
extern template class WholeSequences<double>;

}  // namespace linnet

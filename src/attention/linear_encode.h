// The bidirectional and the cross form of a linear layer (docs/attention.md), a key-value head at a time:
//
//     o_t = mix(L_t, G_t) + Σ_{j<K} w_j ⊙ v_{t+⌊K/2⌋−j}       bidirectional
//     o_t = finish(read(q_t, A))                                cross
//
// L_t is over the whole own group. G_t reads the summary of all tokens outside it, each weighing λ to the
// power of the groups between; without a local branch of all tokens (exclusive rows: outside the own group).
// Summaries are sums, so what lies outside a group is the sum of those before it and that of those after.
//
// Cost of a token: that of the causal form, and its fold three times in place of once. Memory beside the
// rows: about 2√(n/C) summaries a head.
#pragma once

#include <cstdint>

#include "attention/linear_layer.h"

namespace linnet {

/// The summary of an encoder's tokens, of every key-value head.
template <class T>
class LinearMemory final : public Memory<T> {
 public:
  LinearMemory(const LinearLayer<T>& layer, int64_t length)
      : size_(layer.layout.summary),
        numbers_(size_ * layer.shape.kv_heads),
        length_(length),
        slab_(zeroed<T>(numbers_)) {}

  int64_t length() const override { return length_; }
  size_t bytes() const override { return static_cast<size_t>(numbers_) * sizeof(T); }
  std::span<const T> numbers() const override { return {slab_.get(), static_cast<size_t>(numbers_)}; }
  T* head(int64_t kv_head) { return slab_.get() + kv_head * size_; }
  const T* head(int64_t kv_head) const { return slab_.get() + kv_head * size_; }

 private:
  int64_t size_, numbers_, length_;
  AlignedArray<T> slab_;
};

/// Outputs of the query heads of a key-value head: rows and out [heads, rows.count, ..].
template <class T>
void encode_head(const LinearLayer<T>& layer, int64_t kv_head, const Rows<T>& rows, HeadRows<T> out);

/// Adds all of the rows' tokens to an empty summary.
template <class T>
void summarize_head(const LinearLayer<T>& layer, int64_t kv_head, const Rows<T>& rows, T* summary);

/// Outputs of the query heads of a key-value head, each query reading a summary of `length` tokens; 0 where
/// there are none.
template <class T>
void read_head(const LinearLayer<T>& layer, int64_t kv_head, const T* summary, int64_t length,
               const Rows<T>& rows, HeadRows<T> out);

}  // namespace linnet

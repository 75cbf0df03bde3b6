// Keys and values in the type that a state holds them in, rounded where they enter a layer: the one place
// where they are. Every form, a token's own outputs included, computes with the rounded ones, so that it does
// not matter which of them come out of a state.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "attention/attention.h"
#include "base/bfloat16.h"

namespace linnet {

template <class T>
class HeldRows {
 public:
  /// `own_keys`: rows.summary_k is another than rows.k, and held too.
  const Rows<T>& enter(const AttentionShape& shape, const Rows<T>& rows, bool own_keys = false) {
    rows_ = rows;
    if (shape.state == StateType::kComputed) return rows_;
    const int64_t keys = shape.kv_heads * rows.count * shape.head_size;
    const int64_t numbers = (own_keys ? 2 : 1) * keys + shape.kv_heads * rows.count * shape.value_size;
    if (std::ssize(numbers_) < numbers) numbers_.resize(static_cast<size_t>(numbers));
    T* to = numbers_.data();
    rows_.k = rounded(rows.k, shape.kv_heads, rows.count, shape.head_size, to);
    rows_.v = rounded(rows.v, shape.kv_heads, rows.count, shape.value_size, to);
    if (own_keys) rows_.summary_k = rounded(rows.summary_k, shape.kv_heads, rows.count, shape.head_size, to);
    return rows_;
  }

 private:
  static HeadRows<const T> rounded(const HeadRows<const T>& rows, int64_t heads, int64_t count, int64_t size,
                                   T*& to) {
    const HeadRows<const T> made{to, count * size, size};
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t i = 0; i < count; ++i, to += size) {
        const T* from = rows.row(h, i);
        std::transform(from, from + size, to, [](T number) { return T(BFloat16(number)); });
      }
    }
    return made;
  }

  Rows<T> rows_;
  std::vector<T> numbers_;
};

}  // namespace linnet

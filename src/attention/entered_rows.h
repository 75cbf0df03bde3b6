// A caller's rows as a layer takes them.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/held_rows.h"
#include "attention/linear_layer.h"

namespace linnet {

/// A caller's rows as a layer takes them: the summary's own where it has some, of unit length where the row
/// wants that, keys and values rounded where a state holds them so. What is computed for it is held here.
template <class T>
class EnteredRows {
 public:
  /// For a state.
  const Rows<T>& enter(const LinearLayer<T>& layer, const Rows<T>& rows) {
    const bool own = layer.shape.reads_apart(layer.config);
    rows_ = held_.enter(layer.shape, enter_stateless(layer, rows), own && !layer.turns_back());
    if (!own) rows_.summary_k = rows_.k;
    return rows_;
  }

  /// For a form without one. Rows that it does not read may be null.
  const Rows<T>& enter_stateless(const LinearLayer<T>& layer, const Rows<T>& rows) {
    rows_ = rows;
    const bool own = layer.shape.reads_apart(layer.config);
    if (layer.config.method->unit_rows) {
      const int64_t heads = layer.shape.heads, kv_heads = layer.shape.kv_heads, size = layer.shape.head_size;
      numbers_.resize((own ? 2 : 1) * (heads + kv_heads) * rows.count * size);
      T* to = numbers_.data();
      rows_.q = unit(rows.q, heads, rows.count, size, to);
      rows_.k = unit(rows.k, kv_heads, rows.count, size, to);
      if (own) rows_.summary_q = unit(rows.summary_q, heads, rows.count, size, to);
      if (own) rows_.summary_k = unit(rows.summary_k, kv_heads, rows.count, size, to);
    }
    if (!own) rows_.summary_q = rows_.q, rows_.summary_k = rows_.k;
    return rows_;
  }

 private:
  static HeadRows<const T> unit(const HeadRows<const T>& rows, int64_t heads, int64_t count, int64_t size,
                                T*& to) {
    if (rows.data == nullptr) return rows;  // a form that does not read them
    const HeadRows<const T> made{to, count * size, size};
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t i = 0; i < count; ++i, to += size) {
        const T* from = rows.row(h, i);
        T squares = 0;
        for (int64_t x = 0; x < size; ++x) squares += from[x] * from[x];
        const T scale = T(1) / std::max(std::sqrt(squares), T(kEpsilon));
        for (int64_t x = 0; x < size; ++x) to[x] = from[x] * scale;
      }
    }
    return made;
  }

  Rows<T> rows_;
  std::vector<T> numbers_;
  HeldRows<T> held_;
};

}  // namespace linnet

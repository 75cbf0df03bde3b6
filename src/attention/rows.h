// Moving rows of heads between the caller's layout and the padded matrices that the kernels read.
#pragma once

#include <algorithm>
#include <cstdint>

#include "attention/attention.h"
#include "kernels/cpu/attention_kernels.h"

namespace linnet {

/// One row of `size` numbers, zero from there to `row`. S: T, or the type in which a state holds it.
template <class T, class S>
void gather_row(const T* from, int64_t size, int64_t row, S* to) {
  std::transform(from, from + size, to, [](T number) { return S(number); });
  std::fill(to + size, to + row, S(T(0)));
}

/// to[x * stride + s] = from(s)[x]: rows as columns, for products over tokens.
template <class T>
void transpose_rows(const HeadRows<const T>& rows, int64_t head, int64_t first, int64_t count, int64_t size,
                    T* to, int64_t stride) {
  for (int64_t x = 0; x < size; ++x, to += stride) {
    const T* from = rows.row(head, first) + x;
    for (int64_t s = 0; s < count; ++s) to[s] = from[s * rows.row_stride];
  }
}

/// Rows of query heads first_head … first_head + heads − 1: [heads · count, row], of each head those at
/// index(0) … index(count − 1), times `by`, zero past `size`.
template <class T, class Index>
void gather_queries(const HeadRows<const T>& from, int64_t first_head, int64_t heads, int64_t count,
                    const Index& index, int64_t size, T by, T* to, int64_t row) {
  for (int64_t r = 0; r < heads * count; ++r, to += row) {
    const T* query = from.row(first_head + r / count, index(r % count));
    for (int64_t x = 0; x < size; ++x) to[x] = query[x] * by;
    std::fill(to + size, to + row, T(0));
  }
}

/// Rows from the first-th on.
template <class T>
HeadRows<T> from_row(const HeadRows<T>& rows, int64_t first) {
  return {rows.data ? rows.data + first * rows.row_stride : nullptr, rows.head_stride, rows.row_stride};
}

template <class T>
Rows<T> part_of(const Rows<T>& rows, int64_t first, int64_t count) {
  return {count,
          from_row(rows.q, first),
          from_row(rows.k, first),
          from_row(rows.v, first),
          from_row(rows.summary_q, first),
          from_row(rows.summary_k, first)};
}

}  // namespace linnet

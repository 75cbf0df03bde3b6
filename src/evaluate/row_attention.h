// Exact softmax over one row of text whose last tokens are read again and again, some heads limited in what
// they see: keys and values by position, where those of a new reading take the place of the old.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/attention.h"
#include "base/array.h"

namespace linnet {

/// What the query heads of a key-value head see: the last `window` tokens, the own one included (0: all), and
/// the first `sinks`, at most 64.
struct HeadSight {
  int kv_head = 0;
  int64_t window = 0;
  int64_t sinks = 0;
};

template <class T>
class RowAttention {
 public:
  /// Room for `tokens` tokens. `score_cap`: as AttentionConfig's.
  RowAttention(const AttentionShape& shape, int64_t tokens, double score_cap = 0);

  /// Keys and values of rows.count tokens from `position` on.
  void store(const Rows<T>& rows, int64_t position, ThreadPool& pool);
  /// Outputs [heads, rows.count, value_size] of the query heads of each key-value head in `sights`, for the
  /// queries of tokens from `position` on; all tokens up to the last of them are stored.
  void attend(const Rows<T>& rows, int64_t position, std::span<const HeadSight> sights, HeadRows<T> out,
              ThreadPool& pool) const;

 private:
  void attend_tile(const Rows<T>& rows, int64_t first, int64_t count, int64_t position,
                   const HeadSight& sight, HeadRows<T> out) const;
  const T* keys(int64_t kv_head, int64_t block) const;  // [d, block's tokens]
  const T* values(int64_t kv_head, int64_t block) const;

  AttentionShape shape_;
  T cap_;  // of scores; 0: none
  int64_t blocks_, value_row_, head_size_;
  AlignedArray<T> numbers_;  // [kv_heads, blocks]: keys as columns, then values as rows
};

extern template class RowAttention<float>;
extern template class RowAttention<double>;

}  // namespace linnet

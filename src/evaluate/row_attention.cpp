#include "evaluate/row_attention.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

#include "attention/rows.h"
#include "base/scratch.h"
#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/elementwise.h"

namespace linnet {
namespace {

constexpr int64_t kBlock = 64;        // tokens whose keys and values stand together
constexpr int64_t kTileQueries = 32;  // queries that read a block together

}  // namespace

template <class T>
RowAttention<T>::RowAttention(const AttentionShape& shape, int64_t tokens, double score_cap)
    : shape_(shape),
      cap_(T(score_cap)),
      blocks_((tokens + kBlock - 1) / kBlock),
      value_row_(kernels::padded(shape.value_size)),
      head_size_(kBlock * (shape.head_size + value_row_)),
      numbers_(zeroed<T>(shape.kv_heads * blocks_ * head_size_)) {}

template <class T>
const T* RowAttention<T>::keys(int64_t kv_head, int64_t block) const {
  return numbers_.get() + (kv_head * blocks_ + block) * head_size_;
}
template <class T>
const T* RowAttention<T>::values(int64_t kv_head, int64_t block) const {
  return keys(kv_head, block) + kBlock * shape_.head_size;
}

template <class T>
void RowAttention<T>::store(const Rows<T>& rows, int64_t position, ThreadPool& pool) {
  pool.run(static_cast<size_t>(shape_.kv_heads), [&](size_t g) {
    const auto kv_head = static_cast<int64_t>(g);
    for (int64_t i = 0; i < rows.count; ++i) {
      const int64_t at = position + i, place = at % kBlock;
      T* block = numbers_.get() + (kv_head * blocks_ + at / kBlock) * head_size_;
      const T* key = rows.k.row(kv_head, i);
      for (int64_t x = 0; x < shape_.head_size; ++x) block[x * kBlock + place] = key[x];
      gather_row(rows.v.row(kv_head, i), shape_.value_size, value_row_,
                 block + kBlock * shape_.head_size + place * value_row_);
    }
  });
}

template <class T>
void RowAttention<T>::attend(const Rows<T>& rows, int64_t position, std::span<const HeadSight> sights,
                             HeadRows<T> out, ThreadPool& pool) const {
  const int64_t tile = std::max<int64_t>(1, kTileQueries / (shape_.heads / shape_.kv_heads));
  const auto tiles = static_cast<size_t>((rows.count + tile - 1) / tile);
  pool.run(sights.size() * tiles, [&](size_t item) {
    const int64_t first = static_cast<int64_t>(item % tiles) * tile;
    attend_tile(rows, first, std::min(tile, rows.count - first), position + first, sights[item / tiles], out);
  });
}

/// Of rows first … first + count − 1, the first of them at `position`.
template <class T>
void RowAttention<T>::attend_tile(const Rows<T>& rows, int64_t first, int64_t count, int64_t position,
                                  const HeadSight& sight, HeadRows<T> out) const {
  Scratch& scratch = Scratch::of_thread();
  const Scratch::Scope scope(scratch);
  const int64_t d = shape_.head_size, repeat = shape_.heads / shape_.kv_heads, queries = repeat * count;
  const auto seen_from = [&](int64_t at) {
    return sight.window > 0 ? std::max<int64_t>(0, at - sight.window + 1) : 0;
  };
  // The sinks' block stands before the window's where that does not begin with it.
  assert(sight.sinks <= kBlock);
  const int64_t base = seen_from(position) / kBlock, end = (position + count + kBlock - 1) / kBlock;
  const int64_t lead = base > 0 && sight.sinks > 0 ? 1 : 0, blocks = lead + end - base, row = blocks * kBlock;
  const auto block_at = [&](int64_t b) { return lead > 0 && b == 0 ? 0 : base + b - lead; };

  T* q = scratch.take<T>(queries * d);
  gather_queries(
      rows.q, sight.kv_head * repeat, repeat, count, [&](int64_t i) { return first + i; }, d,
      T(1) / std::sqrt(T(d)), q, d);
  T* scores = scratch.take<T>(queries * row);
  for (int64_t b = 0; b < blocks; ++b)
    kernels::matmul(queries, kBlock, d, q, d, keys(sight.kv_head, block_at(b)), kBlock, scores + b * kBlock,
                    row, false);
  T* sums = scratch.take<T>(queries);
  for (int64_t r = 0; r < queries; ++r) {
    T* x = scores + r * row;
    const int64_t at = position + r % count, place = (lead - base) * kBlock;  // of token 0 among the scores
    const int64_t from = seen_from(at) + place, visible = at + 1 + place;
    const int64_t hidden = std::min(from, sight.sinks);
    kernels::cap(x, visible, cap_);
    std::fill(x + hidden, x + from, -std::numeric_limits<T>::infinity());
    sums[r] = kernels::exponentiate(x, visible);
    std::fill(x + visible, x + row, T(0));
  }
  T* sum = scratch.take<T>(queries * value_row_);
  std::fill_n(sum, queries * value_row_, T(0));
  for (int64_t b = 0; b < blocks; ++b)
    kernels::matmul(queries, value_row_, kBlock, scores + b * kBlock, row, values(sight.kv_head, block_at(b)),
                    value_row_, sum, value_row_, true);
  for (int64_t r = 0; r < queries; ++r) {
    T* to = out.row(sight.kv_head * repeat + r / count, first + r % count);
    for (int64_t x = 0; x < shape_.value_size; ++x) to[x] = sum[r * value_row_ + x] / sums[r];
  }
}

template class RowAttention<float>;
template class RowAttention<double>;

}  // namespace linnet

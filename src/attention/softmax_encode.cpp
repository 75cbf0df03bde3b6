#include "attention/softmax_encode.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "attention/distance_bias.h"
#include "attention/rows.h"
#include "attention/state_bytes.h"
#include "base/scratch.h"
#include "kernels/cpu/elementwise.h"

namespace linnet {
namespace {

using kernels::padded;

constexpr int64_t kReadersATile = 32;  // queries that read the keys together

/// Of each key-value head: keys as columns [d, key_row], values [n, value_row].
template <class T>
class SoftmaxMemory final : public Memory<T> {
 public:
  SoftmaxMemory(const AttentionShape& shape, int64_t length)
      : key_row(padded(length)),
        value_row(padded(shape.value_size)),
        head_(shape.head_size * key_row + length * value_row),
        numbers_(head_ * shape.kv_heads),
        length_(length),
        slab_(zeroed<T>(numbers_)),
        values_(shape.head_size * key_row) {}
  SoftmaxMemory(const AttentionShape& shape, const Rows<T>& rows) : SoftmaxMemory(shape, rows.count) {
    for (int64_t g = 0; g < shape.kv_heads; ++g) {
      T* keys = slab_.get() + g * head_;
      transpose_rows(rows.k, g, 0, rows.count, shape.head_size, keys, key_row);
      for (int64_t i = 0; i < rows.count; ++i) {
        gather_row(rows.v.row(g, i), shape.value_size, value_row, keys + values_ + i * value_row);
      }
    }
  }

  int64_t length() const override { return length_; }
  size_t bytes() const override { return static_cast<size_t>(numbers_) * sizeof(T); }
  std::span<const T> numbers() const override { return {slab_.get(), static_cast<size_t>(numbers_)}; }
  T* data() { return slab_.get(); }
  const T* keys(int64_t kv_head) const { return slab_.get() + kv_head * head_; }
  const T* values(int64_t kv_head) const { return keys(kv_head) + values_; }

  const int64_t key_row, value_row;

 private:
  int64_t head_, numbers_, length_;
  AlignedArray<T> slab_;
  int64_t values_;
};

/// Rows first … first + count − 1 of one query head.
template <class T>
void read_tile(const AttentionShape& shape, const SoftmaxMemory<T>& memory, int64_t head, int64_t first,
               int64_t count, const Rows<T>& rows, int64_t window, T cap, HeadRows<T> out) {
  Scratch& scratch = Scratch::of_thread();
  const Scratch::Scope scope(scratch);
  const int64_t d = shape.head_size, kv_head = head * shape.kv_heads / shape.heads;
  // What any of the tile's queries sees, from a multiple of kPad on.
  int64_t begin = 0, end = memory.length();
  if (window > 0) {
    begin = std::max<int64_t>(0, first - window + 1) / kernels::kPad * kernels::kPad;
    end = std::min(end, first + count - 1 + window);
  }
  const int64_t seen = end - begin, row = padded(seen);
  T* queries = scratch.take<T>(count * d);
  const T scale = T(1) / std::sqrt(T(d));
  for (int64_t r = 0; r < count; ++r) {
    const T* from = rows.q.row(head, first + r);
    for (int64_t x = 0; x < d; ++x) queries[r * d + x] = from[x] * scale;
  }
  T* scores = scratch.take<T>(count * row);
  kernels::matmul(count, row, d, queries, d, memory.keys(kv_head) + begin, memory.key_row, scores, row,
                  false);
  T* sums = scratch.take<T>(count);
  for (int64_t r = 0; r < count; ++r) {
    T* x = scores + r * row;
    kernels::cap(x, seen, cap);
    if (shape.bias != nullptr) shape.bias->add(head, begin - (first + r), seen, x);
    if (window > 0) {
      constexpr T kHidden = -std::numeric_limits<T>::infinity();
      const int64_t position = first + r - begin;
      std::fill(x, x + std::max<int64_t>(0, position - window + 1), kHidden);
      std::fill(x + std::min(seen, position + window), x + seen, kHidden);
    }
    sums[r] = kernels::exponentiate(x, seen);
  }
  T* totals = scratch.take<T>(count * memory.value_row);
  kernels::matmul(count, memory.value_row, seen, scores, row,
                  memory.values(kv_head) + begin * memory.value_row, memory.value_row, totals,
                  memory.value_row, false);
  for (int64_t r = 0; r < count; ++r) {
    T* to = out.row(head, first + r);
    for (int64_t x = 0; x < shape.value_size; ++x) to[x] = totals[r * memory.value_row + x] / sums[r];
  }
}

}  // namespace

template <class T>
std::unique_ptr<Memory<T>> remember_softmax(const AttentionShape& shape, const Rows<T>& rows) {
  return std::make_unique<SoftmaxMemory<T>>(shape, rows);
}

template <class T>
std::unique_ptr<Memory<T>> load_softmax(const AttentionShape& shape, int64_t length,
                                        std::span<const std::byte>& in) {
  require_bytes(in, static_cast<size_t>(length));  // before room is made
  auto memory = std::make_unique<SoftmaxMemory<T>>(shape, length);
  read_numbers(in, memory->data(), std::ssize(memory->numbers()));
  return memory;
}

template <class T>
void read_softmax(const AttentionShape& shape, const Memory<T>& memory, const Rows<T>& rows, int64_t window,
                  T cap, HeadRows<T> out, ThreadPool& pool) {
  const auto& own = static_cast<const SoftmaxMemory<T>&>(memory);
  const int64_t tiles = (rows.count + kReadersATile - 1) / kReadersATile;
  pool.run(shape.heads * tiles, [&](size_t item) {
    const int64_t head = static_cast<int64_t>(item) / tiles,
                  first = static_cast<int64_t>(item) % tiles * kReadersATile;
    const int64_t count = std::min(kReadersATile, rows.count - first);
    if (own.length() > 0) {
      read_tile(shape, own, head, first, count, rows, window, cap, out);
    } else {
      for (int64_t r = 0; r < count; ++r) std::fill_n(out.row(head, first + r), shape.value_size, T(0));
    }
  });
}

template std::unique_ptr<Memory<float>> remember_softmax(const AttentionShape&, const Rows<float>&);
template std::unique_ptr<Memory<double>> remember_softmax(const AttentionShape&, const Rows<double>&);
template std::unique_ptr<Memory<float>> load_softmax(const AttentionShape&, int64_t,
                                                     std::span<const std::byte>&);
template std::unique_ptr<Memory<double>> load_softmax(const AttentionShape&, int64_t,
                                                      std::span<const std::byte>&);
template void read_softmax(const AttentionShape&, const Memory<float>&, const Rows<float>&, int64_t, float,
                           HeadRows<float>, ThreadPool&);
template void read_softmax(const AttentionShape&, const Memory<double>&, const Rows<double>&, int64_t, double,
                           HeadRows<double>, ThreadPool&);

}  // namespace linnet

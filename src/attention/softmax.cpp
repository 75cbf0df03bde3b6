#include "attention/softmax.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "attention/distance_bias.h"
#include "attention/held_rows.h"
#include "attention/method.h"
#include "attention/paths.h"
#include "attention/rows.h"
#include "attention/softmax_encode.h"
#include "attention/state_bytes.h"
#include "base/scratch.h"
#include "kernels/cpu/elementwise.h"

namespace linnet {
namespace {

using kernels::padded;

constexpr int64_t kBlock = 64;      // tokens of a cache block
constexpr int64_t kRowsATile = 32;  // queries that read a block together
constexpr int64_t kPrefill = 512;   // tokens that enter the cache before they are attended to

/// The cache: blocks of kBlock tokens by absolute position. A block holds for each key-value head the keys as
/// columns [d, kBlock] and the values [kBlock, padded e], in type S.
template <class T, class S>
class SoftmaxState final : public State<T> {
 public:
  SoftmaxState(const AttentionShape& shape, int64_t window) : shape_(shape), window_(window) {}

  int64_t length() const override { return length_; }
  size_t bytes() const override {
    return static_cast<size_t>((length_ - first()) * shape_.kv_heads *
                               (shape_.head_size + shape_.value_size)) *
           sizeof(S);
  }
  void reset() override {
    for (auto& block : blocks_) spare_.push_back(std::move(block));
    blocks_.clear();
    first_block_ = length_ = 0;
  }

  std::unique_ptr<State<T>> clone() const override {
    auto copy = std::make_unique<SoftmaxState>(shape_, window_);
    copy->length_ = length_;
    copy->first_block_ = first_block_;
    for (const auto& block : blocks_) {
      copy->blocks_.push_back(zeroed<S>(block_size()));
      std::copy_n(block.get(), block_size(), copy->blocks_.back().get());
    }
    return copy;
  }

  void save(std::vector<std::byte>& out) const override {
    append_signature(out, signature(), length_);
    std::vector<S> key(shape_.head_size);
    for (int g = 0; g < shape_.kv_heads; ++g) {
      for (int64_t s = first(); s < length_; ++s) {
        const S* column = keys(g, s / kBlock) + s % kBlock;
        for (size_t x = 0; x < key.size(); ++x) key[x] = column[x * kBlock];
        append_numbers(out, key.data(), shape_.head_size);
        append_numbers(out, values(g, s / kBlock) + s % kBlock * value_row(), shape_.value_size);
      }
    }
  }

  void load(std::span<const std::byte>& in) override {
    auto rest = in;
    SoftmaxState aside(shape_, window_);
    aside.length_ = read_signature(rest, signature());
    aside.first_block_ = first_needed(aside.length_) / kBlock;
    const int64_t held = aside.length_ - aside.first();
    const int64_t numbers = shape_.kv_heads * (shape_.head_size + shape_.value_size);
    if (held > static_cast<int64_t>(rest.size()) / numbers) read_bytes(rest, nullptr, rest.size() + 1);
    std::vector<S> key(shape_.head_size);
    for (int64_t b = aside.first_block_; b * kBlock < aside.length_; ++b) aside.add_block();
    for (int g = 0; g < shape_.kv_heads; ++g) {
      for (int64_t s = aside.first(); s < aside.length_; ++s) {
        read_numbers(rest, key.data(), shape_.head_size);
        S* column = aside.keys(g, s / kBlock) + s % kBlock;
        for (size_t x = 0; x < key.size(); ++x) column[x * kBlock] = key[x];
        read_numbers(rest, aside.values(g, s / kBlock) + s % kBlock * value_row(), shape_.value_size);
      }
    }
    in = rest;
    *this = std::move(aside);
  }

  int64_t value_row() const { return padded(shape_.value_size); }
  S* keys(int64_t kv_head, int64_t block) {  // [d, kBlock]
    return blocks_[block - first_block_].get() + kv_head * head_size();
  }
  const S* keys(int64_t kv_head, int64_t block) const {
    return blocks_[block - first_block_].get() + kv_head * head_size();
  }
  S* values(int64_t kv_head, int64_t block) {  // [kBlock, padded e]
    return keys(kv_head, block) + shape_.head_size * kBlock;
  }
  const S* values(int64_t kv_head, int64_t block) const {
    return keys(kv_head, block) + shape_.head_size * kBlock;
  }

  /// Makes room for `count` more tokens; they are stored by store() and become visible by advance().
  void reserve(int64_t count) {
    while ((first_block_ + static_cast<int64_t>(blocks_.size())) * kBlock < length_ + count) add_block();
  }
  /// Stores row `index` of a key-value head as the token at `position`.
  void store(const Rows<T>& rows, int64_t index, int64_t kv_head, int64_t position) {
    S* column = keys(kv_head, position / kBlock) + position % kBlock;
    const T* key = rows.k.row(kv_head, index);
    for (int64_t x = 0; x < shape_.head_size; ++x) column[x * kBlock] = S(key[x]);
    S* value = values(kv_head, position / kBlock) + position % kBlock * value_row();
    gather_row(rows.v.row(kv_head, index), shape_.value_size, value_row(), value);
  }
  /// The stored tokens count; blocks that no later token sees are taken back.
  void advance(int64_t count) {
    length_ += count;
    while ((first_block_ + 1) * kBlock <= first_needed(length_) && !blocks_.empty()) {
      spare_.push_back(std::move(blocks_.front()));
      blocks_.erase(blocks_.begin());
      ++first_block_;
    }
  }

 private:
  /// The first token that the next position sees.
  int64_t first_needed(int64_t length) const {
    return window_ > 0 ? std::max<int64_t>(0, length - window_ + 1) : 0;
  }
  int64_t first() const { return std::min(length_, first_block_ * kBlock); }
  int64_t head_size() const { return kBlock * (shape_.head_size + value_row()); }
  int64_t block_size() const { return shape_.kv_heads * head_size(); }
  Signature signature() const {
    return {std::string(softmax_method().name),
            {{"size of keys and values", sizeof(S)},
             {"key-value heads", shape_.kv_heads},
             {"head size", shape_.head_size},
             {"value size", shape_.value_size},
             {"window", window_}}};
  }
  void add_block() {
    if (spare_.empty()) {
      blocks_.push_back(zeroed<S>(block_size()));
    } else {
      blocks_.push_back(std::move(spare_.back()));
      spare_.pop_back();
    }
  }

  AttentionShape shape_;
  int64_t window_ = 0, length_ = 0, first_block_ = 0;
  std::vector<AlignedArray<S>> blocks_, spare_;
};

/// Tokens that are not in the cache: a tree's nodes with one key-value head's keys and values.
template <class T>
struct Branches {
  const Paths* paths = nullptr;
  const T* keys = nullptr;    // [d, padded nodes]
  const T* values = nullptr;  // [nodes, padded e]
};

template <class T, class S>
class SoftmaxAttention final : public Attention<T> {
 public:
  SoftmaxAttention(const AttentionConfig& config, const AttentionShape& shape)
      : shape_(shape),
        window_(config.window),
        repeat_(shape.heads / shape.kv_heads),
        cap_(T(config.score_cap)) {}

  StateLayout layout() const override { return {}; }
  std::unique_ptr<State<T>> make_state() const override {
    return std::make_unique<SoftmaxState<T, S>>(shape_, window_);
  }

  void attend(const State<T>& state, const TokenTree& tree, const Rows<T>& rows, HeadRows<T> out,
              ThreadPool& pool) const override {
    const StateTree<T> branch{&state, &tree};
    attend_all({&branch, 1}, rows, out, pool);
  }

  void attend_all(std::span<const StateTree<T>> branches, const Rows<T>& given, HeadRows<T> out,
                  ThreadPool& pool) const override {
    thread_local HeldRows<T> held;
    const Rows<T>& rows = held.enter(shape_, given);
    thread_local std::vector<Paths> paths;
    if (paths.size() < branches.size()) paths.resize(branches.size());
    for (size_t b = 0; b < branches.size(); ++b) paths[b].assign(*branches[b].tree);
    const std::vector<Paths>& all = paths;  // the caller's, for every worker
    pool.run(branches.size() * static_cast<size_t>(shape_.kv_heads), [&](size_t item) {
      const size_t b = item % branches.size();
      int64_t first = 0;
      for (size_t before = 0; before < b; ++before) first += all[before].size();
      attend_head(static_cast<const SoftmaxState<T, S>&>(*branches[b].state), all[b], item / branches.size(),
                  part_of(rows, first, all[b].size()), from_row(out, first));
    });
  }

  void commit(State<T>& state, std::span<const int32_t> path, const Rows<T>& rows,  // store() rounds
              ThreadPool&) const override {
    auto& cache = static_cast<SoftmaxState<T, S>&>(state);
    const auto count = static_cast<int64_t>(path.size());
    cache.reserve(count);
    for (int64_t i = 0; i < count; ++i) {
      for (int g = 0; g < shape_.kv_heads; ++g) cache.store(rows, path[i], g, cache.length() + i);
    }
    cache.advance(count);
  }

  void prefill(State<T>& state, const Rows<T>& given, HeadRows<T> out, ThreadPool& pool) const override {
    thread_local HeldRows<T> held;
    const Rows<T>& rows = held.enter(shape_, given);
    auto& cache = static_cast<SoftmaxState<T, S>&>(state);
    const int64_t tile = tile_tokens();
    for (int64_t first = 0; first < rows.count; first += kPrefill) {
      const int64_t count = std::min(kPrefill, rows.count - first), start = cache.length();
      cache.reserve(count);
      pool.run(shape_.kv_heads, [&](size_t g) {
        for (int64_t i = 0; i < count; ++i) cache.store(rows, first + i, g, start + i);
      });
      const int64_t tiles = (count + tile - 1) / tile;
      pool.run(shape_.kv_heads * tiles, [&](size_t item) {
        const int64_t kv_head = item % shape_.kv_heads, from = item / shape_.kv_heads * tile;
        Tile block{first + from, std::min(tile, count - from), start + from, 0};
        block.end = block.position + block.count;
        attend_tile(cache, Branches<T>{}, kv_head, block, rows, out);
      });
      cache.advance(count);
    }
  }

  void encode(const Rows<T>& rows, HeadRows<T> out, ThreadPool& pool) const override {
    read_softmax<T>(shape_, *summarize(rows, pool), rows, window_, cap_, out, pool);
  }
  std::unique_ptr<Memory<T>> summarize(const Rows<T>& rows, ThreadPool&) const override {
    return remember_softmax<T>(shape_, rows);
  }
  std::unique_ptr<Memory<T>> load_memory(int64_t length, std::span<const std::byte>& in) const override {
    return load_softmax<T>(shape_, length, in);
  }
  void read_memory(const Memory<T>& memory, const Rows<T>& rows, HeadRows<T> out,
                   ThreadPool& pool) const override {
    read_softmax<T>(shape_, memory, rows, 0, cap_, out, pool);
  }

 private:
  /// Queries of rows first … first + count − 1. In the cache: the tokens before `end`. The first row's
  /// position is `position`, the next ones' follow; of tree nodes it is the cache's end plus their depth.
  struct Tile {
    int64_t first, count, position, end;
  };

  int64_t tile_tokens() const { return std::max<int64_t>(1, kRowsATile / repeat_); }

  void attend_head(const SoftmaxState<T, S>& cache, const Paths& paths, int64_t kv_head, const Rows<T>& rows,
                   HeadRows<T> out) const {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    const int64_t nodes = paths.size(), stride = padded(nodes), value_row = padded(shape_.value_size);
    T* keys = scratch.take<T>(shape_.head_size * stride);
    std::fill_n(keys, shape_.head_size * stride, T(0));
    transpose_rows(rows.k, kv_head, 0, nodes, shape_.head_size, keys, stride);
    T* values = scratch.take<T>(nodes * value_row);
    for (int64_t i = 0; i < nodes; ++i) {
      gather_row(rows.v.row(kv_head, i), shape_.value_size, value_row, values + i * value_row);
    }
    for (int64_t first = 0; first < nodes; first += tile_tokens()) {
      const int64_t count = std::min(tile_tokens(), nodes - first);
      attend_tile(cache, {&paths, keys, values}, kv_head, {first, count, cache.length(), cache.length()},
                  rows, out);
    }
  }

  void attend_tile(const SoftmaxState<T, S>& cache, const Branches<T>& branches, int64_t kv_head,
                   const Tile& tile, const Rows<T>& rows, HeadRows<T> out) const {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    const int64_t d = shape_.head_size, value_row = padded(shape_.value_size);
    const int64_t count = repeat_ * tile.count;  // row r * tile.count + i: query head r of the group, token i
    // Scores begin at a block's start, so that a token's place in its row never depends on the tile.
    const int64_t seen = window_ > 0 ? std::max<int64_t>(0, tile.position - window_ + 1) : 0;
    const int64_t base = seen / kBlock * kBlock, end_block = (tile.end + kBlock - 1) / kBlock;
    const int64_t longest = branches.paths ? branches.paths->longest() : 0;
    const int64_t row = end_block * kBlock - base + padded(longest) + kBlock;

    T* q = scratch.take<T>(count * d);
    const T scale = T(1) / std::sqrt(T(d));
    for (int64_t r = 0; r < count; ++r) {
      const T* from = rows.q.row(kv_head * repeat_ + r / tile.count, tile.first + r % tile.count);
      for (int64_t x = 0; x < d; ++x) q[r * d + x] = from[x] * scale;
    }
    T* scores = scratch.take<T>(count * row);
    for (int64_t b = base / kBlock; b < end_block; ++b) {
      kernels::matmul(count, kBlock, d, q, d, cache.keys(kv_head, b), kBlock, scores + b * kBlock - base, row,
                      false);
    }
    T* branch_scores = nullptr;
    const int64_t branch_row = branches.paths ? padded(branches.paths->size()) : 0;
    if (branches.paths) {
      branch_scores = scratch.take<T>(count * branch_row);
      kernels::matmul(count, branch_row, d, q, d, branches.keys, branch_row, branch_scores, branch_row,
                      false);
    }

    T* sums = scratch.take<T>(count);
    for (int64_t r = 0; r < count; ++r) {
      T* x = scores + r * row;
      int64_t position = tile.position + r % tile.count;
      if (branches.paths) {
        const auto path = branches.paths->path(tile.first + r % tile.count);
        position = tile.position + static_cast<int64_t>(path.size()) - 1;
        T* tail = x + tile.end - base;
        for (int32_t node : path) *tail++ = branch_scores[r * branch_row + node];
      }
      const int64_t from = window_ > 0 ? std::max<int64_t>(0, position - window_ + 1) : 0;
      std::fill_n(x, from - base, -std::numeric_limits<T>::infinity());
      const int64_t visible = position + 1 - base;
      kernels::cap(x + from - base, position + 1 - from, cap_);
      if (shape_.bias != nullptr) {
        shape_.bias->add(kv_head * repeat_ + r / tile.count, from - position, position + 1 - from,
                         x + from - base);
      }
      sums[r] = kernels::exponentiate(x, visible);
      if (tile.end - base > visible) std::fill(x + visible, x + tile.end - base, T(0));
    }

    T* sum = scratch.take<T>(count * value_row);
    std::fill_n(sum, count * value_row, T(0));
    for (int64_t b = base / kBlock; b < end_block; ++b) {
      kernels::matmul(count, value_row, std::min(kBlock, tile.end - b * kBlock), scores + b * kBlock - base,
                      row, cache.values(kv_head, b), value_row, sum, value_row, true);
    }
    for (int64_t r = 0; r < count; ++r) {
      const int64_t index = tile.first + r % tile.count;
      T* total = sum + r * value_row;
      if (branches.paths) {
        const auto path = branches.paths->path(static_cast<int32_t>(index));
        kernels::add_weighted_rows(scores + r * row + tile.end - base, path.data(),
                                   static_cast<int64_t>(path.size()), branches.values, value_row, value_row,
                                   total);
      }
      T* to = out.row(kv_head * repeat_ + r / tile.count, index);
      for (int64_t x = 0; x < shape_.value_size; ++x) to[x] = total[x] / sums[r];
    }
  }

  AttentionShape shape_;
  int64_t window_, repeat_;
  T cap_;
};

}  // namespace

size_t windowed_state_bytes(const AttentionShape& shape, int64_t window, size_t number_size) {
  const int64_t numbers = int64_t{shape.kv_heads} * (shape.head_size + shape.value_size);
  // The next token sees the last window − 1 of them; before those stands at most a block less one.
  return static_cast<size_t>((window - 1 + kBlock - 1) * numbers) * number_size;
}

template <class T>
std::unique_ptr<Attention<T>> make_softmax(const AttentionConfig& config, const AttentionShape& shape) {
  if (shape.state == StateType::kBFloat16)
    return std::make_unique<SoftmaxAttention<T, BFloat16>>(config, shape);
  return std::make_unique<SoftmaxAttention<T, T>>(config, shape);
}
template std::unique_ptr<Attention<float>> make_softmax(const AttentionConfig&, const AttentionShape&);
template std::unique_ptr<Attention<double>> make_softmax(const AttentionConfig&, const AttentionShape&);

}  // namespace linnet

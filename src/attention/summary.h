// What a method is of its own: an additive summary of tokens, and how a query reads it together with tokens
// that have not been added yet. Everything else (which tokens are where, folding, trees, mix) stands in
// linear_layer.cpp and linear_nodes.cpp.
//
// Matrices are padded as kernels/cpu/attention_kernels.h says. Tokens stand as columns of keys and as rows of
// values, so that a score row is a product over the head size and an output a product over tokens.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "attention/paths.h"
#include "base/scratch.h"

namespace linnet {

/// Learned tensors in the type of computation, checked: every spec of the config is there.
template <class T>
using Parameters = std::map<std::string, std::vector<T>, std::less<>>;

/// Rows of a slab, in numbers: row i is `size` numbers at offset + i * row.
struct PaddedMatrix {
  int64_t offset, rows, size, row;
};
inline int64_t padded_end(std::span<const PaddedMatrix> matrices) {
  return matrices.empty() ? 0 : matrices.back().offset + matrices.back().rows * matrices.back().row;
}
inline int64_t numbers_in(std::span<const PaddedMatrix> matrices) {
  int64_t numbers = 0;
  for (const PaddedMatrix& x : matrices) numbers += x.rows * x.size;
  return numbers;
}

/// Consecutive tokens of one key-value head. S: the type in which a state holds them, where they lie in one.
template <class T, class S = T>
struct TokenBlock {
  const S* keys;  // [d, key_row], one column a token; readable to padded(count)
  int64_t key_row;
  const S* values;  // [count, value_row]
  int64_t value_row;
  int64_t count;
  int64_t position;  // of the first token
  T weight;          // with which each enters the summary
};

/// Queries of one key-value head and all that they see globally: a summary, and tokens not in it yet.
template <class T>
struct Reading {
  int64_t kv_head, first_head, heads;  // query heads first_head … first_head + heads − 1
  int64_t tokens;                      // queries of each head
  const T* queries;                    // [heads · tokens, query_row], zero past d
  int64_t query_row;
  const int32_t* nodes;  // [tokens] each query's node, an index into paths and branches; null without these
  const T* summary;
  int64_t folded;  // tokens in it

  std::span<const TokenBlock<T>> blocks;  // every query sees them; in position order
  TokenBlock<T> branches;                 // the tree's nodes in index order; of count 0 where none is global
  const Paths* paths;
  // Of its path a query sees the places path_begin up to path_end, or up to the path's end where that comes
  // before.
  int64_t path_begin, path_end;
  const T* path_weights;  // [path_end] by place in the path

  /// The nodes of row r's path that it sees globally, in position order.
  std::span<const int32_t> path(int64_t r) const {
    if (branches.count == 0) return {};
    const auto whole = paths->path(nodes[r % tokens]);
    const int64_t end = std::min<int64_t>(path_end, whole.size());
    if (end <= path_begin) return {};
    return whole.subspan(path_begin, end - path_begin);
  }
  /// Committed tokens that are not in the summary.
  int64_t waiting() const {
    int64_t count = 0;
    for (const auto& block : blocks) count += block.count;
    return count;
  }
  /// How many tokens row r sees globally.
  int64_t seen(int64_t r) const { return folded + waiting() + static_cast<int64_t>(path(r).size()); }
};

/// What queries read, one row per query, before any division or norm.
template <class T>
struct SummaryRead {
  T* numerators;  // [heads · tokens, row]
  int64_t row;
  T* denominators;  // [heads · tokens]
  T* exponents;     // [heads · tokens]: both are to be multiplied by exp of this; 0 unless the method scales
};

template <class T>
class Summary {
 public:
  virtual ~Summary() = default;
  /// Where a key-value head's numbers stand, from 0 on; the rest is padding.
  virtual std::vector<PaddedMatrix> matrices() const = 0;
  /// summary += Σ_s weight · add(k_s, v_s, s), in position order.
  virtual void add(int64_t kv_head, T* summary, const TokenBlock<T>& tokens) const = 0;
  /// summary ·= weight (decay).
  virtual void scale(T* summary, T weight) const = 0;
  /// into += other, the summary of other tokens of the same head. Here number by number.
  virtual void merge(T* into, const T* other) const {
    for (const PaddedMatrix& x : matrices()) {
      for (int64_t i = x.offset; i < x.offset + x.rows * x.row; ++i) into[i] += other[i];
    }
  }
  /// ‖v_s − what the summary recalls at k_s‖ of each of the tokens (docs/mathematics.md section 1, "Kept
  /// tokens") into surprises [tokens.count]. Of summaries of features alone: kept tokens go with no other.
  virtual void surprises(int64_t /*kv_head*/, const T* /*summary*/, const TokenBlock<T>& tokens,
                         T* surprises) const {
    std::fill_n(surprises, tokens.count, T(0));
  }
  virtual void read(const Reading<T>& reading, const SummaryRead<T>& out) const = 0;
  /// One row's numerator made the summary's output: divided, normed.
  virtual void finish(int64_t head, T* numerator, T denominator) const = 0;
};

}  // namespace linnet

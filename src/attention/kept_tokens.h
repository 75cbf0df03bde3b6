// Kept tokens of a key-value head (docs/mathematics.md section 1, "Kept tokens"): of all folded tokens the M
// that the summary recalled worst when they were folded, in position order, the older first of equals.
//
// They stand as columns of keys and rows of values beside their surprise and position. A key is rotated to
// where the token stands; once readers are past the trained positions and it would stand further back than
// was trained, to position m, the number of sinks: such keys and the sinks' are read by queries that are
// turned back by as many positions as readers are past (LinearLayer::turn_of), so that no key is turned
// twice.
#pragma once

#include <cstdint>
#include <type_traits>
#include <vector>

#include "attention/attention.h"
#include "attention/summary.h"
#include "kernels/cpu/attention_kernels.h"

namespace linnet {

/// What a state holds of one key-value head, or its kept tokens: numbers in the type of sums, and keys and
/// values of tokens in the type S that the state holds them in (StateType).
template <class T, class S>
struct Part {
  T* numbers = nullptr;
  S* tokens = nullptr;

  Part from(int64_t number, int64_t token) const { return {numbers + number, tokens + token}; }
  operator Part<const T, const S>() const  // NOLINT: as of pointers
      requires(!std::is_const_v<T>) {
    return {numbers, tokens};
  }
};

/// Where kept tokens stand, from where they begin: keys and values among a part's tokens, the rest among its
/// numbers.
struct KeptLayout {
  int64_t tokens = 0;  // M
  int64_t key_row = 0, value_row = 0;
  int64_t values = 0, token_size = 0;
  int64_t surprises = 0, upper = 0, lower = 0, size = 0;

  KeptLayout() = default;
  KeptLayout(int64_t kept, const AttentionShape& shape)
      : tokens(kept), value_row(kernels::padded(shape.value_size)) {
    if (tokens == 0) return;
    key_row = kernels::padded(tokens);
    if (key_row % 64 == 0) key_row += kernels::kPad;  // as the ring's
    const int64_t row = kernels::padded(tokens);
    values = shape.head_size * key_row;
    token_size = values + tokens * value_row;
    upper = surprises + row;
    lower = upper + row;
    size = lower + row;
  }

  /// Adds the matrices of a part in which kept tokens begin at `begin` of its numbers and `token_begin` of
  /// its tokens.
  void append_matrices(int64_t begin, int64_t token_begin, const AttentionShape& shape,
                       std::vector<PaddedMatrix>& numbers, std::vector<PaddedMatrix>& held) const {
    if (tokens == 0) return;
    held.push_back({token_begin, shape.head_size, tokens, key_row});
    held.push_back({token_begin + values, tokens, shape.value_size, value_row});
    for (const int64_t row : {surprises, upper, lower}) {
      numbers.push_back({begin + row, 1, tokens, kernels::padded(tokens)});
    }
  }

  /// The position of kept token i. Stored as two numbers that a float holds exactly: what stands in a saved
  /// file is a position or 0.
  template <class T>
  int64_t position(const T* kept, int64_t i) const {  // the kept tokens' numbers
    const T high = kept[upper + i], low = kept[lower + i];
    const bool sound = high >= T(0) && high <= T(kRadix) && low >= T(0) && low < T(kRadix);
    return sound ? static_cast<int64_t>(high) * kRadix + static_cast<int64_t>(low) : 0;
  }
  template <class T>
  void set_position(T* kept, int64_t i, int64_t position) const {
    kept[upper + i] = T(position / kRadix);
    kept[lower + i] = T(position % kRadix);
  }

 private:
  static constexpr int64_t kRadix = int64_t{1} << 24;
};

/// The surprise of the token at `position` under the rule `random`, in [0, 1): what every form of every
/// machine draws for it. A float, so that float32 and float64 keep the same tokens.
float random_surprise(int64_t position);

/// Takes a block's tokens among the kept ones, of which there are `held`, and drops those of least surprise
/// beyond M. `block` are the tokens with their keys as the local branch reads them, `surprises` [block.count]
/// theirs. Returns how many of those that were held before still are.
template <class T, class S>
int64_t keep_most_surprising(const KeptLayout& layout, int64_t head_size, const Part<T, S>& kept,
                             int64_t held, const TokenBlock<T, S>& block, const T* surprises);

}  // namespace linnet

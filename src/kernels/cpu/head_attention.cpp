#include "kernels/cpu/head_attention.h"

#include <algorithm>
#include <cassert>

#include "base/scratch.h"
#include "kernels/cpu/attention_kernels.h"

namespace linnet::kernels {
namespace {

constexpr int64_t kBlock = 32;  // queries at a time: their scores and a window's keys share the caches

/// y [columns, rows] of x [rows, columns], times `scale`; y's columns from `rows` to `y_row` are 0.
template <class T>
void turn(const T* x, int64_t rows, int64_t columns, int64_t x_row, T scale, T* y, int64_t y_row) {
  constexpr int64_t kTile = 16;
  for (int64_t i = 0; i < rows; i += kTile) {
    const int64_t last = std::min(rows, i + kTile);
    for (int64_t j = 0; j < columns; ++j) {
      for (int64_t r = i; r < last; ++r) y[j * y_row + r] = x[r * x_row + j] * scale;
    }
  }
  for (int64_t j = 0; j < columns; ++j) std::fill(y + j * y_row + rows, y + (j + 1) * y_row, T(0));
}

/// A row of `count` columns, and room to read a padded piece from any of them on; no power of two, which
/// would put a column's numbers into a few of the cache's sets.
int64_t turned_row(int64_t count) {
  const int64_t row = padded(count) + kPad;
  return row % (2 * kPad) == 0 ? row + kPad : row;
}

/// Some queries of one group and the keys that they see: the sinks apart and the window, one behind the
/// other.
struct Block {
  int64_t first, count;    // queries
  int64_t document, from;  // the document's first token; the window's
  int64_t sinks, keys;     // of each how many
  int64_t number, group;   // the group's in its document, and in the row
  int64_t seen;            // tokens that stand in what the queries read of the summary

  int64_t all() const { return sinks + keys; }
  /// Keys that the i-th query sees.
  int64_t visible(int64_t i) const { return sinks + first + i + 1 - from; }
};

class Blocks {
 public:
  explicit Blocks(const HeadShape& shape) : shape_(shape) {}

  int64_t groups() const { return (shape_.length + shape_.group - 1) / shape_.group; }
  int64_t begin(int64_t group) const { return group * shape_.group; }
  int64_t end(int64_t group) const { return std::min(shape_.length, begin(group) + shape_.group); }
  int64_t number(int64_t group) const { return shape_.number[group]; }
  /// Whether the group reads sums.
  bool reads(int64_t group) const { return number(group) >= shape_.window; }
  /// The first token that enters the sum of the group that `group`, which reads, is the first to read.
  int64_t folded_begin(int64_t group) const {
    return begin(group - shape_.window) + (number(group) == shape_.window ? shape_.sinks : 0);
  }
  int64_t folded_end(int64_t group) const { return end(group - shape_.window); }
  /// Keys of a block at most.
  int64_t most_keys() const { return shape_.sinks + std::min(shape_.length, shape_.window * shape_.group); }

  template <class F>
  void each(int64_t group, const F& f) const {
    const int64_t own = number(group), far = std::min(own, shape_.window - 1);
    Block block;
    block.document = begin(group) - own * shape_.group;
    block.from = begin(group) - far * shape_.group;
    block.sinks = reads(group) ? shape_.sinks : 0;
    block.number = own, block.group = group;
    block.seen = (own - shape_.window + 1) * shape_.group - shape_.sinks;
    for (block.first = begin(group); block.first < end(group); block.first += kBlock) {
      block.count = std::min(kBlock, end(group) - block.first);
      block.keys = block.first + block.count - block.from;
      f(block);
    }
  }

 private:
  const HeadShape& shape_;
};

/// Rows of a block's queries [count, size] times its keys, turned: [count, sinks + keys]; what stands behind
/// is written too, up to the next multiple of kPad from the window's first on.
template <class T>
void times_keys(const Block& block, const T* x, int64_t x_row, int64_t size, const T* turned,
                int64_t turned_row, T* y, int64_t y_row) {
  if (block.sinks > 0)
    matmul(block.count, padded(block.sinks), size, x, x_row, turned + block.document, turned_row, y, y_row,
           false);
  matmul(block.count, padded(block.keys), size, x, x_row, turned + block.from, turned_row, y + block.sinks,
         y_row, false);
}

/// A block's weights [count, sinks + keys] times the rows of its keys.
template <class T>
void times_rows(const Block& block, const T* weights, int64_t row, const HeadsOfRows<const T>& x,
                int64_t size, T* y, int64_t y_row) {
  if (block.sinks > 0)
    matmul(block.count, size, block.sinks, weights, row, x.at(0, block.document), x.row, y, y_row, false);
  matmul(block.count, size, block.keys, weights + block.sinks, row, x.at(0, block.from), x.row, y, y_row,
         block.sinks > 0);
}

/// The rows of a block's keys += its weights, turned, times x [count, size].
template <class T>
void add_turned(const Block& block, const T* weights, int64_t row, const T* x, int64_t x_row, int64_t size,
                const HeadsOfRows<T>& y) {
  if (block.sinks > 0)
    matmul_transposed(block.sinks, size, block.count, weights, row, x, x_row, y.at(0, block.document), y.row,
                      true);
  matmul_transposed(block.keys, size, block.count, weights + block.sinks, row, x, x_row, y.at(0, block.from),
                    y.row, true);
}

/// Scores of a block's queries to weights: exponentials, 0 where hidden, and each row's sum.
template <class T>
void weigh(const Block& block, T* scores, int64_t row, T* sums) {
  for (int64_t i = 0; i < block.count; ++i) {
    T* const own = scores + i * row;
    const int64_t visible = block.visible(i);
    sums[i] = exponentiate(own, visible);
    if (padded(visible) < block.all()) std::fill(own + padded(visible), own + block.all(), T(0));
  }
}

/// sum = λ sum, or 0 where it starts.
template <class T>
void fade(T* sum, int64_t count, T decay, bool starts) {
  if (starts) {
    std::fill_n(sum, count, T(0));
  } else if (decay != T(1)) {
    for (int64_t i = 0; i < count; ++i) sum[i] *= decay;
  }
}

/// out += the sum of the rows of x, each times its weight.
template <class T>
void add_rows(const T* weights, int64_t count, const T* x, int64_t x_row, int64_t size, T* out) {
  matmul(int64_t{1}, size, count, weights, int64_t{0}, x, x_row, out, size, true);
}

}  // namespace

template <class T>
void head_attention(const HeadShape& shape, const HeadInputs<T>& in, const HeadsOfRows<T>& out) {
  const Blocks blocks(shape);
  const int64_t d = shape.size, e = shape.value_size, f = shape.features, row = turned_row(shape.length),
                scores_row = turned_row(blocks.most_keys());
  Scratch& scratch = Scratch::of_thread();
  const Scratch::Scope scope(scratch);
  T* const keys = scratch.take<T>(d * row);
  T* const scores = scratch.take<T>(kBlock * scores_row);
  T* const local = scratch.take<T>(kBlock * e);
  T* const global = scratch.take<T>(kBlock * e);
  T* const sums = scratch.take<T>(kBlock);
  T* const state = scratch.take<T>((e + 1) * f);  // S [f, e] and z
  T* const ones = scratch.take<T>(shape.group);
  T* const z = state + e * f;
  std::fill_n(ones, shape.group, T(1));
  turn(in.k.numbers, shape.length, d, in.k.row, static_cast<T>(shape.scale), keys, row);
  for (int64_t group = 0; group < blocks.groups(); ++group) {
    if (blocks.reads(group)) {
      fade(state, (e + 1) * f, in.decay, blocks.number(group) == shape.window);
      const int64_t first = blocks.folded_begin(group), count = blocks.folded_end(group) - first;
      matmul_transposed(f, e, count, in.phi_k.at(0, first), in.phi_k.row, in.v.at(0, first), in.v.row, state,
                        e, true);
      add_rows(ones, count, in.phi_k.at(0, first), in.phi_k.row, f, z);
    }
    blocks.each(group, [&](const Block& block) {
      for (int64_t r = 0; r < shape.queries; ++r) {
        times_keys(block, in.q.at(r, block.first), in.q.row, d, keys, row, scores, scores_row);
        weigh(block, scores, scores_row, sums);
        times_rows(block, scores, scores_row, in.v, e, local, e);
        if (block.seen > 0)
          matmul(block.count, e, f, in.phi_q.at(r, block.first), in.phi_q.row, state, e, global, e, false);
        for (int64_t i = 0; i < block.count; ++i) {
          const int64_t token = block.first + i;
          const T *const l = local + i * e, *const n = global + i * e;
          T* const o = out.at(r, token);
          T near = 1 / sums[i];
          if (block.seen <= 0) {
            for (int64_t j = 0; j < e; ++j) o[j] = near * l[j];
            continue;
          }
          const T alpha = *in.alpha.at(r, token);
          const T far =
              (1 - alpha) / std::max(dot(in.phi_q.at(r, token), z, f), static_cast<T>(shape.epsilon));
          near *= alpha;
          for (int64_t j = 0; j < e; ++j) o[j] = near * l[j] + far * n[j];
        }
      }
    });
  }
}

// Groups are walked backward, with the gradient of the sum that each reads; the sums themselves were made
// before, all of them, turned: S[g]ᵀ [e, f] and z[g] behind.
template <class T>
void head_attention_backward(const HeadShape& shape, const HeadInputs<T>& in,
                             const HeadsOfRows<const T>& gradient, const HeadGradients<T>& out) {
  const Blocks blocks(shape);
  const int64_t d = shape.size, e = shape.value_size, f = shape.features, row = turned_row(shape.length),
                scores_row = turned_row(blocks.most_keys()), groups = blocks.groups(), all = (e + 1) * f;
  Scratch& scratch = Scratch::of_thread();
  const Scratch::Scope scope(scratch);
  T* const keys = scratch.take<T>(d * row);
  T* const values = scratch.take<T>(e * row);
  T* const weights = scratch.take<T>(kBlock * scores_row);
  T* const slopes = scratch.take<T>(kBlock * scores_row);  // of weights, then of scores
  T* const sums = scratch.take<T>(kBlock);
  T* const read = scratch.take<T>(kBlock * f);        // the gradient times Sᵀ
  T* const numerators = scratch.take<T>(kBlock * e);  // the gradients of φ(q)ᵀS, and of φ(q)·z
  T* const denominators = scratch.take<T>(kBlock);
  T* const states = scratch.take<T>(groups * all);
  T* const sum = scratch.take<T>(all);  // the gradient of the sum that a group reads, as states
  T* const turned = scratch.take<T>(e * f);
  T* const ones = scratch.take<T>(shape.group);
  std::fill_n(ones, shape.group, T(1));
  turn(in.k.numbers, shape.length, d, in.k.row, static_cast<T>(shape.scale), keys, row);
  turn(in.v.numbers, shape.length, e, in.v.row, T(1), values, row);
  for (int64_t token = 0; token < shape.length; ++token) {
    std::fill_n(out.k.at(0, token), d, T(0));
    std::fill_n(out.v.at(0, token), e, T(0));
    std::fill_n(out.phi_k.at(0, token), f, T(0));
  }
  for (int64_t group = 0; group < groups; ++group) {
    if (!blocks.reads(group)) continue;
    T* const state = states + group * all;
    const bool starts = blocks.number(group) == shape.window;
    if (!starts) std::copy_n(state - all, all, state);
    fade(state, all, in.decay, starts);
    const int64_t first = blocks.folded_begin(group), count = blocks.folded_end(group) - first;
    matmul_transposed(e, f, count, in.v.at(0, first), in.v.row, in.phi_k.at(0, first), in.phi_k.row, state, f,
                      true);
    add_rows(ones, count, in.phi_k.at(0, first), in.phi_k.row, f, state + e * f);
  }
  *out.log_decay = 0;
  for (int64_t group = groups - 1; group >= 0; --group) {
    const T* const state = states + group * all;
    const T* const z = state + e * f;
    const bool reads = blocks.reads(group), last = group + 1 == groups || blocks.number(group + 1) == 0;
    if (reads) fade(sum, all, in.decay, last);
    blocks.each(group, [&](const Block& block) {
      for (int64_t r = 0; r < shape.queries; ++r) {
        const T *const q = in.q.at(r, block.first), *const given = gradient.at(r, block.first);
        times_keys(block, q, in.q.row, d, keys, row, weights, scores_row);
        weigh(block, weights, scores_row, sums);
        times_keys(block, given, gradient.row, e, values, row, slopes, scores_row);
        const bool sees = block.seen > 0;
        if (sees) matmul(block.count, f, e, given, gradient.row, state, f, read, f, false);
        for (int64_t i = 0; i < block.count; ++i) {
          const int64_t token = block.first + i, visible = block.visible(i);
          const T alpha = sees ? *in.alpha.at(r, token) : T(1);
          T *const own = weights + i * scores_row, *const slope = slopes + i * scores_row;
          const T near = softmax_gradient(own, slope, visible, sums[i], alpha, static_cast<T>(shape.scale));
          if (padded(visible) < block.all()) std::fill(slope + padded(visible), slope + block.all(), T(0));
          T* const dphi = out.phi_q.at(r, token);
          if (!sees) {
            std::fill_n(dphi, f, T(0));
            *out.alpha.at(r, token) = 0;
            continue;
          }
          const T* const phi = in.phi_q.at(r, token);
          const T divided = dot(phi, z, f), by = std::max(divided, static_cast<T>(shape.epsilon));
          const T far = dot(read + i * f, phi, f) / by, share = (1 - alpha) / by;
          *out.alpha.at(r, token) = near - far;
          denominators[i] = divided >= static_cast<T>(shape.epsilon) ? -share * far : T(0);
          for (int64_t j = 0; j < f; ++j) dphi[j] = share * read[i * f + j] + denominators[i] * z[j];
          const T* const g = gradient.at(r, token);
          for (int64_t j = 0; j < e; ++j) numerators[i * e + j] = share * g[j];
        }
        times_rows(block, slopes, scores_row, in.k, d, out.q.at(r, block.first), out.q.row);
        add_turned(block, slopes, scores_row, q, in.q.row, d, out.k);
        add_turned(block, weights, scores_row, given, gradient.row, e, out.v);
        if (!sees) continue;
        const T* const phi = in.phi_q.at(r, block.first);
        matmul_transposed(e, f, block.count, numerators, e, phi, in.phi_q.row, sum, f, true);
        add_rows(denominators, block.count, phi, in.phi_q.row, f, sum + e * f);
      }
    });
    if (!reads) continue;
    const int64_t first = blocks.folded_begin(group), count = blocks.folded_end(group) - first;
    turn(sum, e, f, f, T(1), turned, e);
    for (int64_t i = 0; i < count; ++i) std::copy_n(sum + e * f, f, out.phi_k.at(0, first + i));
    matmul(count, f, e, in.v.at(0, first), in.v.row, sum, f, out.phi_k.at(0, first), out.phi_k.row, true);
    matmul(count, e, f, in.phi_k.at(0, first), in.phi_k.row, turned, e, out.v.at(0, first), out.v.row, true);
    if (blocks.number(group) > shape.window) *out.log_decay += in.decay * dot(sum, state - all, all);
  }
}

template void head_attention(const HeadShape&, const HeadInputs<float>&, const HeadsOfRows<float>&);
template void head_attention(const HeadShape&, const HeadInputs<double>&, const HeadsOfRows<double>&);
template void head_attention_backward(const HeadShape&, const HeadInputs<float>&,
                                      const HeadsOfRows<const float>&, const HeadGradients<float>&);
template void head_attention_backward(const HeadShape&, const HeadInputs<double>&,
                                      const HeadsOfRows<const double>&, const HeadGradients<double>&);

}  // namespace linnet::kernels

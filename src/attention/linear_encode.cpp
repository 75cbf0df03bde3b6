#include "attention/linear_encode.h"

#include <algorithm>
#include <cmath>

#include "attention/distance_bias.h"
#include "attention/rows.h"

namespace linnet {
namespace {

using kernels::padded;

/// One key-value head's pass over a whole sequence, or over queries that read a memory.
template <class T>
class EncodePass {
 public:
  EncodePass(const LinearLayer<T>& layer, int64_t kv_head, const Rows<T>& rows, HeadRows<T> out)
      : layer_(layer),
        kv_head_(kv_head),
        rows_(rows),
        out_(out),
        group_(layer.config.group),
        groups_((rows.count + group_ - 1) / group_),
        value_row_(layer.layout.value_row),
        query_row_(padded(layer.shape.head_size)),
        scratch_(Scratch::of_thread()) {}

  /// summary += the tokens of a group.
  void add(int64_t group, T* summary) const {
    const Scratch::Scope scope(scratch_);
    layer_.summary->add(kv_head_, summary, block(rows_.summary_k, group));
  }

  void encode() {
    if (!layer_.summary) {
      for (int64_t g = 0; g < groups_; ++g) attend_group(g, nullptr, 0);
    } else if (layer_.local || !layer_.config.method->inclusive) {
      encode_others();
    } else {
      const AlignedArray<T> all = zeroed<T>(layer_.layout.summary);
      for (int64_t g = 0; g < groups_; ++g) add(g, all.get());
      for (int64_t g = 0; g < groups_; ++g) attend_group(g, all.get(), rows_.count);
    }
  }

  /// Rows first … first + count − 1 read `far`, a summary of `folded` tokens (null or none: nothing), and the
  /// group's own block (null: no local branch).
  void attend_tile(int64_t first, int64_t count, const T* far, int64_t folded,
                   const TokenBlock<T>* near) const {
    const Scratch::Scope scope(scratch_);
    const int64_t rows = layer_.repeat * count;
    const bool any = far != nullptr && folded > 0;
    T* local = scratch_.take<T>(rows * value_row_);
    T* denominators = scratch_.take<T>(rows);
    std::fill_n(local, rows * value_row_, T(0));
    std::fill_n(denominators, rows, T(1));
    SummaryRead<T> read{};
    const T* queries = nullptr;
    if (any) {
      queries = queries_of(rows_.summary_q, first, count, T(1));
      read = {scratch_.take<T>(rows * value_row_), value_row_, scratch_.take<T>(rows),
              scratch_.take<T>(rows)};
      std::fill_n(read.exponents, rows, T(0));
      layer_.summary->read(layer_.reading(kv_head_, queries, count, far, folded), read);
    }
    if (near) read_local(first, count, *near, local, denominators);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t head = kv_head_ * layer_.repeat + r / count, token = first + r % count;
      T* row = local + r * value_row_;
      if (any && near) {
        layer_.mix(head, queries + r * query_row_, row, denominators[r], read, r);
      } else if (any) {
        row = read.numerators + r * value_row_;
        layer_.summary->finish(head, row, read.denominators[r]);
      } else {
        for (int64_t i = 0; i < value_row_; ++i) row[i] /= denominators[r];
      }
      if (rows_.v.data) convolve(head, token, row);  // a memory's readers have no values
      std::copy_n(row, layer_.shape.value_size, out_.row(head, token));
    }
  }

  template <class Attend>
  void tiles(int64_t begin, int64_t end, const Attend& attend) const {
    const int64_t tile = std::max<int64_t>(1, kTileRows / layer_.repeat);
    for (int64_t first = begin; first < end; first += tile) attend(first, std::min(tile, end - first));
  }

 private:
  int64_t begin_of(int64_t group) const { return group * group_; }
  int64_t end_of(int64_t group) const { return std::min(rows_.count, (group + 1) * group_); }

  /// A group's tokens, in scratch.
  TokenBlock<T> block(const HeadRows<const T>& keys, int64_t group) const {
    const int64_t begin = begin_of(group), count = end_of(group) - begin, row = padded(count);
    T* columns = scratch_.take<T>(layer_.shape.head_size * row);
    std::fill_n(columns, layer_.shape.head_size * row, T(0));
    transpose_rows(keys, kv_head_, begin, count, layer_.shape.head_size, columns, row);
    T* values = scratch_.take<T>(count * value_row_);
    for (int64_t i = 0; i < count; ++i) {
      gather_row(rows_.v.row(kv_head_, begin + i), layer_.shape.value_size, value_row_,
                 values + i * value_row_);
    }
    return {columns, row, values, value_row_, count, begin, T(1)};
  }

  /// The sum that the next group reads of what lies on this side of it: it fades, then takes in the group
  /// between.
  void pass_over(int64_t group, T* summary) const {
    if (layer_.decays[kv_head_] != T(1)) layer_.summary->scale(summary, layer_.decays[kv_head_]);
    add(group, summary);
  }

  // Each group reads what stands before it and what stands after it. The sums before are made from the front;
  // of √groups of them at a time, since a summary may be large, starting from those that were kept on a first
  // way through. Then the groups are taken from the back, with one sum of those after.
  void encode_others() {
    const int64_t size = layer_.layout.summary;
    const int64_t stride = 1 + static_cast<int64_t>(std::sqrt(static_cast<double>(groups_)));
    const int64_t runs = (groups_ + stride - 1) / stride;
    const AlignedArray<T> starts = zeroed<T>(runs * size), before = zeroed<T>(stride * size),
                          after = zeroed<T>(size);
    for (int64_t run = 1; run < runs; ++run) {
      T* start = starts.get() + run * size;
      std::copy_n(start - size, size, start);
      for (int64_t g = (run - 1) * stride; g < run * stride; ++g) pass_over(g, start);
    }
    for (int64_t run = runs - 1; run >= 0; --run) {
      const int64_t first = run * stride, end = std::min(groups_, first + stride);
      std::copy_n(starts.get() + run * size, size, before.get());
      for (int64_t g = first + 1; g < end; ++g) {
        T* sums = before.get() + (g - first) * size;
        std::copy_n(sums - size, size, sums);
        pass_over(g - 1, sums);
      }
      for (int64_t g = end - 1; g >= first; --g) {
        T* others = before.get() + (g - first) * size;
        layer_.summary->merge(others, after.get());
        attend_group(g, others, rows_.count - (end_of(g) - begin_of(g)));
        if (g > 0) pass_over(g, after.get());
      }
    }
  }

  void attend_group(int64_t group, const T* summary, int64_t folded) const {
    const Scratch::Scope scope(scratch_);
    TokenBlock<T> near{};
    if (layer_.local) near = block(rows_.k, group);
    tiles(begin_of(group), end_of(group), [&](int64_t first, int64_t count) {
      attend_tile(first, count, summary, folded, layer_.local ? &near : nullptr);
    });
  }

  T* queries_of(const HeadRows<const T>& from, int64_t first, int64_t count, T by) const {
    T* queries = scratch_.take<T>(layer_.repeat * count * query_row_);
    gather_queries(
        from, kv_head_ * layer_.repeat, layer_.repeat, count, [&](int64_t i) { return first + i; },
        layer_.shape.head_size, by, queries, query_row_);
    return queries;
  }

  void read_local(int64_t first, int64_t count, const TokenBlock<T>& near, T* numerators,
                  T* denominators) const {
    const int64_t rows = layer_.repeat * count, row = near.key_row, d = layer_.shape.head_size;
    const T* queries = queries_of(rows_.q, first, count, layer_.score_scale);
    T* scores = scratch_.take<T>(rows * row);
    kernels::matmul(rows, row, d, queries, query_row_, near.keys, near.key_row, scores, row, false);
    T* squares = nullptr;
    if (layer_.local->needs_lengths()) {
      squares = scratch_.take<T>(row);
      kernels::column_squares(d, row, near.keys, near.key_row, squares);
    }
    for (int64_t r = 0; r < rows; ++r) {
      const T* query = queries + r * query_row_;
      const T square = squares ? kernels::dot(query, query, query_row_) : T(0);
      if (const DistanceBias* bias = layer_.local->bias()) {
        const int64_t position = first + r % count;
        bias->add(kv_head_ * layer_.repeat + r / count, near.position - position, near.count,
                  scores + r * row);
      }
      denominators[r] = layer_.local->weigh(scores + r * row, near.count, squares, square);
    }
    kernels::matmul(rows, value_row_, near.count, scores, row, near.values, value_row_, numerators,
                    value_row_, false);
    for (int64_t r = 0; r < rows; ++r) {
      layer_.local->finish(kv_head_ * layer_.repeat + r / count, numerators + r * value_row_);
    }
  }

  // row += Σ_j taps_j ⊙ v of token t + ⌊K/2⌋ − j, where there is one.
  void convolve(int64_t head, int64_t token, T* row) const {
    const int64_t taps = layer_.config.taps;
    for (int64_t j = 0; j < taps; ++j) {
      const int64_t from = token + taps / 2 - j;
      if (from < 0 || from >= rows_.count) continue;
      const T* tap = layer_.taps.data() + (head * taps + j) * value_row_;
      const T* value = rows_.v.row(kv_head_, from);
      for (int64_t i = 0; i < layer_.shape.value_size; ++i) row[i] += tap[i] * value[i];
    }
  }

  const LinearLayer<T>& layer_;
  const int64_t kv_head_;
  const Rows<T>& rows_;
  const HeadRows<T> out_;
  const int64_t group_, groups_, value_row_, query_row_;
  Scratch& scratch_;
};

}  // namespace

template <class T>
void encode_head(const LinearLayer<T>& layer, int64_t kv_head, const Rows<T>& rows, HeadRows<T> out) {
  EncodePass<T>(layer, kv_head, rows, out).encode();
}

template <class T>
void summarize_head(const LinearLayer<T>& layer, int64_t kv_head, const Rows<T>& rows, T* summary) {
  const EncodePass<T> pass(layer, kv_head, rows, {});
  for (int64_t g = 0; g * layer.config.group < rows.count; ++g) pass.add(g, summary);
}

template <class T>
void read_head(const LinearLayer<T>& layer, int64_t kv_head, const T* summary, int64_t length,
               const Rows<T>& rows, HeadRows<T> out) {
  Rows<T> queries = rows;
  queries.v = {};
  const EncodePass<T> pass(layer, kv_head, queries, out);
  pass.tiles(0, rows.count,
             [&](int64_t first, int64_t count) { pass.attend_tile(first, count, summary, length, nullptr); });
}

template void encode_head(const LinearLayer<float>&, int64_t, const Rows<float>&, HeadRows<float>);
template void encode_head(const LinearLayer<double>&, int64_t, const Rows<double>&, HeadRows<double>);
template void summarize_head(const LinearLayer<float>&, int64_t, const Rows<float>&, float*);
template void summarize_head(const LinearLayer<double>&, int64_t, const Rows<double>&, double*);
template void read_head(const LinearLayer<float>&, int64_t, const float*, int64_t, const Rows<float>&,
                        HeadRows<float>);
template void read_head(const LinearLayer<double>&, int64_t, const double*, int64_t, const Rows<double>&,
                        HeadRows<double>);

}  // namespace linnet

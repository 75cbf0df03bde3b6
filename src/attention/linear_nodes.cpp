#include "attention/linear_nodes.h"

#include <array>
#include <cmath>
#include <numeric>

#include "attention/distance_bias.h"
#include "attention/rows.h"

namespace linnet {

using kernels::padded;

void NodePlan::assign_chain(int32_t nodes, int64_t group) {
  paths.assign_chain(nodes);
  order.resize(nodes);
  std::iota(order.begin(), order.end(), 0);
  buckets.assign(1, {group, 0, nodes});
}

void NodePlan::assign(const TokenTree& tree, int64_t length, int64_t group) {
  paths.assign(tree);
  order.clear();
  buckets.clear();
  const int64_t first = length / group, last = (length + paths.longest() - 1) / group;
  for (int64_t g = first; g <= last; ++g) {
    const auto begin = static_cast<int32_t>(order.size());
    for (int32_t i = 0; i < tree.size(); ++i) {
      if ((length + tree.depth(i)) / group == g) order.push_back(i);
    }
    buckets.push_back({g, begin, static_cast<int32_t>(order.size()) - begin});
  }
}

namespace {

/// One key-value head's pass over all nodes. S: the type in which the state holds keys and values.
template <class T, class S>
class HeadPass {
 public:
  HeadPass(const LinearLayer<T>& layer, int64_t kv_head, const Part<const T, const S>& part, int64_t length,
           const Paths& paths, const Rows<T>& rows, HeadRows<T> out)
      : layer_(layer),
        layout_(layer.layout),
        kv_head_(kv_head),
        part_(part),
        length_(length),
        paths_(paths),
        rows_(rows),
        out_(out),
        nodes_(rows.count),
        node_row_(padded(rows.count)),
        value_row_(layout_.value_row),
        query_row_(padded(layer.shape.head_size)),
        scratch_(Scratch::of_thread()),
        scope_(scratch_) {}

  void run(std::span<const int32_t> order, std::span<const NodePlan::Bucket> buckets) {
    gather_nodes();
    int64_t group = length_ / layer_.config.group;
    summary_ = part_.numbers;
    kept_ = part_.from(layout_.kept_begin, layout_.kept_token_begin);
    T* version = nullptr;  // summary and kept tokens as later groups read them: committed blocks folded
    Part<T, S> kept;
    for (const auto& bucket : buckets) {
      const auto nodes = order.subspan(bucket.first, bucket.count);
      if (layer_.keeps_uncommitted(bucket.group, length_)) {
        for (const int32_t node : nodes) attend_after_path(node);
        continue;
      }
      if (layer_.summary && bucket.group > group) {
        if (!version) {
          version = scratch_.take<T>(layout_.summary);
          std::copy_n(summary_, layout_.summary, version);
          kept = copied(kept_, layout_.kept.size, layout_.kept.token_size);
          summary_ = version;
          kept_ = kept;
        }
        while (group < bucket.group) layer_.enter_group(kv_head_, version, kept, part_, ++group, length_);
      }
      const Scratch::Scope scope(scratch_);
      begin_bucket(bucket);
      const int64_t tile = std::max<int64_t>(1, kTileRows / layer_.repeat);
      for (int64_t i = 0; i < bucket.count; i += tile) {
        attend_tile(nodes.subspan(i, std::min<int64_t>(tile, bucket.count - i)));
      }
    }
  }

 private:
  // A node deeper than a group, for which a block folds that is not all committed: its own path's tokens may
  // be kept. It is the one node that follows its path.
  void attend_after_path(int32_t node) {
    const Scratch::Scope scope(scratch_);
    const auto path = paths_.path(node);
    const auto depth = static_cast<int64_t>(path.size()) - 1;
    const Part<T, S> part = copied(part_, layout_.size, layout_.token_size);
    for (int64_t j = 0; j < depth; ++j) layer_.append(kv_head_, part, rows_, path[j], length_ + j);
    NodePlan single;
    single.assign_chain(1, (length_ + depth) / layer_.config.group);
    const Rows<T> row = part_of(rows_, node, 1);
    HeadPass(layer_, kv_head_, part, length_ + depth, single.paths, row, from_row(out_, node))
        .run(single.order, single.buckets);
  }

  Part<T, S> copied(const Part<const T, const S>& from, int64_t numbers, int64_t tokens) const {
    const Part<T, S> to{scratch_.take<T>(numbers), scratch_.take<S>(tokens)};
    std::copy_n(from.numbers, numbers, to.numbers);
    std::copy_n(from.tokens, tokens, to.tokens);
    return to;
  }

  // The nodes' keys as columns.
  const T* key_columns(const HeadRows<const T>& rows) const {
    T* keys = scratch_.take<T>(layer_.shape.head_size * node_row_);
    std::fill_n(keys, layer_.shape.head_size * node_row_, T(0));
    transpose_rows(rows, kv_head_, 0, nodes_, layer_.shape.head_size, keys, node_row_);
    return keys;
  }

  // The nodes' keys as the summary reads them: of those that it does see in the bucket at hand at least.
  const T* summary_key_columns() const {
    if (!layer_.turns_back()) {
      const bool same = local_keys_ != nullptr && rows_.summary_k.data == rows_.k.data;
      return same ? local_keys_ : key_columns(rows_.summary_k);
    }
    auto* positions = scratch_.take<int64_t>(nodes_);
    for (int64_t i = 0; i < nodes_; ++i) {
      const auto depth = static_cast<int64_t>(paths_.path(static_cast<int32_t>(i)).size()) - 1;
      positions[i] = depth < path_end_ ? length_ + depth : -1;
    }
    return layer_.rotation().before_rotary(nodes_, positions, local_keys_, node_row_, scratch_);
  }

  // The nodes' keys as columns, values as padded rows.
  void gather_nodes() {
    if (layer_.local) local_keys_ = key_columns(rows_.k);
    T* values = scratch_.take<T>(nodes_ * value_row_);
    for (int64_t i = 0; i < nodes_; ++i) {
      gather_row(rows_.v.row(kv_head_, i), layer_.shape.value_size, value_row_, values + i * value_row_);
    }
    values_ = values;
  }

  // What all nodes of a group see among the committed tokens.
  void begin_bucket(const NodePlan::Bucket& bucket) {
    group_ = bucket.group;
    if (layer_.local) begin_local();
    if (layer_.summary) begin_global();
  }

  void begin_local() {
    const int64_t sinks = std::min(layout_.sinks, length_);
    turn_ = layer_.turn_of(group_);
    near_count_ = 0;
    near_[near_count_++] = {part_.tokens + layout_.sink_keys,
                            layout_.sink_row,
                            part_.tokens + layout_.sink_values,
                            value_row_,
                            sinks,
                            0,
                            T(1)};
    const int64_t held = layer_.held(group_), back = too_far_back(held);
    add_kept(0, back);
    turned_count_ = turn_ > 0 ? near_count_ : 0;
    add_kept(back, held);
    const int64_t begin = std::max(layer_.window_begin(group_), layout_.sinks);
    add_ring(part_.tokens + layout_.local_keys, begin, length_, T(1), near_.data(), near_count_);
    near_tokens_ = 0;
    for (int64_t i = 0; i < near_count_; ++i) near_tokens_ += near_[i].count;
    if (layer_.local->bias() != nullptr) note_positions(held);
    if (layer_.local->needs_lengths()) {
      near_squares_ = scratch_.take<T>(near_tokens_ + kernels::kPad);
      node_squares_ = scratch_.take<T>(node_row_);
      int64_t place = 0;
      for (int64_t i = 0; i < near_count_; place += near_[i++].count) {
        kernels::column_squares(layer_.shape.head_size, padded(near_[i].count), near_[i].keys,
                                near_[i].key_row, near_squares_ + place);
      }
      kernels::column_squares(layer_.shape.head_size, node_row_, local_keys_, node_row_, node_squares_);
    }
  }

  // The positions of the tokens of near_, in their order: sinks, `held` kept tokens, the window.
  void note_positions(int64_t held) {
    auto* positions = scratch_.take<int64_t>(near_tokens_ + 1);
    near_positions_ = positions;
    for (int64_t s = 0; s < near_[0].count; ++s) *positions++ = s;
    for (int64_t i = 0; i < held; ++i) *positions++ = layout_.kept.position(kept_.numbers, i);
    const int64_t window = near_tokens_ - near_[0].count - held;
    for (int64_t s = length_ - window; s < length_; ++s) *positions++ = s;
  }

  // Of `held` kept tokens those that stand further back than was trained.
  int64_t too_far_back(int64_t held) const {
    const int64_t horizon = layer_.horizon(group_);
    if (horizon == 0) return 0;
    int64_t first = 0, last = held;
    while (first < last) {
      const int64_t middle = (first + last) / 2;
      const bool back = layout_.kept.position(kept_.numbers, middle) < horizon;
      (back ? first : last) = back ? middle + 1 : middle;
    }
    return first;
  }

  void add_kept(int64_t begin, int64_t end) {
    const KeptLayout& kept = layout_.kept;
    if (begin == end) return;
    near_[near_count_++] = {kept_.tokens + begin,
                            kept.key_row,
                            kept_.tokens + kept.values + begin * value_row_,
                            value_row_,
                            end - begin,
                            0,
                            T(1)};
  }

  // Positions [begin, end) of the ring: two pieces where it wraps.
  void add_ring(const S* keys, int64_t begin, int64_t end, T weight, TokenBlock<T, S>* to,
                int64_t& count) const {
    while (begin < end) {
      const int64_t slot = layout_.slot(begin), piece = std::min(end - begin, layout_.tokens - slot);
      to[count++] = {keys + slot, layout_.key_row, part_.tokens + layout_.values + slot * value_row_,
                     value_row_,  piece,           begin,
                     weight};
      begin += piece;
    }
  }

  void begin_global() {
    const int64_t group = layer_.config.group, end = layer_.global_end(group_), first = layer_.first_global();
    any_global_ = end > first;
    far_count_ = 0;
    // One block where anything fades: older ones are folded, and without a local branch nothing does.
    const int64_t begin = std::max(layer_.folded_end(group_, length_), first);
    folded_ = begin - first;
    std::array<TokenBlock<T, S>, 2> waiting;
    add_ring(part_.tokens + layout_.feature_keys, begin, std::min(end, length_),
             layer_.fading(kv_head_, group_, begin / group), waiting.data(), far_count_);
    for (int64_t i = 0; i < far_count_; ++i) far_[i] = layer_.summary_tokens(waiting[i], scratch_);
    path_begin_ = std::max<int64_t>(0, first - length_);
    path_end_ = std::clamp<int64_t>(end - length_, 0, paths_.longest());
    if (path_end_ > path_begin_) feature_keys_ = summary_key_columns();
    T* weights = scratch_.take<T>(path_end_);
    for (int64_t j = path_begin_; j < path_end_; ++j) {
      const bool same = j > path_begin_ && (length_ + j) % group != 0;
      weights[j] = same ? weights[j - 1] : layer_.fading(kv_head_, group_, (length_ + j) / group);
    }
    path_weights_ = weights;
  }

  void attend_tile(std::span<const int32_t> nodes) {
    const Scratch::Scope scope(scratch_);
    const int64_t count = layer_.repeat * static_cast<int64_t>(nodes.size());
    SummaryRead<T> far{};
    T* near = nullptr;
    T* near_denominators = nullptr;
    const T* queries = nullptr;
    if (layer_.summary) {
      queries = queries_of(rows_.summary_q, nodes, T(1));
      if (any_global_) {
        far = {scratch_.take<T>(count * value_row_), value_row_, scratch_.take<T>(count),
               scratch_.take<T>(count)};
        read_summary(queries, nodes, far);
      }
    }
    if (layer_.local) {
      near = scratch_.take<T>(count * value_row_);
      near_denominators = scratch_.take<T>(count);
      read_local(nodes, near, near_denominators);
    }
    if (!near && !any_global_) {  // nothing is seen: 0
      near = scratch_.take<T>(count * value_row_);
      near_denominators = scratch_.take<T>(count);
      std::fill_n(near, count * value_row_, T(0));
      std::fill_n(near_denominators, count, T(1));
    }
    for (int64_t r = 0; r < count; ++r) {
      const int64_t head = kv_head_ * layer_.repeat + r / static_cast<int64_t>(nodes.size());
      const int32_t node = nodes[r % nodes.size()];
      T* row = near ? near + r * value_row_ : far.numerators + r * value_row_;
      if (near && any_global_) {
        layer_.mix(head, queries + r * query_row_, row, near_denominators[r], far, r);
      } else if (near) {
        scale(row, T(1) / near_denominators[r]);
      } else {
        layer_.summary->finish(head, row, far.denominators[r]);
      }
      convolve(head, node, row);
      std::copy_n(row, layer_.shape.value_size, out_.row(head, node));
    }
  }

  void scale(T* row, T by) const {
    for (int64_t i = 0; i < value_row_; ++i) row[i] *= by;
  }

  T* queries_of(const HeadRows<const T>& from, std::span<const int32_t> nodes, T by) const {
    const int64_t count = static_cast<int64_t>(nodes.size());
    T* queries = scratch_.take<T>(layer_.repeat * count * query_row_);
    gather_queries(
        from, kv_head_ * layer_.repeat, layer_.repeat, count, [&](int64_t i) { return nodes[i]; },
        layer_.shape.head_size, by, queries, query_row_);
    return queries;
  }

  // Queries as they would stand if readers were within the trained positions.
  const T* turned_back(const T* queries, int64_t count) const {
    T* turned = scratch_.take<T>(count * query_row_);
    std::copy_n(queries, count * query_row_, turned);
    for (int64_t r = 0; r < count; ++r) layer_.turn(-turn_, turned + r * query_row_, 1);
    return turned;
  }

  void read_summary(const T* queries, std::span<const int32_t> nodes, const SummaryRead<T>& out) const {
    const auto count = static_cast<int64_t>(nodes.size());
    Reading<T> reading = layer_.reading(kv_head_, queries, count, summary_, folded_);
    reading.nodes = nodes.data();
    reading.blocks = {far_.data(), static_cast<size_t>(far_count_)};
    reading.branches = {feature_keys_, node_row_, values_, value_row_, path_end_ > path_begin_ ? nodes_ : 0,
                        length_,       T(1)};
    reading.paths = &paths_;
    reading.path_begin = path_begin_;
    reading.path_end = path_end_;
    reading.path_weights = path_weights_;
    std::fill_n(out.exponents, reading.heads * reading.tokens, T(0));
    layer_.summary->read(reading, out);
  }

  // Score rows in position order: sinks, kept tokens, window, own path.
  void read_local(std::span<const int32_t> nodes, T* numerators, T* denominators) {
    const int64_t count = layer_.repeat * static_cast<int64_t>(nodes.size()), d = layer_.shape.head_size;
    const T* queries = queries_of(rows_.q, nodes, layer_.score_scale);
    const T* turned = turn_ > 0 ? turned_back(queries, count) : queries;
    const int64_t row = padded(near_tokens_ + paths_.longest()) + kernels::kPad;
    T* scores = scratch_.take<T>(count * row);
    int64_t place = 0;
    for (int64_t i = 0; i < near_count_; place += near_[i++].count) {
      // Columns past a piece's end are overwritten by what comes next.
      kernels::matmul(count, padded(near_[i].count), d, i < turned_count_ ? turned : queries, query_row_,
                      near_[i].keys, near_[i].key_row, scores + place, row, false);
    }
    const auto score_nodes = [&](const T* rows) {
      T* of_nodes = scratch_.take<T>(count * node_row_);
      kernels::matmul(count, node_row_, d, rows, query_row_, local_keys_, node_row_, of_nodes, node_row_,
                      false);
      return of_nodes;
    };
    const T* branches = score_nodes(queries);
    const bool sinks_turn = turn_ > 0 && length_ < layout_.sinks;  // sinks among the nodes themselves
    const T* turned_branches = sinks_turn ? score_nodes(turned) : branches;
    for (int64_t r = 0; r < count; ++r) {
      const LocalPath path = local_path(nodes[r % nodes.size()]);
      T* own = scores + r * row + near_tokens_;
      for (int32_t node : path.sinks) *own++ = turned_branches[r * node_row_ + node];
      for (int32_t node : path.window) *own++ = branches[r * node_row_ + node];
      if (const DistanceBias* bias = layer_.local->bias()) {
        const int64_t head = kv_head_ * layer_.repeat + r / static_cast<int64_t>(nodes.size());
        const auto depth = static_cast<int64_t>(paths_.path(nodes[r % nodes.size()]).size()) - 1;
        add_bias(*bias, head, length_ + depth, path, scores + r * row);
      }
      denominators[r] = weigh(scores + r * row, path, queries + r * query_row_);
    }
    std::fill_n(numerators, count * value_row_, T(0));
    place = 0;
    for (int64_t i = 0; i < near_count_; place += near_[i++].count) {
      kernels::matmul(count, value_row_, near_[i].count, scores + place, row, near_[i].values, value_row_,
                      numerators, value_row_, true);
    }
    for (int64_t r = 0; r < count; ++r) {
      const LocalPath path = local_path(nodes[r % nodes.size()]);
      const T* own = scores + r * row + near_tokens_;
      T* numerator = numerators + r * value_row_;
      for (std::span<const int32_t> piece : {path.sinks, path.window}) {
        kernels::add_weighted_rows(own, piece.data(), static_cast<int64_t>(piece.size()), values_, value_row_,
                                   value_row_, numerator);
        own += piece.size();
      }
      layer_.local->finish(kv_head_ * layer_.repeat + r / static_cast<int64_t>(nodes.size()), numerator);
    }
  }

  /// The nodes of a path that its end sees locally, in position order.
  struct LocalPath {
    std::span<const int32_t> sinks, window;
  };
  LocalPath local_path(int32_t node) const {
    const auto path = paths_.path(node);
    const int64_t size = static_cast<int64_t>(path.size());
    const int64_t sinks = std::clamp<int64_t>(layout_.sinks - length_, 0, size);
    const int64_t window = std::clamp<int64_t>(layer_.window_begin(group_) - length_, sinks, size);
    return {path.first(sinks), path.subspan(window)};
  }

  /// To the scores of a query at `position`, in the order of score rows.
  void add_bias(const DistanceBias& bias, int64_t head, int64_t position, const LocalPath& path,
                T* scores) const {
    for (int64_t i = 0; i < near_tokens_; ++i) scores[i] += T(bias.at(head, near_positions_[i] - position));
    T* own = scores + near_tokens_;
    const auto sinks = static_cast<int64_t>(path.sinks.size());
    const auto window = static_cast<int64_t>(path.window.size());
    bias.add(head, length_ - position, sinks, own);
    bias.add(head, 1 - window, window, own + sinks);
  }

  T weigh(T* scores, const LocalPath& path, const T* query) {
    const int64_t count = near_tokens_ + static_cast<int64_t>(path.sinks.size() + path.window.size());
    if (!layer_.local->needs_lengths()) return layer_.local->weigh(scores, count, nullptr, T(0));
    const Scratch::Scope scope(scratch_);
    T* squares = scratch_.take<T>(count);
    T* own = std::copy_n(near_squares_, near_tokens_, squares);
    for (int32_t node : path.sinks) *own++ = node_squares_[node];
    for (int32_t node : path.window) *own++ = node_squares_[node];
    return layer_.local->weigh(scores, count, squares, kernels::dot(query, query, query_row_));
  }

  // row += Σ_j taps_j ⊙ v of the j-th ancestor, itself the 0th; past the root the committed values.
  void convolve(int64_t head, int32_t node, T* row) const {
    const int64_t taps = layer_.config.taps;
    if (taps == 0) return;
    const auto path = paths_.path(node);
    const int64_t depth = static_cast<int64_t>(path.size()) - 1, position = length_ + depth;
    const T* tap = layer_.taps.data() + head * taps * value_row_;
    for (int64_t j = 0; j < taps && j <= position; ++j, tap += value_row_) {
      const T* value = j <= depth
                           ? values_ + path[depth - j] * value_row_
                           : part_.numbers + layout_.recents + (position - j) % layout_.recent * value_row_;
      for (int64_t i = 0; i < value_row_; ++i) row[i] += tap[i] * value[i];
    }
  }

  const LinearLayer<T>& layer_;
  const LinearLayout& layout_;
  const int64_t kv_head_;
  const Part<const T, const S> part_;
  const int64_t length_;
  const Paths& paths_;
  const Rows<T>& rows_;
  const HeadRows<T> out_;
  const int64_t nodes_, node_row_, value_row_, query_row_;
  Scratch& scratch_;
  const Scratch::Scope scope_;

  const T *local_keys_ = nullptr, *values_ = nullptr;  // of the nodes
  const T* summary_ = nullptr;                         // as the bucket at hand reads it
  Part<const T, const S> kept_;                        // and them

  // Of the bucket at hand.
  int64_t group_ = 0;
  // Sinks, kept tokens that are too far back and others, and the window in at most two pieces.
  std::array<TokenBlock<T, S>, 5> near_;
  int64_t near_count_ = 0, near_tokens_ = 0;
  int64_t turn_ = 0, turned_count_ = 0;  // the first of them are read by queries that are turned back
  T *near_squares_ = nullptr, *node_squares_ = nullptr;
  const int64_t* near_positions_ = nullptr;  // of its tokens, where scores take in a bias by distance
  bool any_global_ = false;
  std::array<TokenBlock<T>, 2> far_;  // committed, not folded, in at most two pieces
  int64_t far_count_ = 0, folded_ = 0, path_begin_ = 0, path_end_ = 0;
  const T* path_weights_ = nullptr;
  const T* feature_keys_ = nullptr;  // of the nodes, where any is seen through the summary
};

}  // namespace

template <class T, class S>
void attend_nodes(const LinearLayer<T>& layer, int64_t kv_head, const Part<const T, const S>& part,
                  int64_t length, const Paths& paths, std::span<const int32_t> order,
                  std::span<const NodePlan::Bucket> buckets, const Rows<T>& rows, HeadRows<T> out) {
  HeadPass<T, S>(layer, kv_head, part, length, paths, rows, out).run(order, buckets);
}

#define LINNET_HELD_IN(T, S)                                                                            \
  template void attend_nodes(const LinearLayer<T>&, int64_t, const Part<const T, const S>&, int64_t,    \
                             const Paths&, std::span<const int32_t>, std::span<const NodePlan::Bucket>, \
                             const Rows<T>&, HeadRows<T>);
LINNET_HELD_IN(float, float)
LINNET_HELD_IN(double, double)
LINNET_HELD_IN(float, BFloat16)
LINNET_HELD_IN(double, BFloat16)
#undef LINNET_HELD_IN

}  // namespace linnet

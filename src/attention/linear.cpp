#include "attention/linear.h"

#include <algorithm>

#include "attention/entered_rows.h"
#include "attention/linear_encode.h"
#include "attention/linear_layer.h"
#include "attention/linear_nodes.h"

namespace linnet {
namespace {

constexpr int64_t kChain = 64;  // tokens of a prefill that are attended to together

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

template <class T>
class LinearAttention final : public Attention<T> {
 public:
  LinearAttention(const AttentionConfig& config, const AttentionShape& shape, const Parameters<T>& parameters,
                  const SinkRotation* sink_rotation)
      : layer_(config, shape, parameters, sink_rotation) {
    chain_.assign_chain(kChain, 0);
  }

  StateLayout layout() const override {
    const LinearLayout& layout = layer_.layout;
    return {layout.plain_summary * layer_.shape.kv_heads,
            layout.tokens,
            layout.sinks,
            layout.recent,
            layer_.shape.kv_heads * numbers_in(layout.matrices),
            static_cast<int64_t>(layout.size * layer_.shape.kv_heads * sizeof(T))};
  }

  std::unique_ptr<State<T>> make_state() const override {
    return std::make_unique<LinearState<T>>(layer_.layout);
  }

  void attend(const State<T>& state, const TokenTree& tree, const Rows<T>& given, HeadRows<T> out,
              ThreadPool& pool) const override {
    thread_local EnteredRows<T> entered;
    const Rows<T>& rows = entered.enter(layer_, given);
    const auto& own = static_cast<const LinearState<T>&>(state);
    thread_local NodePlan plan;
    plan.assign(tree, own.length(), layer_.config.group);
    const NodePlan& nodes = plan;  // the caller's, for every worker
    pool.run(layer_.shape.kv_heads, [&](size_t g) {
      attend_nodes<T>(layer_, g, own.head(g), own.length(), nodes.paths, nodes.order, nodes.buckets, rows,
                      out);
    });
  }

  void commit(State<T>& state, std::span<const int32_t> path, const Rows<T>& given,
              ThreadPool& pool) const override {
    thread_local EnteredRows<T> entered;
    const Rows<T>& rows = entered.enter(layer_, given);
    auto& own = static_cast<LinearState<T>&>(state);
    const int64_t begin = own.length(), end = begin + static_cast<int64_t>(path.size());
    const auto commit_head = [&](size_t g) {
      for (int64_t n = begin; n < end; ++n) append(own.head(g), g, rows, path[n - begin], n);
    };
    if (end / layer_.config.group > begin / layer_.config.group) {  // a block may fold
      pool.run(layer_.shape.kv_heads, commit_head);
    } else {
      for (int g = 0; g < layer_.shape.kv_heads; ++g) commit_head(g);
    }
    own.set_length(end);
  }

  void prefill(State<T>& state, const Rows<T>& given, HeadRows<T> out, ThreadPool& pool) const override {
    thread_local EnteredRows<T> entered;
    const Rows<T>& rows = entered.enter(layer_, given);
    auto& own = static_cast<LinearState<T>&>(state);
    const int64_t begin = own.length(), end = begin + rows.count;
    pool.run(layer_.shape.kv_heads, [&](size_t g) {
      for (int64_t n = begin; n < end;) {
        const int64_t group = n / layer_.config.group;
        const int64_t count = std::min({kChain, (group + 1) * layer_.config.group - n, end - n});
        const Rows<T> some = part_of(rows, n - begin, count);
        const NodePlan::Bucket bucket{group, 0, static_cast<int32_t>(count)};
        attend_nodes<T>(layer_, g, own.head(g), n, chain_.paths, chain_.order, {&bucket, 1}, some,
                        from_row(out, n - begin));
        for (int64_t i = 0; i < count; ++i, ++n) append(own.head(g), g, some, i, n);
      }
    });
    own.set_length(end);
  }

  void encode(const Rows<T>& given, HeadRows<T> out, ThreadPool& pool) const override {
    thread_local EnteredRows<T> entered;
    const Rows<T>& rows = entered.enter(layer_, given);
    pool.run(layer_.shape.kv_heads, [&](size_t g) { encode_head<T>(layer_, g, rows, out); });
  }

  std::unique_ptr<Memory<T>> summarize(const Rows<T>& given, ThreadPool& pool) const override {
    check_cross(layer_.config);
    thread_local EnteredRows<T> entered;
    const Rows<T>& rows = entered.enter(layer_, given);
    auto memory = std::make_unique<LinearMemory<T>>(layer_, rows.count);
    pool.run(layer_.shape.kv_heads, [&](size_t g) { summarize_head<T>(layer_, g, rows, memory->head(g)); });
    return memory;
  }

  void read_memory(const Memory<T>& memory, const Rows<T>& given, HeadRows<T> out,
                   ThreadPool& pool) const override {
    thread_local EnteredRows<T> entered;
    const Rows<T>& rows = entered.enter(layer_, given);
    const auto& own = static_cast<const LinearMemory<T>&>(memory);
    pool.run(layer_.shape.kv_heads,
             [&](size_t g) { read_head<T>(layer_, g, own.head(g), own.length(), rows, out); });
  }

 private:
  /// The token at position n enters a head's part; a new group folds what is due.
  void append(T* part, int64_t kv_head, const Rows<T>& rows, int64_t index, int64_t n) const {
    layer_.store(kv_head, part, rows, index, n);
    const int64_t next = n + 1;
    if (next % layer_.config.group == 0) {
      layer_.enter_group(kv_head, part, part, next / layer_.config.group, next);
    }
  }

  LinearLayer<T> layer_;
  NodePlan chain_;  // of kChain nodes: every prefix of it is a chain
};

}  // namespace

template <class T>
std::unique_ptr<Attention<T>> make_linear(const AttentionConfig& config, const AttentionShape& shape,
                                          const Parameters<T>& parameters,
                                          const SinkRotation* sink_rotation) {
  refuse_budgets(config, "attention");
  return std::make_unique<LinearAttention<T>>(config, shape, parameters, sink_rotation);
}
template std::unique_ptr<Attention<float>> make_linear(const AttentionConfig&, const AttentionShape&,
                                                       const Parameters<float>&, const SinkRotation*);
template std::unique_ptr<Attention<double>> make_linear(const AttentionConfig&, const AttentionShape&,
                                                        const Parameters<double>&, const SinkRotation*);

}  // namespace linnet

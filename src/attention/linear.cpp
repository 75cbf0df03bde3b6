#include "attention/linear.h"

#include <algorithm>

#include "attention/entered_rows.h"
#include "attention/linear_encode.h"
#include "attention/linear_layer.h"
#include "attention/linear_nodes.h"
#include "attention/rows.h"

namespace linnet {
namespace {

constexpr int64_t kChain = 64;  // tokens of a prefill that are attended to together

/// S: the type in which states hold keys and values.
template <class T, class S>
class LinearAttention final : public Attention<T> {
 public:
  LinearAttention(const AttentionConfig& config, const AttentionShape& shape, const Parameters<T>& parameters,
                  const Rotation* rotation)
      : shape_(shape), group_(config.group) {
    std::vector<int> class_of(shape.kv_heads);
    std::vector<LinearLayout> layouts;
    for (const BudgetClass& own : budget_classes(config, shape.kv_heads)) {
      for (const int g : own.kv_heads) class_of[g] = static_cast<int>(layers_.size());
      layers_.push_back(layers_.empty() ? LinearLayer<T>(own.config, shape, parameters, rotation)
                                        : layers_[0].of_class(own.config));
      layouts.push_back(layers_.back().layout);
    }
    parts_ = std::make_shared<const LinearParts>(std::move(layouts), std::move(class_of));
    chain_.assign_chain(kChain, 0);
  }

  StateLayout layout() const override {
    const LinearLayout& first = parts_->layouts[0];
    return {first.plain_summary * shape_.kv_heads,
            parts_->most([](const LinearLayout& x) { return x.tokens; }),
            first.sinks,
            parts_->most([](const LinearLayout& x) { return x.kept.tokens; }),
            first.recent,
            parts_->numbers() + parts_->token_numbers(),
            parts_->token_numbers(),
            static_cast<int64_t>(LinearState<T, S>::bytes_of(*parts_))};
  }

  std::unique_ptr<State<T>> make_state() const override {
    return std::make_unique<LinearState<T, S>>(parts_);
  }

  void attend(const State<T>& state, const TokenTree& tree, const Rows<T>& rows, HeadRows<T> out,
              ThreadPool& pool) const override {
    const StateTree<T> branch{&state, &tree};
    attend_all({&branch, 1}, rows, out, pool);
  }

  void attend_all(std::span<const StateTree<T>> branches, const Rows<T>& given, HeadRows<T> out,
                  ThreadPool& pool) const override {
    thread_local EnteredRows<T> entered;
    const Rows<T>& rows = entered.enter(layers_[0], given);
    thread_local std::vector<NodePlan> planned;
    if (planned.size() < branches.size()) planned.resize(branches.size());
    for (size_t b = 0, first = 0; b < branches.size(); ++b) {
      planned[b].assign(*branches[b].tree, branches[b].state->length(), group_);
      planned[b].first_row = static_cast<int64_t>(first);
      first += static_cast<size_t>(branches[b].tree->size());
    }
    const std::vector<NodePlan>& plans = planned;  // the caller's, for every worker
    const auto heads = static_cast<size_t>(shape_.kv_heads);
    pool.run(heads * branches.size(), [&](size_t item) {
      const auto g = static_cast<size_t>(parts_->by_size[item / branches.size()]);
      const size_t b = item % branches.size();
      const auto& own = static_cast<const LinearState<T, S>&>(*branches[b].state);
      const NodePlan& nodes = plans[b];
      attend_nodes<T, S>(layer(g), g, own.head(g), own.length(), nodes.paths, nodes.order, nodes.buckets,
                         part_of(rows, nodes.first_row, branches[b].tree->size()),
                         from_row(out, nodes.first_row));
    });
  }

  void commit(State<T>& state, std::span<const int32_t> path, const Rows<T>& given,
              ThreadPool& pool) const override {
    thread_local EnteredRows<T> entered;
    const Rows<T>& rows = entered.enter(layers_[0], given);
    auto& own = static_cast<LinearState<T, S>&>(state);
    const int64_t begin = own.length(), end = begin + static_cast<int64_t>(path.size());
    const auto commit_head = [&](size_t g) {
      for (int64_t n = begin; n < end; ++n) layer(g).append(g, own.head(g), rows, path[n - begin], n);
    };
    if (end / group_ > begin / group_) {  // a block may fold
      each_head(pool, commit_head);
    } else {
      for (int g = 0; g < shape_.kv_heads; ++g) commit_head(g);
    }
    own.set_length(end);
  }

  void prefill(State<T>& state, const Rows<T>& given, HeadRows<T> out, ThreadPool& pool) const override {
    thread_local EnteredRows<T> entered;
    const Rows<T>& rows = entered.enter(layers_[0], given);
    auto& own = static_cast<LinearState<T, S>&>(state);
    const int64_t begin = own.length(), end = begin + rows.count;
    each_head(pool, [&](size_t g) {
      for (int64_t n = begin; n < end;) {
        const int64_t group = n / group_;
        const int64_t count = std::min({kChain, (group + 1) * group_ - n, end - n});
        const Rows<T> some = part_of(rows, n - begin, count);
        const NodePlan::Bucket bucket{group, 0, static_cast<int32_t>(count)};
        attend_nodes<T, S>(layer(g), g, own.head(g), n, chain_.paths, chain_.order, {&bucket, 1}, some,
                           from_row(out, n - begin));
        for (int64_t i = 0; i < count; ++i, ++n) layer(g).append(g, own.head(g), some, i, n);
      }
    });
    own.set_length(end);
  }

  void encode(const Rows<T>& given, HeadRows<T> out, ThreadPool& pool) const override {
    thread_local EnteredRows<T> entered;
    const Rows<T>& rows = entered.enter_stateless(layers_[0], given);
    each_head(pool, [&](size_t g) { encode_head<T>(layer(g), g, rows, out); });
  }

  std::unique_ptr<Memory<T>> summarize(const Rows<T>& given, ThreadPool& pool) const override {
    check_cross(layers_[0].config);
    thread_local EnteredRows<T> entered;
    const Rows<T>& rows = entered.enter_stateless(layers_[0], given);
    auto memory = std::make_unique<LinearMemory<T>>(layers_[0], rows.count);
    each_head(pool, [&](size_t g) { summarize_head<T>(layer(g), g, rows, memory->head(g)); });
    return memory;
  }

  std::unique_ptr<Memory<T>> load_memory(int64_t length, std::span<const std::byte>& in) const override {
    auto memory = std::make_unique<LinearMemory<T>>(layers_[0], length);
    read_numbers(in, memory->head(0), std::ssize(memory->numbers()));
    return memory;
  }

  void read_memory(const Memory<T>& memory, const Rows<T>& given, HeadRows<T> out,
                   ThreadPool& pool) const override {
    thread_local EnteredRows<T> entered;
    const Rows<T>& rows = entered.enter_stateless(layers_[0], given);
    const auto& own = static_cast<const LinearMemory<T>&>(memory);
    each_head(pool, [&](size_t g) { read_head<T>(layer(g), g, own.head(g), own.length(), rows, out); });
  }

 private:
  /// Calls work(g) of every key-value head.
  template <class Work>
  void each_head(ThreadPool& pool, const Work& work) const {
    pool.run(shape_.kv_heads, [&](size_t i) { work(static_cast<size_t>(parts_->by_size[i])); });
  }
  const LinearLayer<T>& layer(size_t kv_head) const { return layers_[parts_->class_of[kv_head]]; }

  AttentionShape shape_;
  int64_t group_;
  std::vector<LinearLayer<T>> layers_;  // of each class of heads
  std::shared_ptr<const LinearParts> parts_;
  NodePlan chain_;  // of kChain nodes: every prefix of it is a chain
};

}  // namespace

template <class T>
std::unique_ptr<Attention<T>> make_linear(const AttentionConfig& config, const AttentionShape& shape,
                                          const Parameters<T>& parameters, const Rotation* rotation) {
  if (shape.state == StateType::kBFloat16)
    return std::make_unique<LinearAttention<T, BFloat16>>(config, shape, parameters, rotation);
  return std::make_unique<LinearAttention<T, T>>(config, shape, parameters, rotation);
}
template std::unique_ptr<Attention<float>> make_linear(const AttentionConfig&, const AttentionShape&,
                                                       const Parameters<float>&, const Rotation*);
template std::unique_ptr<Attention<double>> make_linear(const AttentionConfig&, const AttentionShape&,
                                                        const Parameters<double>&, const Rotation*);

}  // namespace linnet

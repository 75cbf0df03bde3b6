// Faults that the tests of forms and trees, and `linnet check`, exist to catch, planted in the computation.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "attention/held_rows.h"
#include "attention/linear.h"
#include "attention/linear_nodes.h"
#include "attention/rows.h"
#include "attention/state_bytes.h"

namespace linnet {

/// An attention that passes everything on; a fault overrides where it is planted.
template <class T>
class PassedOn : public Attention<T> {
 public:
  explicit PassedOn(std::unique_ptr<Attention<T>> sound) : sound_(std::move(sound)) {}
  StateLayout layout() const override { return this->sound_->layout(); }
  std::unique_ptr<State<T>> make_state() const override { return this->sound_->make_state(); }
  void attend(const State<T>& state, const TokenTree& tree, const Rows<T>& rows, HeadRows<T> out,
              ThreadPool& pool) const override {
    this->sound_->attend(state, tree, rows, out, pool);
  }
  void commit(State<T>& state, std::span<const int32_t> path, const Rows<T>& rows,
              ThreadPool& pool) const override {
    this->sound_->commit(state, path, rows, pool);
  }
  void prefill(State<T>& state, const Rows<T>& rows, HeadRows<T> out, ThreadPool& pool) const override {
    this->sound_->prefill(state, rows, out, pool);
  }
  void encode(const Rows<T>& rows, HeadRows<T> out, ThreadPool& pool) const override {
    this->sound_->encode(rows, out, pool);
  }
  std::unique_ptr<Memory<T>> summarize(const Rows<T>& rows, ThreadPool& pool) const override {
    return this->sound_->summarize(rows, pool);
  }
  void read_memory(const Memory<T>& memory, const Rows<T>& rows, HeadRows<T> out,
                   ThreadPool& pool) const override {
    this->sound_->read_memory(memory, rows, out, pool);
  }
  std::unique_ptr<Memory<T>> load_memory(int64_t length, std::span<const std::byte>& in) const override {
    return this->sound_->load_memory(length, in);
  }

 protected:
  std::unique_ptr<Attention<T>> sound_;
};

/// Keys and values are rounded to bf16 in a prefill alone.
template <class T>
class RoundsInPrefill final : public PassedOn<T> {
 public:
  RoundsInPrefill(std::unique_ptr<Attention<T>> sound, AttentionShape shape)
      : PassedOn<T>(std::move(sound)), shape_(shape) {
    shape_.state = StateType::kBFloat16;
  }
  void prefill(State<T>& state, const Rows<T>& rows, HeadRows<T> out, ThreadPool& pool) const override {
    HeldRows<T> held;
    this->sound_->prefill(state, held.enter(shape_, rows), out, pool);
  }

 private:
  AttentionShape shape_;
};

/// Every token but the last brings the next one's value.
template <class T>
class NextValue final : public PassedOn<T> {
 public:
  using PassedOn<T>::PassedOn;
  void prefill(State<T>& state, const Rows<T>& rows, HeadRows<T> out, ThreadPool& pool) const override {
    for (int64_t t = 0; t < rows.count; ++t) {
      const auto at = [t](auto from) {
        from.data += t * from.row_stride;
        return from;
      };
      Rows<T> one{1, at(rows.q), at(rows.k), at(rows.v), at(rows.summary_q), at(rows.summary_k)};
      if (t + 1 < rows.count) one.v.data += one.v.row_stride;
      this->sound_->prefill(state, one, at(out), pool);
    }
  }
};

/// Every node of a tree stands in the group of the root.
template <class T>
class RootsGroup final : public PassedOn<T> {
 public:
  RootsGroup(std::unique_ptr<Attention<T>> sound, const LinearLayer<T>& layer)
      : PassedOn<T>(std::move(sound)), layer_(layer) {}
  void attend(const State<T>& state, const TokenTree& tree, const Rows<T>& rows, HeadRows<T> out,
              ThreadPool&) const override {
    const auto& own = static_cast<const LinearState<T>&>(state);
    NodePlan plan;
    plan.assign(tree, own.length(), layer_.config.group);
    const NodePlan::Bucket all{plan.buckets[0].group, 0, static_cast<int32_t>(tree.size())};
    for (int g = 0; g < layer_.shape.kv_heads; ++g) {
      attend_nodes<T>(layer_, g, own.head(g), own.length(), plan.paths, plan.order, {&all, 1}, rows, out);
    }
  }

 private:
  const LinearLayer<T>& layer_;
};

/// A state that keeps a number of every token, in memory or in what it saves too.
template <class T>
class GrowingState final : public State<T> {
 public:
  GrowingState(std::unique_ptr<State<T>> sound, bool saves) : sound(std::move(sound)), saves_(saves) {}
  int64_t length() const override { return sound->length(); }
  size_t bytes() const override { return sound->bytes() + (saves_ ? 0 : kept.size() * sizeof(T)); }
  void reset() override {
    sound->reset();
    kept.clear();
  }
  std::unique_ptr<State<T>> clone() const override {
    auto copy = std::make_unique<GrowingState<T>>(sound->clone(), saves_);
    copy->kept = kept;
    return copy;
  }
  void save(std::vector<std::byte>& out) const override {
    sound->save(out);
    if (saves_) append_numbers(out, kept.data(), static_cast<int64_t>(kept.size()));
  }
  void load(std::span<const std::byte>& in) override { sound->load(in); }

  std::unique_ptr<State<T>> sound;
  std::vector<T> kept;

 private:
  bool saves_;
};

template <class T>
class Growing final : public PassedOn<T> {
 public:
  Growing(std::unique_ptr<Attention<T>> sound, bool saves) : PassedOn<T>(std::move(sound)), saves_(saves) {}
  std::unique_ptr<State<T>> make_state() const override {
    return std::make_unique<GrowingState<T>>(this->sound_->make_state(), saves_);
  }
  void attend(const State<T>& state, const TokenTree& tree, const Rows<T>& rows, HeadRows<T> out,
              ThreadPool& pool) const override {
    this->sound_->attend(*static_cast<const GrowingState<T>&>(state).sound, tree, rows, out, pool);
  }
  void prefill(State<T>& state, const Rows<T>& rows, HeadRows<T> out, ThreadPool& pool) const override {
    auto& own = static_cast<GrowingState<T>&>(state);
    this->sound_->prefill(*own.sound, rows, out, pool);
    for (int64_t i = 0; i < rows.count; ++i) own.kept.push_back(*rows.v.row(0, i));
  }
  void commit(State<T>& state, std::span<const int32_t> path, const Rows<T>& rows,
              ThreadPool& pool) const override {
    auto& own = static_cast<GrowingState<T>&>(state);
    this->sound_->commit(*own.sound, path, rows, pool);
    for (int32_t i : path) own.kept.push_back(*rows.v.row(0, i));
  }

 private:
  bool saves_;
};

/// The last token of each group is attended to, in a prefill alone, as if it stood in the next group.
template <class T>
class BoundaryOffByOne final : public PassedOn<T> {
 public:
  BoundaryOffByOne(std::unique_ptr<Attention<T>> sound, std::unique_ptr<LinearLayer<T>> layer)
      : PassedOn<T>(std::move(sound)), layer_(std::move(layer)) {}
  void prefill(State<T>& state, const Rows<T>& rows, HeadRows<T> out, ThreadPool& pool) const override {
    const auto& own = static_cast<const LinearState<T>&>(state);
    NodePlan plan;
    for (int64_t t = 0; t < rows.count; ++t) {
      const auto at = [t](auto from) {
        from.data += t * from.row_stride;
        return from;
      };
      Rows<T> one{1, at(rows.q), at(rows.k), at(rows.v), at(rows.summary_q), at(rows.summary_k)};
      if (layer_->config.feature_position == FeaturePosition::kRotary)
        one.summary_q = one.q, one.summary_k = one.k;
      plan.assign_chain(1, (state.length() + 1) / layer_->config.group);
      for (int g = 0; g < layer_->shape.kv_heads; ++g) {
        attend_nodes<T>(*layer_, g, own.head(g), own.length(), plan.paths, plan.order, plan.buckets, one,
                        at(out));
      }
      const int32_t root[] = {0};
      this->sound_->commit(state, root, one, pool);
    }
  }

 private:
  std::unique_ptr<LinearLayer<T>> layer_;
};

/// A block's tokens are kept a group before the block leaves the local window, in a prefill alone.
template <class T>
class KeptTooEarly final : public PassedOn<T> {
 public:
  KeptTooEarly(std::unique_ptr<Attention<T>> sound, const LinearLayer<T>& layer)
      : PassedOn<T>(std::move(sound)), layer_(layer) {}
  void prefill(State<T>& state, const Rows<T>& rows, HeadRows<T> out, ThreadPool& pool) const override {
    const auto& own = static_cast<const LinearState<T>&>(state);
    NodePlan plan;
    for (int64_t t = 0; t < rows.count; ++t) {
      Rows<T> one = part_of(rows, t, 1);
      one.summary_q = one.q, one.summary_k = one.k;
      const int64_t group = own.length() / layer_.config.group;
      plan.assign_chain(1, group);
      for (int g = 0; g < layer_.shape.kv_heads; ++g) {
        const LinearLayout& layout = layer_.layout;
        const Part<const T, const T> before = own.head(g);
        std::vector<T> numbers(before.numbers, before.numbers + layout.size);
        std::vector<T> tokens(before.tokens, before.tokens + layout.token_size);
        std::vector<T> summary(numbers.begin(), numbers.begin() + layout.summary);
        const Part<T, T> part{numbers.data(), tokens.data()};
        layer_.template enter_group<T>(g, summary.data(),
                                       part.from(layout.kept_begin, layout.kept_token_begin), part, group + 1,
                                       own.length());
        attend_nodes<T, T>(layer_, g, part, own.length(), plan.paths, plan.order, plan.buckets, one,
                           from_row(out, t));
      }
      const int32_t root[] = {0};
      this->sound_->commit(state, root, one, pool);
    }
  }

 private:
  const LinearLayer<T>& layer_;
};

/// Passes a summary on; a fault overrides where it is planted.
class PassedOnSummary : public Summary<double> {
 public:
  explicit PassedOnSummary(std::unique_ptr<Summary<double>> sound) : sound_(std::move(sound)) {}
  std::vector<PaddedMatrix> matrices() const override { return sound_->matrices(); }
  void add(int64_t kv_head, double* summary, const TokenBlock<double>& tokens) const override {
    sound_->add(kv_head, summary, tokens);
  }
  void scale(double* summary, double weight) const override { sound_->scale(summary, weight); }
  void surprises(int64_t kv_head, const double* summary, const TokenBlock<double>& tokens,
                 double* surprises) const override {
    sound_->surprises(kv_head, summary, tokens, surprises);
  }
  void read(const Reading<double>& reading, const SummaryRead<double>& out) const override {
    sound_->read(reading, out);
  }
  void finish(int64_t head, double* numerator, double denominator) const override {
    sound_->finish(head, numerator, denominator);
  }

 protected:
  std::unique_ptr<Summary<double>> sound_;
};

/// A fold that loses a block's last token.
class LosesAToken final : public PassedOnSummary {
 public:
  using PassedOnSummary::PassedOnSummary;
  void add(int64_t kv_head, double* summary, const TokenBlock<double>& tokens) const override {
    TokenBlock<double> fewer = tokens;
    --fewer.count;
    sound_->add(kv_head, summary, fewer);
  }
};

/// Surprises of a summary that holds the block itself already.
class NotSurprised final : public PassedOnSummary {
 public:
  using PassedOnSummary::PassedOnSummary;
  void surprises(int64_t kv_head, const double* summary, const TokenBlock<double>& tokens,
                 double* surprises) const override {
    std::vector<double> after(summary, summary + padded_end(matrices()));
    sound_->add(kv_head, after.data(), tokens);
    sound_->surprises(kv_head, after.data(), tokens, surprises);
  }
};

/// Surprises of 0 while a tree is attended to: what is kept for the root is kept for every node.
class RootsKept final : public PassedOnSummary {
 public:
  using PassedOnSummary::PassedOnSummary;
  void surprises(int64_t kv_head, const double* summary, const TokenBlock<double>& tokens,
                 double* surprises) const override {
    sound_->surprises(kv_head, summary, tokens, surprises);
    if (attends) std::fill_n(surprises, tokens.count, 0.0);
  }
  static inline bool attends = false;
};
class AttendsWithRootsKept final : public PassedOn<double> {
 public:
  using PassedOn<double>::PassedOn;
  void attend(const State<double>& state, const TokenTree& tree, const Rows<double>& rows,
              HeadRows<double> out, ThreadPool& pool) const override {
    RootsKept::attends = true;
    sound_->attend(state, tree, rows, out, pool);
    RootsKept::attends = false;
  }
};

/// Linformer as encoders have it: its slots hold the whole sequence, its scores are masked afterwards, so
/// that token t reads slots 0 to t. Weights [G, r, C].
template <class T>
class MaskedSlots final : public PassedOn<T> {
 public:
  MaskedSlots(std::unique_ptr<Attention<T>> sound, const AttentionConfig& config, const AttentionShape& shape,
              std::vector<T> key_weights, std::vector<T> value_weights)
      : PassedOn<T>(std::move(sound)),
        shape_(shape),
        slots_(config.option("slots")),
        period_(config.group),
        key_weights_(std::move(key_weights)),
        value_weights_(std::move(value_weights)) {}
  void prefill(State<T>& state, const Rows<T>& rows, HeadRows<T> out, ThreadPool& pool) const override {
    this->sound_->prefill(state, rows, out, pool);
    for (int g = 0; g < shape_.kv_heads; ++g) {
      const auto keys = all_slots(key_weights_, rows.k, g, rows.count, shape_.head_size);
      const auto values = all_slots(value_weights_, rows.v, g, rows.count, shape_.value_size);
      const int repeat = shape_.heads / shape_.kv_heads;
      for (int h = g * repeat; h < (g + 1) * repeat; ++h) {
        for (int64_t t = 0; t < rows.count; ++t) read(rows.q.row(h, t), t, keys, values, out.row(h, t));
      }
    }
  }

 private:
  using Slots = std::vector<std::vector<T>>;

  Slots all_slots(const std::vector<T>& weights, const HeadRows<const T>& rows, int g, int64_t count,
                  int size) const {
    Slots made(slots_, std::vector<T>(size));
    for (int64_t j = 0; j < slots_; ++j) {
      for (int64_t s = 0; s < count; ++s) {
        const T weight = weights[(g * slots_ + j) * period_ + s % period_];
        for (int i = 0; i < size; ++i) made[j][i] += weight * rows.row(g, s)[i];
      }
    }
    return made;
  }
  void read(const T* query, int64_t t, const Slots& keys, const Slots& values, T* o) const {
    const T periods = T(t / period_ + 1);
    std::fill_n(o, shape_.value_size, T(0));
    T sum = 0;
    for (int64_t j = 0; j < std::min(slots_, t + 1); ++j) {
      T score = 0;
      for (int i = 0; i < shape_.head_size; ++i) score += query[i] * keys[j][i];
      const T weight = std::exp(score / periods / std::sqrt(T(shape_.head_size)));
      sum += weight;
      for (int i = 0; i < shape_.value_size; ++i) o[i] += weight * values[j][i] / periods;
    }
    for (int i = 0; i < shape_.value_size; ++i) o[i] /= sum;
  }

  AttentionShape shape_;
  int64_t slots_, period_;
  std::vector<T> key_weights_, value_weights_;
};

}  // namespace linnet

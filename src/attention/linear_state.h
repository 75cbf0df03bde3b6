// The constant-size state: one slab a layer and sequence, a part of it each key-value head, of the size that
// the head's budget says.
//
// A part holds, padded rows all, in the type of sums: the summary of the folded tokens; the last K − 1 values
// [recent, value_row], token s in row s mod recent; surprises and positions of the kept tokens
// (kept_tokens.h). And in the type that keys and values are held in: the waiting tokens in a ring, token s in
// column or row s mod tokens: keys for the local branch [d, key_row], keys for the summary [d, key_row] where
// both are read and neither can be had from the other, values [tokens, value_row]; the sinks' keys [d,
// sink_row] and values [sinks, value_row]; the kept tokens. A saved state holds the same rows, a part after
// the other, without what pads them: another build may pad otherwise.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "attention/attention.h"
#include "attention/kept_tokens.h"
#include "attention/state_bytes.h"
#include "attention/summary.h"
#include "base/scratch.h"
#include "kernels/cpu/attention_kernels.h"

namespace linnet {

/// Where in the part of a head of one class things stand.
struct LinearLayout {
  std::string_view method;  // the row's name
  AttentionShape shape;
  int64_t group = 0, blocks = 0;  // C; blocks that the ring holds
  int64_t tokens = 0, sinks = 0, recent = 0;
  int64_t key_row = 0, sink_row = 0, value_row = 0;
  int64_t recents = 0, kept_begin = 0, size = 0;  // among numbers; the summary comes first
  int64_t local_keys = 0, feature_keys = 0, values = 0, sink_keys = 0, sink_values = 0;  // among tokens
  int64_t kept_token_begin = 0, token_size = 0;
  KeptLayout kept;                                     // from kept_begin and kept_token_begin on
  int64_t summary = 0;                                 // numbers of a head's summary, with padding
  int64_t plain_summary = 0;                           // numbers of a head's summary without padding
  std::vector<PaddedMatrix> matrices, token_matrices;  // all of the above: what is saved
  bool has_local = false, has_summary = false, separate_keys = false;

  LinearLayout() = default;
  /// `apart`: what the summary reads of a token's key cannot be had from what the local branch reads.
  LinearLayout(const AttentionConfig& config, const AttentionShape& s, std::vector<PaddedMatrix> sums,
               bool apart)
      : method(config.name()),
        shape(s),
        group(config.group),
        sinks(config.sinks),
        recent(std::max(config.taps - 1, 0)) {
    has_local = config.local != LocalWeight::kNone;
    has_summary = !sums.empty();
    plain_summary = numbers_in(sums);
    separate_keys = has_local && has_summary && apart;
    // A block waits until the position is a whole block past it, in the summary's case at least.
    const int local_groups = config.local_groups.number();
    blocks = has_summary ? std::max(local_groups, 2) : local_groups;
    tokens = blocks * group;
    key_row = kernels::padded(tokens);
    if (key_row % 64 == 0)
      key_row += kernels::kPad;  // or a token's column would fall into a few sets of the cache
    sink_row = kernels::padded(sinks);
    value_row = kernels::padded(shape.value_size);
    summary = recents = padded_end(sums);
    kept_begin = recents + recent * value_row;
    feature_keys = separate_keys ? shape.head_size * key_row : 0;
    values = feature_keys + shape.head_size * key_row;
    sink_keys = values + tokens * value_row;
    sink_values = sink_keys + shape.head_size * sink_row;
    kept_token_begin = sink_values + sinks * value_row;
    kept = KeptLayout(config.kept.number(), shape);
    size = kept_begin + kept.size;
    token_size = kept_token_begin + kept.token_size;
    matrices = std::move(sums);
    matrices.push_back({recents, recent, shape.value_size, value_row});
    if (separate_keys) token_matrices.push_back({local_keys, shape.head_size, tokens, key_row});
    token_matrices.push_back({feature_keys, shape.head_size, tokens, key_row});
    token_matrices.push_back({values, tokens, shape.value_size, value_row});
    token_matrices.push_back({sink_keys, shape.head_size, sinks, sink_row});
    token_matrices.push_back({sink_values, sinks, shape.value_size, value_row});
    kept.append_matrices(kept_begin, kept_token_begin, shape, matrices, token_matrices);
  }

  int64_t slot(int64_t position) const { return position % tokens; }
};

/// The parts of a layer's state, a key-value head each.
struct LinearParts {
  std::vector<LinearLayout> layouts;          // of each class of heads
  std::vector<int> class_of;                  // [kv_heads]
  std::vector<int64_t> begins, token_begins;  // [kv_heads + 1] where a head's part stands
  std::vector<int> by_size;  // [kv_heads] heads, the largest parts first: threads end together
  std::string name;          // for the signature: the row's, and budgets where they need one

  LinearParts(std::vector<LinearLayout> of_classes, std::vector<int> classes)
      : layouts(std::move(of_classes)),
        class_of(std::move(classes)),
        begins{0},
        token_begins{0},
        name(layouts[0].method) {
    std::vector<int64_t> waiting, kept;
    for (const int number : class_of) {
      const LinearLayout& own = layouts[number];
      begins.push_back(begins.back() + own.size);
      token_begins.push_back(token_begins.back() + own.token_size);
      waiting.push_back(own.tokens);
      kept.push_back(own.kept.tokens);
    }
    by_size.resize(class_of.size());
    std::iota(by_size.begin(), by_size.end(), 0);
    std::stable_sort(by_size.begin(), by_size.end(),
                     [&](int a, int b) { return of_head(a).token_size > of_head(b).token_size; });
    if (layouts.size() > 1) name += fmt::format(", waiting tokens {}", fmt::join(waiting, " "));
    if (*std::max_element(kept.begin(), kept.end()) > 0)
      name += fmt::format(", kept tokens {}", fmt::join(kept, " "));
  }

  int64_t kv_heads() const { return static_cast<int64_t>(class_of.size()); }
  const LinearLayout& of_head(int64_t kv_head) const { return layouts[class_of[kv_head]]; }
  int64_t size() const { return begins.back(); }
  int64_t token_size() const { return token_begins.back(); }
  /// Numbers without padding, of all heads: in the type of sums, and of tokens.
  int64_t numbers() const {
    return sum([](const LinearLayout& x) { return numbers_in(x.matrices); });
  }
  int64_t token_numbers() const {
    return sum([](const LinearLayout& x) { return numbers_in(x.token_matrices); });
  }
  template <class Number>
  int64_t most(const Number& number) const {
    int64_t most = 0;
    for (const LinearLayout& each : layouts) most = std::max<int64_t>(most, number(each));
    return most;
  }

 private:
  template <class Number>
  int64_t sum(const Number& number) const {
    int64_t sum = 0;
    for (int64_t g = 0; g < kv_heads(); ++g) sum += number(of_head(g));
    return sum;
  }
};

template <class T, class S = T>
class LinearState final : public State<T> {
 public:
  explicit LinearState(std::shared_ptr<const LinearParts> parts)
      : parts_(std::move(parts)), slab_(zeroed<std::byte>(static_cast<int64_t>(bytes()))) {}

  /// Of a state of these parts; rows of numbers fill whole lines of a cache, so that tokens begin at one.
  static size_t bytes_of(const LinearParts& parts) {
    return static_cast<size_t>(parts.size()) * sizeof(T) +
           static_cast<size_t>(parts.token_size()) * sizeof(S);
  }

  int64_t length() const override { return length_; }
  void set_length(int64_t length) { length_ = length; }
  size_t bytes() const override { return bytes_of(*parts_); }
  void reset() override {
    std::fill_n(slab_.get(), bytes(), std::byte{0});
    length_ = 0;
  }
  std::unique_ptr<State<T>> clone() const override {
    auto copy = std::make_unique<LinearState>(parts_);
    std::copy_n(slab_.get(), bytes(), copy->slab_.get());
    copy->length_ = length_;
    return copy;
  }
  void save(std::vector<std::byte>& out) const override {
    append_signature(out, signature(), length_);
    each_row([&](const auto* row, int64_t size) { append_numbers(out, row, size); });
  }
  void load(std::span<const std::byte>& in) override {
    auto rest = in;
    const int64_t length = read_signature(rest, signature());
    require_bytes(rest, parts_->numbers() * sizeof(T) + parts_->token_numbers() * sizeof(S));
    each_row([&](auto* row, int64_t size) { read_numbers(rest, row, size); });
    in = rest;
    length_ = length;
  }

  Part<T, S> head(int64_t kv_head) { return part(kv_head); }
  Part<const T, const S> head(int64_t kv_head) const { return part(kv_head); }

 private:
  Part<T, S> part(int64_t kv_head) const {
    auto* numbers = reinterpret_cast<T*>(slab_.get());
    auto* tokens = reinterpret_cast<S*>(numbers + parts_->size());
    return {numbers + parts_->begins[kv_head], tokens + parts_->token_begins[kv_head]};
  }
  template <class Visit>
  void each_row(const Visit& visit) const {
    const auto each = [&](const std::vector<PaddedMatrix>& matrices, auto* from) {
      for (const PaddedMatrix& x : matrices) {
        for (int64_t i = 0; i < x.rows; ++i) visit(from + x.offset + i * x.row, x.size);
      }
    };
    for (int64_t g = 0; g < parts_->kv_heads(); ++g) {
      each(parts_->of_head(g).matrices, part(g).numbers);
      each(parts_->of_head(g).token_matrices, part(g).tokens);
    }
  }
  Signature signature() const {
    const LinearLayout& first = parts_->layouts[0];
    return {parts_->name,
            {{"number size", sizeof(T)},
             {"size of keys and values", sizeof(S)},
             {"key-value heads", parts_->kv_heads()},
             {"head size", first.shape.head_size},
             {"value size", first.shape.value_size},
             {"group", first.group},
             {"waiting tokens", parts_->most([](const LinearLayout& x) { return x.tokens; })},
             {"sinks", first.sinks},
             {"recent values", first.recent},
             {"summary numbers", first.plain_summary},
             {"unrotated keys", first.separate_keys}}};
  }

  std::shared_ptr<const LinearParts> parts_;
  AlignedArray<std::byte> slab_;  // all heads' numbers, then all heads' tokens
  int64_t length_ = 0;
};

}  // namespace linnet

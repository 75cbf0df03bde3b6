// The constant-size state: one slab a layer and sequence, a part of it each key-value head, of the size that
// the head's budget says.
//
// A part holds, padded rows all: the summary of the folded tokens; the waiting tokens in a ring, token s in
// column or row s mod tokens: keys for the local branch [d, key_row], keys for the summary [d, key_row] where
// both are read and neither can be had from the other, values [tokens, value_row]; the sinks' keys [d,
// sink_row] and values [sinks, value_row]; the last K − 1 values [recent, value_row], token s in row s mod
// recent; the kept tokens (kept_tokens.h). A saved state holds the same rows in the same order without what
// pads them: another build may pad otherwise.
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

/// Where in the part of a head of one class things stand, in numbers.
struct LinearLayout {
  std::string_view method;  // the row's name
  AttentionShape shape;
  int64_t group = 0, blocks = 0;  // C; blocks that the ring holds
  int64_t tokens = 0, sinks = 0, recent = 0;
  int64_t key_row = 0, sink_row = 0, value_row = 0;
  int64_t local_keys = 0, feature_keys = 0, values = 0, sink_keys = 0, sink_values = 0, recents = 0;
  int64_t kept_begin = 0, size = 0;
  KeptLayout kept;                     // from kept_begin on
  int64_t summary = 0;                 // numbers of a head's summary, with padding
  int64_t plain_summary = 0;           // numbers of a head's summary without padding
  std::vector<PaddedMatrix> matrices;  // all of the above: what is saved
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
    summary = local_keys = padded_end(sums);
    feature_keys = local_keys + (separate_keys ? shape.head_size * key_row : 0);
    values = feature_keys + shape.head_size * key_row;
    sink_keys = values + tokens * value_row;
    sink_values = sink_keys + shape.head_size * sink_row;
    recents = sink_values + sinks * value_row;
    kept_begin = recents + recent * value_row;
    kept = KeptLayout(config.kept.number(), shape);
    size = kept_begin + kept.size;
    matrices = std::move(sums);
    if (separate_keys) matrices.push_back({local_keys, shape.head_size, tokens, key_row});
    matrices.push_back({feature_keys, shape.head_size, tokens, key_row});
    matrices.push_back({values, tokens, shape.value_size, value_row});
    matrices.push_back({sink_keys, shape.head_size, sinks, sink_row});
    matrices.push_back({sink_values, sinks, shape.value_size, value_row});
    matrices.push_back({recents, recent, shape.value_size, value_row});
    kept.append_matrices(kept_begin, shape, matrices);
  }

  int64_t slot(int64_t position) const { return position % tokens; }
};

/// The parts of a layer's state, a key-value head each.
struct LinearParts {
  std::vector<LinearLayout> layouts;  // of each class of heads
  std::vector<int> class_of;          // [kv_heads]
  std::vector<int64_t> begins;        // [kv_heads + 1] where in the slab a head's part stands
  std::vector<int> by_size;           // [kv_heads] heads, the largest parts first: threads end together
  std::string name;                   // for the signature: the row's, and budgets where they need one

  LinearParts(std::vector<LinearLayout> of_classes, std::vector<int> classes)
      : layouts(std::move(of_classes)), class_of(std::move(classes)), begins{0}, name(layouts[0].method) {
    std::vector<int64_t> waiting, kept;
    for (const int number : class_of) {
      const LinearLayout& own = layouts[number];
      begins.push_back(begins.back() + own.size);
      waiting.push_back(own.tokens);
      kept.push_back(own.kept.tokens);
    }
    by_size.resize(class_of.size());
    std::iota(by_size.begin(), by_size.end(), 0);
    std::stable_sort(by_size.begin(), by_size.end(),
                     [&](int a, int b) { return of_head(a).size > of_head(b).size; });
    if (layouts.size() > 1) name += fmt::format(", waiting tokens {}", fmt::join(waiting, " "));
    if (*std::max_element(kept.begin(), kept.end()) > 0)
      name += fmt::format(", kept tokens {}", fmt::join(kept, " "));
  }

  int64_t kv_heads() const { return static_cast<int64_t>(class_of.size()); }
  const LinearLayout& of_head(int64_t kv_head) const { return layouts[class_of[kv_head]]; }
  int64_t size() const { return begins.back(); }
  /// Numbers without padding, of all heads.
  int64_t numbers() const {
    int64_t sum = 0;
    for (int64_t g = 0; g < kv_heads(); ++g) sum += numbers_in(of_head(g).matrices);
    return sum;
  }
  template <class Number>
  int64_t most(const Number& number) const {
    int64_t most = 0;
    for (const LinearLayout& each : layouts) most = std::max<int64_t>(most, number(each));
    return most;
  }
};

template <class T>
class LinearState final : public State<T> {
 public:
  explicit LinearState(std::shared_ptr<const LinearParts> parts)
      : parts_(std::move(parts)), slab_(zeroed<T>(parts_->size())) {}

  int64_t length() const override { return length_; }
  void set_length(int64_t length) { length_ = length; }
  size_t bytes() const override { return static_cast<size_t>(parts_->size()) * sizeof(T); }
  void reset() override {
    std::fill_n(slab_.get(), parts_->size(), T(0));
    length_ = 0;
  }
  std::unique_ptr<State<T>> clone() const override {
    auto copy = std::make_unique<LinearState>(parts_);
    std::copy_n(slab_.get(), parts_->size(), copy->slab_.get());
    copy->length_ = length_;
    return copy;
  }
  void save(std::vector<std::byte>& out) const override {
    append_signature(out, signature(), length_);
    each_row(*this, [&](const T* row, int64_t size) { append_numbers(out, row, size); });
  }
  void load(std::span<const std::byte>& in) override {
    auto rest = in;
    const int64_t length = read_signature(rest, signature());
    require_bytes(rest, parts_->numbers() * sizeof(T));
    each_row(*this, [&](T* row, int64_t size) { read_numbers(rest, row, size); });
    in = rest;
    length_ = length;
  }

  T* head(int64_t kv_head) { return slab_.get() + parts_->begins[kv_head]; }
  const T* head(int64_t kv_head) const { return slab_.get() + parts_->begins[kv_head]; }

 private:
  template <class Self, class Visit>
  static void each_row(Self& self, const Visit& visit) {
    for (int64_t g = 0; g < self.parts_->kv_heads(); ++g) {
      for (const PaddedMatrix& x : self.parts_->of_head(g).matrices) {
        for (int64_t i = 0; i < x.rows; ++i) visit(self.head(g) + x.offset + i * x.row, x.size);
      }
    }
  }
  Signature signature() const {
    const LinearLayout& first = parts_->layouts[0];
    return {parts_->name,
            {{"number size", sizeof(T)},
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
  AlignedArray<T> slab_;
  int64_t length_ = 0;
};

}  // namespace linnet

// The constant-size state: one slab a layer and sequence, a part of it each key-value head.
//
// A part holds, padded rows all: the summary of the folded tokens; the waiting tokens in a ring, token s in
// column or row s mod tokens: keys for the local branch [d, key_row], keys for the summary [d, key_row] (the
// same where both read rotated ones), values [tokens, value_row]; the sinks' keys [d, sink_row] and values
// [sinks, value_row]; the last K − 1 values [recent, value_row], token s in row s mod recent. A saved state
// holds the same rows in the same order without what pads them: another build may pad otherwise.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "attention/attention.h"
#include "attention/scratch.h"
#include "attention/state_bytes.h"
#include "attention/summary.h"
#include "kernels/cpu/attention_kernels.h"

namespace linnet {

/// Where in a head's part things stand, in numbers.
struct LinearLayout {
  std::string_view method;  // the row's name
  AttentionShape shape;
  int64_t group = 0, blocks = 0;  // C; blocks that the ring holds
  int64_t tokens = 0, sinks = 0, recent = 0;
  int64_t key_row = 0, sink_row = 0, value_row = 0;
  int64_t local_keys = 0, feature_keys = 0, values = 0, sink_keys = 0, sink_values = 0, recents = 0, size = 0;
  int64_t summary = 0;                 // numbers of a head's summary, with padding
  int64_t plain_summary = 0;           // numbers of a head's summary without padding
  std::vector<PaddedMatrix> matrices;  // all of the above: what is saved
  bool has_local = false, has_summary = false, separate_keys = false;

  LinearLayout() = default;
  LinearLayout(const AttentionConfig& config, const AttentionShape& s, std::vector<PaddedMatrix> sums)
      : method(config.name()),
        shape(s),
        group(config.group),
        sinks(config.sinks),
        recent(std::max(config.taps - 1, 0)) {
    has_local = config.local != LocalWeight::kNone;
    has_summary = !sums.empty();
    plain_summary = numbers_in(sums);
    separate_keys = has_local && has_summary && config.feature_position == FeaturePosition::kNone;
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
    size = recents + recent * value_row;
    matrices = std::move(sums);
    if (separate_keys) matrices.push_back({local_keys, shape.head_size, tokens, key_row});
    matrices.push_back({feature_keys, shape.head_size, tokens, key_row});
    matrices.push_back({values, tokens, shape.value_size, value_row});
    matrices.push_back({sink_keys, shape.head_size, sinks, sink_row});
    matrices.push_back({sink_values, sinks, shape.value_size, value_row});
    matrices.push_back({recents, recent, shape.value_size, value_row});
  }

  int64_t slot(int64_t position) const { return position % tokens; }
};

template <class T>
class LinearState final : public State<T> {
 public:
  explicit LinearState(const LinearLayout& layout)
      : layout_(layout), slab_(zeroed<T>(layout.shape.kv_heads * layout.size)) {}

  int64_t length() const override { return length_; }
  void set_length(int64_t length) { length_ = length; }
  size_t bytes() const override { return static_cast<size_t>(numbers()) * sizeof(T); }
  void reset() override {
    std::fill_n(slab_.get(), numbers(), T(0));
    length_ = 0;
  }
  std::unique_ptr<State<T>> clone() const override {
    auto copy = std::make_unique<LinearState>(layout_);
    std::copy_n(slab_.get(), numbers(), copy->slab_.get());
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
    require_bytes(rest, layout_.shape.kv_heads * numbers_in(layout_.matrices) * sizeof(T));
    each_row(*this, [&](T* row, int64_t size) { read_numbers(rest, row, size); });
    in = rest;
    length_ = length;
  }

  T* head(int64_t kv_head) { return slab_.get() + kv_head * layout_.size; }
  const T* head(int64_t kv_head) const { return slab_.get() + kv_head * layout_.size; }

 private:
  template <class Self, class Visit>
  static void each_row(Self& self, const Visit& visit) {
    for (int64_t g = 0; g < self.layout_.shape.kv_heads; ++g) {
      for (const PaddedMatrix& x : self.layout_.matrices) {
        for (int64_t i = 0; i < x.rows; ++i) visit(self.head(g) + x.offset + i * x.row, x.size);
      }
    }
  }
  int64_t numbers() const { return layout_.shape.kv_heads * layout_.size; }
  Signature signature() const {
    return {layout_.method,
            {{"number size", sizeof(T)},
             {"key-value heads", layout_.shape.kv_heads},
             {"head size", layout_.shape.head_size},
             {"value size", layout_.shape.value_size},
             {"group", layout_.group},
             {"waiting tokens", layout_.tokens},
             {"sinks", layout_.sinks},
             {"recent values", layout_.recent},
             {"summary numbers", layout_.plain_summary},
             {"unrotated keys", layout_.separate_keys}}};
  }

  LinearLayout layout_;
  AlignedArray<T> slab_;
  int64_t length_ = 0;
};

}  // namespace linnet

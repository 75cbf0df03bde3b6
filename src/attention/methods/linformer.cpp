// `linformer`: exact causal slots. With r slots, C tokens per period (the group) and c tokens seen,
//
//     o_t = softmax_j(q_t·K'_j / (b√d)) V' / b,   b = max(⌈c/C⌉, 1) periods begun,
//     K'_j = Σ_s E_{j, s mod C} k_s,   V'_j = Σ_s F_{j, s mod C} v_s
//
// over the tokens that t sees globally. Linformer (Wang et al. 2020) projects all n tokens of a sequence onto
// r slots, which an encoder may; here a slot is a running sum with weights that repeat every C positions, so
// that none holds a later token and none is tied to a length. E and F [G, r, C] are learned.
//
// Tokens that are not folded enter by what they would add, q·K'_j += E_{j, s mod C} (q·k_s) and
// P V' += (P F_{., s mod C}) v_s: a score row over tokens, never a slot per query.
//
// State: r(d + e) numbers per key-value head. Cost of a token: r(d + e) multiply-adds per query head to read
// and as many per key-value head to fold; d + e + r per query head and waiting token.
#include <algorithm>
#include <cmath>

#include "attention/method.h"
#include "kernels/cpu/attention_kernels.h"

namespace linnet {
namespace {

using kernels::padded;

constexpr Option kSlots{"slots", 1, 4096, 16, "slots that the tokens are summed into", "E", 1};

template <class T>
class SlotSummary final : public Summary<T> {
 public:
  SlotSummary(const AttentionConfig& config, const AttentionShape& shape, const Parameters<T>& parameters)
      : slots_(config.option(kSlots.key)),
        period_(config.group),
        size_(shape.head_size),
        value_size_(shape.value_size),
        slot_row_(padded(slots_)),
        place_row_(padded(period_)),
        value_row_(padded(value_size_)),
        score_scale_(config.method->unit_rows ? T(1) : T(1) / std::sqrt(T(size_))) {
    const std::vector<T>& e = parameters.find("E")->second;
    const std::vector<T>& f = parameters.find("F")->second;
    key_weights_.assign(shape.kv_heads * period_ * slot_row_, T(0));
    value_weights_.assign(shape.kv_heads * slots_ * place_row_, T(0));
    for (int64_t g = 0; g < shape.kv_heads; ++g) {
      for (int64_t j = 0; j < slots_; ++j) {
        for (int64_t c = 0; c < period_; ++c) {
          const int64_t from = (g * slots_ + j) * period_ + c;
          key_weights_[(g * period_ + c) * slot_row_ + j] = e[from];
          value_weights_[(g * slots_ + j) * place_row_ + c] = f[from];
        }
      }
    }
  }

  // K' as columns [d, padded r], V' [r, padded e].
  std::vector<PaddedMatrix> matrices() const override {
    return {{0, size_, slots_, slot_row_}, {size_ * slot_row_, slots_, value_size_, value_row_}};
  }

  void add(int64_t kv_head, T* summary, const TokenBlock<T>& tokens) const override {
    T* values = summary + size_ * slot_row_;
    each_piece(tokens, [&](int64_t first, int64_t count, int64_t place) {
      kernels::matmul(size_, slot_row_, count, tokens.keys + first, tokens.key_row,
                      key_weights(kv_head) + place * slot_row_, slot_row_, summary, slot_row_, true);
      kernels::matmul(slots_, value_row_, count, value_weights(kv_head) + place, place_row_,
                      tokens.values + first * tokens.value_row, tokens.value_row, values, value_row_, true);
    });
  }

  void scale(T*, T) const override {}  // decay is of features

  void read(const Reading<T>& reading, const SummaryRead<T>& out) const override {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    const int64_t rows = reading.heads * reading.tokens;
    T* shares = scratch.take<T>(rows * slot_row_);
    score(reading, shares);
    for (int64_t r = 0; r < rows; ++r) {
      const T periods = T(std::max<int64_t>((reading.seen(r) + period_ - 1) / period_, 1));
      T* row = shares + r * slot_row_;
      for (int64_t j = 0; j < slots_; ++j) row[j] *= score_scale_ / periods;
      out.denominators[r] = kernels::exponentiate(row, slots_) * periods;
    }
    kernels::matmul(rows, out.row, slots_, shares, slot_row_, reading.summary + size_ * slot_row_, value_row_,
                    out.numerators, out.row, false);
    if (reading.waiting() > 0 || reading.branches.count > 0) add_values(reading, shares, out);
  }

  void finish(int64_t, T* numerator, T denominator) const override {
    for (int64_t i = 0; i < value_size_; ++i) numerator[i] /= denominator;
  }

 private:
  const T* key_weights(int64_t kv_head) const { return key_weights_.data() + kv_head * period_ * slot_row_; }
  const T* value_weights(int64_t kv_head) const {
    return value_weights_.data() + kv_head * slots_ * place_row_;
  }

  /// visit(first token, how many, their first place in the period) of the block's pieces of one period.
  template <class Visit>
  void each_piece(const TokenBlock<T>& tokens, const Visit& visit) const {
    for (int64_t first = 0; first < tokens.count;) {
      const int64_t place = (tokens.position + first) % period_;
      const int64_t count = std::min(tokens.count - first, period_ - place);
      visit(first, count, place);
      first += count;
    }
  }

  /// q·K'_j of every row: folded tokens, then the others in position order.
  void score(const Reading<T>& reading, T* scores) const {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    const int64_t rows = reading.heads * reading.tokens;
    const T* weights = key_weights(reading.kv_head);
    kernels::matmul(rows, slot_row_, size_, reading.queries, reading.query_row, reading.summary, slot_row_,
                    scores, slot_row_, false);
    const auto products = [&](const TokenBlock<T>& tokens) {  // q·k_s [rows, padded count]
      const int64_t n = padded(tokens.count);
      T* all = scratch.take<T>(rows * n);
      kernels::matmul(rows, n, size_, reading.queries, reading.query_row, tokens.keys, tokens.key_row, all, n,
                      false);
      return all;
    };
    for (const auto& block : reading.blocks) {
      const Scratch::Scope block_scope(scratch);
      const T* all = products(block);
      each_piece(block, [&](int64_t first, int64_t count, int64_t place) {
        kernels::matmul(rows, slot_row_, count, all + first, padded(block.count), weights + place * slot_row_,
                        slot_row_, scores, slot_row_, true);
      });
    }
    if (reading.branches.count == 0) return;
    const int64_t n = padded(reading.branches.count);
    const T* all = products(reading.branches);
    T* own = scratch.take<T>(reading.path_end);
    int32_t* places = places_of_path(reading, scratch);
    for (int64_t r = 0; r < rows; ++r) {
      const auto path = reading.path(r);
      for (size_t j = 0; j < path.size(); ++j) own[j] = all[r * n + path[j]];
      kernels::add_weighted_rows(own, places, static_cast<int64_t>(path.size()), weights, slot_row_,
                                 slot_row_, scores + r * slot_row_);
    }
  }

  /// out += P F v of tokens not folded, in position order.
  void add_values(const Reading<T>& reading, const T* shares, const SummaryRead<T>& out) const {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    const int64_t rows = reading.heads * reading.tokens, n = place_row_;
    T* weights = scratch.take<T>(rows * n);  // P F, by place in the period
    kernels::matmul(rows, n, slots_, shares, slot_row_, value_weights(reading.kv_head), place_row_, weights,
                    n, false);
    for (const auto& block : reading.blocks) {
      each_piece(block, [&](int64_t first, int64_t count, int64_t place) {
        kernels::matmul(rows, out.row, count, weights + place, n, block.values + first * block.value_row,
                        block.value_row, out.numerators, out.row, true);
      });
    }
    if (reading.branches.count == 0) return;
    T* own = scratch.take<T>(reading.path_end);
    const int32_t* places = places_of_path(reading, scratch);
    for (int64_t r = 0; r < rows; ++r) {
      const auto path = reading.path(r);
      for (size_t j = 0; j < path.size(); ++j) own[j] = weights[r * n + places[j]];
      kernels::add_weighted_rows(own, path.data(), static_cast<int64_t>(path.size()), reading.branches.values,
                                 reading.branches.value_row, out.row, out.numerators + r * out.row);
    }
  }

  /// Places in the period of what a path's rows see of it: [path_end − path_begin].
  int32_t* places_of_path(const Reading<T>& reading, Scratch& scratch) const {
    int32_t* places = scratch.take<int32_t>(reading.path_end);
    for (int64_t j = reading.path_begin; j < reading.path_end; ++j) {
      places[j - reading.path_begin] = static_cast<int32_t>((reading.branches.position + j) % period_);
    }
    return places;
  }

  int64_t slots_, period_, size_, value_size_;
  int64_t slot_row_, place_row_, value_row_;
  T score_scale_;
  std::vector<T> key_weights_, value_weights_;  // Eᵀ [G, C, padded r], F [G, r, padded C]
};

template <class T>
std::unique_ptr<Summary<T>> make_slots(const AttentionConfig& config, const AttentionShape& shape,
                                       const Parameters<T>& parameters) {
  return std::make_unique<SlotSummary<T>>(config, shape, parameters);
}

std::vector<ParameterSpec> slot_parameters(const AttentionConfig& config, const AttentionShape& shape) {
  const std::vector<int64_t> size{shape.kv_heads, config.option(kSlots.key), config.group};
  return {{"E", size, {}}, {"F", size, {}}};
}

/// A slot begins as the mean of its own stretch of each period; more slots than places share them.
std::vector<float> slot_initial(const ParameterSpec& spec, const AttentionConfig&, uint64_t, int) {
  if (spec.name != "E" && spec.name != "F") return {};
  const int64_t heads = spec.shape[0], slots = spec.shape[1], period = spec.shape[2];
  std::vector<float> weights(heads * slots * period, 0.0f);
  for (int64_t g = 0; g < heads; ++g) {
    for (int64_t j = 0; j < slots; ++j) {
      const int64_t begin = j * period / slots, end = std::max(begin + 1, (j + 1) * period / slots);
      std::fill(weights.begin() + (g * slots + j) * period + begin,
                weights.begin() + (g * slots + j) * period + end, 1.0f / float(end - begin));
    }
  }
  return weights;
}

}  // namespace

const Method& linformer_method() {
  static const Method row = [] {
    Method m;
    m.name = "linformer";
    m.description = "softmax over a few slots, sums of keys and values with learned weights that repeat";
    m.cost = "2r(d + e)";
    m.summary = SummaryKind::kOther;
    m.division = Division::kNone;
    m.options = {kSlots};
    m.parameters = slot_parameters;
    m.initial = slot_initial;
    m.make_float = make_slots<float>;
    m.make_double = make_slots<double>;
    return m;
  }();
  return row;
}

}  // namespace linnet

// `yoso`: sampled tables. With m tables of 2^bits rows,
//
//     o_t = y / max(‖y‖, ε),   y = (1/m) Σ_h H_h[f_h(q_t)],   H_h[f_h(k_s)] += v_s,
//     f_h(x) = Σ_i 2^i [planes_{h,i}·x > 0]
//
// over the tokens that t sees globally: YOSO (Zeng et al. 2021, "You Only Sample (Almost) Once"). Two vectors
// share a row of a table with the chance (1 − angle/π)^bits over normal planes, so y is on average attention
// with that kernel. The planes [G, m, bits, d] are drawn once and stored with the model; nothing is learned.
//
// Rows are scattered and gathered; tokens that are not folded count the tables in which they collide with the
// query. A hash is a step: a vector within rounding of a plane may fall on either side of it in another
// precision, and then one of m tables gives another row.
//
// State: m·2^bits·e numbers per key-value head. Cost of a token: m·bits·d multiply-adds and m·e additions per
// query head to read, the same per key-value head to fold; m comparisons per query head and waiting token.
#include <algorithm>
#include <cmath>

#include "attention/method.h"
#include "attention/methods/projection.h"
#include "base/random.h"
#include "kernels/cpu/attention_kernels.h"

namespace linnet {
namespace {

using kernels::padded;

constexpr Option kTables{"tables", 1, 256, 16, "hash tables", "planes", 1};
constexpr Option kBits{"bits", 1, 16, 5, "bits of a hash: a table has 2^bits rows", "planes", 2};

template <class T>
class TableSummary final : public Summary<T> {
 public:
  TableSummary(const AttentionConfig& config, const AttentionShape& shape, const Parameters<T>& parameters)
      : tables_(config.option(kTables.key)),
        bits_(config.option(kBits.key)),
        value_size_(shape.value_size),
        value_row_(padded(value_size_)),
        planes_(parameters.find("planes")->second, tables_ * bits_, shape.head_size),
        ones_(tables_, T(1)) {}

  // H: the tables' rows, table after table.
  std::vector<PaddedMatrix> matrices() const override {
    return {{0, tables_ << bits_, value_size_, value_row_}};
  }

  void add(int64_t kv_head, T* summary, const TokenBlock<T>& tokens) const override {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    const int64_t n = padded(tokens.count);
    const uint16_t* codes = key_codes(kv_head, tokens, scratch);
    for (int64_t s = 0; s < tokens.count; ++s) {
      const T* value = tokens.values + s * tokens.value_row;
      for (int64_t h = 0; h < tables_; ++h) {
        T* row = summary + ((h << bits_) + codes[h * n + s]) * value_row_;
        for (int64_t i = 0; i < value_row_; ++i) row[i] += value[i];
      }
    }
  }

  void scale(T*, T) const override {}  // decay is of features

  void read(const Reading<T>& reading, const SummaryRead<T>& out) const override {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    const int64_t rows = reading.heads * reading.tokens;
    const uint16_t* codes = query_codes(reading, scratch);
    int32_t* indices = scratch.take<int32_t>(tables_);
    for (int64_t r = 0; r < rows; ++r) {
      T* numerator = out.numerators + r * out.row;
      for (int64_t h = 0; h < tables_; ++h) {
        indices[h] = static_cast<int32_t>((h << bits_) + codes[r * tables_ + h]);
      }
      std::fill_n(numerator, out.row, T(0));
      kernels::add_weighted_rows(ones_.data(), indices, tables_, reading.summary, value_row_, out.row,
                                 numerator);
      out.denominators[r] = T(tables_);
    }
    for (const auto& block : reading.blocks) {
      const Scratch::Scope block_scope(scratch);
      const T* collisions = count_collisions(reading, codes, block, scratch);
      kernels::matmul(rows, out.row, block.count, collisions, padded(block.count), block.values,
                      block.value_row, out.numerators, out.row, true);
    }
    if (reading.branches.count > 0) read_paths(reading, codes, out);
  }

  void finish(int64_t, T* numerator, T denominator) const override {
    T squares = 0;
    for (int64_t i = 0; i < value_size_; ++i) {
      numerator[i] /= denominator;
      squares += numerator[i] * numerator[i];
    }
    const T length = std::max(std::sqrt(squares), T(kEpsilon));
    for (int64_t i = 0; i < value_size_; ++i) numerator[i] /= length;
  }

 private:
  /// f_h of a block's keys: [m, padded count].
  const uint16_t* key_codes(int64_t kv_head, const TokenBlock<T>& tokens, Scratch& scratch) const {
    const int64_t n = padded(tokens.count);
    auto* codes = scratch.take<uint16_t>(tables_ * n);
    const Scratch::Scope scope(scratch);
    T* sides = scratch.take<T>(planes_.out() * n);
    planes_.columns(kv_head, n, tokens.keys, tokens.key_row, sides);
    std::fill_n(codes, tables_ * n, uint16_t{0});
    for (int64_t h = 0; h < tables_; ++h) {
      for (int64_t i = 0; i < bits_; ++i) {
        const T* side = sides + (h * bits_ + i) * n;
        const auto bit = static_cast<uint16_t>(1 << i);
        for (int64_t s = 0; s < n; ++s) codes[h * n + s] |= side[s] > T(0) ? bit : uint16_t{0};
      }
    }
    return codes;
  }

  /// f_h of all queries: [rows, m].
  const uint16_t* query_codes(const Reading<T>& reading, Scratch& scratch) const {
    const int64_t rows = reading.heads * reading.tokens;
    auto* codes = scratch.take<uint16_t>(rows * tables_);
    const Scratch::Scope scope(scratch);
    T* sides = scratch.take<T>(rows * planes_.row());
    planes_.rows(reading.kv_head, rows, reading.queries, reading.query_row, sides);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t h = 0; h < tables_; ++h) {
        const T* side = sides + r * planes_.row() + h * bits_;
        unsigned code = 0;
        for (int64_t i = 0; i < bits_; ++i) code |= unsigned(side[i] > T(0)) << i;
        codes[r * tables_ + h] = static_cast<uint16_t>(code);
      }
    }
    return codes;
  }

  /// In how many tables each row's query collides with each token: [rows, padded count].
  const T* count_collisions(const Reading<T>& reading, const uint16_t* queries, const TokenBlock<T>& tokens,
                            Scratch& scratch) const {
    const int64_t rows = reading.heads * reading.tokens, n = padded(tokens.count);
    T* collisions = scratch.take<T>(rows * n);
    const Scratch::Scope scope(scratch);
    const uint16_t* keys = key_codes(reading.kv_head, tokens, scratch);
    auto* counts = scratch.take<uint16_t>(n);
    for (int64_t r = 0; r < rows; ++r) {
      std::fill_n(counts, n, uint16_t{0});
      for (int64_t h = 0; h < tables_; ++h) {
        const uint16_t code = queries[r * tables_ + h];
        const uint16_t* of_table = keys + h * n;
        for (int64_t s = 0; s < n; ++s) counts[s] += static_cast<uint16_t>(of_table[s] == code);
      }
      for (int64_t s = 0; s < n; ++s) collisions[r * n + s] = T(counts[s]);
    }
    return collisions;
  }

  void read_paths(const Reading<T>& reading, const uint16_t* codes, const SummaryRead<T>& out) const {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    const int64_t rows = reading.heads * reading.tokens, n = padded(reading.branches.count);
    const T* collisions = count_collisions(reading, codes, reading.branches, scratch);
    T* own = scratch.take<T>(reading.path_end);
    for (int64_t r = 0; r < rows; ++r) {
      const auto path = reading.path(r);
      for (size_t j = 0; j < path.size(); ++j) own[j] = collisions[r * n + path[j]];
      kernels::add_weighted_rows(own, path.data(), static_cast<int64_t>(path.size()), reading.branches.values,
                                 reading.branches.value_row, out.row, out.numerators + r * out.row);
    }
  }

  int64_t tables_, bits_, value_size_, value_row_;
  Projection<T> planes_;
  std::vector<T> ones_;
};

template <class T>
std::unique_ptr<Summary<T>> make_tables(const AttentionConfig& config, const AttentionShape& shape,
                                        const Parameters<T>& parameters) {
  return std::make_unique<TableSummary<T>>(config, shape, parameters);
}

std::vector<ParameterSpec> table_parameters(const AttentionConfig& config, const AttentionShape& shape) {
  return {{"planes",
           {shape.kv_heads, config.option(kTables.key), config.option(kBits.key), shape.head_size},
           {},
           false}};
}

/// Normal numbers, a function of (seed, layer) alone.
std::vector<float> table_initial(const ParameterSpec& spec, const AttentionConfig&, uint64_t seed,
                                 int layer) {
  if (spec.name != "planes") return {};
  constexpr uint64_t kStreams = uint64_t{0x706c616e} << 32;  // apart from all other draws of a seed
  std::vector<float> planes(spec.shape[0] * spec.shape[1] * spec.shape[2] * spec.shape[3]);
  for (size_t i = 0; i < planes.size(); ++i) {
    planes[i] = static_cast<float>(normal(seed, kStreams + static_cast<uint64_t>(layer), i));
  }
  return planes;
}

}  // namespace

const Method& yoso_method() {
  static const Method row = [] {
    Method m;
    m.name = "yoso";
    m.description = "values in hash tables by the side of random planes that their key lies on";
    m.cost = "2m·bits·d + 2me";
    m.summary = SummaryKind::kOther;
    m.division = Division::kNone;
    m.options = {kTables, kBits};
    m.parameters = table_parameters;
    m.steps = true;
    m.initial = table_initial;
    m.make_float = make_tables<float>;
    m.make_double = make_tables<double>;
    return m;
  }();
  return row;
}

}  // namespace linnet

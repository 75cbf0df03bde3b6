#include "attention/features.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "attention/method.h"
#include "kernels/cpu/attention_kernels.h"

namespace linnet {
namespace {

using kernels::padded;

template <class T>
void weigh(int64_t n, T weight, T* x) {
  for (int64_t i = 0; i < n; ++i) x[i] *= weight;
}

template <class T>
class FeatureSummary final : public Summary<T> {
 public:
  FeatureSummary(std::unique_ptr<FeatureMap<T>> map, const AttentionConfig& config,
                 const AttentionShape& shape, const Parameters<T>& parameters)
      : map_(std::move(map)),
        division_(config.method->division),
        features_(map_->features()),
        size_(shape.value_size),
        row_(padded(size_)),
        scaled_(map_->scaled()) {
    if (config.method->gain) gains_ = parameters.find("gain")->second;
  }

  // S [f, padded e]; z [padded f] where it is divided by; [m, 1 once there is an m] where the map is scaled:
  // S and z are then to be multiplied by exp(m), the largest exponent so far.
  std::vector<PaddedMatrix> matrices() const override {
    std::vector<PaddedMatrix> all{{0, features_, size_, row_}};
    if (sums()) all.push_back({padded_end(all), 1, features_, padded(features_)});
    if (scaled_) all.push_back({padded_end(all), 1, 2, kernels::kPad});
    return all;
  }

  void add(int64_t kv_head, T* summary, const TokenBlock<T>& tokens) const override {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    const Keys keys = keys_of(kv_head, tokens, scratch);
    if (scaled_) {
      T* largest = summary + scale_at();
      T* weights = scratch.take<T>(keys.row);
      std::fill_n(weights, keys.row, T(1));
      const bool any = largest[1] != T(0);
      const T before = any ? largest[0] : -std::numeric_limits<T>::infinity();
      const T after = kernels::scale_to_largest(weights, keys.exponents, tokens.count, before);
      if (any && after != before) weigh(scale_at(), std::exp(before - after), summary);
      largest[0] = after;
      largest[1] = T(1);
      for (int64_t i = 0; i < features_; ++i) {
        for (int64_t s = 0; s < keys.row; ++s) keys.phi[i * keys.row + s] *= weights[s];
      }
    }
    kernels::matmul(features_, row_, tokens.count, keys.phi, keys.row, tokens.values, tokens.value_row,
                    summary, row_, true);
    if (!sums()) return;
    T* z = summary + features_ * row_;
    for (int64_t i = 0; i < features_; ++i) z[i] += kernels::sum(keys.phi + i * keys.row, tokens.count);
  }

  // v̂ = φ(k)ᵀS / max(φ(k)·z, ε); S = 0 recalls 0.
  void surprises(int64_t kv_head, const T* summary, const TokenBlock<T>& tokens, T* out) const override {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    const int64_t phi_row = padded(features_);
    const Keys keys = keys_of(kv_head, tokens, scratch);
    T* phi = scratch.take<T>(tokens.count * phi_row);
    for (int64_t s = 0; s < tokens.count; ++s) {
      T* row = phi + s * phi_row;
      for (int64_t i = 0; i < features_; ++i) row[i] = keys.phi[i * keys.row + s];
      std::fill(row + features_, row + phi_row, T(0));
    }
    T* recalled = scratch.take<T>(tokens.count * row_);
    kernels::matmul(tokens.count, row_, features_, phi, phi_row, summary, row_, recalled, row_, false);
    for (int64_t s = 0; s < tokens.count; ++s) {
      const T sum = kernels::dot(phi + s * phi_row, summary + features_ * row_, features_);
      // True numbers are exp(exponent) times these: what is divided by ε is not small beside it.
      const T factor = scaled_ && summary[scale_at() + 1] != T(0)
                           ? std::exp(keys.exponents[s] + summary[scale_at()])
                           : T(1);
      const T share = sum * factor >= T(kEpsilon) ? T(1) / sum : factor / T(kEpsilon);
      T squares = 0;
      for (int64_t i = 0; i < size_; ++i) {
        const T away = tokens.values[s * tokens.value_row + i] - share * recalled[s * row_ + i];
        squares += away * away;
      }
      out[s] = std::sqrt(squares);
    }
  }

  void scale(T* summary, T weight) const override { weigh(scale_at(), weight, summary); }

  void merge(T* into, const T* other) const override {
    T scales[2] = {T(1), T(1)};
    if (scaled_) {  // both to the larger exponent
      const T* theirs = other + scale_at();
      T* own = into + scale_at();
      if (theirs[1] == T(0)) return;  // nothing is in it
      const T largest = own[1] != T(0) ? std::max(own[0], theirs[0]) : theirs[0];
      if (own[1] != T(0)) scales[0] = std::exp(own[0] - largest);
      scales[1] = std::exp(theirs[0] - largest);
      own[0] = largest;
      own[1] = T(1);
    }
    for (int64_t i = 0; i < scale_at(); ++i) into[i] = into[i] * scales[0] + other[i] * scales[1];
  }

  void read(const Reading<T>& reading, const SummaryRead<T>& out) const override {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    const int64_t rows = reading.heads * reading.tokens, phi_row = padded(features_);
    T* phi = scratch.take<T>(rows * phi_row);
    for (int64_t h = 0; h < reading.heads; ++h) {
      const int64_t first = h * reading.tokens;
      map_->queries(reading.first_head + h, reading.tokens, reading.queries + first * reading.query_row,
                    reading.query_row, phi + first * phi_row, out.exponents + first);
    }
    kernels::matmul(rows, out.row, features_, phi, phi_row, reading.summary, row_, out.numerators, out.row,
                    false);
    const T* z = reading.summary + features_ * row_;
    for (int64_t r = 0; r < rows; ++r) {
      out.denominators[r] = sums() ? kernels::dot(phi + r * phi_row, z, features_) : T(1);
    }
    if (!reading.blocks.empty() || reading.branches.count > 0) {
      read_unfolded(reading, phi, phi_row, out);
    } else if (scaled_) {
      for (int64_t r = 0; r < rows; ++r) out.exponents[r] += reading.summary[scale_at()];
    }
    if (division_ == Division::kCount) {
      for (int64_t r = 0; r < rows; ++r) {
        out.denominators[r] = T(std::max<int64_t>(reading.seen(r), 1));
      }
    }
  }

  void finish(int64_t head, T* numerator, T denominator) const override {
    T divisor = denominator;
    if (division_ == Division::kSum) divisor = std::max(denominator, T(kEpsilon));
    if (division_ == Division::kPositiveSum && denominator < std::numeric_limits<T>::min())
      divisor = T(1);  // all products are too small for T: 0
    T scale = T(1) / divisor;
    if (gains_.empty()) {
      for (int64_t i = 0; i < size_; ++i) numerator[i] *= scale;
      return;
    }
    T squares = 0;
    for (int64_t i = 0; i < size_; ++i) squares += numerator[i] * numerator[i];
    scale /= std::sqrt(squares * scale * scale / T(size_) + T(kEpsilon));
    for (int64_t i = 0; i < size_; ++i) numerator[i] *= scale * gains_[head * size_ + i];
  }

 private:
  /// Keys' features as columns, weighted; true ones are phi · exp(exponents) where the map is scaled.
  struct Keys {
    T* phi;
    int64_t row;
    T* exponents;
  };

  bool sums() const { return division_ == Division::kSum || division_ == Division::kPositiveSum; }
  /// Where the scale stands: S and z fill all before it.
  int64_t scale_at() const { return features_ * row_ + (sums() ? padded(features_) : 0); }

  Keys keys_of(int64_t kv_head, const TokenBlock<T>& tokens, Scratch& scratch) const {
    const int64_t n = padded(tokens.count);
    const Keys keys{scratch.take<T>(features_ * n), n, scaled_ ? scratch.take<T>(n) : nullptr};
    map_->keys(kv_head, n, tokens.keys, tokens.key_row, keys.phi, keys.exponents);
    if (tokens.weight != T(1)) weigh(features_ * n, tokens.weight, keys.phi);
    return keys;
  }

  // Tokens not folded are score rows φ(q)·φ(k_s): blocks, then the own path, in position order.
  void read_unfolded(const Reading<T>& reading, const T* phi, int64_t phi_row,
                     const SummaryRead<T>& out) const {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    const int64_t rows = reading.heads * reading.tokens, committed = reading.waiting();
    const int64_t row = padded(committed + reading.path_end) + kernels::kPad;
    T* scores = scratch.take<T>(rows * row);
    T* exponents = scaled_ ? scratch.take<T>(rows * row) : nullptr;  // of the scores

    int64_t place = 0;
    for (const auto& block : reading.blocks) {
      const Scratch::Scope block_scope(scratch);
      const Keys keys = keys_of(reading.kv_head, block, scratch);
      // Columns past the block's end are overwritten by what comes next.
      kernels::matmul(rows, keys.row, features_, phi, phi_row, keys.phi, keys.row, scores + place, row,
                      false);
      for (int64_t r = 0; scaled_ && r < rows; ++r) {
        std::copy_n(keys.exponents, block.count, exponents + r * row + place);
      }
      place += block.count;
    }
    if (reading.branches.count > 0) score_paths(reading, phi, phi_row, scores + place, exponents, place, row);
    for (int64_t r = 0; scaled_ && r < rows; ++r) {
      rescale(reading, r, scores + r * row, exponents + r * row, out);
    }
    place = 0;
    for (const auto& block : reading.blocks) {
      kernels::matmul(rows, out.row, block.count, scores + place, row, block.values, block.value_row,
                      out.numerators, out.row, true);
      place += block.count;
    }
    for (int64_t r = 0; r < rows; ++r) {
      const auto path = reading.path(r);
      const T* own = scores + r * row;
      kernels::add_weighted_rows(own + committed, path.data(), static_cast<int64_t>(path.size()),
                                 reading.branches.values, reading.branches.value_row, out.row,
                                 out.numerators + r * out.row);
      if (sums()) out.denominators[r] += kernels::sum(own, committed + static_cast<int64_t>(path.size()));
    }
  }

  void score_paths(const Reading<T>& reading, const T* phi, int64_t phi_row, T* scores, T* exponents,
                   int64_t place, int64_t row) const {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    const int64_t rows = reading.heads * reading.tokens;
    const Keys keys = keys_of(reading.kv_head, reading.branches, scratch);
    T* all = scratch.take<T>(rows * keys.row);
    kernels::matmul(rows, keys.row, features_, phi, phi_row, keys.phi, keys.row, all, keys.row, false);
    for (int64_t r = 0; r < rows; ++r) {
      const auto path = reading.path(r);
      for (size_t j = 0; j < path.size(); ++j) {
        scores[r * row + j] = all[r * keys.row + path[j]] * reading.path_weights[reading.path_begin + j];
        if (scaled_) exponents[r * row + place + j] = keys.exponents[path[j]];
      }
    }
  }

  // Brings what row r reads to the largest exponent among what it sees, so that nothing else can move a bit
  // of it.
  void rescale(const Reading<T>& reading, int64_t r, T* scores, const T* exponents,
               const SummaryRead<T>& out) const {
    const int64_t count = reading.waiting() + static_cast<int64_t>(reading.path(r).size());
    const T* own = reading.summary + scale_at();
    const bool any = own[1] != T(0);
    const T largest = kernels::scale_to_largest(scores, exponents, count,
                                                any ? own[0] : -std::numeric_limits<T>::infinity());
    const T folded = any ? std::exp(own[0] - largest) : T(0);
    weigh(out.row, folded, out.numerators + r * out.row);
    if (sums()) out.denominators[r] *= folded;
    out.exponents[r] += largest;
  }

  std::unique_ptr<FeatureMap<T>> map_;
  Division division_;
  int64_t features_, size_, row_;
  bool scaled_;
  std::vector<T> gains_;  // [heads, e]; empty: no norm
};

}  // namespace

template <class T>
std::unique_ptr<Summary<T>> make_features(std::unique_ptr<FeatureMap<T>> map, const AttentionConfig& config,
                                          const AttentionShape& shape, const Parameters<T>& parameters) {
  return std::make_unique<FeatureSummary<T>>(std::move(map), config, shape, parameters);
}
template std::unique_ptr<Summary<float>> make_features(std::unique_ptr<FeatureMap<float>>,
                                                       const AttentionConfig&, const AttentionShape&,
                                                       const Parameters<float>&);
template std::unique_ptr<Summary<double>> make_features(std::unique_ptr<FeatureMap<double>>,
                                                        const AttentionConfig&, const AttentionShape&,
                                                        const Parameters<double>&);

template <class T>
PointwiseMap<T>::PointwiseMap(Function function, int64_t size) : function_(function), size_(size) {}

template <class T>
void PointwiseMap<T>::queries(int64_t, int64_t count, const T* x, int64_t x_row, T* phi, T*) const {
  for (int64_t r = 0; r < count; ++r, x += x_row, phi += padded(size_)) {
    function_(padded(size_), x, phi);
    std::fill(phi + size_, phi + padded(size_), T(0));  // the map of 0 need not be 0
  }
}

template <class T>
void PointwiseMap<T>::keys(int64_t, int64_t n, const T* x, int64_t x_row, T* phi, T*) const {
  for (int64_t i = 0; i < size_; ++i) function_(n, x + i * x_row, phi + i * n);
}

template class PointwiseMap<float>;
template class PointwiseMap<double>;

}  // namespace linnet

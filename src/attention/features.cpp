#include "attention/features.h"

#include <algorithm>

#include "kernels/cpu/attention_kernels.h"

namespace linnet {
namespace {

using kernels::padded;

template <class T>
class FeatureSummary final : public Summary<T> {
 public:
  FeatureSummary(std::unique_ptr<FeatureMap<T>> map, int64_t value_size)
      : map_(std::move(map)), features_(map_->features()), size_(value_size), row_(padded(value_size)) {}

  // S [f, padded e], then z [padded f].
  std::vector<PaddedMatrix> matrices() const override {
    return {{0, features_, size_, row_}, {features_ * row_, 1, features_, padded(features_)}};
  }

  void add(int64_t kv_head, T* summary, const TokenBlock<T>& tokens) const override {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    const int64_t n = padded(tokens.count);
    T* phi = scratch.take<T>(features_ * n);
    map_->keys(kv_head, n, tokens.keys, tokens.key_row, phi);
    if (tokens.weight != T(1)) weigh(features_ * n, tokens.weight, phi);
    kernels::matmul(features_, row_, tokens.count, phi, n, tokens.values, tokens.value_row, summary, row_,
                    true);
    T* z = summary + features_ * row_;
    for (int64_t i = 0; i < features_; ++i) z[i] += kernels::sum(phi + i * n, tokens.count);
  }

  void scale(T* summary, T weight) const override {
    weigh(features_ * row_ + padded(features_), weight, summary);
  }

  void read(const Reading<T>& reading, T* numerators, int64_t value_row, T* denominators) const override {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    const int64_t rows = reading.heads * reading.tokens, phi_row = padded(features_);
    T* phi = scratch.take<T>(rows * phi_row);
    for (int64_t h = 0; h < reading.heads; ++h) {
      map_->queries(reading.first_head + h, reading.tokens,
                    reading.queries + h * reading.tokens * reading.query_row, reading.query_row,
                    phi + h * reading.tokens * phi_row);
    }
    kernels::matmul(rows, value_row, features_, phi, phi_row, reading.summary, row_, numerators, value_row,
                    false);
    const T* z = reading.summary + features_ * row_;
    for (int64_t r = 0; r < rows; ++r) denominators[r] = kernels::dot(phi + r * phi_row, z, features_);
    if (!reading.blocks.empty() || reading.branches.count > 0) {
      read_unfolded(reading, phi, phi_row, numerators, value_row, denominators);
    }
  }

  void finish(int64_t, T* numerator, T denominator) const override {
    const T scale = T(1) / std::max(denominator, T(kEpsilon));
    for (int64_t i = 0; i < size_; ++i) numerator[i] *= scale;
  }

 private:
  static void weigh(int64_t n, T weight, T* x) {
    for (int64_t i = 0; i < n; ++i) x[i] *= weight;
  }

  // Tokens not folded are score rows φ(q)·φ(k_s): blocks, then the own path, in position order.
  void read_unfolded(const Reading<T>& reading, const T* phi, int64_t phi_row, T* numerators,
                     int64_t value_row, T* denominators) const {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    const int64_t rows = reading.heads * reading.tokens;
    int64_t committed = 0;
    for (const auto& block : reading.blocks) committed += block.count;
    const int64_t row = padded(committed + reading.path_end) + kernels::kPad;
    T* scores = scratch.take<T>(rows * row);

    int64_t place = 0;
    for (const auto& block : reading.blocks) {
      const Scratch::Scope block_scope(scratch);
      const int64_t n = padded(block.count);
      T* keys = scratch.take<T>(features_ * n);
      map_->keys(reading.kv_head, n, block.keys, block.key_row, keys);
      if (block.weight != T(1)) weigh(features_ * n, block.weight, keys);
      // Columns past the block's end are overwritten by what comes next.
      kernels::matmul(rows, n, features_, phi, phi_row, keys, n, scores + place, row, false);
      kernels::matmul(rows, value_row, block.count, scores + place, row, block.values, block.value_row,
                      numerators, value_row, true);
      place += block.count;
    }
    if (reading.branches.count > 0) {
      read_paths(reading, phi, phi_row, scores + committed, row, numerators, value_row);
    }
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t seen = path_of(reading, r).size();
      denominators[r] += kernels::sum(scores + r * row, committed + seen);
    }
  }

  // The nodes of row r's path that it sees globally.
  static std::span<const int32_t> path_of(const Reading<T>& reading, int64_t r) {
    if (reading.branches.count == 0) return {};
    const auto path = reading.paths->path(reading.nodes[r % reading.tokens]);
    const int64_t end = std::min<int64_t>(reading.path_end, path.size());
    if (end <= reading.path_begin) return {};
    return path.subspan(reading.path_begin, end - reading.path_begin);
  }

  void read_paths(const Reading<T>& reading, const T* phi, int64_t phi_row, T* scores, int64_t row,
                  T* numerators, int64_t value_row) const {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    const int64_t rows = reading.heads * reading.tokens, n = padded(reading.branches.count);
    T* keys = scratch.take<T>(features_ * n);
    map_->keys(reading.kv_head, n, reading.branches.keys, reading.branches.key_row, keys);
    T* all = scratch.take<T>(rows * n);
    kernels::matmul(rows, n, features_, phi, phi_row, keys, n, all, n, false);
    for (int64_t r = 0; r < rows; ++r) {
      const auto path = path_of(reading, r);
      T* own = scores + r * row;
      for (size_t j = 0; j < path.size(); ++j) {
        own[j] = all[r * n + path[j]] * reading.path_weights[reading.path_begin + j];
      }
      kernels::add_weighted_rows(own, path.data(), static_cast<int64_t>(path.size()), reading.branches.values,
                                 reading.branches.value_row, value_row, numerators + r * value_row);
    }
  }

  std::unique_ptr<FeatureMap<T>> map_;
  int64_t features_, size_, row_;
};

}  // namespace

template <class T>
std::unique_ptr<Summary<T>> make_features(std::unique_ptr<FeatureMap<T>> map, int64_t value_size) {
  return std::make_unique<FeatureSummary<T>>(std::move(map), value_size);
}
template std::unique_ptr<Summary<float>> make_features(std::unique_ptr<FeatureMap<float>>, int64_t);
template std::unique_ptr<Summary<double>> make_features(std::unique_ptr<FeatureMap<double>>, int64_t);

template <class T>
PointwiseMap<T>::PointwiseMap(Function function, int64_t size) : function_(function), size_(size) {}

template <class T>
void PointwiseMap<T>::queries(int64_t, int64_t count, const T* x, int64_t x_row, T* phi) const {
  for (int64_t r = 0; r < count; ++r, x += x_row, phi += padded(size_)) {
    function_(padded(size_), x, phi);
    std::fill(phi + size_, phi + padded(size_), T(0));  // the map of 0 need not be 0
  }
}

template <class T>
void PointwiseMap<T>::keys(int64_t, int64_t n, const T* x, int64_t x_row, T* phi) const {
  for (int64_t i = 0; i < size_; ++i) function_(n, x + i * x_row, phi + i * n);
}

template class PointwiseMap<float>;
template class PointwiseMap<double>;

}  // namespace linnet

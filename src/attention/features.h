// Summaries of features: add(k, v) = (φ(k)vᵀ, φ(k)), read(q) = φ(q)ᵀS / max(φ(q)·z, 10⁻⁶) with S = Σ φ(k)vᵀ
// and z = Σ φ(k) (Katharopoulos et al. 2020, equations 4–6). A feature map is a function of one vector.
//
// The division is the row's (attention/method.h): by the sum of features, by the number of tokens, or none.
// State: f(e + 1) numbers a key-value head, fe where z is not divided by, one more where the map is scaled.
// Cost of a token: f·e multiply-adds to fold, f·e to read, and φ.
#pragma once

#include <memory>

#include "attention/config.h"
#include "attention/summary.h"

namespace linnet {

/// φ: ℝᵈ → ℝᶠ.
template <class T>
class FeatureMap {
 public:
  virtual ~FeatureMap() = default;
  virtual int64_t features() const = 0;  // f
  /// φ of `count` queries of a query head as rows: x [count, x_row] → phi [count, padded(f)]. Where the map
  /// is scaled(), true features are phi · exp(exponents[row]); else exponents is not touched.
  virtual void queries(int64_t head, int64_t count, const T* x, int64_t x_row, T* phi,
                       T* exponents) const = 0;
  /// φ of n keys of a key-value head as columns (n padded): x [d, x_row] → phi [f, n], exponents [n]
  /// likewise.
  virtual void keys(int64_t kv_head, int64_t n, const T* x, int64_t x_row, T* phi, T* exponents) const = 0;
  /// Features are exponentials, whose size is kept apart so that none overflows.
  virtual bool scaled() const { return false; }
};

/// The summary of the row's features: its division, and its norm where it has a gain, are as the row says.
template <class T>
std::unique_ptr<Summary<T>> make_features(std::unique_ptr<FeatureMap<T>> map, const AttentionConfig& config,
                                          const AttentionShape& shape, const Parameters<T>& parameters);

/// A map without parameters that acts on each number by itself: f = d.
template <class T>
class PointwiseMap final : public FeatureMap<T> {
 public:
  using Function = void (*)(int64_t n, const T* x, T* y);
  PointwiseMap(Function function, int64_t size);
  int64_t features() const override { return size_; }
  void queries(int64_t head, int64_t count, const T* x, int64_t x_row, T* phi, T*) const override;
  void keys(int64_t kv_head, int64_t n, const T* x, int64_t x_row, T* phi, T*) const override;

 private:
  Function function_;
  int64_t size_;
};

}  // namespace linnet

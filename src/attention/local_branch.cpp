#include "attention/local_branch.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "attention/method.h"
#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/elementwise.h"

namespace linnet {
namespace {

template <class T>
T square_sum(const T* x, int64_t count) {
  T sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += x[i] * x[i];
  return sum;
}

}  // namespace

template <class T>
LocalBranch<T>::LocalBranch(const AttentionConfig& config, const AttentionShape& shape, T score_scale,
                            std::vector<T> gains)
    : weight_(config.local),
      group_(config.group),
      value_size_(shape.value_size),
      bits_(weight_ == LocalWeight::kYoso ? config.option("bits") : 0),
      scale_(score_scale),
      cap_(needs_lengths() || config.method->unit_rows ? T(0) : T(config.score_cap)),
      bias_(needs_lengths() || config.method->unit_rows ? nullptr : shape.bias),
      gains_(std::move(gains)) {}

template <class T>
T LocalBranch<T>::weigh(T* x, int64_t count, const T* squares, T query_square) const {
  kernels::cap(x, count, cap_);
  if (weight_ == LocalWeight::kSoftmax) return kernels::exponentiate(x, count);
  const T share = T(1) / T(group_);
  const T mean = std::sqrt(T(0.5));
  const T width = std::sqrt(T(0.5) / std::numbers::pi_v<T>);  // σ√2
  for (int64_t i = 0; i < count; ++i) {
    const T positive = std::max(x[i], T(0));
    switch (weight_) {
      case LocalWeight::kRelu2:
        x[i] = positive * positive * share;
        break;
      case LocalWeight::kLaplace:
        x[i] = T(0.5) * std::erfc((mean - x[i]) / width) * share;
        break;
      case LocalWeight::kRelu2Unit: {
        const T cosine = std::max(cosine_of(x[i], squares[i], query_square), T(0));
        x[i] = cosine * cosine;
        break;
      }
      case LocalWeight::kYoso: {
        const T cosine = std::clamp(cosine_of(x[i], squares[i], query_square), T(-1), T(1));
        x[i] = std::pow(T(1) - std::acos(cosine) / std::numbers::pi_v<T>, T(bits_));
        break;
      }
      case LocalWeight::kRelu:
        x[i] = positive;
        break;
      case LocalWeight::kNone:
      case LocalWeight::kSoftmax:  // above
        break;
    }
  }
  return T(1);
}

// Queries come scaled; the lengths' product is of unscaled ones.
template <class T>
T LocalBranch<T>::cosine_of(T score, T key_square, T query_square) const {
  const T lengths = std::max(std::sqrt(query_square * key_square) / scale_, T(kEpsilon));
  return score / scale_ / lengths;
}

template <class T>
void LocalBranch<T>::finish(int64_t head, T* numerator) const {
  if (weight_ == LocalWeight::kRelu) {
    const T scale = T(1) / std::sqrt(square_sum(numerator, value_size_) / T(value_size_) + T(kEpsilon));
    const T* gain = gains_.data() + head * value_size_;
    for (int64_t i = 0; i < value_size_; ++i) numerator[i] *= scale * (gains_.empty() ? T(1) : gain[i]);
  } else if (weight_ == LocalWeight::kYoso) {
    const T scale = T(1) / std::max(std::sqrt(square_sum(numerator, value_size_)), T(kEpsilon));
    for (int64_t i = 0; i < value_size_; ++i) numerator[i] *= scale;
  }
}

template class LocalBranch<float>;
template class LocalBranch<double>;

}  // namespace linnet

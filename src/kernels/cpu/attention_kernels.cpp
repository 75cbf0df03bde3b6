#include "kernels/cpu/attention_kernels.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>

#include "kernels/cpu/attention_kernels_table.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/attention_kernels.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace linnet::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
using Tag = hn::CappedTag<T, kPad>;
template <class T>
using Vector = hn::Vec<Tag<T>>;

// Registers: a tile of 6 rows by 4 vectors has 24 sums, 4 vectors of b and one number of a in flight: 29 of
// 32. Where there are 16, 6 by 2 has 15.
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SSSE3
constexpr int kWide = 2;
#else
constexpr int kWide = 4;
#endif

template <class D>
HWY_INLINE hn::Vec<D> load(D d, const hn::TFromD<D>* x) {
  return hn::LoadU(d, x);
}
// Of bf16: the upper half of a float's bits.
template <class D>
HWY_INLINE hn::Vec<D> load_bfloat16(D d, const BFloat16* x) {
  const hn::RebindToUnsigned<D> whole;
  const hn::Rebind<uint16_t, D> half;
  const auto bits = hn::LoadU(half, reinterpret_cast<const uint16_t*>(x));
  return hn::BitCast(d, hn::ShiftLeft<16>(hn::PromoteTo(whole, bits)));
}
HWY_INLINE Vector<float> load(Tag<float> d, const BFloat16* x) { return load_bfloat16(d, x); }
HWY_INLINE Vector<double> load(Tag<double> d, const BFloat16* x) {
  return hn::PromoteTo(d, load_bfloat16(hn::Rebind<float, Tag<double>>(), x));
}

template <int rows, int vectors, class T, class B>
HWY_INLINE void tile(int64_t k, const T* a, int64_t a_row, int64_t a_step, const B* b, int64_t b_row, T* c,
                     int64_t c_row, bool accumulate) {
  const Tag<T> d;
  const int64_t lanes = hn::Lanes(d);
  Vector<T> sums[rows][vectors];
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < vectors; ++j) {
      sums[i][j] = accumulate ? hn::LoadU(d, c + i * c_row + j * lanes) : hn::Zero(d);
    }
  }
  for (int64_t step = 0; step < k; ++step, a += a_step, b += b_row) {
    Vector<T> columns[vectors];
    for (int j = 0; j < vectors; ++j) columns[j] = load(d, b + j * lanes);
    for (int i = 0; i < rows; ++i) {
      const auto x = hn::Set(d, a[i * a_row]);
      for (int j = 0; j < vectors; ++j) sums[i][j] = hn::MulAdd(x, columns[j], sums[i][j]);
    }
  }
  for (int i = 0; i < rows; ++i) {
    for (int j = 0; j < vectors; ++j) hn::StoreU(sums[i][j], d, c + i * c_row + j * lanes);
  }
}

// All rows of a panel of `vectors` vectors: the panel of b stays in the first cache.
template <int vectors, class T, class B>
HWY_NOINLINE void panel(int64_t m, int64_t k, const T* a, int64_t a_row, int64_t a_step, const B* b,
                        int64_t b_row, T* c, int64_t c_row, bool accumulate) {
  int64_t i = 0;
  for (; i + 6 <= m; i += 6) {
    tile<6, vectors>(k, a + i * a_row, a_row, a_step, b, b_row, c + i * c_row, c_row, accumulate);
  }
  if (i + 4 <= m) {
    tile<4, vectors>(k, a + i * a_row, a_row, a_step, b, b_row, c + i * c_row, c_row, accumulate);
    i += 4;
  }
  for (; i + 2 <= m; i += 2) {
    tile<2, vectors>(k, a + i * a_row, a_row, a_step, b, b_row, c + i * c_row, c_row, accumulate);
  }
  if (i < m) tile<1, vectors>(k, a + i * a_row, a_row, a_step, b, b_row, c + i * c_row, c_row, accumulate);
}

template <class T, class B>
void matmul(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, int64_t a_step, const B* b,
            int64_t b_row, T* c, int64_t c_row, bool accumulate) {
  const int64_t lanes = hn::Lanes(Tag<T>());
  int64_t j = 0;
  if (m == 1) {  // one row: more columns at once, to hide the latency of the sums
    for (; j + 2 * kWide * lanes <= n; j += 2 * kWide * lanes) {
      tile<1, 2 * kWide>(k, a, a_row, a_step, b + j, b_row, c + j, c_row, accumulate);
    }
  }
  for (; j + kWide * lanes <= n; j += kWide * lanes) {
    panel<kWide>(m, k, a, a_row, a_step, b + j, b_row, c + j, c_row, accumulate);
  }
  for (; j < n; j += lanes) panel<1>(m, k, a, a_row, a_step, b + j, b_row, c + j, c_row, accumulate);
}

template <int vectors, class T>
HWY_INLINE void weighted_panel(const T* weights, const int32_t* indices, int64_t count, const T* rows,
                               int64_t row, T* out) {
  const Tag<T> d;
  const int64_t lanes = hn::Lanes(d);
  Vector<T> sums[vectors];
  for (int j = 0; j < vectors; ++j) sums[j] = hn::LoadU(d, out + j * lanes);
  for (int64_t i = 0; i < count; ++i) {
    const auto weight = hn::Set(d, weights[i]);
    const T* from = rows + indices[i] * row;
    for (int j = 0; j < vectors; ++j) sums[j] = hn::MulAdd(weight, hn::LoadU(d, from + j * lanes), sums[j]);
  }
  for (int j = 0; j < vectors; ++j) hn::StoreU(sums[j], d, out + j * lanes);
}

template <class T>
void add_weighted(const T* weights, const int32_t* indices, int64_t count, const T* rows, int64_t row,
                  int64_t n, T* out) {
  const int64_t lanes = hn::Lanes(Tag<T>());
  int64_t j = 0;
  for (; j + 4 * lanes <= n; j += 4 * lanes) {
    weighted_panel<4>(weights, indices, count, rows + j, row, out + j);
  }
  for (; j < n; j += lanes) weighted_panel<1>(weights, indices, count, rows + j, row, out + j);
}

// The largest of x[0 .. count) and `least`, in every lane.
template <class T>
HWY_INLINE Vector<T> largest_of(const T* x, int64_t count, T least) {
  const Tag<T> d;
  const int64_t lanes = hn::Lanes(d), whole = count / lanes * lanes;
  const auto lowest = hn::Set(d, least);
  auto most = lowest;
  for (int64_t i = 0; i < whole; i += lanes) most = hn::Max(most, hn::LoadU(d, x + i));
  if (whole < count) {
    const auto tail = hn::FirstN(d, static_cast<size_t>(count - whole));
    most = hn::Max(most, hn::IfThenElse(tail, hn::LoadU(d, x + whole), lowest));
  }
#if HWY_TARGET == HWY_EMU128
  // Highway 1.0 begins from the least finite number here, which minus infinity is below.
  T numbers[HWY_MAX_BYTES / sizeof(T)];
  hn::StoreU(most, d, numbers);
  return hn::Set(d, *std::max_element(numbers, numbers + lanes));
#else
  return hn::MaxOfLanes(d, most);
#endif
}

template <class T>
T scaled_to_largest(T* x, const T* exponents, int64_t count, T least) {
  const Tag<T> d;
  const auto most = largest_of(exponents, count, least);
  for (int64_t i = 0; i < count; i += hn::Lanes(d)) {
    const auto weight = hn::Exp(d, hn::Sub(hn::LoadU(d, exponents + i), most));
    hn::StoreU(hn::Mul(hn::LoadU(d, x + i), weight), d, x + i);
  }
  return hn::GetLane(most);
}

template <class T>
T exponentials(T* x, int64_t count) {
  const Tag<T> d;
  const int64_t lanes = hn::Lanes(d), whole = count / lanes * lanes;
  const auto tail = hn::FirstN(d, static_cast<size_t>(count - whole));
  const auto most = largest_of(x, count, -std::numeric_limits<T>::infinity());
  auto sums = hn::Zero(d);
  int64_t i = 0;
  for (; i < whole; i += lanes) {
    const auto weight = hn::Exp(d, hn::Sub(hn::LoadU(d, x + i), most));
    sums = hn::Add(sums, weight);
    hn::StoreU(weight, d, x + i);
  }
  if (whole < count) {
    const auto weight = hn::IfThenElseZero(tail, hn::Exp(d, hn::Sub(hn::LoadU(d, x + whole), most)));
    sums = hn::Add(sums, weight);
    hn::StoreU(weight, d, x + whole);
    i += lanes;
  }
  for (; i < padded(count); i += lanes) hn::StoreU(hn::Zero(d), d, x + i);
  return hn::GetLane(hn::SumOfLanes(d, sums));
}

template <class T>
T weights_gradient(T* weights, T* gradients, int64_t count, T sum, T share, T scale) {
  const Tag<T> d;
  const int64_t lanes = hn::Lanes(d), whole = count / lanes * lanes;
  const auto tail = hn::FirstN(d, static_cast<size_t>(count - whole));
  auto sums = hn::Zero(d);
  for (int64_t i = 0; i < whole; i += lanes)
    sums = hn::MulAdd(hn::LoadU(d, weights + i), hn::LoadU(d, gradients + i), sums);
  if (whole < count) {
    const auto product = hn::Mul(hn::LoadU(d, weights + whole), hn::LoadU(d, gradients + whole));
    sums = hn::Add(sums, hn::IfThenElseZero(tail, product));
  }
  const T mean = hn::GetLane(hn::SumOfLanes(d, sums)) / sum;
  const auto less = hn::Set(d, mean), of_weights = hn::Set(d, share / sum), of_scores = hn::Set(d, scale);
  int64_t i = 0;
  for (; i < whole; i += lanes) {
    const auto weight = hn::Mul(hn::LoadU(d, weights + i), of_weights);
    const auto away = hn::Mul(hn::Sub(hn::LoadU(d, gradients + i), less), of_scores);
    hn::StoreU(weight, d, weights + i);
    hn::StoreU(hn::Mul(weight, away), d, gradients + i);
  }
  if (whole < count) {
    const auto weight = hn::IfThenElseZero(tail, hn::Mul(hn::LoadU(d, weights + i), of_weights));
    const auto away = hn::Mul(hn::Sub(hn::LoadU(d, gradients + i), less), of_scores);
    hn::StoreU(weight, d, weights + i);
    hn::StoreU(hn::IfThenElseZero(tail, hn::Mul(weight, away)), d, gradients + i);
    i += lanes;
  }
  for (; i < padded(count); i += lanes) {
    hn::StoreU(hn::Zero(d), d, weights + i);
    hn::StoreU(hn::Zero(d), d, gradients + i);
  }
  return mean;
}

template <class T>
T sum_of(const T* x, int64_t count) {
  const Tag<T> d;
  const int64_t lanes = hn::Lanes(d), whole = count / lanes * lanes;
  auto sums = hn::Zero(d);
  for (int64_t i = 0; i < whole; i += lanes) sums = hn::Add(sums, hn::LoadU(d, x + i));
  if (whole < count) {
    const auto tail = hn::FirstN(d, static_cast<size_t>(count - whole));
    sums = hn::Add(sums, hn::IfThenElseZero(tail, hn::LoadU(d, x + whole)));
  }
  return hn::GetLane(hn::SumOfLanes(d, sums));
}

template <class T>
T dot_of(const T* a, const T* b, int64_t count) {
  const Tag<T> d;
  const int64_t lanes = hn::Lanes(d);
  auto sums = hn::Zero(d);
  for (int64_t i = 0; i < count; i += lanes)
    sums = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sums);
  return hn::GetLane(hn::SumOfLanes(d, sums));
}

template <class T, class B>
void squares(int64_t rows, int64_t n, const B* a, int64_t a_row, T* out) {
  const Tag<T> d;
  for (int64_t s = 0; s < n; s += hn::Lanes(d)) {
    auto sums = hn::Zero(d);
    for (int64_t x = 0; x < rows; ++x) {
      const auto number = load(d, a + x * a_row + s);
      sums = hn::MulAdd(number, number, sums);
    }
    hn::StoreU(sums, d, out + s);
  }
}

// exp(sign · (y − extreme)) of one row to out, then divided by the sum.
template <class T>
HWY_INLINE void softmax_row(int64_t size, const T* y, Vector<T> extreme, T sign, T* out) {
  const Tag<T> d;
  const int64_t lanes = hn::Lanes(d), whole = size / lanes * lanes;
  const auto tail = hn::FirstN(d, static_cast<size_t>(size - whole));
  const auto signs = hn::Set(d, sign);
  auto sums = hn::Zero(d), last = hn::Zero(d);
  for (int64_t i = 0; i < whole; i += lanes) {
    const auto weight = hn::Exp(d, hn::Mul(signs, hn::Sub(hn::LoadU(d, y + i), extreme)));
    sums = hn::Add(sums, weight);
    hn::StoreU(weight, d, out + i);
  }
  if (whole < size) {
    last = hn::Exp(d, hn::Mul(signs, hn::Sub(hn::LoadU(d, y + whole), extreme)));
    last = hn::IfThenElseZero(tail, last);
    sums = hn::Add(sums, last);
  }
  const auto scale = hn::Div(hn::Set(d, T(1)), hn::SumOfLanes(d, sums));
  for (int64_t i = 0; i < whole; i += lanes) hn::StoreU(hn::Mul(hn::LoadU(d, out + i), scale), d, out + i);
  if (whole < size) hn::BlendedStore(hn::Mul(last, scale), tail, d, out + whole);
}

template <class T>
void hedgehog_of_rows(int64_t rows, int64_t size, const T* y, int64_t y_row, T* phi, int64_t phi_row) {
  const Tag<T> d;
  const int64_t lanes = hn::Lanes(d), whole = size / lanes * lanes;
  const auto tail = hn::FirstN(d, static_cast<size_t>(size - whole));
  const auto lowest = hn::Set(d, -std::numeric_limits<T>::infinity()), highest = hn::Neg(lowest);
  for (int64_t r = 0; r < rows; ++r, y += y_row, phi += phi_row) {
    auto most = lowest, least = highest;
    for (int64_t i = 0; i < whole; i += lanes) {
      most = hn::Max(most, hn::LoadU(d, y + i));
      least = hn::Min(least, hn::LoadU(d, y + i));
    }
    if (whole < size) {
      const auto numbers = hn::LoadU(d, y + whole);
      most = hn::Max(most, hn::IfThenElse(tail, numbers, lowest));
      least = hn::Min(least, hn::IfThenElse(tail, numbers, highest));
    }
    softmax_row(size, y, hn::MaxOfLanes(d, most), T(1), phi);
    softmax_row(size, y, hn::MinOfLanes(d, least), T(-1), phi + size);
    for (int64_t i = 2 * size; i < padded(2 * size); ++i) phi[i] = T(0);
  }
}

template <class T>
void hedgehog_of_columns(int64_t size, int64_t n, const T* y, int64_t y_row, T* phi, int64_t phi_row) {
  const Tag<T> d;
  for (int64_t s = 0; s < n; s += hn::Lanes(d)) {
    auto most = hn::LoadU(d, y + s), least = most;
    for (int64_t x = 1; x < size; ++x) {
      most = hn::Max(most, hn::LoadU(d, y + x * y_row + s));
      least = hn::Min(least, hn::LoadU(d, y + x * y_row + s));
    }
    auto sums = hn::Zero(d), negative_sums = hn::Zero(d);
    for (int64_t x = 0; x < size; ++x) {
      const auto number = hn::LoadU(d, y + x * y_row + s);
      const auto weight = hn::Exp(d, hn::Sub(number, most));
      const auto negative = hn::Exp(d, hn::Sub(least, number));
      sums = hn::Add(sums, weight);
      negative_sums = hn::Add(negative_sums, negative);
      hn::StoreU(weight, d, phi + x * phi_row + s);
      hn::StoreU(negative, d, phi + (size + x) * phi_row + s);
    }
    const auto one = hn::Set(d, T(1));
    const auto scale = hn::Div(one, sums), negative_scale = hn::Div(one, negative_sums);
    for (int64_t x = 0; x < size; ++x) {
      T* place = phi + x * phi_row + s;
      hn::StoreU(hn::Mul(hn::LoadU(d, place), scale), d, place);
      place += size * phi_row;
      hn::StoreU(hn::Mul(hn::LoadU(d, place), negative_scale), d, place);
    }
  }
}

template <class T>
void favor_of_rows(int64_t rows, int64_t size, T* y, int64_t y_row, T* largest) {
  const Tag<T> d;
  const int64_t lanes = hn::Lanes(d);
  const auto scale = hn::Set(d, T(1) / std::sqrt(T(size)));
  for (int64_t r = 0; r < rows; ++r, y += y_row) {
    const auto most = largest_of(y, size, -std::numeric_limits<T>::infinity());
    largest[r] = hn::GetLane(most);
    for (int64_t i = 0; i < size; i += lanes) {
      hn::StoreU(hn::Mul(hn::Exp(d, hn::Sub(hn::LoadU(d, y + i), most)), scale), d, y + i);
    }
    std::fill(y + size, y + padded(size), T(0));
  }
}

template <class T>
void favor_of_columns(int64_t size, int64_t n, T* y, int64_t y_row, T* largest) {
  const Tag<T> d;
  const auto scale = hn::Set(d, T(1) / std::sqrt(T(size)));
  for (int64_t s = 0; s < n; s += hn::Lanes(d)) {
    auto most = hn::LoadU(d, y + s);
    for (int64_t x = 1; x < size; ++x) most = hn::Max(most, hn::LoadU(d, y + x * y_row + s));
    hn::StoreU(most, d, largest + s);
    for (int64_t x = 0; x < size; ++x) {
      T* place = y + x * y_row + s;
      hn::StoreU(hn::Mul(hn::Exp(d, hn::Sub(hn::LoadU(d, place), most)), scale), d, place);
    }
  }
}

template <class T>
void relu_of(int64_t n, const T* x, T* y) {
  const Tag<T> d;
  for (int64_t i = 0; i < n; i += hn::Lanes(d)) {
    hn::StoreU(hn::Max(hn::LoadU(d, x + i), hn::Zero(d)), d, y + i);
  }
}

template <class T>
void elu_of(int64_t n, const T* x, T* y) {
  const Tag<T> d;
  for (int64_t i = 0; i < n; i += hn::Lanes(d)) {
    const auto number = hn::LoadU(d, x + i);
    hn::StoreU(hn::IfThenElse(hn::Gt(number, hn::Zero(d)), number, hn::Expm1(d, number)), d, y + i);
  }
}

template <class T>
void elu1_of(int64_t n, const T* x, T* y) {
  const Tag<T> d;
  const auto one = hn::Set(d, T(1));
  for (int64_t i = 0; i < n; i += hn::Lanes(d)) {
    const auto number = hn::LoadU(d, x + i);
    const auto above = hn::Add(number, one);
    hn::StoreU(hn::IfThenElse(hn::Gt(number, hn::Zero(d)), above, hn::Exp(d, number)), d, y + i);
  }
}

template <class T>
constexpr AttentionKernels<T> table() {
  return {add_weighted<T>,  exponentials<T>,     weights_gradient<T>, scaled_to_largest<T>,
          sum_of<T>,        dot_of<T>,           hedgehog_of_rows<T>, hedgehog_of_columns<T>,
          favor_of_rows<T>, favor_of_columns<T>, relu_of<T>,          elu_of<T>,
          elu1_of<T>};
}
const AttentionKernels<float>* table_f32() {
  static constexpr AttentionKernels<float> kTable = table<float>();
  return &kTable;
}
const AttentionKernels<double>* table_f64() {
  static constexpr AttentionKernels<double> kTable = table<double>();
  return &kTable;
}
template <class T, class B>
const HeldKernels<T, B>* held_table() {
  static constexpr HeldKernels<T, B> kTable = {matmul<T, B>, squares<T, B>};
  return &kTable;
}
const HeldKernels<float, float>* held_f32() { return held_table<float, float>(); }
const HeldKernels<double, double>* held_f64() { return held_table<double, double>(); }
const HeldKernels<float, BFloat16>* held_bf16_f32() { return held_table<float, BFloat16>(); }
const HeldKernels<double, BFloat16>* held_bf16_f64() { return held_table<double, BFloat16>(); }

}  // namespace linnet::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::kernels {

HWY_EXPORT(table_f32);
HWY_EXPORT(table_f64);
HWY_EXPORT(held_f32);
HWY_EXPORT(held_f64);
HWY_EXPORT(held_bf16_f32);
HWY_EXPORT(held_bf16_f64);

namespace {

const AttentionKernels<float>& best(float) { return *HWY_DYNAMIC_DISPATCH(table_f32)(); }
const AttentionKernels<double>& best(double) { return *HWY_DYNAMIC_DISPATCH(table_f64)(); }
const HeldKernels<float, float>& held(float, float) { return *HWY_DYNAMIC_DISPATCH(held_f32)(); }
const HeldKernels<double, double>& held(double, double) { return *HWY_DYNAMIC_DISPATCH(held_f64)(); }
const HeldKernels<float, BFloat16>& held(float, BFloat16) { return *HWY_DYNAMIC_DISPATCH(held_bf16_f32)(); }
const HeldKernels<double, BFloat16>& held(double, BFloat16) { return *HWY_DYNAMIC_DISPATCH(held_bf16_f64)(); }

/// A padded row as its reader needs it: of use in assertions alone.
template <class T>
[[maybe_unused]] bool zero_to_padded(const T* x, int64_t count) {
  return std::all_of(x + count, x + padded(count), [](T number) { return number == T(0); });
}

}  // namespace

template <class T, class B>
void matmul(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, const B* b, int64_t b_row, T* c,
            int64_t c_row, bool accumulate) {
  assert(n == padded(n));
  held(T(), B()).matmul(m, n, k, a, a_row, 1, b, b_row, c, c_row, accumulate);
}

template <class T>
void matmul_transposed(int64_t m, int64_t n, int64_t k, const T* a, int64_t a_row, const T* b, int64_t b_row,
                       T* c, int64_t c_row, bool accumulate) {
  assert(n == padded(n));
  held(T(), T()).matmul(m, n, k, a, 1, a_row, b, b_row, c, c_row, accumulate);
}

template <class T>
void add_weighted_rows(const T* weights, const int32_t* indices, int64_t count, const T* rows, int64_t row,
                       int64_t n, T* out) {
  assert(n == padded(n));
  best(T()).add_weighted_rows(weights, indices, count, rows, row, n, out);
}

template <class T>
T exponentiate(T* x, int64_t count) {
  assert(count > 0);
  return best(T()).exponentiate(x, count);
}

template <class T>
T softmax_gradient(T* weights, T* gradients, int64_t count, T sum, T share, T scale) {
  assert(count > 0);
  return best(T()).softmax_gradient(weights, gradients, count, sum, share, scale);
}

template <class T>
T scale_to_largest(T* x, const T* exponents, int64_t count, T least) {
  return best(T()).scale_to_largest(x, exponents, count, least);
}

template <class T>
T sum(const T* x, int64_t count) {
  return best(T()).sum(x, count);
}

template <class T>
T dot(const T* a, const T* b, int64_t count) {
  assert(zero_to_padded(a, count) && zero_to_padded(b, count));
  return best(T()).dot(a, b, count);
}

template <class T, class B>
void column_squares(int64_t rows, int64_t n, const B* a, int64_t a_row, T* out) {
  assert(n == padded(n));
  held(T(), B()).column_squares(rows, n, a, a_row, out);
}

template <class T>
void hedgehog_rows(int64_t rows, int64_t size, const T* y, int64_t y_row, T* phi, int64_t phi_row) {
  best(T()).hedgehog_rows(rows, size, y, y_row, phi, phi_row);
}

template <class T>
void hedgehog_columns(int64_t size, int64_t n, const T* y, int64_t y_row, T* phi, int64_t phi_row) {
  assert(n == padded(n));
  best(T()).hedgehog_columns(size, n, y, y_row, phi, phi_row);
}

template <class T>
void favor_rows(int64_t rows, int64_t size, T* y, int64_t y_row, T* largest) {
  best(T()).favor_rows(rows, size, y, y_row, largest);
}

template <class T>
void favor_columns(int64_t size, int64_t n, T* y, int64_t y_row, T* largest) {
  assert(n == padded(n));
  best(T()).favor_columns(size, n, y, y_row, largest);
}

template <class T>
void relu(int64_t n, const T* x, T* y) {
  assert(n == padded(n));
  best(T()).relu(n, x, y);
}

template <class T>
void elu(int64_t n, const T* x, T* y) {
  assert(n == padded(n));
  best(T()).elu(n, x, y);
}

template <class T>
void elu1(int64_t n, const T* x, T* y) {
  assert(n == padded(n));
  best(T()).elu1(n, x, y);
}

template void matmul(int64_t, int64_t, int64_t, const float*, int64_t, const float*, int64_t, float*, int64_t,
                     bool);
template void matmul(int64_t, int64_t, int64_t, const double*, int64_t, const double*, int64_t, double*,
                     int64_t, bool);
template void matmul(int64_t, int64_t, int64_t, const float*, int64_t, const BFloat16*, int64_t, float*,
                     int64_t, bool);
template void matmul(int64_t, int64_t, int64_t, const double*, int64_t, const BFloat16*, int64_t, double*,
                     int64_t, bool);
template void matmul_transposed(int64_t, int64_t, int64_t, const float*, int64_t, const float*, int64_t,
                                float*, int64_t, bool);
template void matmul_transposed(int64_t, int64_t, int64_t, const double*, int64_t, const double*, int64_t,
                                double*, int64_t, bool);
template void add_weighted_rows<float>(const float*, const int32_t*, int64_t, const float*, int64_t, int64_t,
                                       float*);
template void add_weighted_rows<double>(const double*, const int32_t*, int64_t, const double*, int64_t,
                                        int64_t, double*);
template float exponentiate<float>(float*, int64_t);
template double exponentiate<double>(double*, int64_t);
template float softmax_gradient<float>(float*, float*, int64_t, float, float, float);
template double softmax_gradient<double>(double*, double*, int64_t, double, double, double);
template float scale_to_largest<float>(float*, const float*, int64_t, float);
template double scale_to_largest<double>(double*, const double*, int64_t, double);
template float sum<float>(const float*, int64_t);
template double sum<double>(const double*, int64_t);
template float dot<float>(const float*, const float*, int64_t);
template double dot<double>(const double*, const double*, int64_t);
template void column_squares(int64_t, int64_t, const float*, int64_t, float*);
template void column_squares(int64_t, int64_t, const double*, int64_t, double*);
template void column_squares(int64_t, int64_t, const BFloat16*, int64_t, float*);
template void column_squares(int64_t, int64_t, const BFloat16*, int64_t, double*);
template void hedgehog_rows<float>(int64_t, int64_t, const float*, int64_t, float*, int64_t);
template void hedgehog_rows<double>(int64_t, int64_t, const double*, int64_t, double*, int64_t);
template void hedgehog_columns<float>(int64_t, int64_t, const float*, int64_t, float*, int64_t);
template void hedgehog_columns<double>(int64_t, int64_t, const double*, int64_t, double*, int64_t);
template void favor_rows<float>(int64_t, int64_t, float*, int64_t, float*);
template void favor_rows<double>(int64_t, int64_t, double*, int64_t, double*);
template void favor_columns<float>(int64_t, int64_t, float*, int64_t, float*);
template void favor_columns<double>(int64_t, int64_t, double*, int64_t, double*);
template void relu<float>(int64_t, const float*, float*);
template void relu<double>(int64_t, const double*, double*);
template void elu<float>(int64_t, const float*, float*);
template void elu<double>(int64_t, const double*, double*);
template void elu1<float>(int64_t, const float*, float*);
template void elu1<double>(int64_t, const double*, double*);

}  // namespace linnet::kernels
#endif  // HWY_ONCE

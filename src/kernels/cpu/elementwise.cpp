#include "kernels/cpu/elementwise.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/bfloat16.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/elementwise.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
//
#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace linnet::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Float = hn::ScalableTag<float>;
using Vector = hn::Vec<Float>;
constexpr int64_t kMaxLanes = HWY_MAX_BYTES / sizeof(float);

// y[i] = f(x[i]) by whole vectors; the rest goes through a padded copy, so f is the same for every number.
template <class F>
HWY_INLINE void map(const float* x, int64_t count, float* y, F f) {
  const Float d;
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(f(hn::LoadU(d, x + i)), d, y + i);
  if (i < count) {
    float rest[kMaxLanes] = {};
    std::copy_n(x + i, count - i, rest);
    hn::StoreU(f(hn::LoadU(d, rest)), d, rest);
    std::copy_n(rest, count - i, y + i);
  }
}

// y[i] = f(x[i], z[i]).
template <class F>
HWY_INLINE void map(const float* x, const float* z, int64_t count, float* y, F f) {
  const Float d;
  const int64_t lanes = hn::Lanes(d);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) hn::StoreU(f(hn::LoadU(d, x + i), hn::LoadU(d, z + i)), d, y + i);
  if (i < count) {
    float a[kMaxLanes] = {}, b[kMaxLanes] = {};
    std::copy_n(x + i, count - i, a);
    std::copy_n(z + i, count - i, b);
    hn::StoreU(f(hn::LoadU(d, a), hn::LoadU(d, b)), d, a);
    std::copy_n(a, count - i, y + i);
  }
}

void sum_into(float* x, const float* y, int64_t count) {
  map(x, y, count, x, [](Vector a, Vector b) HWY_ATTR { return hn::Add(a, b); });
}

// Σ f(x[i]) for i < count, the whole vectors as at(i) gives them; what f makes of the zeros past a short end
// is not counted.
template <class At, class F>
HWY_INLINE float sum(const float* x, int64_t count, At at, F f) {
  const Float d;
  const int64_t lanes = hn::Lanes(d);
  Vector total = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) total = hn::Add(total, f(at(i)));
  if (i < count) {
    float rest[kMaxLanes] = {};
    std::copy_n(x + i, count - i, rest);
    hn::StoreU(f(hn::LoadU(d, rest)), d, rest);
    std::fill(rest + (count - i), rest + kMaxLanes, 0.0f);
    total = hn::Add(total, hn::LoadU(d, rest));
  }
  return hn::GetLane(hn::SumOfLanes(d, total));
}

template <class F>
HWY_INLINE float sum(const float* x, int64_t count, F f) {
  return sum(
      x, count, [&](int64_t i) HWY_ATTR { return hn::LoadU(Float(), x + i); }, f);
}

// x += y and Σ f(x[i]) of what x is then, in one pass.
template <class F>
HWY_INLINE float add_and_sum(float* x, const float* y, int64_t count, F f) {
  const Float d;
  const int64_t whole = count - count % static_cast<int64_t>(hn::Lanes(d));
  sum_into(x + whole, y + whole, count - whole);
  const auto added = [&](int64_t i) HWY_ATTR {
    const Vector v = hn::Add(hn::LoadU(d, x + i), hn::LoadU(d, y + i));
    hn::StoreU(v, d, x + i);
    return v;
  };
  return sum(x, count, added, f);
}

HWY_INLINE Vector square(Vector v) { return hn::Mul(v, v); }

// One row, whose squares' sum is known.
HWY_INLINE void rms_row(const float* x, float squares, int64_t size, const float* gain, double epsilon,
                        float* y) {
  const float mean = squares / static_cast<float>(size);
  const Vector scale = hn::Set(Float(), 1.0f / std::sqrt(mean + static_cast<float>(epsilon)));
  map(x, gain, size, y, [&](Vector v, Vector g) HWY_ATTR { return hn::Mul(hn::Mul(v, scale), g); });
}

void rms(const float* x, int64_t rows, int64_t size, const float* gain, double epsilon, float* y) {
  for (int64_t r = 0; r < rows; ++r, x += size, y += size) {
    const float squares = sum(x, size, [](Vector v) HWY_ATTR { return square(v); });
    rms_row(x, squares, size, gain, epsilon, y);
  }
}

void add_rms(float* x, const float* y, int64_t rows, int64_t size, const float* gain, double epsilon,
             float* z) {
  for (int64_t r = 0; r < rows; ++r, x += size, y += size, z += size) {
    const float squares = add_and_sum(x, y, size, [](Vector v) HWY_ATTR { return square(v); });
    rms_row(x, squares, size, gain, epsilon, z);
  }
}

// One row, whose sum is known.
HWY_INLINE void layer_row(const float* x, float total, int64_t size, const float* gain, const float* bias,
                          double epsilon, float* y) {
  const Float d;
  const Vector middle = hn::Set(d, total / static_cast<float>(size));
  const float squares = sum(x, size, [&](Vector v) HWY_ATTR { return square(hn::Sub(v, middle)); });
  const float variance = squares / static_cast<float>(size);
  const Vector scale = hn::Set(d, 1.0f / std::sqrt(variance + static_cast<float>(epsilon)));
  map(x, gain, size, y,
      [&](Vector v, Vector g) HWY_ATTR { return hn::Mul(hn::Mul(hn::Sub(v, middle), scale), g); });
  map(y, bias, size, y, [](Vector v, Vector b) HWY_ATTR { return hn::Add(v, b); });
}

void layer(const float* x, int64_t rows, int64_t size, const float* gain, const float* bias, double epsilon,
           float* y) {
  for (int64_t r = 0; r < rows; ++r, x += size, y += size) {
    const float total = sum(x, size, [](Vector v) HWY_ATTR { return v; });
    layer_row(x, total, size, gain, bias, epsilon, y);
  }
}

void add_layer(float* x, const float* y, int64_t rows, int64_t size, const float* gain, const float* bias,
               double epsilon, float* z) {
  for (int64_t r = 0; r < rows; ++r, x += size, y += size, z += size) {
    const float total = add_and_sum(x, y, size, [](Vector v) HWY_ATTR { return v; });
    layer_row(x, total, size, gain, bias, epsilon, z);
  }
}

// 1 / (1 + e^−x) through e^−|x|, which never overflows.
HWY_INLINE Vector sigmoid(Vector x) {
  const Float d;
  const Vector one = hn::Set(d, 1.0f), small = hn::Exp(d, hn::Neg(hn::Abs(x)));
  return hn::Div(hn::IfThenElse(hn::Lt(x, hn::Zero(d)), small, one), hn::Add(one, small));
}

HWY_INLINE Vector silu(Vector x) { return hn::Mul(x, sigmoid(x)); }

HWY_INLINE Vector gelu_tanh(Vector x) {
  // ½(1 + tanh u) is the sigmoid of 2u, u = √(2/π) (x + 0.044715 x³).
  const Float d;
  const Vector cubic = hn::MulAdd(hn::Mul(hn::Mul(x, x), x), hn::Set(d, 0.044715f), x);
  return hn::Mul(x, sigmoid(hn::Mul(cubic, hn::Set(d, 1.5957691216057308f))));
}

HWY_INLINE Vector relu(Vector x) { return hn::Max(x, hn::Zero(Float())); }

HWY_INLINE Vector gelu(Vector x) {
  const Float d;
  float numbers[kMaxLanes];
  hn::StoreU(x, d, numbers);
  for (size_t i = 0; i < hn::Lanes(d); ++i) numbers[i] = reference::activation(Unary::kGelu, numbers[i]);
  return hn::LoadU(d, numbers);
}

// One loop an activation, so that none has a branch inside.
template <class F>
void with_activation(Unary kind, F loop) {
  switch (kind) {
    case Unary::kSilu:
      return loop([](Vector v) HWY_ATTR { return silu(v); });
    case Unary::kGeluTanh:
      return loop([](Vector v) HWY_ATTR { return gelu_tanh(v); });
    case Unary::kGelu:
      return loop([](Vector v) HWY_ATTR { return gelu(v); });
    case Unary::kRelu:
      return loop([](Vector v) HWY_ATTR { return relu(v); });
  }
}

void activation(Unary kind, float* x, int64_t count) {
  with_activation(kind, [&](auto f) HWY_ATTR { map(x, count, x, f); });
}

void gated(Unary kind, float* gate, const float* up, int64_t count) {
  with_activation(kind, [&](auto f) HWY_ATTR {
    map(gate, up, count, gate, [&](Vector g, Vector u) HWY_ATTR { return hn::Mul(f(g), u); });
  });
}

void soft_cap(float* x, int64_t count, float c) {
  const Float d;
  const Vector most = hn::Set(d, c), share = hn::Set(d, 1.0f / c);
  map(x, count, x, [&](Vector v) HWY_ATTR { return hn::Mul(most, hn::Tanh(d, hn::Mul(v, share))); });
}

double log_of_sum(const float* x, int64_t count) {
  const Float d;
  constexpr int64_t kBlock = 256;  // numbers that are summed in float before they go into a double
  float largest = x[0];
  auto strange = hn::FirstN(d, 0);
  const int64_t whole = count / hn::Lanes(d) * hn::Lanes(d);
  Vector most = hn::Set(d, largest);
  for (int64_t i = 0; i < whole; i += hn::Lanes(d)) {
    const Vector v = hn::LoadU(d, x + i);
    strange = hn::Or(strange, hn::IsNaN(v));
    most = hn::Max(most, v);
  }
  largest = hn::GetLane(hn::MaxOfLanes(d, most));
  bool nan = !hn::AllFalse(d, strange);
  for (int64_t i = whole; i < count; ++i) {
    nan = nan || std::isnan(x[i]);
    largest = std::max(largest, x[i]);
  }
  if (nan) return std::numeric_limits<double>::quiet_NaN();
  double total = 0;
  for (int64_t i = 0; i < count; i += kBlock) {
    total += sum(x + i, std::min(kBlock, count - i),
                 [&](Vector v) HWY_ATTR { return hn::Exp(d, hn::Sub(v, hn::Set(d, largest))); });
  }
  return std::log(total) + static_cast<double>(largest);
}

void narrow(const float* x, int64_t count, uint16_t* y) {
  // Plain loops: the compiler makes vectors of them for each target.
  for (int64_t i = 0; i < count; ++i) y[i] = float_to_bfloat16(x[i]);
}

void widen(const uint16_t* x, int64_t count, float* y) {
  for (int64_t i = 0; i < count; ++i) y[i] = bfloat16_to_float(x[i]);
}

}  // namespace linnet::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::kernels {

HWY_EXPORT(rms);
HWY_EXPORT(layer);
HWY_EXPORT(add_rms);
HWY_EXPORT(add_layer);
HWY_EXPORT(activation);
HWY_EXPORT(gated);
HWY_EXPORT(soft_cap);
HWY_EXPORT(log_of_sum);
HWY_EXPORT(sum_into);
HWY_EXPORT(narrow);
HWY_EXPORT(widen);

void rms_norm(const float* x, int64_t rows, int64_t size, const float* gain, double epsilon, float* y) {
  HWY_DYNAMIC_DISPATCH(rms)(x, rows, size, gain, epsilon, y);
}
void layer_norm(const float* x, int64_t rows, int64_t size, const float* gain, const float* bias,
                double epsilon, float* y) {
  HWY_DYNAMIC_DISPATCH(layer)(x, rows, size, gain, bias, epsilon, y);
}
void add_rms_norm(float* x, const float* y, int64_t rows, int64_t size, const float* gain, double epsilon,
                  float* z) {
  HWY_DYNAMIC_DISPATCH(add_rms)(x, y, rows, size, gain, epsilon, z);
}
void add_layer_norm(float* x, const float* y, int64_t rows, int64_t size, const float* gain,
                    const float* bias, double epsilon, float* z) {
  HWY_DYNAMIC_DISPATCH(add_layer)(x, y, rows, size, gain, bias, epsilon, z);
}
void activate(Unary kind, float* x, int64_t count) { HWY_DYNAMIC_DISPATCH(activation)(kind, x, count); }
void activate_gated(Unary kind, float* gate, const float* up, int64_t count) {
  HWY_DYNAMIC_DISPATCH(gated)(kind, gate, up, count);
}
void cap(float* x, int64_t count, float c) {
  if (c != 0) HWY_DYNAMIC_DISPATCH(soft_cap)(x, count, c);
}
double log_sum_exp(const float* x, int64_t count) { return HWY_DYNAMIC_DISPATCH(log_of_sum)(x, count); }
void add(float* x, const float* y, int64_t count) { HWY_DYNAMIC_DISPATCH(sum_into)(x, y, count); }
void to_bfloat16(const float* x, int64_t count, uint16_t* y) { HWY_DYNAMIC_DISPATCH(narrow)(x, count, y); }
void from_bfloat16(const uint16_t* x, int64_t count, float* y) { HWY_DYNAMIC_DISPATCH(widen)(x, count, y); }

}  // namespace linnet::kernels
#endif  // HWY_ONCE

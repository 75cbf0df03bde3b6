#include "kernels/cpu/rotary_columns.h"

#include <algorithm>
#include <cassert>

#include "kernels/cpu/attention_kernels.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/cpu/rotary_columns.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace linnet::kernels::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class T>
HWY_INLINE void add_angle_of(int64_t n, T cosine, T sine, const T* cosines, const T* sines, T* out_cosines,
                             T* out_sines) {
  const hn::CappedTag<T, kPad> d;
  const auto c = hn::Set(d, cosine), s = hn::Set(d, sine);
  for (int64_t i = 0; i < n; i += static_cast<int64_t>(hn::Lanes(d))) {
    const auto a = hn::LoadU(d, cosines + i), b = hn::LoadU(d, sines + i);
    hn::StoreU(hn::NegMulAdd(s, b, hn::Mul(c, a)), d, out_cosines + i);
    hn::StoreU(hn::MulAdd(s, a, hn::Mul(c, b)), d, out_sines + i);
  }
}

template <class T>
HWY_INLINE void turn_columns_of(int64_t half, int64_t n, const T* x, int64_t x_row, const T* cosines,
                                const T* sines, int64_t angle_row, T* y, int64_t y_row) {
  const hn::CappedTag<T, kPad> d;
  for (int64_t i = 0; i < half; ++i, x += x_row, y += y_row, cosines += angle_row, sines += angle_row) {
    for (int64_t s = 0; s < n; s += static_cast<int64_t>(hn::Lanes(d))) {
      const auto cosine = hn::LoadU(d, cosines + s), sine = hn::LoadU(d, sines + s);
      const auto first = hn::LoadU(d, x + s), second = hn::LoadU(d, x + half * x_row + s);
      hn::StoreU(hn::NegMulAdd(second, sine, hn::Mul(first, cosine)), d, y + s);
      hn::StoreU(hn::MulAdd(first, sine, hn::Mul(second, cosine)), d, y + half * y_row + s);
    }
  }
}

void add_angle_f32(int64_t n, float cosine, float sine, const float* cosines, const float* sines,
                   float* out_cosines, float* out_sines) {
  add_angle_of(n, cosine, sine, cosines, sines, out_cosines, out_sines);
}
void add_angle_f64(int64_t n, double cosine, double sine, const double* cosines, const double* sines,
                   double* out_cosines, double* out_sines) {
  add_angle_of(n, cosine, sine, cosines, sines, out_cosines, out_sines);
}
void turn_columns_f32(int64_t half, int64_t n, const float* x, int64_t x_row, const float* cosines,
                      const float* sines, int64_t angle_row, float* y, int64_t y_row) {
  turn_columns_of(half, n, x, x_row, cosines, sines, angle_row, y, y_row);
}
void turn_columns_f64(int64_t half, int64_t n, const double* x, int64_t x_row, const double* cosines,
                      const double* sines, int64_t angle_row, double* y, int64_t y_row) {
  turn_columns_of(half, n, x, x_row, cosines, sines, angle_row, y, y_row);
}

}  // namespace linnet::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace linnet::kernels {

HWY_EXPORT(add_angle_f32);
HWY_EXPORT(add_angle_f64);
HWY_EXPORT(turn_columns_f32);
HWY_EXPORT(turn_columns_f64);

template <class T>
void add_angle(int64_t n, T cosine, T sine, const T* cosines, const T* sines, T* out_cosines, T* out_sines) {
  assert(n == padded(n));
  if constexpr (sizeof(T) == sizeof(float)) {
    HWY_DYNAMIC_DISPATCH(add_angle_f32)(n, cosine, sine, cosines, sines, out_cosines, out_sines);
  } else {
    HWY_DYNAMIC_DISPATCH(add_angle_f64)(n, cosine, sine, cosines, sines, out_cosines, out_sines);
  }
}

template <class T>
void turn_columns(int64_t size, int64_t half, int64_t n, const T* x, int64_t x_row, const T* cosines,
                  const T* sines, int64_t angle_row, T* y, int64_t y_row) {
  assert(n == padded(n) && 2 * half <= size);
  if constexpr (sizeof(T) == sizeof(float)) {
    HWY_DYNAMIC_DISPATCH(turn_columns_f32)(half, n, x, x_row, cosines, sines, angle_row, y, y_row);
  } else {
    HWY_DYNAMIC_DISPATCH(turn_columns_f64)(half, n, x, x_row, cosines, sines, angle_row, y, y_row);
  }
  for (int64_t i = 2 * half; i < size; ++i) std::copy_n(x + i * x_row, n, y + i * y_row);
}

template void add_angle<float>(int64_t, float, float, const float*, const float*, float*, float*);
template void add_angle<double>(int64_t, double, double, const double*, const double*, double*, double*);
template void turn_columns<float>(int64_t, int64_t, int64_t, const float*, int64_t, const float*,
                                  const float*, int64_t, float*, int64_t);
template void turn_columns<double>(int64_t, int64_t, int64_t, const double*, int64_t, const double*,
                                   const double*, int64_t, double*, int64_t);

}  // namespace linnet::kernels
#endif  // HWY_ONCE

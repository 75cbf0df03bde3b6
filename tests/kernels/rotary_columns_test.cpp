#include "kernels/cpu/rotary_columns.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "base/random.h"
#include "kernels/cpu/attention_kernels.h"
#include "tests/kernels/numbers.h"
#include "tests/kernels/targets.h"

namespace linnet {
namespace {

using kernels::padded;

template <class T>
constexpr double kNear = sizeof(T) == 8 ? 1e-14 : 2e-6;

template <class T>
class RotaryColumns : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(RotaryColumns, Types);

TYPED_TEST(RotaryColumns, AreThePlainOnesAtEverySizeAndWriteNothingElse) {
  using T = TypeParam;
  on_every_target([] {
    for (const int64_t half : {0, 1, 5, 8}) {
      for (const int64_t size : {2 * half, 2 * half + 3}) {
        for (const int64_t n : {16, 32, 80}) {
          const auto x = normals<T>(size * (n + 3), 1), cosines = normals<T>(half * (n + 1), 2),
                     sines = normals<T>(half * (n + 1), 3);
          std::vector<T> y(size * (n + 2), T(7)), plain = y;
          kernels::turn_columns(size, half, n, x.data(), n + 3, cosines.data(), sines.data(), n + 1, y.data(),
                                n + 2);
          kernels::reference::turn_columns(size, half, n, x.data(), n + 3, cosines.data(), sines.data(),
                                           n + 1, plain.data(), n + 2);
          for (size_t i = 0; i < y.size(); ++i) ASSERT_NEAR(y[i], plain[i], kNear<T>) << half << " " << n;
        }
      }
    }
  });
}

TYPED_TEST(RotaryColumns, AnAngleIsAddedToEveryOne) {
  using T = TypeParam;
  on_every_target([] {
    for (const int64_t n : {16, 48, 80}) {
      const auto cosines = normals<T>(n, 1), sines = normals<T>(n, 2);
      std::vector<T> sum_cosines(n + 1, T(7)), sum_sines(n + 1, T(7)), plain_cosines = sum_cosines,
                                                                       plain_sines = sum_sines;
      kernels::add_angle(n, T(0.6), T(-0.8), cosines.data(), sines.data(), sum_cosines.data(),
                         sum_sines.data());
      kernels::reference::add_angle(n, T(0.6), T(-0.8), cosines.data(), sines.data(), plain_cosines.data(),
                                    plain_sines.data());
      for (int64_t i = 0; i <= n; ++i) {
        ASSERT_NEAR(sum_cosines[i], plain_cosines[i], kNear<T>);
        ASSERT_NEAR(sum_sines[i], plain_sines[i], kNear<T>);
      }
    }
  });
}

// What a token's key is turned back to may not depend on where it stands: in a ring, alone, among nodes.
TYPED_TEST(RotaryColumns, AColumnHasTheSameBitsWhereverItStands) {
  using T = TypeParam;
  on_every_target([] {
    const int64_t half = 6, size = 14, n = 64;
    const auto x = normals<T>(size * (n + padded(1)), 1), cosines = normals<T>(half * (n + padded(1)), 2),
               sines = normals<T>(half * (n + padded(1)), 3);
    const int64_t row = n + padded(1);
    std::vector<T> all(size * n), one(size * padded(1));
    kernels::turn_columns(size, half, n, x.data(), row, cosines.data(), sines.data(), row, all.data(), n);
    for (int64_t s = 0; s < n; ++s) {
      kernels::turn_columns(size, half, padded(1), x.data() + s, row, cosines.data() + s, sines.data() + s,
                            row, one.data(), padded(1));
      for (int64_t i = 0; i < size; ++i) ASSERT_EQ(one[i * padded(1)], all[i * n + s]) << s;
    }
  });
}

}  // namespace
}  // namespace linnet

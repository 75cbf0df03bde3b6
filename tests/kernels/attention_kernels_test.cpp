#include "kernels/cpu/attention_kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "base/random.h"
#include "tests/kernels/numbers.h"
#include "tests/kernels/targets.h"

namespace linnet {
namespace {

using kernels::padded;

template <class T>
constexpr double kNear = sizeof(T) == 8 ? 1e-13 : 2e-6;

template <class T>
class AttentionKernels : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(AttentionKernels, Types);

TYPED_TEST(AttentionKernels, AProductIsTheSumsAndARowOfItHasTheSameBitsAlone) {
  using T = TypeParam;
  on_every_target([] {
    for (int64_t m : {1, 2, 3, 5, 6, 7, 13, 64}) {
      for (int64_t n : {16, 32, 48, 64, 80, 144}) {
        for (int64_t k : {0, 1, 7, 64}) {
          const auto a = normals<T>(m * (k + 3), 1), b = normals<T>(k * (n + 5) + n, 2);
          const auto start = normals<T>(m * (n + 1), 3);
          auto c = start;
          kernels::matmul(m, n, k, a.data(), k + 3, b.data(), n + 5, c.data(), n + 1, true);
          for (int64_t i = 0; i < m; ++i) {
            std::vector<T> row(n, T(NAN));
            kernels::matmul(int64_t{1}, n, k, a.data() + i * (k + 3), int64_t{0}, b.data(), n + 5, row.data(),
                            n, false);
            std::vector<T> added(start.begin() + i * (n + 1), start.begin() + i * (n + 1) + n);
            std::vector<int32_t> indices(k);
            std::iota(indices.begin(), indices.end(), 0);
            kernels::add_weighted_rows(a.data() + i * (k + 3), indices.data(), k, b.data(), n + 5, n,
                                       added.data());
            for (int64_t j = 0; j < n; ++j) {
              double sum = 0;
              for (int64_t s = 0; s < k; ++s) sum += double(a[i * (k + 3) + s]) * double(b[s * (n + 5) + j]);
              ASSERT_NEAR(row[j], sum, 20 * kNear<T>) << m << " " << n << " " << k;
              ASSERT_NEAR(c[i * (n + 1) + j], sum + double(start[i * (n + 1) + j]), 20 * kNear<T>);
              ASSERT_EQ(c[i * (n + 1) + j], added[j]);  // the same order, the same bits
            }
            ASSERT_EQ(c[i * (n + 1) + n], start[i * (n + 1) + n]);  // nothing past the row
          }
        }
      }
    }
  });
}

TYPED_TEST(AttentionKernels, AProductOfAMatrixTurnedRoundHasTheBitsOfTheSameOneAsItStands) {
  using T = TypeParam;
  on_every_target([] {
    for (int64_t m : {1, 3, 6, 7, 16, 45}) {
      for (int64_t n : {16, 48, 80}) {
        for (int64_t k : {0, 1, 7, 64}) {
          const auto a = normals<T>(k * (m + 2) + m, 1), b = normals<T>(k * (n + 5) + n, 2);
          std::vector<T> turned(m * k);
          for (int64_t i = 0; i < m; ++i) {
            for (int64_t s = 0; s < k; ++s) turned[i * k + s] = a[s * (m + 2) + i];
          }
          for (const bool accumulate : {false, true}) {
            auto c = accumulate ? normals<T>(m * (n + 1), 3) : std::vector<T>(m * (n + 1), T(NAN));
            auto expected = c;
            kernels::matmul_transposed(m, n, k, a.data(), m + 2, b.data(), n + 5, c.data(), n + 1,
                                       accumulate);
            kernels::matmul(m, n, k, turned.data(), k, b.data(), n + 5, expected.data(), n + 1, accumulate);
            ASSERT_EQ(std::memcmp(c.data(), expected.data(), c.size() * sizeof(T)), 0)
                << m << " " << n << " " << k;
          }
        }
      }
    }
  });
}

TYPED_TEST(AttentionKernels, TheGradientOfSoftmaxIsThatOfTheDefinition) {
  using T = TypeParam;
  on_every_target([] {
    for (int64_t count : {1, 2, 15, 16, 17, 40, 100}) {
      auto weights = normals<T>(padded(count), 4), gradients = normals<T>(padded(count), 5);
      const T sum = kernels::exponentiate(weights.data(), count), share = T(0.3), scale = T(0.25);
      const std::vector<T> w = weights, g = gradients;
      double mean = 0;
      for (int64_t i = 0; i < count; ++i) mean += double(w[i]) / double(sum) * double(g[i]);
      const T found = kernels::softmax_gradient(weights.data(), gradients.data(), count, sum, share, scale);
      EXPECT_NEAR(found, mean, 10 * kNear<T>) << count;
      for (int64_t i = 0; i < count; ++i) {
        const double weight = double(share) * double(w[i]) / double(sum);
        EXPECT_NEAR(weights[i], weight, kNear<T>);
        EXPECT_NEAR(gradients[i], weight * (double(g[i]) - mean) * double(scale), 4 * kNear<T>) << count;
      }
      for (int64_t i = count; i < padded(count); ++i) {
        EXPECT_EQ(weights[i], T(0));
        EXPECT_EQ(gradients[i], T(0));
      }
    }
  });
}

TYPED_TEST(AttentionKernels, OfNumbersInBFloat16GiveTheBitsOfTheSameOnesWider) {
  using T = TypeParam;
  on_every_target([] {
    for (int64_t m : {1, 2, 3, 5, 6, 7, 13, 64}) {
      for (int64_t n : {16, 32, 48, 80, 144}) {
        for (int64_t k : {0, 1, 7, 64, 200}) {
          const auto a = normals<T>(m * (k + 3), 1), drawn = normals<T>(k * (n + 5) + n, 2);
          std::vector<BFloat16> held;
          std::vector<T> wide;
          for (const T x : drawn) held.emplace_back(x), wide.push_back(T(held.back()));
          for (const bool accumulate : {false, true}) {
            auto c = accumulate ? normals<T>(m * (n + 1), 3) : std::vector<T>(m * (n + 1), T(NAN));
            auto expected = c;
            kernels::matmul(m, n, k, a.data(), k + 3, held.data(), n + 5, c.data(), n + 1, accumulate);
            kernels::matmul(m, n, k, a.data(), k + 3, wide.data(), n + 5, expected.data(), n + 1, accumulate);
            ASSERT_EQ(std::memcmp(c.data(), expected.data(), c.size() * sizeof(T)), 0)
                << m << " " << n << " " << k;
          }
          std::vector<T> squares(n, T(NAN)), expected = squares;
          kernels::column_squares(k, n, held.data(), n + 5, squares.data());
          kernels::column_squares(k, n, wide.data(), n + 5, expected.data());
          ASSERT_EQ(squares, expected) << n << " " << k;
        }
      }
    }
  });
}

TYPED_TEST(AttentionKernels, RowsOfWeightsAreThoseOfTheDefinition) {
  using T = TypeParam;
  on_every_target([] {
    for (int64_t count : {1, 2, 15, 16, 17, 40, 64, 100}) {
      auto x = normals<T>(padded(count), 4), y = normals<T>(padded(count), 5);
      auto a = x;
      for (int64_t i = count; i < padded(count); ++i) a[i] = y[i] = T(0);
      double whole = 0, product = 0;
      for (int64_t i = 0; i < count; ++i) whole += double(x[i]), product += double(x[i]) * double(y[i]);
      EXPECT_NEAR(kernels::sum(x.data(), count), whole, 100 * kNear<T>);
      EXPECT_NEAR(kernels::dot(a.data(), y.data(), count), product, 100 * kNear<T>);
      if (count > 1) x[0] = -std::numeric_limits<T>::infinity();  // masked
      const double most = *std::max_element(x.begin(), x.begin() + count);
      const std::vector<double> scores(x.begin(), x.begin() + count);
      double sum = 0;
      for (double score : scores) sum += std::exp(score - most);
      EXPECT_NEAR(kernels::exponentiate(x.data(), count) / sum, 1.0, 10 * kNear<T>);
      for (int64_t i = 0; i < count; ++i) EXPECT_NEAR(x[i], std::exp(scores[i] - most), 4 * kNear<T>);
      for (int64_t i = count; i < padded(count); ++i) EXPECT_EQ(x[i], T(0));
    }
  });
}

TYPED_TEST(AttentionKernels, FeatureMapsAreThoseOfTheDefinitionAsRowsAndAsColumns) {
  using T = TypeParam;
  on_every_target([] {
    for (int64_t size : {1, 8, 16, 20, 40, 64}) {
      const int64_t n = 32, row = padded(size), phi_row = padded(2 * size);
      auto y = normals<T>(n * row, 6);
      for (int64_t i = 0; i < row; ++i) y[i] *= T(100);           // sums that would overflow without a shift
      for (int64_t i = size; i < row; ++i) y[row + i] = T(1e30);  // padding is whatever it is
      std::vector<T> columns(size * n), phi(n * phi_row, T(NAN)), phi_columns(2 * size * n, T(NAN)),
          squares(n, T(NAN));
      for (int64_t r = 0; r < n; ++r) {
        for (int64_t i = 0; i < size; ++i) columns[i * n + r] = y[r * row + i];
      }
      kernels::hedgehog_rows(n, size, y.data(), row, phi.data(), phi_row);
      kernels::hedgehog_columns(size, n, columns.data(), n, phi_columns.data(), n);
      kernels::column_squares(size, n, columns.data(), n, squares.data());
      for (int64_t r = 0; r < n; ++r) {
        double sums[2] = {0, 0}, square = 0;
        for (int64_t i = 0; i < size; ++i) {
          sums[0] += std::exp(double(y[r * row + i])), sums[1] += std::exp(-double(y[r * row + i]));
          square += double(y[r * row + i]) * double(y[r * row + i]);
        }
        ASSERT_NEAR(squares[r] / square, 1.0, 100 * kNear<T>);
        for (int64_t i = 0; i < 2 * size; ++i) {
          const double sign = i < size ? 1 : -1;
          const double expected = std::exp(sign * double(y[r * row + i % size])) / sums[i / size];
          ASSERT_NEAR(phi[r * phi_row + i], expected, 4 * kNear<T>) << size;
          ASSERT_NEAR(phi_columns[i * n + r], expected, 4 * kNear<T>) << size;
        }
        for (int64_t i = 2 * size; i < phi_row; ++i) ASSERT_EQ(phi[r * phi_row + i], T(0));
      }
      std::vector<T> relu(n * row, T(NAN)), elu = relu, elu1 = relu;
      kernels::relu(n * row, y.data(), relu.data());
      kernels::elu(n * row, y.data(), elu.data());
      kernels::elu1(n * row, y.data(), elu1.data());
      for (int64_t i = 0; i < n * row; ++i) {
        ASSERT_EQ(relu[i], std::max(y[i], T(0)));
        ASSERT_NEAR(elu[i], y[i] > 0 ? y[i] : std::expm1(y[i]), 4 * kNear<T>);
        ASSERT_NEAR(elu1[i], y[i] > 0 ? 1 + y[i] : std::exp(y[i]), 4 * kNear<T>);
      }
    }
  });
}

TYPED_TEST(AttentionKernels, ExponentialFeaturesKeepTheirLargestExponentApartAsRowsAndAsColumns) {
  using T = TypeParam;
  on_every_target([] {
    for (int64_t size : {1, 8, 16, 20, 40, 128}) {
      const int64_t n = 32, row = padded(size);
      auto y = normals<T>(n * row, 7);
      for (int64_t i = 0; i < row; ++i) y[i] *= T(100);           // would overflow
      for (int64_t i = size; i < row; ++i) y[row + i] = T(1e30);  // padding is whatever it is
      std::vector<T> columns(size * n), rows = y, largest(n, T(NAN)), largest_columns = largest;
      for (int64_t r = 0; r < n; ++r) {
        for (int64_t i = 0; i < size; ++i) columns[i * n + r] = y[r * row + i];
      }
      kernels::favor_rows(n, size, rows.data(), row, largest.data());
      kernels::favor_columns(size, n, columns.data(), n, largest_columns.data());
      for (int64_t r = 0; r < n; ++r) {
        const T most = *std::max_element(y.begin() + r * row, y.begin() + r * row + size);
        ASSERT_EQ(largest[r], most);
        ASSERT_EQ(largest_columns[r], most);
        for (int64_t i = 0; i < size; ++i) {
          const double expected = std::exp(double(y[r * row + i]) - double(most)) / std::sqrt(double(size));
          ASSERT_NEAR(rows[r * row + i], expected, 4 * kNear<T>) << size;
          ASSERT_NEAR(columns[i * n + r], expected, 4 * kNear<T>) << size;
        }
        for (int64_t i = size; i < row; ++i) ASSERT_EQ(rows[r * row + i], T(0));
      }
    }
  });
}

TYPED_TEST(AttentionKernels, NumbersAreScaledToTheLargestExponentThatThereIs) {
  using T = TypeParam;
  on_every_target([] {
    for (int64_t count : {0, 1, 2, 15, 16, 17, 40, 100}) {
      for (const double least : {-double(INFINITY), -1.0, 50.0}) {
        auto x = normals<T>(padded(count), 8), exponents = normals<T>(padded(count), 9);
        for (int64_t i = count; i < padded(count); ++i) exponents[i] = T(1e30);
        const std::vector<T> before = x;
        double most = least;
        for (int64_t i = 0; i < count; ++i) most = std::max(most, double(exponents[i]));
        EXPECT_EQ(double(kernels::scale_to_largest(x.data(), exponents.data(), count, T(least))), most);
        for (int64_t i = 0; i < count; ++i) {
          EXPECT_NEAR(x[i], double(before[i]) * std::exp(double(exponents[i]) - most), 10 * kNear<T>);
        }
      }
    }
  });
}

}  // namespace
}  // namespace linnet

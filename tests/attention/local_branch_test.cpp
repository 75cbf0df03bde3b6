// The local branch's weights where the golden files do not reach: at a cosine's ends, at vectors that are
// short or nothing. mathematics.md, section 1.
#include "attention/local_branch.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

namespace linnet {
namespace {

constexpr int kSize = 4, kBits = 3;

template <class T>
class YosoBranch : public testing::Test {
 protected:
  /// The weight of a key of length `key` for a query of length `query`, from their cosine; d = 4.
  T weight(T query, T key, T cosine) const {
    T score = cosine * query * key / 2;  // of the query divided by √d
    const T square = key * key;
    EXPECT_EQ(branch_.weigh(&score, 1, &square, query * query / 4), T(1));
    return score;
  }

  const LocalBranch<T> branch_{
      parse_layer_attention({{"method", "relu"}, {"local", "yoso"}, {"bits", kBits}}, "test"),
      {1, 1, kSize, kSize},
      1 / std::sqrt(double(kSize)),
      {}};
};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(YosoBranch, Types);

TYPED_TEST(YosoBranch, WeighsByTheAngleAlone) {
  using T = TypeParam;
  for (const T length : {T(1), T(0.03), T(50)}) {  // (1 − arccos(cos)/π)^bits
    for (const auto& [cosine, share] :
         {std::pair(T(1), 1.0), {T(0.5), 2.0 / 3}, {T(0), 0.5}, {T(-0.5), 1.0 / 3}, {T(-1), 0.0}}) {
      EXPECT_NEAR(this->weight(length, T(0.1), cosine), std::pow(share, kBits), 1e-3) << length;
    }
  }
}

TYPED_TEST(YosoBranch, ACosineThatRoundingLeftPastItsEndIsTheEnd) {
  using T = TypeParam;
  const T past = T(1) + 4 * std::numeric_limits<T>::epsilon();
  EXPECT_EQ(this->weight(1, 1, past), T(1));
  EXPECT_EQ(this->weight(1, 1, -past), T(0));
}

TYPED_TEST(YosoBranch, AVectorOfNoLengthIsAtARightAngleAndASumOfNothingStaysNothing) {
  using T = TypeParam;
  EXPECT_NEAR(this->weight(1, 0, 0), std::pow(0.5, kBits), 1e-6);
  T sum[kSize] = {};
  this->branch_.finish(0, sum);
  for (const T number : sum) EXPECT_EQ(number, T(0));
}

}  // namespace
}  // namespace linnet

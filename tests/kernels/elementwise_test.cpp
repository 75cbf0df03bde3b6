#include "kernels/cpu/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/bfloat16.h"
#include "kernels/cpu/rotary.h"
#include "tests/kernels/numbers.h"
#include "tests/kernels/targets.h"

namespace linnet {
namespace {

using kernels::Unary;

constexpr int64_t kSizes[] = {1, 3, 15, 16, 17, 64, 100, 385};
constexpr Unary kActivations[] = {Unary::kSilu, Unary::kGeluTanh, Unary::kGelu, Unary::kRelu};

class Norms : public OnEveryTarget {};
class Activations : public OnEveryTarget {};
class LogSumExp : public OnEveryTarget {};
class BFloat16 : public OnEveryTarget {};
class Add : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(EveryTarget, Norms, every_target(), target_name);
INSTANTIATE_TEST_SUITE_P(EveryTarget, Activations, every_target(), target_name);
INSTANTIATE_TEST_SUITE_P(EveryTarget, LogSumExp, every_target(), target_name);
INSTANTIATE_TEST_SUITE_P(EveryTarget, BFloat16, every_target(), target_name);
INSTANTIATE_TEST_SUITE_P(EveryTarget, Add, every_target(), target_name);

TEST_P(Norms, EqualThePlainOnesInDouble) {
  for (int64_t size : kSizes) {
    const int64_t rows = 3;
    auto x = normals(rows * size, 1);
    for (float& number : x) number = number * 2 + 0.5f;
    const auto gain = normals(size, 2), bias = normals(size, 3);
    auto rms = poison(rows * size), layer = poison(rows * size);
    kernels::rms_norm(x.data(), rows, size, gain.data(), 1e-5, rms.data());
    kernels::layer_norm(x.data(), rows, size, gain.data(), bias.data(), 1e-5, layer.data());
    std::vector<double> expected(rows * size);
    kernels::reference::rms_norm(widened(x).data(), rows, size, widened(gain).data(), 1e-5, expected.data());
    EXPECT_LT(relative_rms(rms, expected), 1e-6) << size;
    kernels::reference::layer_norm(widened(x).data(), rows, size, widened(gain).data(), widened(bias).data(),
                                   1e-5, expected.data());
    EXPECT_LT(relative_rms(layer, expected), 2e-6) << size;
    kernels::rms_norm(x.data(), rows, size, gain.data(), 1e-5, x.data());
    EXPECT_EQ(bits(x), bits(rms)) << "in place, " << size;
  }
}

TEST_P(Norms, OfASumHaveTheBitsOfTheTwoOneAfterTheOther) {
  const int64_t rows = 3;
  for (int64_t size : kSizes) {
    const int64_t count = rows * size;
    const auto x = normals(count, 1), y = normals(count, 2), gain = normals(size, 3), bias = normals(size, 4);
    const auto wide_gain = widened(gain), wide_bias = widened(bias);
    auto added = x;
    kernels::add(added.data(), y.data(), count);
    added.push_back(std::numeric_limits<float>::quiet_NaN());  // no kernel writes past its rows
    // norm(x, z), sum_norm(x, y, z), plain(x, y, z) of one norm.
    const auto check = [&](const auto& norm, const auto& sum_norm, const auto& plain) {
      auto sum = x, expected = poison(count + 1), normed = poison(count + 1);
      sum.push_back(added.back());
      norm(added.data(), expected.data());
      sum_norm(sum.data(), y.data(), normed.data());
      EXPECT_EQ(bits(sum), bits(added)) << size;
      EXPECT_EQ(bits(normed), bits(expected)) << size;
      std::copy(x.begin(), x.end(), sum.begin());
      sum_norm(sum.data(), y.data(), sum.data());
      EXPECT_EQ(bits(sum), bits(expected)) << "in place, " << size;
      auto wide = widened(x);
      std::vector<double> wide_normed(count);
      plain(wide.data(), widened(y).data(), wide_normed.data());
      EXPECT_LT(relative_rms(added, wide), 1e-6) << size;
      EXPECT_LT(relative_rms(normed, wide_normed), 5e-6) << size;
    };
    check([&](auto* x, auto* z) { kernels::rms_norm(x, rows, size, gain.data(), 1e-5, z); },
          [&](auto* x, auto* y, auto* z) { kernels::add_rms_norm(x, y, rows, size, gain.data(), 1e-5, z); },
          [&](auto* x, auto* y, auto* z) {
            kernels::reference::add_rms_norm(x, y, rows, size, wide_gain.data(), 1e-5, z);
          });
    check([&](auto* x, auto* z) { kernels::layer_norm(x, rows, size, gain.data(), bias.data(), 1e-5, z); },
          [&](auto* x, auto* y, auto* z) {
            kernels::add_layer_norm(x, y, rows, size, gain.data(), bias.data(), 1e-5, z);
          },
          [&](auto* x, auto* y, auto* z) {
            kernels::reference::add_layer_norm(x, y, rows, size, wide_gain.data(), wide_bias.data(), 1e-5, z);
          });
  }
}

TEST_P(Activations, EqualThePlainOnesInDouble) {
  for (Unary kind : kActivations) {
    for (int64_t size : kSizes) {
      auto x = normals(size, 4);
      for (float& number : x) number *= 4;
      const auto up = normals(size, 5);
      auto expected = widened(x), gated = widened(x);
      kernels::reference::activate(kind, expected.data(), size);
      kernels::reference::activate_gated(kind, gated.data(), widened(up).data(), size);
      auto gate = x;
      kernels::activate(kind, x.data(), size);
      kernels::activate_gated(kind, gate.data(), up.data(), size);
      EXPECT_LT(relative_rms(x, expected), 2e-6) << static_cast<int>(kind) << ", " << size;
      EXPECT_LT(relative_rms(gate, gated), 2e-6) << static_cast<int>(kind) << ", " << size;
    }
  }
}

TEST_P(Activations, CapsEqualThePlainOneInDoubleAndHoldAtTheEndsOfTheRange) {
  for (int64_t size : kSizes) {
    auto x = normals(size, 6);
    for (float& number : x) number *= 4;
    auto expected = widened(x);
    const auto uncapped = x;
    kernels::reference::cap(expected.data(), size, 2.5);
    kernels::cap(x.data(), size, 2.5f);
    EXPECT_LT(relative_rms(x, expected), 1e-6) << size;
    x = uncapped;
    kernels::cap(x.data(), size, 0.0f);
    EXPECT_EQ(bits(x), bits(uncapped)) << size;
  }
  std::vector<float> x = {-1e30f, 0, 1e-20f, 1e30f};
  kernels::cap(x.data(), 4, 50.0f);
  EXPECT_EQ(x[0], -50.0f);
  EXPECT_EQ(x[1], 0.0f);
  EXPECT_NEAR(x[2], 1e-20f, 1e-26f);
  EXPECT_EQ(x[3], 50.0f);
}

TEST_P(Activations, HoldAtTheEndsOfTheRange) {
  for (Unary kind : kActivations) {
    std::vector<float> x = {-1e30f, -1000, -100, -0.0f, 0, 100, 1000, 1e10f};
    kernels::activate(kind, x.data(), x.size());
    for (size_t i = 0; i < 5; ++i) EXPECT_NEAR(x[i], 0.0f, 1e-30f) << static_cast<int>(kind) << ", " << i;
    EXPECT_EQ(x[5], 100.0f);
    EXPECT_EQ(x[6], 1000.0f);
    EXPECT_EQ(x[7], 1e10f);
  }
}

TEST_P(LogSumExp, EqualsThePlainOneInDouble) {
  for (int64_t size : kSizes) {
    auto x = normals(size, 6);
    for (float& number : x) number *= 20;
    const auto wide = widened(x);
    const double expected = kernels::reference::log_sum_exp(wide.data(), size);
    EXPECT_NEAR(kernels::log_sum_exp(x.data(), size), expected, 1e-6 * std::max(1.0, std::abs(expected)))
        << size;
  }
  const std::vector<float> alike(100003, 1.25f);  // sums of many numbers alike lose most
  EXPECT_NEAR(kernels::log_sum_exp(alike.data(), alike.size()), 1.25 + std::log(100003.0), 1e-6);
}

TEST_P(LogSumExp, HoldsAtTheEndsOfTheRangeAndKeepsNaN) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity(),
                  kNaN = std::numeric_limits<float>::quiet_NaN();
  for (size_t size : {1, 7, 16, 40}) {
    for (size_t place : {size_t{0}, size - 1}) {
      std::vector<float> x(size, 3e38f);
      const auto at = [&](float number) {
        x[place] = number;
        return kernels::log_sum_exp(x.data(), static_cast<int64_t>(size));
      };
      EXPECT_NEAR(at(3e38f), 3e38, 1e32);
      EXPECT_TRUE(std::isnan(at(kNaN))) << size << ", " << place;
      EXPECT_FALSE(std::isfinite(at(kInfinity)));
      if (size > 1) {
        EXPECT_NEAR(at(-kInfinity), 3e38, 1e32);
      }
    }
  }
}

TEST_P(BFloat16, RoundsToNearestEvenAndComesBackExactly) {
  const struct {
    uint32_t from;
    uint16_t to;
  } kCases[] = {{0x3F800000, 0x3F80}, {0x3F808000, 0x3F80}, {0x3F808001, 0x3F81}, {0x3F818000, 0x3F82},
                {0x7F7FFFFF, 0x7F80}, {0x80000000, 0x8000}, {0x7F800000, 0x7F80}, {0x7F800001, 0x7FC0},
                {0xFFFFFFFF, 0xFFFF}, {0x00000001, 0x0000}};
  for (const auto& row : kCases) {
    const float x = std::bit_cast<float>(row.from);
    uint16_t narrow = 0;
    kernels::to_bfloat16(&x, 1, &narrow);
    EXPECT_EQ(narrow, row.to) << std::hex << row.from;
    float wide = 0;
    kernels::from_bfloat16(&narrow, 1, &wide);
    EXPECT_EQ(std::bit_cast<uint32_t>(wide), uint32_t{row.to} << 16);
  }
}

TEST_P(BFloat16, ConvertsEveryNumberOfARowAndNothingPastIt) {
  for (const int64_t size : kSizes) {
    const auto x = normals(size, 8);
    std::vector<uint16_t> narrow(size + 1, 0x7FC1);
    auto wide = poison(size + 1);
    kernels::to_bfloat16(x.data(), size, narrow.data());
    kernels::from_bfloat16(narrow.data(), size, wide.data());
    for (int64_t i = 0; i < size; ++i) {
      EXPECT_EQ(narrow[i], float_to_bfloat16(x[i])) << i << " of " << size;
      EXPECT_EQ(wide[i], bfloat16_to_float(narrow[i])) << i << " of " << size;
    }
    EXPECT_EQ(narrow[size], 0x7FC1) << size;
    EXPECT_TRUE(std::isnan(wide[size])) << size;
  }
}

TEST_P(Add, AddsEveryNumber) {
  for (int64_t size : kSizes) {
    auto x = normals(size, 6);
    const auto y = normals(size, 7);
    auto expected = x;
    kernels::reference::add(expected.data(), y.data(), size);
    kernels::add(x.data(), y.data(), size);
    EXPECT_EQ(bits(x), bits(expected)) << size;
  }
}

TEST(Rotary, TurnsPairsOfTheFirstPartAndCopiesTheRest) {
  const std::vector<double> x = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};  // two heads of five numbers
  const double cosines[] = {0.6, 0.8}, sines[] = {0.8, -0.6};
  std::vector<double> y(10);
  kernels::rotate(x.data(), 2, 5, 2, cosines, sines, y.data());
  const double expected[] = {0.6 - 2.4, 1.6 + 2.4, 1.8 + 0.8, 3.2 - 1.2, 5,
                             3.6 - 6.4, 5.6 + 5.4, 4.8 + 4.8, 7.2 - 4.2, 10};
  for (size_t i = 0; i < 10; ++i) EXPECT_NEAR(y[i], expected[i], 1e-12) << i;
}

}  // namespace
}  // namespace linnet

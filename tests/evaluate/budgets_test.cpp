#include "evaluate/budgets.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "base/error.h"
#include "model/state_size.h"

namespace linnet {
namespace {

using Lists = std::vector<std::vector<Offer>>;

Offer sum_of(const Lists& lists, const std::vector<size_t>& bought) {
  Offer sum;
  for (size_t i = 0; i < lists.size(); ++i) {
    sum.bytes += lists[i][bought[i]].bytes;
    sum.loss += lists[i][bought[i]].loss;
  }
  return sum;
}

/// The least loss of any purchase of at most `bytes`.
double best_of(const Lists& lists, int64_t bytes, size_t list = 0) {
  if (list == lists.size()) return 0;
  double best = INFINITY;
  for (const Offer& offer : lists[list])
    if (offer.bytes <= bytes)
      best = std::min(best, offer.loss + best_of(lists, bytes - offer.bytes, list + 1));
  return best;
}

Lists random_lists(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto below = [&](uint64_t end) { return random() % end; };
  Lists lists(4);
  for (auto& list : lists) {
    list.push_back({0, 100.0 + static_cast<double>(below(50))});
    for (int i = 0; i < 5; ++i)
      list.push_back({list.back().bytes + static_cast<int64_t>(below(20)),
                      std::max(0.0, list.back().loss + 5 - static_cast<double>(below(40)))});
  }
  return lists;
}

TEST(Buy, LosesTheLeastThatItsBytesCanBuyAndNeverMoreForMoreOfThem) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Lists lists = random_lists(seed);
    double before = INFINITY;
    for (int64_t bytes = 0; bytes < 300; bytes += 7) {
      const Offer sum = sum_of(lists, buy(lists, bytes));
      EXPECT_LE(sum.bytes, bytes);
      EXPECT_NEAR(sum.loss, best_of(lists, bytes), 1e-9);
      EXPECT_LE(sum.loss, before);
      before = sum.loss;
    }
  }
}

TEST(Buy, StaysWithinItsBytesWhereTheyAreTooManyToCountOneByOne) {
  Lists lists = random_lists(1);
  for (auto& list : lists)
    for (Offer& offer : list) offer.bytes *= 1000003;
  for (const int64_t bytes : {150000001, 271828182}) {
    const Offer sum = sum_of(lists, buy(lists, bytes));
    EXPECT_LE(sum.bytes, bytes);
    EXPECT_NEAR(sum.loss, best_of(lists, bytes), 1e-9);
  }
}

TEST(Buy, TakesAFarOfferPastNearOnesThatWinNothing) {
  const Lists lists = {{{0, 10}, {10, 10}, {20, 10}, {100, 1}}, {{0, 1}, {10, 0.9}, {50, 0.8}}};
  EXPECT_EQ(buy(lists, 110), std::vector<size_t>({3, 1}));
  EXPECT_EQ(buy(lists, 99), std::vector<size_t>({0, 2}));  // where it does not fit, others get the bytes
}

TEST(Buy, TakesOfWhatDoesNotFitTheMostThatDoes) {
  const Lists lists = {{{0, 10}, {10, 9.9}, {100, 1}}};
  EXPECT_EQ(buy(lists, 50), std::vector<size_t>({1}));
}

TEST(WindowLosses, LieBetweenTheMeasuredOnALogarithmicScale) {
  const WindowLosses losses{.context = 1024, .layers = 1, .heads = 1, .windows = {64, 256}, .losses = {3, 1}};
  EXPECT_DOUBLE_EQ(losses.at(0, 0, 64), 3);
  EXPECT_DOUBLE_EQ(losses.at(0, 0, 128), 2);
  EXPECT_DOUBLE_EQ(losses.at(0, 0, 256), 1);
  EXPECT_DOUBLE_EQ(losses.at(0, 0, 512), 0.5);
  EXPECT_DOUBLE_EQ(losses.at(0, 0, 32), 4);
  EXPECT_DOUBLE_EQ(losses.at(0, 0, 1024), 0);
}

constexpr AttentionShape kShape{4, 2, 16, 16};

std::vector<AttentionConfig> two_layers(const nlohmann::json& more = {}) {
  nlohmann::json object{{"method", "grouped"}, {"group", 16}};
  if (!more.is_null()) object.update(more);
  return parse_attention(object, 2, "test");
}

/// One head of four needs what is far, another what is a little further.
WindowLosses four_heads() {
  return {.context = 512,
          .layers = 2,
          .heads = 2,
          .windows = {16, 64, 256},
          .losses = {0.01, 0.001, 0, 0.02, 0.01, 0.001, 0.01, 0.001, 0, 3, 3, 3}};
}

TEST(SpendState, GivesTheWholeContextToTheHeadThatNeedsIt) {
  const Budgets all = spend_state(two_layers(), kShape, four_heads(), 1 << 30);
  EXPECT_EQ(all.loss, 0);
  const Budgets least = spend_state(two_layers(), kShape, four_heads(), all.least_bytes);
  EXPECT_EQ(least.bytes, least.least_bytes);
  EXPECT_EQ(least.layers, two_layers({{"local_groups", 2}}));  // one group costs as much
  const Budgets some =
      spend_state(two_layers(), kShape, four_heads(), least.bytes + (all.bytes - least.bytes) / 3);
  EXPECT_EQ(some.layers[1].local_groups.of(1), 32);
  EXPECT_LT(some.layers[1].local_groups.of(0), 8);
  EXPECT_GE(some.layers[0].local_groups.of(1), some.layers[0].local_groups.of(0));
  EXPECT_EQ(some.bytes, constant_state_bytes(some.layers, kShape));
}

TEST(SpendState, IsWithinItsBytesAndLosesLessForMore) {
  const int64_t least = spend_state(two_layers(), kShape, four_heads(), 1 << 30).least_bytes;
  double before = INFINITY;
  for (int64_t bytes = least; bytes < least + 300000; bytes += 5000) {
    const Budgets budgets = spend_state(two_layers(), kShape, four_heads(), bytes);
    EXPECT_LE(budgets.bytes, bytes);
    EXPECT_LE(budgets.loss, before);
    before = budgets.loss;
  }
}

TEST(SpendState, LeavesKeptTokensAndOtherLayersAsTheyAre) {
  const auto layers = two_layers({{"kept", 8}, {"layers", {{"0", {{"method", "relu"}}}}}});
  const Budgets budgets = spend_state(layers, kShape, four_heads(), 1 << 30);
  EXPECT_EQ(budgets.layers[0], layers[0]);
  EXPECT_EQ(budgets.layers[1].kept, PerHead(8));
  EXPECT_GE(budgets.layers[1].local_groups.least(), 2);
}

TEST(SpendState, SaysWhatItCannotDo) {
  const auto error_of = [](const std::function<void()>& work) -> std::string {
    try {
      work();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const int64_t least = spend_state(two_layers(), kShape, four_heads(), 1 << 30).least_bytes;
  EXPECT_EQ(error_of([&] { spend_state(two_layers(), kShape, four_heads(), least - 1); }),
            fmt::format(
                "--state: {} bytes, expected at least {}, what these layers hold with the narrowest windows",
                least - 1, least));
  EXPECT_THAT(error_of([] {
                check_spendable(parse_attention({{"method", "relu"}}, 2, ""));
              }),
              testing::StartsWith("--state: relu has no local branch, so no windows to buy"));
  EXPECT_THAT(error_of([] { check_spendable(parse_attention(nullptr, 2, "")); }),
              testing::StartsWith("--state: layer 0 is softmax over all tokens"));
}

}  // namespace
}  // namespace linnet

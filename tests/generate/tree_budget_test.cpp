#include "generate/tree_budget.h"

#include <gtest/gtest.h>

namespace linnet {
namespace {

TEST(TreeBudget, TakesNoNodeForDearerThanAStepOfItsOwn) {
  TreeBudget budget;
  budget.begin(0);
  const int slots[] = {0}, tokens[] = {1};
  const auto step = [&](int nodes, double seconds) {
    budget.next(slots);
    budget.measured(nodes, tokens, 0, seconds);
  };
  for (const int nodes : {2, 4}) {  // another program had the processor for a while, twice
    step(1, 1);
    step(nodes, 50);
  }
  ASSERT_EQ(budget.known().size(), 1u);
  const auto drafted = budget.known().front().drafted;
  ASSERT_EQ(drafted.size(), 2u);
  for (const auto& [extra, takes] : drafted) EXPECT_LE(takes, 1 + extra) << extra;
}

// Of two texts whose steps are the same the guesses of one are always right, of the other never.
TEST(TreeBudget, NoTextLosesWhatOneBesideItGains) {
  TreeBudget budget;
  const int slots[] = {0, 1};
  for (const int slot : slots) budget.begin(slot);
  double seconds = 0, guessed = 0;
  for (int step = 1; step <= 1000; ++step) {  // tokens of the other
    budget.next(slots);
    const double reached[] = {0.9, 0.9};
    const int extra = budget.needs_plain() ? 0 : budget.choose(reached).extra;
    const int tokens[] = {1 + extra, 1};
    const double took = 1 + 0.1 * extra;
    budget.measured(2 + extra, tokens, 0, took);
    seconds += took;
    guessed += extra > 0;
    EXPECT_LE(seconds, 1.03 * step);
  }
  EXPECT_GT(guessed, 100);
}

// Guesses that are never right, after a prompt that took as long as many thousands of tokens.
TEST(TreeBudget, ALongPromptLetsAShortTextLoseLittle) {
  TreeBudget budget;
  budget.begin(0);
  budget.read(0, 10000);
  const int slots[] = {0}, tokens[] = {1};
  double seconds = 0, guessed = 0;
  for (int step = 1; step <= 400; ++step) {
    budget.next(slots);
    const double reached[] = {0.9, 0.9, 0.9};
    const int extra = budget.needs_plain() ? 0 : budget.choose(reached).extra;
    const double took = 1 + 0.2 * extra;
    budget.measured(1 + extra, tokens, 0, took);
    seconds += took;
    guessed += extra > 0;
    EXPECT_LE(seconds - step, 0.03 * (step + 64)) << step;
  }
  EXPECT_GT(guessed, 10);
}

// Of a hundred short steps of one text a long one of two bears no more than of ten as long.
TEST(TreeBudget, CountsShortStepsAsShorter) {
  TreeBudget budget;
  const int alone[] = {0}, both[] = {0, 1}, tokens[] = {1, 1};
  const double reached[] = {1, 1};
  budget.begin(0);
  for (int i = 0; i < 100; ++i) {
    budget.next(alone);
    budget.measured(1, tokens, 0, 0.1);
  }
  budget.begin(1);
  budget.read(1, 1000);
  const auto extra = [&](int steps) {
    for (; steps > 0; --steps) {
      budget.next(both);
      budget.measured(2, tokens, 0, 1);
    }
    budget.next(both);
    return budget.choose(reached).extra;
  };
  EXPECT_EQ(extra(1), 0);
  EXPECT_GT(extra(60), 0);
}

// What is remembered of a text fades; what it has lost does not.
TEST(TreeBudget, SaysAllThatGuessesCost) {
  TreeBudget budget;
  const int slots[] = {0}, tokens[] = {1};
  budget.begin(0);
  const auto step = [&](int nodes, double seconds) {
    budget.next(slots);
    budget.measured(nodes, tokens, 0, seconds);
  };
  for (int i = 0; i < 2000; ++i) {
    step(1, 1);
    step(2, 1.5);
  }
  EXPECT_NEAR(budget.lost(), 1000, 10);
  budget.end(0);
  EXPECT_NEAR(budget.lost(), 1000, 10);
}

}  // namespace
}  // namespace linnet

#include "train/schedule.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "train/recipes.h"

namespace linnet::train {
namespace {

struct Case {
  Schedule schedule;
  int64_t step;
  double rate;
};

TEST(Schedule, FollowsItsFormula) {
  const Schedule constant{.decay = RateShape::kConstant, .peak = 2.0, .floor = 0.1, .warmup = 4, .steps = 10};
  const Schedule linear{.decay = RateShape::kLinear, .peak = 2.0, .floor = 0.5, .warmup = 0, .steps = 10};
  const Schedule cosine{.decay = RateShape::kCosine, .peak = 2.0, .floor = 0.1, .warmup = 2, .steps = 8};
  const Case cases[] = {
      {constant, 0, 0.5}, {constant, 1, 1.0}, {constant, 3, 2.0},
      {constant, 9, 2.0}, {linear, 0, 2.0},   {linear, 5, 1.5},
      {linear, 9, 1.1},   {linear, 10, 1.0},  {cosine, 0, 1.0},
      {cosine, 4, 1.1},   {cosine, 8, 0.2},   {cosine, 2, 2.0 * (0.1 + 0.9 * 0.85355339059)},
  };
  for (const Case& c : cases)
    EXPECT_NEAR(c.schedule.at(c.step), c.rate, 1e-9) << name_of(c.schedule.decay) << " step " << c.step;
}

TEST(Schedule, PhasesThatShareADecayGoOnWhereTheEarlierOneEnded) {
  const Schedule whole{.decay = RateShape::kCosine, .peak = 2.0, .floor = 0.1, .warmup = 3, .steps = 10};
  Schedule first = whole, second = whole;
  first.steps = second.before = 6;
  second.steps = first.after = 4;
  for (int64_t step = 0; step < 10; ++step)
    EXPECT_EQ(step < 6 ? first.at(step) : second.at(step - 6), whole.at(step)) << step;
}

TEST(Recipes, RepeatsHoldForEveryPhaseButPretrainingsShortRows) {
  Hyperparameters numbers{.tokens = 100000};
  numbers.long_share = 0.5;
  numbers.repeats = 2;
  const auto of = [](const std::vector<Phase>& phases) {
    std::vector<double> repeats;
    for (const Phase& phase : phases) repeats.push_back(phase.rows.repeats);
    return repeats;
  };
  EXPECT_EQ(of(pretrain_recipe(numbers, {})), (std::vector<double>{0, 2}));
  EXPECT_EQ(of(transfer_recipe(numbers, {}, {})), (std::vector<double>{2, 2, 2}));
  EXPECT_EQ(of(finetune_recipe(numbers, {}, {})), (std::vector<double>{2}));
}

TEST(Schedule, AnUnknownNameIsAnErrorThatListsTheKnown) {
  EXPECT_EQ(decay_of("linear", "--schedule"), RateShape::kLinear);
  try {
    decay_of("step", "--schedule");
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "--schedule: step, expected constant, linear or cosine");
  }
}

}  // namespace
}  // namespace linnet::train

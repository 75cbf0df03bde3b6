#include "base/progress.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace linnet {
namespace {

using testing::HasSubstr;
using testing::Not;

struct Fake {
  double time = 100;
  std::string text;
  Progress::Output output(bool terminal, bool color) {
    return {terminal, color, 10.0, [this](std::string_view more) { text += more; }, [this] { return time; }};
  }
};

TEST(Progress, WritesPlainLinesAtIntervalsWhereThereIsNoTerminal) {
  Fake fake;
  Progress progress("training", "tokens", 1000, 0, fake.output(false, false));
  progress.update(10);
  EXPECT_EQ(fake.text, "");
  fake.time += 10;
  progress.update(250, "loss 3.2");
  EXPECT_EQ(fake.text, "linnet: training: 25% 250/1k tokens, 25 tokens/s, 30s left, loss 3.2\n");
  fake.time += 9;
  progress.update(500);
  progress.finish();
  EXPECT_EQ(std::count(fake.text.begin(), fake.text.end(), '\n'), 1);
}

TEST(Progress, DrawsOneLineOnATerminalWithColourOnlyWhereWanted) {
  for (bool color : {false, true}) {
    Fake fake;
    Progress progress("training", "tokens", 1000, 0, fake.output(true, color));
    for (int i = 1; i <= 5; ++i) {
      fake.time += 1;
      progress.update(100 * i);
    }
    progress.finish();
    EXPECT_THAT(fake.text, HasSubstr("50%"));
    EXPECT_EQ(std::count(fake.text.begin(), fake.text.end(), '\n'), 1);
    if (color) {
      EXPECT_THAT(fake.text, HasSubstr("\x1b["));
    } else {
      EXPECT_THAT(fake.text, Not(HasSubstr("\x1b[")));
    }
  }
}

TEST(Progress, ShowsTheFirstLineWhenItWasAskedFor) {
  for (bool terminal : {false, true}) {
    Fake fake;
    auto output = fake.output(terminal, false);
    output.first = 1.0;
    Progress progress("checking weights", "bytes", 1000, 0, output);
    fake.time += 0.9;
    progress.update(450);
    EXPECT_EQ(fake.text, "");
    fake.time += 0.1;
    progress.update(500);
    EXPECT_THAT(fake.text, HasSubstr("checking weights: "));
    EXPECT_THAT(fake.text, HasSubstr("50% 500/1k bytes, 500 bytes/s, 1s left"));
  }
}

TEST(Progress, TakesItsBarAwayAndDrawsItAnew) {
  Fake fake;
  Progress progress("check", "tokens", 0, 0, fake.output(true, false));
  progress.clear();
  EXPECT_EQ(fake.text, "");  // nothing was drawn
  fake.time += 1;
  progress.update(7);
  const size_t width = fake.text.size() - 1;  // behind the carriage return
  fake.text.clear();
  progress.clear();
  EXPECT_EQ(fake.text, fmt::format("\r{:{}}\r", "", width));
  fake.time += 1;
  progress.update(8);
  EXPECT_THAT(fake.text, HasSubstr("check: 8 tokens"));
}

TEST(Progress, CountsTheRateFromWhereAResumedRunBegan) {
  Fake fake;
  Progress progress("training", "tokens", 1000, 500, fake.output(false, false));
  fake.time += 10;
  progress.update(600);
  EXPECT_THAT(fake.text, HasSubstr("10 tokens/s, 40s left"));
}

TEST(Progress, ShortensNumbersAndTimes) {
  EXPECT_EQ(short_number(999), "999");
  EXPECT_EQ(short_number(1234567), "1.23M");
  EXPECT_EQ(short_time(59.2), "59s");
  EXPECT_EQ(short_time(192), "3m12s");
  EXPECT_EQ(short_time(3900), "1h05m");
}

}  // namespace
}  // namespace linnet

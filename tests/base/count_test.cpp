#include "base/count.h"

#include <gtest/gtest.h>

namespace linnet {
namespace {

TEST(Count, ReadsUnitsExponentsAndFractionsOfUnitsExactly) {
  const struct {
    const char* text;
    int64_t count;
  } rows[] = {
      {"0", 0},
      {"8192", 8192},
      {"007", 7},
      {"1e6", 1'000'000},
      {"1E+6", 1'000'000},
      {"2.5e3", 2500},
      {"2500e-2", 25},
      {"0e999999", 0},
      {"20M", 20'000'000},
      {"20m", 20'000'000},
      {"512K", 512'000},
      {"1.5k", 1500},
      {"3G", 3'000'000'000},
      {"9T", 9'000'000'000'000},
      {"4MB", 4'000'000},
      {"4kb", 4000},
      {"4MiB", 4 << 20},
      {"4Mi", 4 << 20},
      {"1.5KiB", 1536},
      {"12B", 12},
      {"9223372036854775807", INT64_MAX},
  };
  for (const auto& row : rows) EXPECT_EQ(parse_count(row.text), row.count) << row.text;
}

TEST(Count, IsNothingForFractionsNegativesOverflowAndOtherText) {
  for (const char* text : {"",           "-1",     "+1",   "0.5",      "1.5",       "1e-1",
                           "1.0005K",    "0.1KiB", "1e99", "1e999999", "10000000T", "9223372036854775808",
                           "9000000TiB", "nan",    "inf",  "0x10",     "1 K",       " 1",
                           "1 ",         "K",      "1KK",  "1Ki2",     "1e",        "1e+",
                           "1..5",       "1,5",    ".5",   "1P",       "1iB",       "1BB",
                           "1\xC2\xB2"}) {
    EXPECT_EQ(parse_count(text), std::nullopt) << text;
  }
}

TEST(Counted, PutsTheNounIntoThePluralWhereItIsNotOne) {
  EXPECT_EQ(counted(1, "step"), "1 step");
  EXPECT_EQ(counted(0, "step"), "0 steps");
  EXPECT_EQ(counted(2, "matrix", "matrices"), "2 matrices");
  EXPECT_EQ(counted(1, "matrix", "matrices"), "1 matrix");
}

}  // namespace
}  // namespace linnet

#include "train/data.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"

namespace linnet::train {
namespace {

/// Documents of the given lengths; tokens count on through all of them, so each is unique.
TokenizedText text_of(const std::vector<int>& lengths) {
  TokenizedText text;
  for (const int length : lengths) {
    text.starts.push_back(static_cast<int64_t>(text.tokens.size()));
    for (int i = 0; i < length; ++i) text.tokens.push_back(static_cast<int32_t>(text.tokens.size()));
  }
  return text;
}

struct Read {
  std::vector<int32_t> tokens, documents;
};

Read read(const TokenRows& rows, int64_t index) {
  const auto context = static_cast<size_t>(rows.context());
  Read result{.tokens = std::vector<int32_t>(context + 1, -1),
              .documents = std::vector<int32_t>(context, -1)};
  rows.row(index, result.tokens, result.documents);
  return result;
}

TEST(TokenRows, AnEpochHoldsEveryTokenAndRepeatsFewerThanARow) {
  const TokenizedText text = text_of({5, 1, 40, 17, 8, 2, 30});  // 103 tokens
  for (const int64_t context : {2, 8, 16, 103, 150}) {
    const TokenRows rows(text, {.context = context}, 3);
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      std::map<int32_t, int> seen;
      for (int64_t i = 0; i < rows.rows_per_epoch(); ++i) {
        const Read row = read(rows, epoch * rows.rows_per_epoch() + i);
        for (int64_t j = 0; j < context; ++j) ++seen[row.tokens[static_cast<size_t>(j)]];
      }
      EXPECT_EQ(seen.size(), text.tokens.size()) << "context " << context << " epoch " << epoch;
      const int64_t repeated = rows.rows_per_epoch() * context - static_cast<int64_t>(text.tokens.size());
      EXPECT_LT(repeated, context);
    }
  }
}

TEST(TokenRows, ARowIsAFunctionOfSeedAndIndexAlone) {
  const TokenizedText text = text_of({30, 20, 50, 25});
  const TokenRows rows(text, {.context = 10}, 7), again(text, {.context = 10}, 7),
      other(text, {.context = 10}, 8);
  const int64_t count = 3 * rows.rows_per_epoch();
  bool differs = false;
  for (int64_t i = 0; i < count; ++i) {
    EXPECT_EQ(read(rows, i).tokens, read(again, i).tokens);
    differs |= read(rows, i).tokens != read(other, i).tokens;
  }
  EXPECT_TRUE(differs);
  const Read later = read(again, 2 * rows.rows_per_epoch() + 1);  // out of order
  static_cast<void>(read(again, 0));
  EXPECT_EQ(read(again, 2 * rows.rows_per_epoch() + 1).tokens, later.tokens);
}

TEST(TokenRows, EpochsDifferInOrderAndInCuts) {
  const TokenRows rows(text_of({300, 200, 500}), {.context = 10}, 1);
  std::set<int32_t> cuts;
  for (int64_t epoch = 0; epoch < 4; ++epoch)
    cuts.insert(read(rows, epoch * rows.rows_per_epoch()).tokens[0] % 10);
  EXPECT_GT(cuts.size(), 1u);
}

TEST(TokenRows, DocumentsAreNumberedWithinARowAndTheTargetFollows) {
  const TokenizedText text = text_of({7, 4, 9, 3});
  const std::set<int32_t> starts{0, 7, 11, 20};
  const TokenRows rows(text, {.context = 6}, 5);
  for (int64_t i = 0; i < 2 * rows.rows_per_epoch(); ++i) {
    const Read row = read(rows, i);
    EXPECT_EQ(row.documents[0], 0);
    for (size_t j = 1; j < row.tokens.size(); ++j) {
      const bool begins = starts.contains(row.tokens[j]);
      if (!begins) {
        EXPECT_EQ(row.tokens[j], row.tokens[j - 1] + 1) << "row " << i;
      }
      if (j < row.documents.size()) {
        EXPECT_EQ(row.documents[j], row.documents[j - 1] + (begins ? 1 : 0)) << "row " << i;
      }
    }
  }
}

TEST(TokenRows, LongRowsHoldLongDocumentsAlone) {
  const TokenizedText text = text_of({7, 40, 9, 33, 3});  // long ones: tokens 7 … 46 and 56 … 88
  const TokenRows rows(text, {.context = 16, .long_documents = true}, 5);
  EXPECT_EQ(rows.tokens(), 73);
  for (int64_t i = 0; i < rows.rows_per_epoch(); ++i)
    for (const int32_t token : read(rows, i).tokens)
      EXPECT_TRUE((token >= 7 && token < 47) || (token >= 56 && token < 89)) << token;
  // Where no document is that long, all count.
  EXPECT_EQ(TokenRows(text, {.context = 50, .long_documents = true}, 5).tokens(), 92);
}

TEST(TokenRows, RepeatedPassagesStandEarlierInTheirRow) {
  const TokenizedText text = text_of({5000});  // each token once
  const TokenRows rows(text, {.context = 2048, .repeats = 2}, 5), plain(text, {.context = 2048}, 5);
  int64_t most_distance = 0;
  for (int64_t i = 0; i < 6; ++i) {
    const Read row = read(rows, i), untouched = read(plain, i);
    EXPECT_EQ(row.tokens, read(rows, i).tokens);
    int64_t repeated = 0;
    for (size_t j = 0; j < row.tokens.size(); ++j) {
      if (row.tokens[j] == untouched.tokens[j]) continue;
      ++repeated;
      const auto place =
          std::find(untouched.tokens.begin(), untouched.tokens.begin() + static_cast<long>(j), row.tokens[j]);
      const int64_t distance = static_cast<int64_t>(j) - (place - untouched.tokens.begin());
      EXPECT_GT(distance, 0) << "row " << i << " place " << j;
      most_distance = std::max(most_distance, distance);
    }
    EXPECT_GE(repeated, 32);
    EXPECT_LE(repeated, 4 * 128);
  }
  EXPECT_GT(most_distance, 1024);
  // A row too short for two passages stays as it is.
  EXPECT_EQ(read(TokenRows(text, {.context = 40, .repeats = 64}, 5), 0).tokens,
            read(TokenRows(text, {.context = 40}, 5), 0).tokens);
}

TEST(TokenRows, WithoutTextIsAnError) {
  EXPECT_THROW(TokenRows({}, {.context = 8}, 0), Error);
  EXPECT_THROW(TokenRows(text_of({9}), {.context = 1}, 0), Error);
}

}  // namespace
}  // namespace linnet::train

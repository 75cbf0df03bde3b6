#include "evaluate/recall.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "tests/model/random_model.h"

namespace linnet {
namespace {

/// A tokenizer of one token a printable character.
Tokenizer characters() {
  nlohmann::json vocab = {{"Ġ", 0}, {"Ċ", 1}};
  for (char c = '!'; c <= '~'; ++c) vocab[std::string(1, c)] = vocab.size();
  const nlohmann::json json = {
      {"added_tokens", nlohmann::json::array()},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", nlohmann::json::array()}}}};
  return Tokenizer::from_json(json.dump(), "characters");
}

/// −ln p of each token of `tokens` from `first` on, all read anew from the empty state.
std::vector<double> nats_of(Decoder& decoder, const std::vector<int32_t>& tokens, size_t first) {
  const auto width = static_cast<size_t>(decoder.vocabulary());
  std::vector<float> logits((tokens.size() - first) * width);
  decoder.reset(0);
  decoder.prefill(0, std::span(tokens).first(tokens.size() - 1), first - 1,
                  std::span(logits).first((tokens.size() - first) * width));
  std::vector<double> nats;
  for (size_t t = first; t < tokens.size(); ++t) {
    const float* row = logits.data() + (t - first) * width;
    double sum = 0;
    for (size_t i = 0; i < width; ++i) sum += std::exp(static_cast<double>(row[i]));
    nats.push_back(std::log(sum) - static_cast<double>(row[tokens[t]]));
  }
  return nats;
}

double sum_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum;
}

/// The row as docs/recall.md has it, with `end` in the place of its last tokens; `distance` 0: nothing was
/// said before.
std::vector<int32_t> text_of(const RecallRow& row, int64_t distance, const std::vector<int32_t>& end) {
  std::vector<int32_t> tokens(row.tokens.begin(),
                              row.tokens.end() - static_cast<ptrdiff_t>(row.passage.size()));
  if (distance > 0) {
    const auto place = tokens.end() - static_cast<ptrdiff_t>(distance);
    std::copy(row.passage.begin(), row.passage.end(), place);
    std::copy(row.needle.statement.begin(), row.needle.statement.end(),
              place - static_cast<ptrdiff_t>(row.needle.statement.size()));
  }
  tokens.insert(tokens.end(), end.begin(), end.end());
  return tokens;
}

class Recall : public testing::Test {
 protected:
  static constexpr int64_t kInputs = 640;

  Recall() {
    for (uint64_t seed : {1, 2}) documents_.push_back(random_tokens(3 * kInputs + 1, 20, seed));
    rows_ = make_recall_rows(documents_, characters(), kInputs, how_.passage, 3, 7);
  }

  std::vector<std::vector<int32_t>> documents_;
  RecallOptions how_{.passage = 16, .distances = {16, 100, 400}};
  std::vector<RecallRow> rows_;
  ThreadPool pool_{2};
};

TEST_F(Recall, IsTheDefinitionsForEveryDistanceNeedleAndPair) {
  const nlohmann::json attentions[] = {
      nullptr, {{"method", "relu"}, {"group", 8}, {"local", "softmax"}, {"alpha", 0.5}}};
  for (const auto& attention : attentions) {
    const TemporaryModel model({.layers = 2, .vocabulary = 97, .positions = 1024, .attention = attention});
    const auto decoder =
        Decoder::make(model.get(), {.compute = ComputeType::kFloat32, .slots = RecallMeter::kSlots}, pool_);
    RecallMeter meter(*decoder, decoder->vocabulary(), how_, pool_);
    for (const RecallRow& row : rows_) ASSERT_TRUE(meter.add(row));
    for (size_t r = 0; r < rows_.size(); ++r) {
      const RecallRow& row = rows_[r];
      const RecallScores& scores = meter.rows()[r];
      const size_t end = row.tokens.size() - row.passage.size();
      for (size_t d = 0; d <= how_.distances.size(); ++d) {
        const int64_t distance = d > 0 ? how_.distances[d - 1] : 0;
        const double passage = sum_of(nats_of(*decoder, text_of(row, distance, row.passage), end + 4)) / 12;
        EXPECT_NEAR(d > 0 ? scores.again[d - 1] : scores.first, passage, 1e-4) << distance;
        std::vector<int32_t> asked = row.needle.question;
        asked.insert(asked.end(), row.needle.answer.begin(), row.needle.answer.end());
        const double answer =
            sum_of(nats_of(*decoder, text_of(row, distance, asked), end + row.needle.question.size()));
        EXPECT_NEAR(d > 0 ? scores.asked[d - 1].nats : scores.never.nats, answer, 1e-3) << distance;
      }
      // Far pairs: by looking back from each token.
      const std::vector<double> all = nats_of(*decoder, row.tokens, 1);
      double nats = 0;
      int64_t count = 0;
      for (size_t t = kInputs / 2 + 1; t <= end; ++t) {
        size_t before = t - 1;
        while (before > 0 &&
               (row.tokens[before] != row.tokens[t] || row.tokens[before - 1] != row.tokens[t - 1]))
          --before;
        if (before == 0 || t - before <= 256) continue;
        nats += all[t - 1];
        ++count;
      }
      EXPECT_GT(count, 0);
      EXPECT_EQ(scores.far_tokens[0], count);
      EXPECT_NEAR(scores.far_nats[0], nats, 1e-2);
    }
  }
}

TEST_F(Recall, DrawsRowsAndPassagesBySeedAlone) {
  const auto again = make_recall_rows(documents_, characters(), kInputs, how_.passage, 3, 7);
  const auto other = make_recall_rows(documents_, characters(), kInputs, how_.passage, 3, 8);
  ASSERT_EQ(rows_.size(), 3u);
  bool differ = false;
  for (size_t r = 0; r < rows_.size(); ++r) {
    EXPECT_EQ(again[r].tokens, rows_[r].tokens);
    EXPECT_EQ(again[r].passage, rows_[r].passage);
    EXPECT_EQ(again[r].needle.answer, rows_[r].needle.answer);
    differ |= other[r].passage != rows_[r].passage;
    // No passage stands in its own row.
    EXPECT_EQ(std::search(rows_[r].tokens.begin(), rows_[r].tokens.end(), rows_[r].passage.begin(),
                          rows_[r].passage.end()),
              rows_[r].tokens.end());
  }
  EXPECT_TRUE(differ);
}

TEST_F(Recall, AsksForWhatTheNeedleSaid) {
  const Tokenizer tokenizer = characters();
  for (const RecallRow& row : rows_) {
    const std::string said = tokenizer.decode(row.needle.statement);
    EXPECT_EQ(said, tokenizer.decode(row.needle.question) + tokenizer.decode(row.needle.answer) + ".\n");
    EXPECT_EQ(row.needle.answer.size(), 6u) << "a space and five digits";
  }
}

TEST(WindowAlone, HoldsNoMoreThanTheModelAndAsManyTokensAsFit) {
  ThreadPool pool(1);
  const TemporaryModel model({.attention = {{"method", "relu"},
                                            {"group", 8},
                                            {"local", "softmax"},
                                            {"alpha", 0.5},
                                            {"layers", {{"0", {{"method", "softmax"}, {"window", 9}}}}}}});
  const auto alone = window_alone(*model.get());
  EXPECT_EQ(alone->attention()[0], model.get()->attention()[0]) << "softmax stays";
  const auto numbers = [&](const Model& of) {
    return state_layout(of.attention()[1], of.attention_shape()).numbers;
  };
  EXPECT_TRUE(alone->attention()[1].local_alone());
  const int64_t group = 2 * 8 * (8 + 8);  // numbers of a group of both key-value heads
  EXPECT_LE(numbers(*alone), numbers(*model.get()));
  EXPECT_GT(numbers(*alone) + group, numbers(*model.get()));
}

}  // namespace
}  // namespace linnet

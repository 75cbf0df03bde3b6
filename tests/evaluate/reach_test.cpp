#include "evaluate/reach.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "attention/softmax.h"
#include "base/error.h"
#include "tests/model/random_model.h"

namespace linnet {
namespace {

constexpr int64_t kInputs = 120, kNear = 10, kSinks = 2, kVocabulary = 61;

/// Softmax by its definition, of rows that are read at once: from token `from` on key-value head `head` sees
/// its last `window` tokens and the sinks alone.
class SlowHeads final : public Attention<float> {
 public:
  struct Limit {
    int64_t from = kInputs;
    int head = 0;
    int64_t window = 0;
  };
  SlowHeads(const AttentionShape& shape, Limit limit) : shape_(shape), limit_(limit) {}

  StateLayout layout() const override { return {}; }
  std::unique_ptr<State<float>> make_state() const override {
    return make_softmax<float>({}, shape_)->make_state();
  }
  void attend(const State<float>&, const TokenTree&, const Rows<float>&, HeadRows<float>,
              ThreadPool&) const override {}
  void commit(State<float>&, std::span<const int32_t>, const Rows<float>&, ThreadPool&) const override {}
  void encode(const Rows<float>&, HeadRows<float>, ThreadPool&) const override {}
  std::unique_ptr<Memory<float>> summarize(const Rows<float>&, ThreadPool&) const override { return nullptr; }
  void read_memory(const Memory<float>&, const Rows<float>&, HeadRows<float>, ThreadPool&) const override {}
  std::unique_ptr<Memory<float>> load_memory(int64_t, std::span<const std::byte>&) const override {
    return nullptr;
  }

  void prefill(State<float>&, const Rows<float>& rows, HeadRows<float> out, ThreadPool&) const override {
    for (int head = 0; head < shape_.heads; ++head) {
      const int kv_head = head / (shape_.heads / shape_.kv_heads);
      for (int64_t t = 0; t < rows.count; ++t) {
        std::vector<double> sum(static_cast<size_t>(shape_.value_size));
        double all = 0;
        for (int64_t s = 0; s <= t; ++s) {
          const bool limited = t >= limit_.from && kv_head == limit_.head;
          if (limited && t - s >= limit_.window && s >= kSinks) continue;
          double score = 0;
          for (int x = 0; x < shape_.head_size; ++x)
            score +=
                static_cast<double>(rows.q.row(head, t)[x]) * static_cast<double>(rows.k.row(kv_head, s)[x]);
          const double weight = std::exp(score / std::sqrt(shape_.head_size));
          all += weight;
          for (size_t x = 0; x < sum.size(); ++x)
            sum[x] += weight * static_cast<double>(rows.v.row(kv_head, s)[x]);
        }
        for (size_t x = 0; x < sum.size(); ++x) out.row(head, t)[x] = static_cast<float>(sum[x] / all);
      }
    }
  }

 private:
  AttentionShape shape_;
  Limit limit_;
};

/// Natural logarithms of what a model predicts after each input, one layer limited.
std::vector<double> log_probabilities(const std::shared_ptr<const Model>& model,
                                      const std::vector<int32_t>& tokens, int layer, SlowHeads::Limit limit,
                                      ThreadPool& pool) {
  int made = 0;
  const auto decoder =
      Decoder::make(model, {.compute = ComputeType::kFloat32}, pool,
                    [&](const AttentionConfig&, const AttentionShape& shape, auto&&...) {
                      return std::make_unique<SlowHeads>(shape, made++ == layer ? limit : SlowHeads::Limit{});
                    });
  std::vector<float> logits(kInputs * kVocabulary);
  decoder->prefill(0, std::span(tokens).first(kInputs), 0, logits);
  std::vector<double> out(logits.begin(), logits.end());
  for (size_t t = 0; t < kInputs; ++t) {
    double sum = 0;
    for (size_t i = 0; i < kVocabulary; ++i) sum += std::exp(out[t * kVocabulary + i]);
    for (size_t i = 0; i < kVocabulary; ++i) out[t * kVocabulary + i] -= std::log(sum);
  }
  return out;
}

/// Sums of `number(t)`, of token t, over what is scored of a row; of `in_fact(t)` over its text.
using NumberOf = std::function<double(size_t)>;
ReachSums sums_of(const std::vector<int32_t>& tokens, int64_t tail, const NumberOf& number,
                  const NumberOf& in_fact) {
  ReachSums sums{};
  for (auto t = static_cast<size_t>(kInputs - tail + 1); t < tokens.size(); ++t) {
    if (t + 6 >= tokens.size()) sums[kPassage] += number(t);
    if (t + 8 >= tokens.size()) continue;
    sums[kText] += number(t);
    sums[kTextInFact] += in_fact(t);
    size_t earlier = t - 1;
    while (earlier > 0 && (tokens[earlier] != tokens[t] || tokens[earlier - 1] != tokens[t - 1])) --earlier;
    if (earlier > 0 && t - earlier > kNear) sums[kFarPairs] += number(t);
  }
  return sums;
}

void expect_near(const ReachSums& sums, const ReachSums& expected) {
  for (size_t part = 0; part < kReachParts; ++part) EXPECT_NEAR(sums[part], expected[part], 2e-4) << part;
}

// Pairs and passages are found by looking back from each token.
TEST(Reach, IsTheDefinitionsForEveryHeadAndWindow) {
  const TemporaryModel model({.layers = 2, .vocabulary = kVocabulary, .positions = 256});
  ThreadPool pool(2);
  std::vector<RecallRow> texts;
  for (uint64_t seed : {1, 2})
    texts.push_back(
        {.tokens = random_tokens(kInputs + 1, 12, seed), .passage = random_tokens(8, 12, seed + 9)});
  const std::vector<ReachRow> rows = make_reach_rows(texts, kNear);
  for (const int64_t tail : {int64_t{60}, kInputs}) {
    const ReachOptions options{
        .windows = {5, 70}, .sinks = kSinks, .near = kNear, .tail = tail, .compute = ComputeType::kFloat32};
    double told = 0;
    const Reach reach = measure_reach(model.get(), rows, options, pool, [&](double more) {
      told += more;
      return true;
    });
    EXPECT_NEAR(told, reach_passes(*model.get(), rows, options), 1e-6);
    ASSERT_EQ(reach.nats.size(), rows.size());
    for (size_t r = 0; r < rows.size(); ++r) {
      const std::vector<int32_t>& tokens = rows[r].tokens;
      const auto whole = log_probabilities(model.get(), tokens, -1, {}, pool);
      const auto at = [&](size_t t) { return (t - 1) * kVocabulary; };
      const auto one = [](size_t) { return 1; };
      const auto nats_of = [&](const std::vector<double>& logs) {
        return [&](size_t t) { return -logs[at(t) + static_cast<size_t>(tokens[t])]; };
      };
      expect_near(reach.tokens[r], sums_of(tokens, tail, one, one));
      expect_near(reach.nats[r], sums_of(tokens, tail, nats_of(whole), nats_of(whole)));
      for (int unit = 0; unit < 8; ++unit) {
        const int layer = unit / 4, head = unit / 2 % 2;
        const size_t window = static_cast<size_t>(unit % 2);
        const auto limited = log_probabilities(model.get(), tokens, layer,
                                               {kInputs - tail, head, options.windows[window]}, pool);
        const auto divergence = [&](size_t t) {
          double sum = 0;
          for (size_t i = at(t); i < at(t) + kVocabulary; ++i)
            sum += std::exp(whole[i]) * (whole[i] - limited[i]);
          return sum;
        };
        ReachSums expected = sums_of(tokens, tail, divergence, nats_of(limited));
        expected[kTextInFact] -= reach.nats[r][kTextInFact];
        EXPECT_GT(expected[kText], expected[kFarPairs]);
        EXPECT_GT(expected[kFarPairs], 0);
        expect_near(reach.limited(layer, head, window)[r], expected);
      }
    }
  }
}

TEST(Reach, TriesNoWiderWindowOfAHeadThatLosesNothingMuch) {
  const TemporaryModel model({.layers = 2, .vocabulary = kVocabulary, .positions = 256});
  ThreadPool pool(2);
  const std::vector<ReachRow> rows = make_reach_rows(
      {{.tokens = random_tokens(kInputs + 1, 12, 1), .passage = random_tokens(8, 12, 9)}}, kNear);
  ReachOptions options{.windows = {5, 70}, .near = kNear, .tail = 60};
  const Reach all = measure_reach(model.get(), rows, options, pool);
  options.negligible = all.loss(0, 1, 0);
  double told = 0;
  const Reach some = measure_reach(model.get(), rows, options, pool, [&](double more) {
    told += more;
    return true;
  });
  EXPECT_NEAR(told, reach_passes(*model.get(), rows, options), 1e-6);
  for (int unit = 0; unit < 4; ++unit) {
    const int layer = unit / 2, head = unit % 2;
    const bool stops = all.loss(layer, head, 0) <= options.negligible;
    EXPECT_EQ(some.loss(layer, head, 0), all.loss(layer, head, 0));
    EXPECT_EQ(some.loss(layer, head, 1), stops ? 0 : all.loss(layer, head, 1));
  }
}

TEST(Reach, PutsPassagesFartherThanNearAndWithinTheRow) {
  std::vector<RecallRow> texts(5);
  for (size_t r = 0; r < texts.size(); ++r)
    texts[r] = {.tokens = std::vector<int32_t>(1001, 0), .passage = std::vector<int32_t>(16, 1)};
  std::vector<size_t> distances;
  for (const ReachRow& row : make_reach_rows(texts, 50)) {
    const auto first = std::find(row.tokens.begin(), row.tokens.end(), 1) - row.tokens.begin();
    distances.push_back(1001 - 16 - static_cast<size_t>(first));
  }
  EXPECT_EQ(distances, std::vector<size_t>({68, 123, 222, 403, 731}));
}

TEST(Reach, IsOfSoftmaxModelsAlone) {
  const TemporaryModel model({.attention = {{"method", "relu"}, {"group", 8}}});
  ThreadPool pool(1);
  EXPECT_THROW(measure_reach(model.get(), {}, {}, pool), Error);
}

}  // namespace
}  // namespace linnet

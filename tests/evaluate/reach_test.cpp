#include "evaluate/reach.h"

#include <gtest/gtest.h>

#include <cmath>

#include "attention/softmax.h"
#include "base/error.h"
#include "tests/model/random_model.h"

namespace linnet {
namespace {

/// A reach of one head a layer whose layers lose `losses` nats of 100 tokens of far pairs.
Reach reach_of(const std::vector<double>& losses) {
  Reach reach{
      .layers = static_cast<int>(losses.size()), .heads = 1, .far_tokens = {100}, .passage_tokens = {0}};
  reach.whole = {{.far_nats = 350}};
  for (const double loss : losses) {
    for (int unit = 0; unit < 2; ++unit) reach.limited_.push_back({{.far_nats = 350 + loss}});
  }
  return reach;
}

TEST(FarLayers, AreTheFewestThatHoldTheShareOfTheLoss) {
  const Reach reach = reach_of({1, 0, -2, 0, 3, 0, 6});  // a gain is noise, and counts as none
  EXPECT_EQ(far_layers(reach, 0.6), std::vector<int>({6}));
  EXPECT_EQ(far_layers(reach, 0.75), std::vector<int>({4, 6}));
  EXPECT_EQ(far_layers(reach, 1.0), std::vector<int>({0, 4, 6}));
  EXPECT_EQ(ranked_heads(reach)[1], (HeadPlace{4, 0}));
}

TEST(FarLayers, AreNoneWhereNothingIsLost) { EXPECT_TRUE(far_layers(reach_of({0, -1}), 0.75).empty()); }

/// A decoder of the model in which some key-value heads of one layer see `near` tokens.
std::unique_ptr<Decoder> limited_decoder(const std::shared_ptr<const Model>& model, int layer,
                                         const std::vector<int64_t>& windows, ThreadPool& pool) {
  int made = 0;
  return Decoder::make(model, {.compute = ComputeType::kFloat32}, pool,
                       [&](const AttentionConfig& config, const AttentionShape& shape,
                           const ParameterTensors&, const Rotation*, const std::string&) {
                         return made++ == layer ? make_windowed_heads<float>(windows, shape)
                                                : make_softmax<float>(config, shape);
                       });
}

// Each row's beginning read by the whole model, its tail by one that is limited: pairs and passages found by
// looking back from each token.
TEST(Reach, IsTheDefinitionsForEveryHeadAndLayer) {
  constexpr int64_t kInputs = 120, kNear = 10;
  const TemporaryModel model({.layers = 2, .vocabulary = 61, .positions = 256});
  ThreadPool pool(2);
  std::vector<ReachRow> rows;
  for (uint64_t seed : {1, 2}) {
    RecallRow row{.tokens = random_tokens(kInputs + 1, 12, seed), .passage = random_tokens(8, 12, seed + 9)};
    rows.push_back(make_reach_rows({row}, kNear).front());
  }
  for (const int64_t tail : {int64_t{60}, kInputs}) {
    const ReachOptions options{.near = kNear, .tail = tail, .compute = ComputeType::kFloat32};
    double told = 0;
    const Reach reach = measure_reach(model.get(), rows, options, pool, [&](double more) {
      told += more;
      return true;
    });
    EXPECT_NEAR(told, reach_passes(*model.get(), rows, options), 1e-6);
    ASSERT_EQ(reach.whole.size(), rows.size());
    const auto exact = limited_decoder(model.get(), -1, {}, pool);
    const size_t before = static_cast<size_t>(kInputs - tail), width = 61;
    for (int layer = 0; layer < 2; ++layer) {
      for (int head = 0; head <= 2; ++head) {
        std::vector<int64_t> windows = {kNear, kNear};
        if (head < 2) windows[static_cast<size_t>(1 - head)] = 0;
        const auto limited = limited_decoder(model.get(), layer, windows, pool);
        for (size_t r = 0; r < rows.size(); ++r) {
          const std::vector<int32_t>& tokens = rows[r].tokens;
          exact->reset(0);
          limited->reset(0);
          std::vector<float> logits(static_cast<size_t>(tail) * width);
          if (head < 2) {  // of all heads at once the state is another's: a window's
            exact->prefill(0, std::span(tokens).first(before), before, {});
            limited->load(0, exact->save(0));
          } else if (before > 0) {
            continue;
          }
          limited->prefill(0, std::span(tokens).subspan(before, static_cast<size_t>(tail)), 0, logits);
          ReachScores expected;
          for (size_t t = before + 1; t < tokens.size(); ++t) {
            const float* row = logits.data() + (t - 1 - before) * width;
            double sum = 0;
            for (size_t i = 0; i < width; ++i) sum += std::exp(static_cast<double>(row[i]));
            const double nats = std::log(sum) - static_cast<double>(row[tokens[t]]);
            if (t + 6 >= tokens.size()) expected.passage_nats += nats;
            size_t earlier = t - 1;
            while (earlier > 0 && (tokens[earlier] != tokens[t] || tokens[earlier - 1] != tokens[t - 1]))
              --earlier;
            if (t + 8 < tokens.size() && earlier > 0 && t - earlier > kNear) expected.far_nats += nats;
          }
          EXPECT_GT(expected.far_nats, 0);
          EXPECT_NEAR(reach.limited(layer, head)[r].far_nats, expected.far_nats, 1e-3);
          EXPECT_NEAR(reach.limited(layer, head)[r].passage_nats, expected.passage_nats, 1e-3);
          EXPECT_NE(reach.limited(layer, head)[r].far_nats, reach.whole[r].far_nats);
        }
      }
    }
  }
}

TEST(Reach, IsOfSoftmaxModelsAlone) {
  const TemporaryModel model({.attention = {{"method", "relu"}, {"group", 8}}});
  ThreadPool pool(1);
  EXPECT_THROW(measure_reach(model.get(), {}, {}, pool), Error);
}

}  // namespace
}  // namespace linnet

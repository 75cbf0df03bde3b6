#include "attention/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "attention/method.h"
#include "attention/presets.h"
#include "base/error.h"
#include "tests/attention/options.h"

namespace linnet {
namespace {

using nlohmann::json;
using testing::HasSubstr;

AttentionConfig parse(const char* text) { return parse_layer_attention(json::parse(text), "f"); }

std::string error_of(const std::string& text) {
  try {
    parse_attention(json::parse(text), 4, "f");
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(AttentionConfig, AKeyThatIsAbsentOrNullTakesTheRowsOwnValue) {
  const AttentionConfig absent = parse(R"({"method": "grouped"})");
  EXPECT_EQ(absent, parse(R"({"method": "grouped", "group": null, "local_groups": null, "sinks": null,
      "local": null, "alpha": null, "gate": null, "decay": null, "denominator": null,
      "feature_position": null, "taps": null})"));
  EXPECT_EQ(absent.group, 64);
  EXPECT_EQ(absent.local_groups, PerHead(4));
  EXPECT_EQ(absent.kept, PerHead(0));
  EXPECT_EQ(absent.sinks, 4);
  EXPECT_EQ(absent.local, LocalWeight::kSoftmax);
  EXPECT_TRUE(absent.alpha_learned && absent.gate && absent.decay_learned);
  EXPECT_EQ(absent.feature_position, FeaturePosition::kNone);
  EXPECT_EQ(absent.taps, 4);

  const AttentionConfig relu = parse(R"({"method": "relu"})");
  EXPECT_EQ(relu.group, 64);
  EXPECT_EQ(relu.local, LocalWeight::kNone);
  EXPECT_FALSE(relu.alpha_learned || relu.gate || relu.decay_learned);
  EXPECT_EQ(relu.taps, 0);
  EXPECT_EQ(parse(R"({"method": "relu", "local": "yoso"})").option("bits"), 8);
}

TEST(AttentionConfig, AlphaIsLearnedOnceThereAreALocalBranchAndASummary) {
  EXPECT_TRUE(parse(R"({"method": "relu", "local": "softmax"})").alpha_learned);
  EXPECT_FALSE(parse(R"({"method": "relu"})").alpha_learned);
  EXPECT_FALSE(parse(R"({"method": "relu", "alpha": "learned"})").alpha_learned);
}

TEST(AttentionConfig, ANumberForAlphaMakesGatesDefaultFalse) {
  const AttentionConfig window = parse(R"({"method": "grouped", "alpha": 0.5, "decay": 1})");
  EXPECT_FALSE(window.gate || window.alpha_learned || window.decay_learned);
  EXPECT_EQ(window.alpha, 0.5);
  EXPECT_EQ(window.decay, 1.0);
  EXPECT_EQ(window.local_groups, PerHead(4));
}

TEST(AttentionConfig, AnAlphaOf1IsTheLocalBranchAloneForWhichNoSummaryIsLearned) {
  const AttentionConfig alone = parse(R"({"method": "grouped", "alpha": 1})");
  EXPECT_TRUE(alone.local_alone());
  EXPECT_FALSE(alone.gate || alone.decay_learned);
  EXPECT_EQ(alone, parse(R"({"method": "grouped", "alpha": 1, "decay": 0.5, "feature_position": "rotary"})"));
  const AttentionShape shape{.heads = 6, .kv_heads = 2, .head_size = 8, .value_size = 8};
  const auto specs = parameter_specs(alone, shape);
  ASSERT_EQ(specs.size(), 1u);
  EXPECT_EQ(specs[0].name, "taps");
  EXPECT_FALSE(parse(R"({"method": "grouped", "alpha": 0})").local_alone());
}

TEST(AttentionConfig, LayersChangeOnlyTheKeysTheyNameUnlessTheyNameAMethod) {
  const auto layers = parse_attention(json::parse(R"({"method": "grouped", "group": 32, "layers": {
      "0": {"method": "softmax", "window": 100}, "2": {"taps": 0, "group": 16}}})"),
                                      3, "f");
  EXPECT_EQ(layers[0].name(), "softmax");
  EXPECT_EQ(layers[0].window, 100);
  EXPECT_EQ(layers[0].group, AttentionConfig{}.group);
  EXPECT_EQ(layers[1].group, 32);
  EXPECT_EQ(layers[2].group, 16);
  EXPECT_EQ(layers[2].taps, 0);
  EXPECT_EQ(layers[2].local_groups, PerHead(4));
  EXPECT_EQ(parse_attention(nullptr, 3, "f"), std::vector<AttentionConfig>(3));
}

TEST(AttentionConfig, ALayerThatChangesItsLocalBranchKeepsNothingThatTheOldOneAloneHadUseFor) {
  const auto layers =
      parse_attention(json::parse(R"({"method": "relu", "local": "yoso", "bits": 3, "layers": {
      "0": {"local": "softmax"}, "1": {"taps": 2}, "2": {"local": "yoso"}, "3": {"local": "yoso", "bits": 5}}})"),
                      4, "f");
  EXPECT_EQ(layers[0].local, LocalWeight::kSoftmax);
  EXPECT_FALSE(layers[0].options.contains("bits"));
  EXPECT_EQ(layers[1].option("bits"), 3);
  EXPECT_EQ(layers[2].option("bits"), 3);
  EXPECT_EQ(layers[3].option("bits"), 5);
  EXPECT_THAT(error_of(R"({"method": "relu", "layers": {"0": {"local": "softmax", "bits": 3}}})"),
              HasSubstr("layers.0: key \"bits\" of yoso with relu"));
}

TEST(AttentionConfig, ABudgetIsANumberOrOnePerKeyValueHead) {
  const AttentionConfig config =
      parse(R"({"method": "grouped", "group": 8, "local_groups": [2, 3, 2], "kept": [7, 0, 7]})");
  EXPECT_TRUE(config.local_groups.is_array());
  EXPECT_EQ(config.local_groups.of(1), 3);
  EXPECT_EQ(config.kept.of(1), 0);
  EXPECT_EQ(config.of_head(0), parse(R"({"method": "grouped", "group": 8, "local_groups": 2, "kept": 7})"));
  const auto classes = budget_classes(config, 3);
  ASSERT_EQ(classes.size(), 2u);
  EXPECT_EQ(classes[0].config, config.of_head(0));
  EXPECT_EQ(classes[0].kv_heads, (std::vector<int>{0, 2}));
  EXPECT_EQ(classes[1].config, config.of_head(1));
  EXPECT_EQ(classes[1].kv_heads, std::vector<int>{1});
  EXPECT_EQ(budget_classes(parse(R"({"method": "grouped", "kept": 3})"), 4).size(), 1u);
  EXPECT_EQ(
      parse(R"({"method": "relu", "local": "softmax", "group": 1, "local_groups": 65536})").local_groups,
      PerHead(65536));
}

TEST(AttentionConfig, AnArrayOfAnotherLengthIsRefusedWithTheNumberOfHeads) {
  const auto error_with = [](const char* text, int heads) -> std::string {
    try {
      check_heads(parse(text), heads, "f");
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  };
  const char* groups = R"({"method": "grouped", "local_groups": [2, 3]})";
  EXPECT_EQ(error_with(groups, 2), "");
  EXPECT_EQ(error_with(R"({"method": "grouped", "kept": 3})", 5), "");
  EXPECT_THAT(error_with(groups, 3),
              HasSubstr("f: local_groups: an array of 2, expected one number, or 3: one per key-value head"));
  EXPECT_THAT(error_with(R"({"method": "grouped", "kept": [3]})", 2), HasSubstr("f: kept: an array of 1"));
}

TEST(AttentionConfig, KeptTokensAreWrittenOnlyWhereThereAreSome) {
  const auto written = [](const char* text) { return to_json(std::vector{parse(text)}); };
  EXPECT_FALSE(written(R"({"method": "grouped"})").contains("kept"));
  EXPECT_EQ(written(R"({"method": "grouped", "kept": [0, 5]})")["kept"], json({0, 5}));
  EXPECT_EQ(written(R"({"method": "grouped", "local_groups": [2, 5]})")["local_groups"], json({2, 5}));
  EXPECT_FALSE(written(R"({"method": "grouped", "kept": 5})").contains("keep"));
  EXPECT_EQ(written(R"({"method": "grouped", "kept": 5, "keep": "random"})")["keep"], "random");
  EXPECT_FALSE(written(R"({"method": "grouped", "keep": "random"})").contains("keep"));  // none are kept
}

TEST(AttentionConfig, WhatIsWrongIsNamed) {
  const std::pair<const char*, const char*> rows[] = {
      {"[]", "f: linear_attention: array, expected an object"},
      {"{}", "linear_attention.method: absent, expected a method's name"},
      {R"({"method": "groupd"})", "unknown method \"groupd\", expected one of softmax"},
      {R"({"method": "groupd"})", "did you mean grouped?"},
      {R"({"method": "grouped", "tap": 4})", "unknown key \"tap\", expected one of method"},
      {R"({"method": "grouped", "tap": 4})", "did you mean taps?"},
      {R"({"method": "grouped", "window": 4})", "unknown key \"window\""},
      {R"({"method": "grouped", "group": 0})",
       "linear_attention.group: 0, expected a whole number from 1 to 4096"},
      {R"({"method": "grouped", "group": 64.0})", "group: 64.0"},
      {R"({"method": "grouped", "group": 18446744073709551615})", "group: 18446744073709551615"},
      {R"({"method": "grouped", "local_groups": 1025})",
       "local_groups: 1025, expected a whole number from 1 to 1024, or an array of one per key-value head"},
      {R"({"method": "grouped", "group": 4096, "local_groups": [2, 17]})", "local_groups: [2,17]"},
      {R"({"method": "grouped", "local_groups": []})", "local_groups: []"},
      {R"({"method": "grouped", "local_groups": [2, 2.5]})", "local_groups: [2,2.5]"},
      {R"({"method": "grouped", "local_groups": [[2]]})", "local_groups: [[2]]"},
      {R"({"method": "grouped", "kept": 65537})", "kept: 65537, expected a whole number from 0 to 65536"},
      {R"({"method": "grouped", "kept": [1, -1]})", "kept: [1,-1]"},
      {R"({"method": "grouped", "kept": [1, 2], "local_groups": [2, 2, 2]})",
       "kept: 2 numbers beside 3 of local_groups"},
      {R"({"method": "relu", "kept": 1})", "kept: kept tokens without a softmax local branch"},
      {R"({"method": "relu", "kept": 1, "local": "relu2", "local_groups": 2})",
       "kept: kept tokens without a softmax local branch"},
      {R"({"method": "relu", "kept": 1, "local": "softmax"})",
       "kept: kept tokens beside a local branch of one group, expected local_groups of at least 2"},
      {R"({"method": "grouped", "kept": [0, 1], "local_groups": [2, 1]})",
       "kept: kept tokens beside a local branch of one group"},
      {R"({"method": "grouped", "kept": 1, "denominator": "shared"})",
       "kept: kept tokens with a shared denominator"},
      {R"({"method": "linformer", "kept": 1, "local": "softmax", "local_groups": 2})",
       "kept: kept tokens with linformer"},
      {R"({"method": "flash_global", "kept": 1, "local": "softmax", "local_groups": 2})",
       "kept: kept tokens with flash_global"},
      {R"({"method": "transnormer_t2_diagonal", "kept": 1, "local_groups": 2})",
       "kept: kept tokens with transnormer_t2_diagonal"},
      {R"({"method": "grouped", "kept": 1, "alpha": 1})",
       "kept: kept tokens with an alpha that leaves nothing of the summary"},
      {R"({"method": "grouped", "taps": 65})", "taps: 65"},
      {R"({"method": "grouped", "group": 16, "sinks": 17})", "sinks: 17 of a group of 16"},
      {R"({"method": "grouped", "local": "softmx"})", "did you mean softmax?"},
      {R"({"method": "grouped", "local": 3})", "local: 3"},
      {R"({"method": "grouped", "alpha": 1.5})", "alpha: 1.5, expected \"learned\" or a number in [0, 1]"},
      {R"({"method": "grouped", "decay": 0})", "decay: 0, expected \"learned\" or a number in (0, 1]"},
      {R"({"method": "grouped", "gate": 1})", "gate: 1, expected true or false"},
      {R"({"method": "grouped", "gate": true, "alpha": 0.5})", "gate: true with a number for alpha"},
      {R"({"method": "relu", "alpha": 0.5})", "alpha: a number without a local branch"},
      {R"({"method": "relu", "gate": true})", "gate: true without a local branch"},
      {R"({"method": "relu", "decay": 0.5})",
       "decay: a decay without a local branch, expected a local branch beside it (key `local`: any)"},
      {R"({"method": "relu", "sinks": 1})", "sinks: sinks without a local branch"},
      {R"({"method": "relu", "denominator": "shared"})",
       "denominator: shared without a local branch, expected a local branch beside it (key `local`: "
       "softmax)"},
      {R"({"method": "relu", "local": "relu2", "denominator": "shared"})",
       "denominator: shared with a local branch of relu2, expected a local branch beside it"},
      {R"({"method": "softmax", "local": "softmax"})",
       "key \"local\" of linear attention with softmax, expected one of method, window"},
      {R"({"method": "softmax", "group": 4})", "key \"group\" of linear attention with softmax"},
      {R"({"method": "softmax", "kept": 4})", "key \"kept\" of linear attention with softmax"},
      {R"({"method": "softmax", "gate": false})", "key \"gate\" of linear attention with softmax"},
      {R"({"method": "softmax", "slots": 4})", "key \"slots\" of linformer with softmax"},
      {R"({"method": "linformer", "denominator": "shared"})",
       "denominator: shared with linformer, without a local branch, expected one of relu, elu1, "},
      {R"({"method": "linformer", "denominator": "shared"})",
       "; and a local branch beside it (key `local`: softmax)"},  // after all rows that have features
      {R"({"method": "yoso", "decay": 0.5, "local": "softmax"})",
       "decay: a decay with yoso, expected one of relu, "},
      {R"({"method": "flash_global", "denominator": "shared", "local": "laplace"})",
       "denominator: shared with flash_global, with a local branch of laplace, expected one of relu, "},
      {R"({"method": "flash_local", "alpha": 0.5})",
       "alpha: a number with flash_local, which has no summary"},
      {R"({"method": "flash_local", "gate": true})", "gate: true with flash_local, which has no summary"},
      {R"({"method": "flash_local", "decay": 0.5})", "decay: a decay with flash_local"},
      {R"({"method": "softmax", "taps": 4})", "key \"taps\" of linear attention with softmax"},
      {R"({"method": "performer", "features": 65537})",
       "features: 65537, expected a whole number from 0 to 65536"},
      {R"({"method": "performer_relu", "features": -1})", "features: -1, expected a whole number from 0"},
      {R"({"method": "t2r", "features": 16})",
       "key \"features\" of performer, performer_relu with t2r, expected one of method"},
      {R"({"method": "t2r", "bits": 3})", "key \"bits\" of yoso with t2r"},
      {R"({"method": "transnormer_t1", "local": "softmax", "denominator": "shared"})",
       "denominator: shared with transnormer_t1, expected one of relu, elu1"},
      {R"({"method": "transnormer_t2_diagonal", "alpha": 0.5})",
       "alpha: a number with transnormer_t2_diagonal, which has no summary"},
      {R"({"method": "paper", "gate": true})", "gate: true with paper, whose alpha is no share"},
      {R"({"method": "paper", "alpha": 2})", "alpha: 2, expected \"learned\" or a number in [0, 1]"},
      {R"({"method": "relu", "layers": []})", "layers: array, expected an object"},
      {R"({"method": "relu", "layers": {"4": {}}})", "layer \"4\", expected layers 0 to 3"},
      {R"({"method": "relu", "layers": {"01": {}}})", "layer \"01\""},
      {R"({"method": "relu", "layers": {"1": {"tapz": 1}}})", "layers.1: unknown key \"tapz\""},
      {R"({"method": "relu", "layers": {"1": 3}})", "layers.1: number, expected an object"},
  };
  for (const auto& [text, message] : rows) EXPECT_THAT(error_of(text), HasSubstr(message)) << text;
}

TEST(AttentionPresets, AMethodWithARowForTheFirstHalfOfTheLayersGivesItToThoseAlone) {
  const auto names = [](const std::string& method, int layers) {
    std::vector<std::string> found;
    for (const auto& config : parse_attention(method_attention(method, layers), layers, "f")) {
      found.emplace_back(config.name());
    }
    return found;
  };
  EXPECT_EQ(names("transnormer_t1", 5),
            (std::vector<std::string>{"transnormer_t1_diagonal", "transnormer_t1_diagonal", "transnormer_t1",
                                      "transnormer_t1", "transnormer_t1"}));
  EXPECT_EQ(names("transnormer_t2", 1), std::vector<std::string>{"transnormer_t2"});
  EXPECT_EQ(names("relu", 2), (std::vector<std::string>{"relu", "relu"}));
  EXPECT_THROW(names("nonsense", 2), Error);
}

TEST(AttentionPresets, AChangeGoesToEachRowOfAMethodThatTakesIt) {
  const auto changed = [](const char* changes) {
    return parse_attention(with_changes(method_attention("transnormer_t1", 2), json::parse(changes)), 2, "f");
  };
  const auto layers = changed(R"({"local": "softmax", "alpha": 0.5, "group": 16, "sinks": 3, "taps": 2})");
  for (const auto& layer : layers) {
    EXPECT_EQ(layer.group, 16);
    EXPECT_EQ(layer.sinks, 3);
    EXPECT_EQ(layer.taps, 2);
  }
  EXPECT_EQ(layers[0].local, LocalWeight::kRelu);  // what the diagonal row is
  EXPECT_EQ(layers[1].local, LocalWeight::kSoftmax);
  EXPECT_EQ(layers[1].alpha, 0.5);
  EXPECT_THROW(changed(R"({"group": 0})"), Error);
  EXPECT_THROW(changed(R"({"gruop": 8})"), Error);
}

TEST(AttentionConfig, WhatIsWrittenParsesToTheSame) {
  for (const Method* method : methods()) {
    for (const char* extra :
         {"", R"(, "local": "softmax", "taps": 3)", R"(, "local": "laplace", "alpha": 0.25)",
          R"(, "local": "softmax", "local_groups": [2, 3], "kept": [9, 0], "group": 16, "sinks": 1)",
          R"(, "local": "softmax", "denominator": "shared", "decay": "learned", "gate": true)",
          R"(, "local": "yoso", "sinks": 2, "decay": 0.5, "layers": {"1": {"method": "softmax"},
                                 "3": {"group": 8}})"}) {
      const json object = json::parse("{\"method\": \"" + std::string(method->name) + "\"" + extra + "}");
      json options = object;
      options.erase("method");
      if (!goes_with(*method, options)) continue;
      const auto layers = parse_attention(object, 4, "f");
      EXPECT_EQ(parse_attention(to_json(layers), 4, "f"), layers) << object;
    }
  }
}

TEST(AttentionConfig, ParametersAreThoseOfTheConventions) {
  const AttentionShape shape{6, 2, 40, 24};
  std::map<std::string, std::vector<int64_t>> specs;
  for (const auto& spec : parameter_specs(parse(R"({"method": "grouped"})"), shape))
    specs[spec.name] = spec.shape;
  const std::map<std::string, std::vector<int64_t>> expected{
      {"alpha", {6}},       {"gate", {6, 40}},         {"decay", {2}},
      {"taps", {6, 4, 24}}, {"q.weight", {6, 40, 40}}, {"k.weight", {2, 40, 40}}};
  EXPECT_EQ(specs, expected);
  std::map<std::string, std::optional<double>> rela;
  for (const auto& spec : parameter_specs(parse(R"({"method": "relu", "local": "relu"})"), shape))
    rela[spec.name] = spec.absent;
  EXPECT_EQ(rela, (std::map<std::string, std::optional<double>>{{"alpha", {}}, {"local_gain", 1.0}}));
}

TEST(AttentionConfig, AFreshLinearizationStartsFromTheRecipesNumbers) {
  const AttentionShape shape{6, 3, 4, 4};
  const AttentionConfig config = parse(R"({"method": "grouped"})");
  const auto identities = [](int heads) {
    std::vector<float> weight(heads * 16, 0.0f);
    for (size_t i = 0; i < weight.size(); ++i) weight[i] = i % 16 % 5 == 0 ? 1.0f : 0.0f;
    return weight;
  };
  const std::map<std::string, std::vector<float>> expected{{"alpha", std::vector<float>(6, 2.0f)},
                                                           {"gate", std::vector<float>(6 * 4, 0.0f)},
                                                           {"decay", {1.0f, 3.0f, 5.0f}},
                                                           {"taps", std::vector<float>(6 * 4 * 4, 0.0f)},
                                                           {"q.weight", identities(6)},
                                                           {"k.weight", identities(3)}};
  std::map<std::string, std::vector<float>> initial;
  for (const auto& spec : parameter_specs(config, shape)) {
    initial[spec.name] = initial_parameter(spec, config, 1, 0);
  }
  EXPECT_EQ(initial, expected);
}

}  // namespace
}  // namespace linnet

#include "model/family.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "tests/format/files.h"
#include "tests/model/tiny_model.h"

namespace linnet {
namespace {

TEST(Family, EveryRowIsReadByTheConfigUnderItsOwnName) {
  for (const Family& family : families()) {
    nlohmann::json json = family.model_type == "gpt2" ? tiny_gpt2_config() : tiny_llama_config();
    json["model_type"] = family.model_type;
    if (family.gated_unit) json["num_attention_heads"] = json["num_key_value_heads"] = 1;
    if (family.encoder != nullptr) {
      json = read_json(LINNET_TEST_DATA "/t5/t5/config.json");
      json["model_type"] = family.model_type;
    }
    json["rotary_pct"] = 1.0;  // GPT-NeoX turns a quarter, of which there is none here
    EXPECT_EQ(&family_of(ModelConfig::parse(json, "test").model_type, "test"), &family);
  }
}

TEST(Family, OneTypeHasTwoRowsWhereItsModelsAreNotAllAlike) {
  const auto parse = [](const char* folder) {
    return ModelConfig::parse(read_json(std::string(LINNET_TEST_DATA "/t5/") + folder + "/config.json"),
                              folder);
  };
  const ModelConfig first = parse("t5"), gated = parse("t5-gated");
  EXPECT_FALSE(first.family->gated);
  EXPECT_TRUE(first.tied_embeddings);
  EXPECT_EQ(first.head_scale, 1.0 / 6);  // √36
  EXPECT_TRUE(gated.family->gated);
  EXPECT_FALSE(gated.tied_embeddings);
  EXPECT_EQ(gated.head_scale, 1);
  EXPECT_EQ(gated.layers, 3);
  EXPECT_EQ(gated.encoder_layers, 2);
  EXPECT_TRUE(gated.family->encoder->gated);
  // As transformers 5 writes a head of its own.
  nlohmann::json written = read_json(LINNET_TEST_DATA "/t5/t5-gated/config.json");
  written["tie_word_embeddings"] = true;
  written["scale_decoder_outputs"] = false;
  const ModelConfig again = ModelConfig::parse(written, "test");
  EXPECT_FALSE(again.tied_embeddings);
  EXPECT_EQ(again.head_scale, 1);
}

TEST(Family, AnUnknownTypeListsTheKnownOnes) {
  EXPECT_THAT(error_of([&] { family_of("t6", "config.json"); }),
              testing::HasSubstr(
                  "config.json: \"model_type\" is \"t6\", expected one of llama, mistral, qwen2, qwen3, "));
}

TEST(Family, ShapesFollowTheConfig) {
  const ModelConfig config = ModelConfig::parse(tiny_gpt2_config(), "test");
  const Family& family = family_of(config.model_type, "test");
  EXPECT_EQ(module_shape(family, config, family.q).weight(), (std::vector<int64_t>{16, 48}));
  EXPECT_EQ(module_shape(family, config, family.down).weight(), (std::vector<int64_t>{64, 16}));
  EXPECT_EQ(module_shape(family, config, family.position_embedding).weight(), (std::vector<int64_t>{32, 16}));
  EXPECT_EQ(module_shape(family, config, family.attention_norm).weight(), std::vector<int64_t>{16});
  EXPECT_EQ(layer_prefix(family, 3), "h.3.");
}

}  // namespace
}  // namespace linnet

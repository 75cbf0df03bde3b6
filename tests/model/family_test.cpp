#include "model/family.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/format/files.h"
#include "tests/model/tiny_model.h"

namespace linnet {
namespace {

TEST(Family, EveryRowIsReadByTheConfigUnderItsOwnName) {
  for (const Family& family : families()) {
    nlohmann::json json = family.model_type == "gpt2" ? tiny_gpt2_config() : tiny_llama_config();
    json["model_type"] = family.model_type;
    EXPECT_EQ(&family_of(ModelConfig::parse(json, "test"), "test"), &family);
  }
}

TEST(Family, AnUnknownTypeListsTheKnownOnes) {
  ModelConfig config;
  config.model_type = "t5";
  EXPECT_THAT(error_of([&] { family_of(config, "config.json"); }),
              testing::HasSubstr(
                  "config.json: \"model_type\" is \"t5\", expected one of llama, mistral, qwen2, gpt2"));
}

TEST(Family, ShapesFollowTheConfig) {
  const ModelConfig config = ModelConfig::parse(tiny_gpt2_config(), "test");
  const Family& family = family_of(config, "test");
  EXPECT_EQ(module_shape(family, config, family.q).weight(), (std::vector<int64_t>{16, 48}));
  EXPECT_EQ(module_shape(family, config, family.down).weight(), (std::vector<int64_t>{64, 16}));
  EXPECT_EQ(module_shape(family, config, family.position_embedding).weight(), (std::vector<int64_t>{32, 16}));
  EXPECT_EQ(module_shape(family, config, family.attention_norm).weight(), std::vector<int64_t>{16});
  EXPECT_EQ(layer_prefix(family, 3), "h.3.");
}

}  // namespace
}  // namespace linnet

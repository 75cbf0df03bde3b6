// FLASH, and any family from nothing with a linear attention, through the commands that train.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/training_program.h"

namespace linnet {
namespace {

using testing::Contains;
using testing::FloatNear;
using testing::Not;

// FLASH is trained with its own attention from the first step on, and so is any family.
TEST_F(TrainingProgram, PretrainsALinearModelFromNothing) {
  for (const std::string from : {"flash-augmented", "llama-mha"}) {
    nlohmann::json config = read_json(LINNET_TEST_DATA "/hf/" + from + "/config.json");
    config["vocab_size"] = 257;
    config["linear_attention"] = {{"method", "flash"}, {"group", 5}, {"taps", 3}, {"decay", "learned"}};
    write_file(path("config.json"), config.dump());
    const std::string out = path(from.c_str());
    const Outcome outcome =
        run_linnet(pretrain({"--tokens", "640", "--lr", "1e-2", "--valid", valid(), "-o", out}));
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    const auto made = Model::open(out);
    EXPECT_EQ(made->attention(), parse_attention(config["linear_attention"], 2 + (from[0] == 'f'), "test"));
    EXPECT_TRUE(made->added_are_trained());
    // Written in bf16, one alone may have moved by less than half a step of its type.
    EXPECT_THAT(to_float(made->linear_parameters(0).at("alpha"), "alpha"),
                Contains(Not(FloatNear(1.0F, 1e-3F))));
    EXPECT_EQ(run_linnet({"perplexity", out, valid()}).status, 0);
    const Outcome tuned =
        run_linnet({"finetune", out, "--train", "all", "--data", text(), "--tokens", "32", "--batch", "2",
                    "--context", "16", "--threads", "1", "-o", out + "-tuned"});
    EXPECT_EQ(tuned.status, 0) << tuned.err;
  }
}

TEST_F(TrainingProgram, LinearizesAGatedUnit) {
  nlohmann::json config = read_json(LINNET_TEST_DATA "/hf/flash-softmax/config.json");
  config["vocab_size"] = 257;
  write_file(path("config.json"), config.dump());
  ASSERT_EQ(run_linnet(pretrain({"--tokens", "64", "-o", path("unit")})).status, 0);
  const Outcome outcome = run_linnet({"linearize", path("unit"), "--method", "grouped", "--set", "group=4",
                                      "local_groups=2", "--data", text(), "--tokens", "128", "--batch", "2",
                                      "--context", "16", "--threads", "1", "-o", path("linear")});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(run_linnet({"merge", path("linear"), "-o", path("merged")}).status, 0);
  EXPECT_EQ(run_linnet({"check", path("merged")}).status, 0);
}

}  // namespace
}  // namespace linnet

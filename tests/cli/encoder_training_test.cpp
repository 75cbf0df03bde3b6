// Encoders through the commands that train.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/training_program.h"

namespace linnet {
namespace {

using testing::HasSubstr;

class EncoderTraining : public TrainingProgram {
 protected:
  void SetUp() override {
    TrainingProgram::SetUp();
    fs::create_directories(path("words"));
    std::string vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n";
    for (char c = 'a'; c <= 'z'; ++c) vocabulary += std::string(1, c) + "\n##" + c + "\n";
    write_file(path("words/vocab.txt"), vocabulary + ".\n");
    const nlohmann::json config = {
        {"model_type", "bert"},         {"vocab_size", 64},         {"hidden_size", 16},
        {"num_hidden_layers", 2},       {"num_attention_heads", 2}, {"intermediate_size", 32},
        {"max_position_embeddings", 64}};
    write_file(path("bert.json"), config.dump());
  }

  static Outcome train(std::vector<std::string> arguments, std::vector<std::string> more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    for (const char* one : {"--batch", "2", "--context", "24", "--threads", "1"}) arguments.push_back(one);
    return run_linnet(arguments);
  }
};

TEST_F(EncoderTraining, LearnsMaskedTokensThenLinearAttentionThenMore) {
  const Outcome base = train({"pretrain", "--config", path("bert.json"), "--tokenizer", path("words")},
                             {"--data", text(), "--tokens", "192", "-o", path("base")});
  ASSERT_EQ(base.status, 0) << base.err;
  const nlohmann::json config = read_json(path("base/config.json"));
  EXPECT_EQ(config["architectures"], nlohmann::json({"BertForMaskedLM"}));
  EXPECT_EQ(config["pad_token_id"], 0);
  EXPECT_THAT(run_linnet({"inspect", path("base")}).out, HasSubstr("a head that predicts masked tokens"));
  const Outcome linear = train({"linearize", path("base"), "--method", "hedgehog", "--set", "group=8"},
                               {"--data", text(), "--tokens", "192", "-o", path("linear")});
  ASSERT_EQ(linear.status, 0) << linear.err;
  EXPECT_THAT(linear.err, HasSubstr("transfer, "));
  const Outcome checked = run_linnet({"check", path("linear")});
  EXPECT_EQ(checked.status, 0) << checked.out << checked.err;
  const Outcome more = train({"finetune", path("linear"), "--train", "all"},
                             {"--data", text(), "--tokens", "96", "-o", path("whole")});
  ASSERT_EQ(more.status, 0) << more.err;
  EXPECT_EQ(run_linnet({"embed", path("whole"), "a b", "--pooling", "mean"}).status, 0);
}

TEST_F(EncoderTraining, PerplexityIsTheLossOfMaskedTokensThatTrainingLowers) {
  const auto trained = [&](const char* tokens, const char* out) {
    const Outcome outcome = train({"pretrain", "--config", path("bert.json"), "--tokenizer", path("words")},
                                  {"--data", text(), "--tokens", tokens, "--lr", "1e-2", "-o", path(out)});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    const Outcome scored =
        run_linnet({"perplexity", path(out), text(), "--window", "12", "--json", path("score.json")});
    EXPECT_EQ(scored.status, 0) << scored.err;
    EXPECT_THAT(scored.out, HasSubstr("masked_nats"));
    return read_json(path("score.json"));
  };
  const nlohmann::json before = trained("0", "fresh"), after = trained("960", "more");
  EXPECT_LT(after["masked_nats"], before["masked_nats"]);
  EXPECT_NEAR(before["masked_nats"], std::log(64), 0.2);  // of 64 tokens that look alike
  EXPECT_NEAR(after["masked_perplexity"], std::exp(after["masked_nats"].get<double>()), 1e-6);
  EXPECT_EQ(before["masked_tokens"], after["masked_tokens"]);
  EXPECT_GT(before["texts"], 2);
}

TEST_F(EncoderTraining, QuantizeSaysWhatMaskedTokensCostBeforeAndAfter) {
  nlohmann::json config = read_json(path("bert.json"));
  config.update({{"hidden_size", 32}, {"intermediate_size", 64}});  // whole groups of 32
  write_file(path("wide.json"), config.dump());
  const Outcome made = train({"pretrain", "--config", path("wide.json"), "--tokenizer", path("words")},
                             {"--data", text(), "--tokens", "480", "--lr", "1e-2", "-o", path("wide")});
  ASSERT_EQ(made.status, 0) << made.err;
  for (const std::vector<std::string>& window : {std::vector<std::string>{"--window", "12"}, {}}) {
    const auto with = [&](std::vector<std::string> arguments) {
      arguments.insert(arguments.end(), window.begin(), window.end());
      const Outcome outcome = run_linnet(arguments);
      EXPECT_EQ(outcome.status, 0) << outcome.err;
      return outcome;
    };
    fs::remove_all(path("int4"));
    const Outcome turned = with({"quantize", path("wide"), "--weights", "int4", "--valid", text(), "--json",
                                 path("turned.json"), "-o", path("int4")});
    EXPECT_THAT(turned.out, HasSubstr("nats per masked token"));
    const nlohmann::json result = read_json(path("turned.json"));
    const auto nats = [&](const char* folder) {
      with({"perplexity", path(folder), text(), "--json", path("score.json")});
      return read_json(path("score.json"))["masked_nats"];
    };
    EXPECT_EQ(result["masked_nats_before"], nats("wide"));
    EXPECT_EQ(result["masked_nats"], nats("int4"));
    EXPECT_NE(result["masked_nats"], result["masked_nats_before"]);
  }
  const std::string bare = LINNET_TEST_DATA "/encoders/bert-bare", out = path("out");
  const BadRow rows[] = {
      {{"quantize", path("wide"), "--weights", "int4", "--calibrate", text(), "-o", out},
       "--calibrate: given for bert, which has an encoder"},
      {{"quantize", path("wide"), "--valid", text(), "--window", "100", "-o", out},
       "--window: 100, expected 3 to 64"},
      {{"quantize", bare, "--valid", text(), "-o", out}, "no tokenizer here"},
  };
  for (const BadRow& row : rows) expect_refused(row, run_linnet(row.arguments));
  EXPECT_FALSE(fs::exists(out));
}

TEST_F(EncoderTraining, HeldOutTextIsScoredAsPerplexityScoresIt) {
  std::string many;
  for (int i = 0; i < 12; ++i) many += "another story, as short. ";
  write_file(valid(), many);
  const std::vector<std::string> held = {
      "--data", text(),    "--tokens", "192",    "--valid",           valid(), "--valid-window",
      "20",     "--dtype", "float32",  "--json", path("result.json"), "-o"};
  const auto trained = [&](std::vector<std::string> arguments, const char* out) {
    arguments.insert(arguments.end(), held.begin(), held.end());
    const Outcome outcome = train(arguments, {path(out)});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr("nats per token before"));
    const Outcome scored = run_linnet({"perplexity", path(out), valid(), "--window", "20", "--dtype",
                                       "float32", "--json", path("score.json")});
    EXPECT_EQ(scored.status, 0) << scored.err;
    nlohmann::json result = read_json(path("result.json"));
    EXPECT_NEAR(read_json(path("score.json"))["masked_nats"], result["validation_nats_per_token"], 1e-4);
    EXPECT_FALSE(result.contains("validation_bits_per_byte"));
    return result;
  };
  const auto base = trained(
      {"pretrain", "--config", path("bert.json"), "--tokenizer", path("words"), "--lr", "1e-2"}, "base");
  EXPECT_LT(base["validation_nats_per_token"], base["validation_nats_per_token_before"]);
  trained({"linearize", path("base"), "--method", "hedgehog", "--set", "group=8"}, "linear");
}

// The positions past its rows have learned nothing, and a held-out text that reached them would tell of them.
TEST_F(EncoderTraining, AModelFromNothingIsScoredAsFarAsItsRowsReach) {
  std::string many;
  for (int i = 0; i < 12; ++i) many += "another story, as short. ";
  write_file(valid(), many);
  const Outcome outcome = train(
      {"pretrain", "--config", path("bert.json"), "--tokenizer", path("words"), "--data", text(), "--tokens",
       "192", "--valid", valid(), "--dtype", "float32", "--json", path("result.json"), "-o"},
      {path("base")});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const Outcome scored = run_linnet({"perplexity", path("base"), valid(), "--window", "24", "--dtype",
                                     "float32", "--json", path("score.json")});
  ASSERT_EQ(scored.status, 0) << scored.err;
  EXPECT_NEAR(read_json(path("score.json"))["masked_nats"],
              read_json(path("result.json"))["validation_nats_per_token"], 1e-4);
}

TEST_F(EncoderTraining, RefusesWhatAnEncoderHasNot) {
  const std::vector<std::string> pretrain = {
      "pretrain", "--config", path("bert.json"), "--data", text(), "--tokens", "96", "-o", path("out")};
  write_file(path("bare.txt"), "a\nb\n");
  fs::create_directories(path("maskless"));
  write_file(path("maskless/vocab.txt"), "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n");
  const auto with = [](std::vector<std::string> arguments, const std::vector<std::string>& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  fs::create_directories(path("headless"));
  const fs::path golden = LINNET_TEST_DATA "/encoders/bert-bare";
  for (const char* file : {"config.json", "model.safetensors"})
    fs::copy_file(golden / file, fs::path(path("headless")) / file);
  fs::copy_file(path("words/vocab.txt"), path("headless/vocab.txt"));
  ASSERT_EQ(train({"pretrain", "--config", path("bert.json"), "--tokenizer", path("words")},
                  {"--data", text(), "--tokens", "48", "-o", path("base")})
                .status,
            0);
  const BadRow rows[] = {
      {with(pretrain, {"--tokenizer", path("words"), "--valid", valid(), "--valid-window", "65"}),
       "--valid-window: 65, expected 3 to 64 tokens"},
      {with(pretrain, {"--tokenizer", path("maskless"), "--valid", valid()}), "has no mask token"},
      {{"linearize", path("headless"), "--data", text(), "--valid", valid(), "--tokens", "96", "--method",
        "hedgehog", "-o", path("out")},
       "headless has no head that predicts tokens, expected none"},
      {with(pretrain, {"--tokenizer", path("words"), "--packing", "documents"}),
       "--packing: documents, and bert"},
      {with(pretrain, {"--tokenizer", path("words"), "--context", "3"}), "--context: 3, expected at least 4"},
      {with(pretrain, {"--tokenizer", path("maskless")}), "has no mask token"},
      {{"train-heads", path("headless"), "--data", text(), "--tokens", "96", "-o", path("out")},
       "bert is an encoder, which predicts no next token"},
      {{"finetune", path("headless"), "--data", text(), "--tokens", "96", "-o", path("out")},
       "has no head that predicts tokens"},
      {{"perplexity", path("headless"), text()}, "has no head that predicts tokens"},
      {{"perplexity", path("base"), text(), "--window", "65"}, "--window: 65, expected 3 to 64 tokens"},
      {{"perplexity", path("base"), text(), "--stride", "4", "--window", "20"},
       "--stride: given for bert, an encoder, of which masked tokens are scored"},
      {{"perplexity", path("base"), text(), "--state-type", "bf16"}, "--state-type: given for bert"},
  };
  for (const BadRow& row : rows) {
    const Outcome outcome = run_linnet(row.arguments);
    EXPECT_EQ(outcome.status, 2) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(row.message));
    EXPECT_FALSE(fs::exists(path("out")));
  }
}

}  // namespace
}  // namespace linnet

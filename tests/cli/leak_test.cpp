// `linnet leak`, as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/training_program.h"

namespace linnet {
namespace {

using testing::HasSubstr;

TEST_F(TrainingProgram, LeakFindsThePlantedLeakOnRandomTokensAndNoOther) {
  const std::vector<std::string> small = {
      "leak", "--random", "16", "--method", "elu1", "flash_local", "--context", "32",     "--batch",
      "8",    "--layers", "1",  "--hidden", "32",   "--threads",   "1",         "--json", "out.json"};
  const auto with = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = small;
    all.insert(all.end(), more.begin(), more.end());
    return run_linnet(all);
  };
  const Outcome found = with({"--tokens", "40K", "--lr", "1e-2"});
  EXPECT_EQ(found.status, 0) << found.out << found.err;
  const nlohmann::json json = parse_json(found.files.at("out.json"), "out.json");
  ASSERT_EQ(json["rows"].size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    const nlohmann::json& row = json["rows"][i];
    const bool planted = i % 2 == 1;
    EXPECT_EQ(row["future_taps"], planted ? 1 : 0);
    EXPECT_EQ(row["below_ln_vocabulary"], planted) << row;
    if (planted)
      EXPECT_LT(row["loss"], 0.5 * json["ln_vocabulary"].get<double>()) << row;
    else
      EXPECT_GT(row["loss"].get<double>() + 4 * row["standard_error"].get<double>(), json["ln_vocabulary"])
          << row;
  }
  // A leak that nothing was learned of is not taken for its absence.
  const Outcome short_run = with({"--tokens", "8K", "--lr", "0"});
  EXPECT_EQ(short_run.status, 1) << short_run.out;
  EXPECT_THAT(short_run.out, HasSubstr("the planted leak was not learned"));
  EXPECT_EQ(parse_json(short_run.files.at("out.json"), "out.json")["holds"], false);
}

TEST_F(TrainingProgram, LeakWritesModelsOfTextWithoutTheirFutureAndScoresThem) {
  std::string story, other;
  for (int i = 0; i < 150; ++i) {
    const std::string number = std::to_string(i * 7 % 31);
    story += "linnet " + number + " sang; ";
    other += "linnet " + std::to_string(i * 11 % 31) + " sang; ";
  }
  write_file(text(), story);
  write_file(valid(), other);
  ASSERT_EQ(run_linnet(pretrain({"--tokens", "0", "-o", path("judge")})).status, 0);
  const auto longer = leak({"--judge", path("judge"), "-o", "out", "--context", "4096", "--tokens", "3M"});
  expect_refused({longer, "--valid: "}, run_linnet(longer));
  const Outcome outcome = run_linnet(leak({"--judge",         path("judge"), "-o",           path("out"),
                                           "--context",       "32",          "--new-tokens", "16",
                                           "--prompt-tokens", "8",           "--batch",      "4",
                                           "--layers",        "1",           "--hidden",     "32",
                                           "--tokens",        "16K",         "--lr",         "2e-2",
                                           "--windows",       "3",           "--prompts",    "2",
                                           "--future",        "0,2",         "--threads",    "1",
                                           "--plot",          "plot.svg",    "--json",       "out.json"}));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const nlohmann::json json = parse_json(outcome.files.at("out.json"), "out.json");
  ASSERT_EQ(json["rows"].size(), 2u);
  EXPECT_EQ(json["scored_tokens"], 96);
  for (const auto& row : json["rows"]) {
    const bool sound = row["future_taps"] == 0;
    const double forced = row["teacher_forced_loss"], decoded = row["decoded_loss"];
    if (sound)
      EXPECT_NEAR(forced, decoded, 0.02);  // written in bf16
    else
      EXPECT_LT(forced + 0.02, decoded);
    ASSERT_EQ(row["texts"].size(), 2u);
    const std::string folder = path("out/future-") + (sound ? "0" : "2");
    EXPECT_EQ(kind_of(folder), "linearized elu1");
    EXPECT_EQ(std::string(MappedFile(folder + "/model.safetensors").text()).find("future"),
              std::string::npos);
    EXPECT_EQ(run_linnet({"check", folder, "--threads", "1"}).status, 0);
  }
  EXPECT_THAT(outcome.files.at("plot.svg"), HasSubstr("F = 2"));
  EXPECT_THAT(outcome.out, HasSubstr("==> F = 2 <=="));
}

}  // namespace
}  // namespace linnet

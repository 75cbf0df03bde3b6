// Training that is interrupted, finds no room or goes on with --resume, as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "tests/cli/training_program.h"

namespace linnet {
namespace {

using testing::HasSubstr;

TEST_F(TrainingProgram, GoesOnAfterCtrlCAndStartsAnewWhereNothingWasSaved) {
  const auto endless = pretrain({"--tokens", "1000000000", "--valid", valid(), "-o", path("out")});
  const Outcome outcome = run_linnet(endless, {.interrupt = true});
  EXPECT_EQ(outcome.status, 130) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("interrupted"));
  if (fs::exists(path("out"))) {  // the signal came late: after some step
    EXPECT_THAT(outcome.err, HasSubstr("--resume goes on"));
    fs::remove_all(path("out"));
  }
  // A run that ended before its first checkpoint leaves a log, which is in nobody's way.
  fs::create_directory(path("out"));
  write_file(path("out/training.jsonl"), "");
  EXPECT_EQ(run_linnet(pretrain({"--tokens", "64", "-o", path("out")})).status, 0);
  // Nor is what one that was killed while it wrote its first checkpoint, or its model, leaves.
  const char* left[] = {"killed/checkpoints/step-00000002", "killed/.model.unfinished.1.0.tmp"};
  for (const char* folder : left) fs::create_directories(path(folder));
  write_file(path("killed/checkpoints/best.safetensors"), "");
  write_file(path("killed/.training.svg.99999999.0.tmp"), "");  // of more than any process's number
  expect_refused({{"killed"}, "killed/checkpoints: no checkpoint, expected one to --resume from; without"},
                 run_linnet(pretrain({"--tokens", "64", "-o", path("killed"), "--resume"})));
  EXPECT_EQ(run_linnet(pretrain({"--tokens", "64", "-o", path("killed")})).status, 0);
  for (const char* folder : left) EXPECT_FALSE(fs::exists(path(folder)));
  EXPECT_FALSE(fs::exists(path("killed/.training.svg.99999999.0.tmp")));
}

TEST_F(TrainingProgram, SaysSoOnAFullDisk) {
  const Outcome outcome = run_linnet(pretrain({"--tokens", "64", "-o", "out"}), {.full_disk = true});
  EXPECT_EQ(outcome.status, 2) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("training.jsonl: cannot write (File too large)"));
  const Outcome untrained =
      run_linnet({"linearize", path("model"), "--tokens", "0", "-o", "out"}, {.full_disk = true});
  EXPECT_EQ(untrained.status, 2) << untrained.err;
  EXPECT_THAT(untrained.err, HasSubstr("cannot write"));
  for (const auto& [name, bytes] : untrained.files) EXPECT_EQ(name, "out");
}

/// Trains a linear model's new tensors: a checkpoint of them has room where the whole model has none.
class StoppedProgram : public TrainingProgram {
 protected:
  void SetUp() override {
    ASSERT_EQ(run_linnet(pretrain({"--tokens", "0", "-o", path("plain")})).status, 0);
    ASSERT_EQ(run_linnet({"linearize", path("plain"), "--set", "group=2", "sinks=1", "--tokens", "0", "-o",
                          path("side")})
                  .status,
              0);
    ASSERT_EQ(run_linnet({"merge", path("side"), "-o", path("linear")}).status, 0);
  }
  Outcome train(const char* out, const std::vector<std::string>& more = {},
                const RunOptions& run = {}) const {
    std::vector<std::string> arguments = {
        "finetune",  path("linear"), "--train", "new", "--data",    text(), "--tokens", "64",
        "--context", "16",           "--batch", "2",   "--threads", "1",    "-o",       path(out)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_linnet(arguments, run);
  }
  /// Ends after the last step, with a checkpoint and no model.
  Outcome stop(const char* out, const std::vector<std::string>& more = {}) const {
    return train(out, more, {.full_disk = true, .room = model_of("linear").size() - 1});
  }
  std::string model_of(const char* out) const {
    return std::string(MappedFile(path(out) + "/model.safetensors").text());
  }
};

TEST_F(StoppedProgram, GoesOnInTheTypeThatItBeganWith) {
  // One of the two is not what this machine would choose.
  for (const std::string type : {"float32", "bfloat16"}) {
    const std::string name = "stopped-" + type, whole = "whole-" + type;
    const Outcome full = stop(name.c_str(), {"--dtype", type});
    EXPECT_EQ(full.status, 2) << full.err;
    EXPECT_THAT(full.err, HasSubstr(" in " + type + ": finetune, "));
    const std::string other = type == "float32" ? "bfloat16" : "float32";
    const Outcome changed = train(name.c_str(), {"--resume", "--dtype", other});
    EXPECT_EQ(changed.status, 2);
    EXPECT_THAT(changed.err,
                HasSubstr("is of another run: dtype was \"" + type + "\", now \"" + other + '"'));
    const Outcome resumed = train(name.c_str(), {"--resume"});
    ASSERT_EQ(resumed.status, 0) << resumed.err;
    EXPECT_THAT(
        resumed.err,
        HasSubstr(" in " + (automatic().starts_with(type) ? automatic() : type + " (as the run began)") +
                  ": finetune, "));
    ASSERT_EQ(train(whole.c_str(), {"--dtype", type}).status, 0);
    EXPECT_EQ(model_of(name.c_str()), model_of(whole.c_str()));
  }
  EXPECT_NE(model_of("whole-float32"), model_of("whole-bfloat16"));
}

TEST_F(StoppedProgram, KeepsWhatItTrainedWhereItsLastWriteFails) {
  ASSERT_EQ(train("whole").status, 0);
  const Outcome full = stop("out");
  EXPECT_EQ(full.status, 2);
  EXPECT_THAT(full.err, HasSubstr("cannot write"));
  EXPECT_THAT(full.err, HasSubstr("what was trained is kept in " + path("out/checkpoints/step-00000002")));
  EXPECT_THAT(full.err, HasSubstr("--resume"));
  ASSERT_TRUE(fs::exists(path("out/checkpoints/step-00000002/checkpoint.json")));
  EXPECT_FALSE(fs::exists(path("out/model.safetensors")));
  // What appeared in the folder meanwhile is not overwritten.
  write_file(path("out/config.json"), "mine");
  const Outcome taken = train("out", {"--resume"});
  EXPECT_EQ(taken.status, 2);
  EXPECT_THAT(taken.err, HasSubstr("out/config.json: is there already"));
  EXPECT_THAT(taken.err, HasSubstr("what was trained is kept in"));
  EXPECT_EQ(MappedFile(path("out/config.json")).text(), "mine");
  EXPECT_FALSE(fs::exists(path("out/model.safetensors")));
  fs::remove(path("out/config.json"));

  const std::string log(MappedFile(path("out/training.jsonl")).text());
  const Outcome resumed = train("out", {"--resume"});
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_EQ(MappedFile(path("out/training.jsonl")).text(), log);  // nothing was trained again
  EXPECT_EQ(model_of("out"), model_of("whole"));
  EXPECT_FALSE(fs::exists(path("out/checkpoints")));
}

TEST_F(TrainingProgram, TrainsHeadsThatSpeculationGuessesWith) {
  ASSERT_EQ(run_linnet(pretrain({"--tokens", "64", "-o", path("base")})).status, 0);
  const auto train = [&](const char* out, std::vector<std::string> more, RunOptions run = {}) {
    std::vector<std::string> arguments = {"train-heads", path("base"), "--data",  text(),      "--valid",
                                          valid(),       "--tokens",   "64",      "--context", "16",
                                          "--heads",     "2",          "--batch", "2",         "--threads",
                                          "1",           "-o",         path(out)};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_linnet(arguments, run);
  };
  const auto file_of = [&](const char* out) {
    return std::string(MappedFile(path(out) + "/heads.safetensors").text());
  };
  const auto generate = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"generate", path("base"), "-p",           "a",
                                          "-n",       "40",         "--ignore-eos", "--speculative",
                                          "heads",    "--report",   "--verify"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_linnet(arguments);
  };
  EXPECT_THAT(generate({}).err,
              HasSubstr("base/heads: holds no config.json, expected a folder of draft heads"));
  // Beside the model they are found without being named.
  const Outcome recursive = train("base/heads", {"--inner", "8", "--list", "30"});
  ASSERT_EQ(recursive.status, 0) << recursive.err;
  EXPECT_THAT(recursive.out, HasSubstr("held-out text: right at depth 1, 2"));
  EXPECT_FALSE(fs::exists(path("base/heads/checkpoints")));
  EXPECT_FALSE(fs::exists(path("base/heads/written.safetensors")));
  EXPECT_THAT(std::string(MappedFile(path("base/heads/training.jsonl")).text()),
              HasSubstr("\"acceptance\":["));
  EXPECT_THAT(generate({}).err, HasSubstr("the same text"));
  const Outcome medusa = train("medusa", {"--kind", "medusa", "--shared-vocabulary", "--written", "0"});
  ASSERT_EQ(medusa.status, 0) << medusa.err;
  EXPECT_THAT(generate({"--heads", path("medusa")}).err, HasSubstr("the same text"));
  // How far places count by the heads' own drafts changes what is learned from the first step on.
  ASSERT_EQ(train("drafted", {"--inner", "8", "--list", "30", "--drafted", "1"}).status, 0);
  // Where no draft reaches a place, as in rows without the one token that is guessed, nothing is learned
  // there.
  const Outcome unreached = run_linnet({"train-heads", path("base"),
                                        "--data",      text(),
                                        "--tokens",    "80",
                                        "--context",   "10",
                                        "--heads",     "2",
                                        "--batch",     "1",
                                        "--threads",   "1",
                                        "--inner",     "8",
                                        "--list",      "1",
                                        "--drafted",   "1",
                                        "-o",          path("unreached")});
  EXPECT_EQ(unreached.status, 0) << unreached.err;
  EXPECT_NE(file_of("drafted"), file_of("base/heads"));
  // What was trained is kept where the heads cannot be written, with what the model wrote; --resume trains
  // nothing anew.
  ASSERT_EQ(train("whole", {"--inner", "8"}).status, 0);
  const Outcome full =
      train("kept", {"--inner", "8"}, {.full_disk = true, .room = file_of("whole").size() - 1});
  ASSERT_EQ(full.status, 2) << full.err;
  EXPECT_THAT(full.err, HasSubstr("cannot write"));
  if (fs::exists(path("kept/checkpoints/step-00000002"))) {
    const Outcome resumed = train("kept", {"--inner", "8", "--resume"});
    ASSERT_EQ(resumed.status, 0) << resumed.err;
    EXPECT_EQ(file_of("kept"), file_of("whole"));
  }
  const std::pair<std::vector<std::string>, const char*> refused[] = {
      {{"--kind", "medusa", "--inner", "8"}, "--inner: given with --kind medusa"},
      {{"--blocks", "2"}, "--blocks: given with --kind recursive"},
      {{"--written", "0", "--greedy", "1"}, "--greedy: given with --written 0"},
      {{"--shard-size", "1GB"}, "--shard-size: given"}};
  for (const auto& [more, expected] : refused) {
    const Outcome outcome = train("refused", more);
    EXPECT_EQ(outcome.status, 2);
    EXPECT_THAT(outcome.err, HasSubstr(expected));
    EXPECT_FALSE(fs::exists(path("refused")));
  }
}

}  // namespace
}  // namespace linnet

// What the commands that train refuse, and that they blame the option that is wrong.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/cli/numeric_options.h"
#include "tests/cli/training_program.h"

namespace linnet {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST_F(TrainingProgram, AnswersBadInputWithOneLineAndStatus2AndWritesNothing) {
  const auto with = [&](const std::vector<std::string>& more) { return pretrain(more); };
  nlohmann::json reach = reach_of_the_model();
  write_file(path("reach.json"), reach.dump());
  reach["model_hash"] = "xxh3-128:0";
  reach["model"] = "another";
  write_file(path("of_another.json"), reach.dump());
  reach.erase("model_hash");
  write_file(path("of_none.json"), reach.dump());
  const auto linearize = [&](const char* option, const char* value, const std::vector<std::string>& more) {
    std::vector<std::string> all = {"linearize", path("model"), "--tokens", "0", "-o", "out", option, value};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const auto budgets = [&](const char* json, const std::vector<std::string>& more = {}) {
    return linearize("--budgets", json, more);
  };
  const auto state = [&](const char* amount, std::vector<std::string> more = {}) {
    more.insert(more.end(), {"--reach", path("reach.json")});
    return linearize("--state", amount, more);
  };
  const auto measured = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = {"linearize", path("model"), "--tokens", "64",  "-o",      "out",
                                    "--data",    text(),        "--state",  "1MB", "--reach", "nowhere.json"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const BadRow rows[] = {
      {{"pretrain"}, "error: --config: not given, expected what `linnet pretrain --help` lists"},
      {{"pretrain", "--confg", "x"}, "unknown option \"--confg\", expected --config or"},
      {with({"-o", "out"}), "error: --tokens: not given, expected"},
      {with({"--tokens", "-5", "-o", "out"}), "--tokens: -5, expected 0 to"},
      {with({"--tokens", "nan", "-o", "out"}), "--tokens: nan, expected 0 to"},
      {with({"--tokens", "0.5", "-o", "out"}), "--tokens: 0.5, expected 0 to"},
      {with({"--tokens", "64Q", "-o", "out"}), "a whole number such as 8192, 512K, 1e6 or 4MiB"},
      {with({"--tokens", "99999999T", "-o", "out"}), "--tokens: 99999999T, expected 0 to"},
      {with({"--tokens", "64", "-o", "out", "--shard-size", "0MB"}),
       "--shard-size: 0MB, expected at least 1"},
      {with({"--tokens", "64", "-o", "out", "--lr", "nan"}), "--lr: nan, expected 0 to 10"},
      {with({"--tokens", "64", "-o", "out", "--lr", "inf"}), "--lr: inf, expected 0 to 10"},
      {{"pretrain", "--config", path("config.json"), "--tokenizer", path("bpe"), "--data", text(), "--tokens",
        "64", "-o", "out", "--batch", "0"},
       "--batch: 0, expected 1 to"},
      {with({"--tokens", "64", "-o", "out", "--micro-batch", "3"}),
       "--micro-batch: 3 rows at once of the 2 of a step, expected at most 2, or a larger --batch"},
      {with({"--tokens", "64", "-o", "out", "--packing", "steam"}), "did you mean stream?"},
      {with({"--tokens", "64", "-o", "out", "--schedule", "cosin"}), "--schedule"},
      {with({"--tokens", "64", "-o", "out", "--dtype", "int8"}), "--dtype"},
      {with({"--tokens", "64", "-o", "out", "--device", "cuda:99"}), "--device"},
      {with({"--tokens", "64", "-o", "out", "--resume"}), "out/checkpoints: no checkpoint"},
      {with({"--tokens", "64", "-o", path("full")}), "is not empty"},
      {with({"--tokens", "64", "-o", text()}), "is a file"},
      {with({"--tokens", "64", "-o", text() + "/out"}), "cannot write (Not a directory)"},
      {with({"--tokens", "64", "-o", "out", "--json", "/nonexistent/out.json"}), "cannot be written"},
      {with({"--tokens", "64", "-o", "out", "--valid", text()}), "stands in --data and in --valid"},
      {with({"--tokens", "64", "-o", "out", "--valid", "/nonexistent.txt"}), "/nonexistent.txt"},
      {with({"--tokens", "64", "-o", "out", "--valid", path("empty.txt")}), "--valid: no text"},
      {{"linearize", path("model"), "--tokens", "0", "-o", path("model")}, "is not empty"},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--method", "groupd"},
       "did you mean grouped?"},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--set", "gruop=3"},
       "--set: linear_attention: unknown key \"gruop\", expected one of"},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--set", "group"}, "--set: group"},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--set", "group=1e9"},
       "--set: linear_attention.group: "},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--attention", R"({"group": 0})", "--set",
        "sinks=1"},
       "--attention: linear_attention"},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--attention", "nowhere.json"},
       "--attention: \"nowhere.json\" is no file and no JSON object, expected JSON text, or a file with it"},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--attention", "relu"},
       "--attention: \"relu\" is no file and no JSON object, expected JSON text, or a file with it; did you "
       "mean "
       "--method relu?"},
      {{"linearize", path("model"), "-o", "out", "--method", "--tokens", "0"},
       "--method: no value before --tokens, expected TEXT (or --method=--tokens)"},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--method", "softmax", "--set", "group=4"},
       "--set: linear_attention: key \"group\" of linear attention with softmax, expected one of method, "
       "window"},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--set", "layers={\"0\":"},
       "--set: layers: not JSON at byte 6, expected one JSON document"},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--set", "group=4", "group=8"},
       "--set: group twice, expected each key once"},
      {budgets(R"({"local_groups": [1, 2, 3]})"),
       "--budgets: linear_attention, layer 0: local_groups: an array of 3, expected one number, or 2: one "
       "per "
       "key-value head"},
      {budgets(R"({"layers": {"1": {"kept": [4, 0], "local_groups": [1, 9]}}})"),
       "--budgets: linear_attention.layers.1.kept: kept tokens beside a local branch of one group, expected "
       "local_groups of at least 2"},
      {budgets(R"({"layers": {"2": {"kept": 4}}})"),
       "--budgets: linear_attention.layers: layer \"2\", expected layers 0 to 1"},
      {budgets(R"({"layers": 3})"), "--budgets: layers: number, expected an object"},
      {budgets(R"({"layers": {"0": 3}})"), "--budgets: layers.0: number, expected an object"},
      {budgets(R"({"taps": 3})"),
       "--budgets: key \"taps\", expected group, local_groups, kept, keep, sinks, layers"},
      {budgets(R"({"layers": {"0": {"method": "relu"}}})"),
       "--budgets: layers.0: key \"method\", expected group"},
      {budgets(R"({"group": null})"), "--budgets: group: null, expected a value, or no such key"},
      {budgets(R"({"layers": {"0": {"kept": null}}})"), "--budgets: layers.0: kept: null, expected a value"},
      {budgets(R"({"layers": null})"), "--budgets: layers: null, expected a value"},
      {budgets("3"), "--budgets: \"3\" is no file and no JSON object"},
      {budgets(R"({"kept": 4})", {"--method", "relu"}),
       "--budgets: linear_attention.kept: kept tokens without"},
      {budgets(R"({"kept": 4})", {"--state", "5%", "--reach", "out.json"}), "--budgets: given with --state"},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--attention",
        R"({"method": "grouped", "layers": 3})", "--budgets", R"({"layers": {"0": {"kept": 4}}})"},
       "--attention: linear_attention.layers"},
      {state("5"), "--state: 5 bytes, expected at least "},
      {state("0.01%"), "what these layers hold with the narrowest windows"},
      {state("0"), "--state: 0, expected bytes such as 4MB, or a share of the softmax cache such as 5%"},
      {state("101%"), "--state: 101%, expected bytes"},
      {state("nan%"), "--state: nan%, expected bytes"},
      {state("%"), "--state: %, expected bytes"},
      {state("5%%"), "--state: 5%%, expected bytes"},
      {state("-5%"), "--state: -5%, expected bytes"},
      {state("much"), "--state: much, expected bytes"},
      {state("1MB", {"--set", "local_groups=8"}),
       "--set: local_groups given with --state, which chooses them, expected one of the two"},
      {state("1MB", {"--set", R"(layers={"1": {"local_groups": 8}})"}), "--set: local_groups given with"},
      {linearize("--state", "1MB", {"--reach", path("of_another.json")}),
       "of_another.json: measured on another (xxh3-128:0), expected what was measured on "},
      {linearize("--state", "1MB", {"--reach", path("of_none.json")}),
       "of_none.json: no \"model_hash\", expected a string"},
      {state("1MB", {"--method", "relu"}), "--state: relu has no local branch, so no windows to buy"},
      {state("1MB", {"--method", "softmax"}),
       "--state: layer 0 is softmax over all tokens, whose state grows"},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--state", "1MB"},
       "--state: given without texts to measure on, expected --data FILE, or --reach FILE"},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--reach", "nowhere.json"},
       "--reach: given without --state"},
      // Before anything is measured: the file that the measurement would take is not there.
      {measured({"--device", "cuda:99"}), "--device"},
      {measured({"--dtype", "int8"}), "--dtype"},
      {measured({"--schedule", "cosin"}), "--schedule"},
      {measured({"--valid", "nowhere.txt"}), "nowhere.txt"},
      {measured({"--train", "lora", "--lora-targets", "foo"}), "--lora-targets: \"foo\", expected"},
      {measured({"--lora-rank", "4"}), "--lora-rank: given with --train new"},
      {measured({"--shard-size", "1GB"}), "--shard-size: given, and what is written is one file"},
      {linearize("--state-type", "bf16", {}), "--state-type: given without --state"},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--state", "1MB", "--reach",
        "nowhere.json"},
       "nowhere.json: "},
      {{"bench", path("model"), "--training", "--contexts", "5"}, "unknown option \"--contexts\""},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--attention", "[1]"}, "--attention"},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--attention", ""}, "--attention"},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--recipe", "magic"}, "--recipe"},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--train", "nothing"}, "--train"},
      {{"linearize", path("nowhere"), "--tokens", "0", "-o", "out"}, "nowhere: no such folder"},
      {{"finetune", path("model"), "--tokens", "0", "-o", "out", "--train", "new"},
       "--train: nothing to train: no layer learns tensors of its own, expected lora, attention or all"},
      {{"linearize", path("model"), "--tokens", "64", "-o", "out", "--method", "relu"},
       "--train: nothing to train: this attention learns no tensors of its own, expected lora, attention or "
       "all"},
      {{"linearize", path("model"), "--tokens", "64", "-o", "out", "--context", "256"},
       "--context: 256: every layer sees all of such rows in its local branch: nothing can learn, expected "
       "more than 256, or smaller groups (--set group=16)"},
      {{"linearize", path("model"), "--tokens", "64", "-o", "out", "--context", "128", "--train", "lora"},
       "--context: 128: every layer sees all"},
      {{"linearize", path("model"), "--tokens", "64", "-o", "out", "--set", "alpha=1", "taps=0"},
       "--method: every layer's attention is exact: nothing to learn, expected at least one layer with "
       "a summary"},
      {{"linearize", path("model"), "--tokens", "64", "-o", "out", "--method", "softmax"},
       "--method: every layer's attention is exact"},
      {{"linearize", path("model"), "--tokens", "64", "-o", "out", "--attention", R"({"method": "softmax"})"},
       "--attention: every layer's attention is exact"},
      {{"finetune", path("model"), "--tokens", "64", "-o", "out", "--lr", "0"},
       "--lr: 0: nothing can learn, expected a rate above 0"},
      {{"linearize", path("model"), "--tokens", "64", "-o", "out", "--lr", "0", "--transfer-lr", "0"},
       "--lr: 0: nothing can learn"},
      {{"linearize", path("model"), "--tokens", "64", "-o", "out", "--transfer-share", "1", "--transfer-lr",
        "0"},
       "--transfer-lr: 0: nothing can learn"},
      {{"finetune", path("model"), "--tokens", "64", "-o", "out"}, "--data: is missing"},
      {{"leak", "--random", "16", "--future", "0,0,0"}, "--future: 0 twice, expected each once"},
      {{"leak", "--random", "16", "--method", "relu", "relu"}, "--method: relu twice, expected each once"},
      {{"leak", "--random", "16", "--batch", "2", "--context", "8", "--tokens", "490"},
       "--tokens: 490, 31 steps of 2 × 8 tokens, expected at least 32 steps to judge by, 512 tokens"},
      {{"leak"}, "--data: is missing, expected training text, or --random VOCABULARY"},
      {{"leak", "--random", "1"}, "--random: 1, expected 2 to"},
      {{"leak", "--random", "64", "--future", "65"}, "--future: 65, expected 0 to 64"},
      {{"leak", "--random", "64", "--method", "softmax"}, "--method: softmax, expected a linear method"},
      {{"leak", "--random", "64", "--method", "elu11"}, "did you mean elu1?"},
      {{"leak", "--random", "64", "--hidden", "40"}, "--hidden: 40, expected a multiple of 32"},
      {{"leak", "--random", "64", "--tokens", "0"}, "--tokens: 0, expected 1 to"},
      {{"leak", "--random", "64", "--dtype", "int8"}, "--dtype"},
      {{"leak", "--random", "64", "--json", "/nonexistent/out.json"}, "cannot be written"},
      {{"leak", "--random", "64", "--valid", text()}, "--valid: given with --random"},
      {{"leak", "--random", "64", "--judge", model()}, "--judge: given with --random"},
      {{"leak", "--random", "64", "--samples", "2"}, "--samples: given with --random"},
      {leak({"--judge", model(), "-o", "out", "--field", "body"}), "--field: given, and no FILE has records"},
      {leak({}), "--judge: is missing"},
      {leak({"--judge", model()}), "--out: is missing"},
      {leak({"--judge", model(), "-o", path("full")}), "is not empty"},
      {leak({"--judge", model(), "-o", "out", "--method", "elu1", "relu"}), "--method: several methods"},
      {leak({"--judge", model(), "-o", "out", "--context", "64", "--new-tokens", "33"}),
       "--new-tokens: 33 after a prompt of 32, expected at most --context 64 together"},
      {leak({"--judge", model(), "-o", "out", "--tokens", "126K"}),
       "--tokens: 126000, 31 steps of 16 × 256 tokens, expected at least 32 steps to judge by, 131072 "
       "tokens"},
      {leak({"--judge", model(), "-o", "out", "--plot", "/nonexistent/plot.svg"}), "cannot be written"},
      {leak({"--judge", model(), "-o", "out", "--valid", text()}), "stands in --data and in --valid"},
      {leak({"--judge", path("nowhere"), "-o", "out", "--context", "160"}), "nowhere: no such folder"},
  };
  for (const BadRow& row : rows) {
    expect_refused(row, run_linnet(row.arguments));
  }
}

TEST_F(TrainingProgram, RefusesNumbersOutOfRangeAndNamesTheOption) {
  // The checks are the runtime's: one value of each option, in turn, says that the option has one.
  std::set<std::string> seen;
  for (const char* command : {"linearize", "finetune", "pretrain", "leak"}) {
    for (const NumericOption& option : numeric_options(run_linnet({command, "--help"}).out)) {
      ASSERT_NE(option.range, "") << command << " " << option.name << ": --help shows no range";
      EXPECT_TRUE(is_in_range(option)) << command << " " << option.name << ": default " << option.standard;
      if (!seen.insert(option.name).second) continue;
      const std::vector<std::string> values = bad_values(option);
      const std::string& value = values[seen.size() % values.size()];
      const std::string message = "error: " + option.name + ": " + value + ", expected ";
      const std::vector<std::string> arguments = {command, option.name + "=" + value};
      expect_refused({arguments, message.c_str()}, run_linnet(arguments));
    }
  }
  EXPECT_GE(seen.size(), 25u);
}

TEST_F(TrainingProgram, SaysWhenItComputesLayersTwice) {
  ASSERT_EQ(run_train(pretrain({"--tokens", "0", "-o", path("plain")})).status, 0);
  constexpr const char* kTwice = "each layer is computed twice, to save about ";
  const std::vector<std::string> many = {"--batch", "100000", "--micro-batch", "100000"};
  const auto said = [&](std::vector<std::string> more) {
    // Without --data it ends before the first step.
    more.insert(more.begin(), {"finetune", path("plain"), "--tokens", "64", "-o", "out"});
    return run_train(more).err;
  };
  EXPECT_THAT(said(many), HasSubstr(kTwice));
  EXPECT_THAT(said({}), Not(HasSubstr(kTwice)));
  for (const char* flag : {"--activation-checkpointing", "--no-activation-checkpointing"}) {
    std::vector<std::string> more = many;
    more.push_back(flag);
    EXPECT_THAT(said(more), Not(HasSubstr(kTwice))) << flag;
  }
}

TEST_F(TrainingProgram, BlamesTheOptionWhoseValueIsNone) {
  ASSERT_EQ(run_train(pretrain({"--tokens", "0", "-o", path("plain")})).status, 0);
  const std::vector<std::string> commands[] = {
      pretrain({"--tokens", "32", "-o", "out"}),
      {"finetune", path("plain"), "--tokens", "32", "--data", text(), "-o", "out"},
      {"linearize", path("plain"), "--tokens", "32", "--set", "group=2", "sinks=2", "--data", text(), "-o",
       "out"},
      {"leak", "--random", "64", "--tokens", "131072"}};
  const std::set<std::string> any = {"--out",    "--lora-targets",
                                     "--config", "--tokenizer",  // given, or any text
                                     "--field",  "--judge"};
  constexpr const char* kNone = "no/such";
  size_t options = 0;
  for (const std::vector<std::string>& arguments : commands) {
    for (const std::string& option : text_options(run_linnet({"help", arguments[0]}).out)) {
      if (any.contains(option)) continue;
      ++options;
      std::vector<std::string> bad = arguments;
      bad.push_back(option + "=" + kNone);
      const Outcome outcome = run_train(bad);
      EXPECT_EQ(outcome.status, 2) << arguments[0] << option << outcome.err;
      EXPECT_THAT(outcome.err, testing::AnyOf(testing::StartsWith("linnet: error: " + option + ": "),
                                              testing::StartsWith(std::string("linnet: error: ") + kNone)))
          << arguments[0] << " " << option;
    }
  }
  EXPECT_GE(options, 25u);
}

TEST_F(TrainingProgram, RefusesOptionsThatWouldDoNothing) {
  ASSERT_EQ(run_linnet(pretrain({"--tokens", "0", "-o", path("plain")})).status, 0);
  ASSERT_EQ(
      run_linnet({"finetune", path("plain"), "--train", "lora", "--tokens", "0", "-o", path("lora")}).status,
      0);
  const auto linearize = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = {"linearize", path("model"), "--tokens", "64",
                                    "--data",    text(),        "-o",       "out"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const auto finetune = [&](const char* model, const std::vector<std::string>& more) {
    std::vector<std::string> all = {"finetune", path(model), "--tokens", "64", "--data", text(), "-o", "out"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  const BadRow rows[] = {
      {linearize({"--lora-rank", "4"}), "--lora-rank: given with --train new, expected --train lora too"},
      {linearize({"--train", "attention", "--lora-targets", "q_proj"}), "--lora-targets: given with --train"},
      {finetune("model", {"--lora-alpha", "4"}), "--lora-alpha: given with --train all"},
      {finetune("lora", {"--train", "lora", "--lora-rank", "4"}),
       "--lora-rank: given, and the model has a LoRA, which is trained on as it is"},
      {linearize({"--method", "relu", "--attention", "{}"}), "--method: given with --attention"},
      {linearize({"--recipe", "finetune", "--transfer-lr", "0.1"}),
       "--transfer-lr: given with --recipe finetune, expected --recipe transfer"},
      {linearize({"--recipe", "finetune", "--transfer-share", "0.1"}),
       "--transfer-share: given with --recipe"},
      {linearize({"--recipe", "finetune", "--long-share", "0.1"}), "--long-share: given with --recipe"},
      {linearize({"--method", "relu", "--train", "lora", "--transfer-lr", "0.1"}),
       "--transfer-lr: given, and this attention learns no tensors of its own"},
      {linearize({"--transfer-share", "0", "--transfer-lr", "0.1"}),
       "--transfer-lr: given with --transfer-share 0"},
      {linearize({"--long-context", "64"}), "--long-context: given without --long-share"},
      {pretrain({"--tokens", "64", "-o", "out", "--long-context", "64"}),
       "--long-context: given without --long-share"},
      {pretrain({"--tokens", "64", "-o", "out", "--repeats", "2"}), "--repeats: given without --long-share"},
      {pretrain({"--tokens", "64", "-o", "out", "--field", "body"}),
       "--field: given, and no FILE has records"},
      {pretrain({"--tokens", "64", "-o", "out", "--evaluate-every", "2"}),
       "--evaluate-every: given without --valid, expected --valid FILE too"},
      {pretrain({"--tokens", "64", "-o", "out", "--valid-bytes", "2"}),
       "--valid-bytes: given without --valid"},
      {pretrain({"--tokens", "64", "-o", "out", "--valid-window", "2"}),
       "--valid-window: given without --valid"},
      {pretrain({"--tokens", "64", "-o", "out", "--schedule", "constant", "--floor", "0.2"}),
       "--floor: given, and the rate stays constant"},
      {finetune("model", {"--floor", "0.2"}), "--floor: given, and the rate stays constant"},
      {linearize({"--shard-size", "1GB"}), "--shard-size: given, and what is written is one file"},
  };
  for (const BadRow& row : rows) expect_refused(row, run_linnet(row.arguments));
}

}  // namespace
}  // namespace linnet

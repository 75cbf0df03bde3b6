// The commands that train, as a user runs them.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <sstream>

#include "base/file.h"
#include "base/json.h"
#include "cli/train_commands.h"
#include "tests/cli/numeric_options.h"
#include "tests/cli/run.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::string model() { return std::string(LINNET_TEST_DATA) + "/hf/llama-gqa-tied"; }

class TrainingProgram : public testing::Test {
 protected:
  TrainingProgram() {
    write_file(text(), "a story about nothing. it is short, and it ends.");
    write_file(valid(), "another story, as short.");
    write_file(path("empty.txt"), "");
    fs::create_directory(path("full"));
    write_file(path("full/config.json"), "{}");
    fs::create_directory(path("model"));
    for (const auto& entry : fs::directory_iterator(model())) fs::copy(entry.path(), path("model"));
    // The tokenizer that the program itself trains.
    run_linnet({"tokenizer", "train", text(), "-o", path("bpe"), "--vocabulary", "257"});
    nlohmann::json config = read_json(path("model/config.json"));
    config["vocab_size"] = 257;
    write_file(path("config.json"), config.dump());
  }
  std::string path(const char* name) const { return (folder_.path() / name).string(); }
  std::string text() const { return path("text.txt"); }
  std::string valid() const { return path("valid.txt"); }

  /// `linnet pretrain` of a tiny model, with more options.
  std::vector<std::string> pretrain(const std::vector<std::string>& more) const {
    std::vector<std::string> all = {
        "pretrain", "--config", path("config.json"), "--tokenizer", path("bpe"), "--data", text(),
        "--batch",  "2",        "--context",         "16",          "--threads", "1"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  /// `linnet leak` on text, with more options.
  std::vector<std::string> leak(const std::vector<std::string>& more) const {
    std::vector<std::string> all = {"leak", "--data", text(), "--valid", valid()};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }

  /// linnet-train, without loading libtorch each time.
  static Outcome run_train(const std::vector<std::string>& arguments) {
    return run_linnet(arguments, {.program = cli::run_train_commands});
  }

  TemporaryFolder folder_;
};

TEST_F(TrainingProgram, AnswersBadInputWithOneLineAndStatus2AndWritesNothing) {
  const auto with = [&](const std::vector<std::string>& more) { return pretrain(more); };
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
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--exact-layers", "0,0"},
       "--exact-layers: layer 0 twice, expected each once"},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--exact-layers", "0,,1"},
       "--exact-layers: 0,,1, expected a list with one comma between two"},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--exact-layers", "0-2"},
       "--exact-layers: layer \"0-2\", expected layers 0 to 1"},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--exact-layers", "1-0"},
       "--exact-layers: layer \"1-0\""},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--exact-window", "8"}, "--exact-window: "},
      {{"linearize", path("model"), "--tokens", "0", "-o", "out", "--attention",
        R"({"method": "grouped", "layers": 3})", "--exact-layers", "0"},
       "--attention: linear_attention.layers"},
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
      {{"linearize", path("model"), "--tokens", "64", "-o", "out", "--exact-layers", "0-1"},
       "--exact-layers: every layer's attention is exact: nothing to learn, expected at least one layer with "
       "a summary"},
      {{"linearize", path("model"), "--tokens", "64", "-o", "out", "--method", "softmax"},
       "--method: every layer's attention is exact"},
      {{"linearize", path("model"), "--tokens", "64", "-o", "out", "--attention", R"({"method": "softmax"})"},
       "--attention: every layer's attention is exact"},
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
      {leak({"--judge", model(), "-o", "out", "--plot", "/nonexistent/plot.svg"}), "cannot be written"},
      {leak({"--judge", model(), "-o", "out", "--valid", text()}), "stands in --data and in --valid"},
      {leak({"--judge", path("nowhere"), "-o", "out", "--context", "160"}), "nowhere: no such folder"},
  };
  for (const BadRow& row : rows) {
    expect_refused(row, run_linnet(row.arguments));
  }
}

TEST_F(TrainingProgram, TrainsOnStandardInputAndOnFieldsByName) {
  write_file(path("held.json"), "[\"a story\", {\"body\": \"as short.\"}]");
  const RunOptions input = {.input = "{\"body\": \"a story.\"}\n{\"body\": \"as short.\"}\n"};
  const Outcome outcome = run_linnet(pretrain({"--data", "-", "--valid", path("held.json"), "--field", "body",
                                               "--tokens", "32", "-o", path("out")}),
                                     input);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("1 document of --data stands in --valid too and is left out"));
  EXPECT_THAT(outcome.err, HasSubstr("2 documents,"));  // text.txt and the first record
}

TEST_F(TrainingProgram, TakesItsModelWhereverItStands) {
  write_file(path("more.txt"), "more of it.");
  const std::string model = path("model"), out = path("out");
  const std::vector<std::string> rows[] = {
      {model, "--data", text(), path("more.txt"), "--valid", valid(), "--set", "group=16", "sinks=2"},
      {"--data", text(), path("more.txt"), model, "--valid", valid(), "--set", "group=16", "sinks=2"},
      {"--data", text(), path("more.txt"), "--valid", valid(), model, "--set", "group=16", "sinks=2"},
      {"--data", text(), path("more.txt"), "--valid", valid(), "--set", "group=16", "sinks=2", model},
      {"--set", "group=16", "sinks=2", model, "--data", text(), path("more.txt"), "--valid", valid()},
      {"--data", text(), "-", model, "--set", "group=16", "sinks=2"},
      {"--set=group=16", "sinks=2", model, "--data=" + text(), path("more.txt"), "--valid=" + valid()},
      {"--set", "group=16", "--set", "sinks=2", "--data", text(), "--data", path("more.txt"), model,
       "--valid", valid()},
      {"--data", text(), path("more.txt"), "--valid", valid(), "--set", "group=16", "sinks=2", "--", model},
  };
  for (std::vector<std::string> row : rows) {
    std::vector<std::string> arguments = {"linearize", "--tokens", "0", "-o", out};
    arguments.insert(arguments.end(), row.begin(), row.end());
    const Outcome outcome = run_linnet(arguments);
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(read_json(path("out/config.json"))["linear_attention"]["sinks"], 2);
    fs::remove_all(out);
  }
  // A folder that is not there is still what is missing.
  EXPECT_THAT(run_linnet({"finetune", "--data", text(), path("nowhere"), "--tokens", "0", "-o", out}).err,
              HasSubstr("nowhere: no such folder"));
  EXPECT_THAT(run_linnet({"finetune", "--data", text(), "--tokens", "0", "-o", out}).err,
              HasSubstr("error: MODEL: not given"));
}

TEST_F(TrainingProgram, TrainsAndLinearizesAModelWithItsOwnWindow) {
  nlohmann::json config = read_json(path("config.json"));
  config["model_type"] = "mistral";
  config["sliding_window"] = 8;
  write_file(path("config.json"), config.dump());
  const Outcome base = run_linnet(pretrain({"--tokens", "64", "-o", path("base")}));
  ASSERT_EQ(base.status, 0) << base.err;
  EXPECT_EQ(read_json(path("base/config.json"))["sliding_window"], 8);
  const auto linearize = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"linearize", path("base"), "--exact-layers", "1", "-o", path("linear")});
    const Outcome outcome = run_linnet(more);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome;
  };
  const std::string warned = linearize({"--tokens", "0", "--exact-window", "7"}).err;
  EXPECT_THAT(warned,
              HasSubstr("layer 0: the local branch sees up to 256 tokens, the model's own window is 8"));
  EXPECT_EQ(read_json(path("linear/config.json"))["linear_attention"]["layers"]["1"]["method"], "grouped");
  fs::remove_all(path("linear"));
  const Outcome trained = linearize({"--data", text(), "--tokens", "64", "--batch", "2", "--context", "16",
                                     "--threads", "1", "--set", "group=4", "local_groups=2"});
  EXPECT_THAT(trained.err, testing::Not(HasSubstr("local branch")));
  EXPECT_EQ(read_json(path("linear/config.json"))["linear_attention"]["layers"]["1"],
            nlohmann::json({{"method", "softmax"}, {"window", 8}}));
  const Outcome checked = run_linnet({"check", path("linear"), "--dtype", "float32"});
  EXPECT_EQ(checked.status, 0) << checked.out << checked.err;
  EXPECT_EQ(run_linnet({"merge", path("linear"), "-o", path("merged")}).status, 0);
  EXPECT_THAT(run_linnet({"inspect", path("merged")}).out,
              HasSubstr(R"(layer 1: {"method":"softmax","window":8})"));
}

TEST_F(TrainingProgram, TakesAttentionFromTextOrFileAndLayersAsRanges) {
  write_file(path("attention.json"), R"({"linear_attention": {"method": "hedgehog", "group": 32}})");
  const auto layers = [&](const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {"linearize", path("model"), "--tokens", "0", "-o", path("out")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run_linnet(arguments);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    const auto object = read_json(path("out/config.json"))["linear_attention"];
    fs::remove_all(path("out"));
    return object;
  };
  EXPECT_EQ(layers({"--attention", path("attention.json")})["group"], 32);
  EXPECT_EQ(layers({"--attention", path("attention.json")}),
            layers({"--attention", R"( {"method": "hedgehog", "group": 32})"}));
  const char* const halves =
      R"({"method": "transnormer_t1", "group": 8, "layers": {"0": {"method": "transnormer_t1_diagonal", "group": 8}}})";
  EXPECT_EQ(layers({"--method", "transnormer_t1", "--set", "group=8"}), layers({"--attention", halves}));
  EXPECT_EQ(layers({"--exact-layers", "0-1"}), layers({"--exact-layers", "0,1"}));
  EXPECT_EQ(layers({"--exact-layers", "0-1"}), layers({"--exact-layers", "1", "--exact-layers", "0"}));
}

/// What inspect calls a folder, with the first layer's method: "sidecar grouped"; what it says where it
/// refuses.
std::string kind_of(const std::string& folder) {
  const Outcome outcome = run_linnet({"inspect", folder, "--json", "out.json"});
  if (!outcome.files.contains("out.json")) return outcome.err;
  const nlohmann::json json = parse_json(outcome.files.at("out.json"), "out.json");
  return json.at("kind").get<std::string>() + " " + json.at("attention")[0].at("method").get<std::string>();
}

/// A number of the JSON that a run wrote.
double number_of(const Outcome& outcome, const char* key) {
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const auto file = outcome.files.find("out.json");
  return file == outcome.files.end() ? std::nan("")
                                     : parse_json(file->second, "out.json").at(key).get<double>();
}

/// Every kind of model that can be trained, made from one tiny model, and training in each way.
class EveryKindOfModel : public TrainingProgram {
 protected:
  EveryKindOfModel() {
    EXPECT_EQ(run_train(pretrain({"--tokens", "0", "-o", path("plain")})).status, 0);
    const std::string attention =
        R"({"method": "grouped", "group": 2, "sinks": 1, "layers": {"1": {"method": "relu"}}})";
    EXPECT_EQ(run_train({"linearize", path("plain"), "--attention", attention, "--tokens", "0", "-o",
                         path("sidecar")})
                  .status,
              0);
    EXPECT_EQ(run_linnet({"merge", path("sidecar"), "-o", path("linear")}).status, 0);
    EXPECT_EQ(train("finetune", "plain", "lora", "plain-lora").status, 0);
    EXPECT_EQ(train("finetune", "sidecar", "lora", "sidecar-lora").status, 0);
    fs::create_directory(path("linear-lora"));  // PEFT's own LoRA of a linear model
    for (const char* file : {"adapter_config.json", "adapter_model.safetensors"})
      fs::copy(path("plain-lora") + "/" + file, path("linear-lora") + "/" + file);
    nlohmann::json adapter = read_json(path("linear-lora") + "/adapter_config.json");
    adapter["base_model_name_or_path"] = "linear";
    write_file(path("linear-lora") + "/adapter_config.json", adapter.dump());
  }

  /// One step per phase, at a rate that moves every tensor.
  Outcome train(const std::string& command, const std::string& from, const std::string& what,
                const std::string& to) const {
    std::vector<std::string> arguments = {command,     path(from.c_str()),
                                          "--train",   what,
                                          "--data",    text(),
                                          "--valid",   valid(),
                                          "--lr",      "0.01",
                                          "--warmup",  "0",
                                          "--tokens",  "32",
                                          "--context", "16",
                                          "--batch",   "2",
                                          "--threads", "1",
                                          "--dtype",   "float32",
                                          "--json",    "out.json",
                                          "-o",        path(to.c_str())};
    if (command == "linearize")
      arguments.insert(arguments.end(), {"--set", "group=2", "sinks=1", "local_groups=2"});
    return run_train(arguments);
  }

  /// The folder that a training wrote is of this kind and scores what the trained module scored last, as far
  /// as bf16 weights, which the base has, hold what changed.
  void expect_written(const Outcome& training, const std::string& name, const std::string& kind) const {
    const std::string folder = path(name.c_str());
    EXPECT_EQ(kind_of(folder), kind) << name;
    const double before = number_of(training, "validation_bits_per_byte_before");
    const double trained = number_of(training, "validation_bits_per_byte");
    const Outcome scored = run_linnet({"perplexity", folder, valid(), "--window", "1024", "--dtype",
                                       "float32", "--threads", "1", "--json", "out.json"});
    EXPECT_LT(std::abs(number_of(scored, "bits_per_byte") - trained), 0.02 * std::abs(trained - before))
        << name << ": " << before << " before, " << trained << " after";
  }
};

TEST_F(EveryKindOfModel, TrainsInEveryWayIntoAFolderThatHoldsAllOrIsRefused) {
  const struct {
    const char *model, *trained_new, *lora, *all;  // what finetune leaves; nullptr: refused
  } rows[] = {
      {"plain", nullptr, "LoRA softmax", "plain softmax"},
      {"plain-lora", nullptr, "LoRA softmax", "plain softmax"},
      {"sidecar", "sidecar grouped", "sidecar with LoRA grouped", "linearized grouped"},
      {"sidecar-lora", "sidecar with LoRA grouped", "sidecar with LoRA grouped", "linearized grouped"},
      {"linear", "linearized grouped", "linearized grouped", "linearized grouped"},
      {"linear-lora", "linearized grouped", "linearized grouped", "linearized grouped"},
  };
  for (const auto& row : rows) {
    const std::pair<const char*, const char*> ways[] = {
        {"new", row.trained_new}, {"lora", row.lora}, {"attention", row.all}, {"all", row.all}};
    for (const auto& [what, kind] : ways) {
      const std::string name = std::string("finetune-") + row.model + "-" + what;
      const Outcome outcome = train("finetune", row.model, what, name);
      EXPECT_EQ(outcome.status, kind == nullptr ? 2 : 0) << name << outcome.err;
      EXPECT_EQ(fs::exists(path(name.c_str())), kind != nullptr) << name;
      if (kind != nullptr) expect_written(outcome, name, kind);
    }
    if (std::string(row.model) == "plain") continue;
    const Outcome again = train("linearize", row.model, "new", std::string("again-") + row.model);
    EXPECT_EQ(again.status, 2) << row.model;
    EXPECT_THAT(again.err, testing::ContainsRegex("is linearized already|linnet merge")) << row.model;
  }
  for (const auto& [what, kind] :
       {std::pair("new", "sidecar grouped"), std::pair("lora", "sidecar with LoRA grouped"),
        std::pair("attention", "linearized grouped"), std::pair("all", "linearized grouped")}) {
    const std::string name = std::string("linearize-") + what;
    expect_written(train("linearize", "plain", what, name), name, kind);
  }
}

TEST_F(TrainingProgram, CallsNewTensorsNewUntilTheyWereTrained) {
  ASSERT_EQ(run_linnet(pretrain({"--tokens", "0", "-o", path("plain")})).status, 0);
  const auto train = [&](const char* command, const char* from, const char* tokens, const char* to) {
    std::vector<std::string> arguments = {command,     path(from), "--train",   "new",   "--data",  text(),
                                          "--tokens",  tokens,     "--context", "16",    "--batch", "2",
                                          "--threads", "1",        "-o",        path(to)};
    if (std::string(command) == "linearize")
      arguments.insert(arguments.end(), {"--set", "group=2", "sinks=1"});  // or rows of 16 are all local
    const Outcome outcome = run_linnet(arguments);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
  };
  train("linearize", "plain", "0", "untrained");
  train("linearize", "plain", "64", "trained");
  train("finetune", "untrained", "0", "untouched");
  train("finetune", "untrained", "64", "trained-later");
  train("finetune", "trained", "0", "trained-before");
  const std::pair<const char*, bool> rows[] = {{"untrained", false},
                                               {"trained", true},
                                               {"untouched", false},
                                               {"trained-later", true},
                                               {"trained-before", true}};
  for (const auto& [name, trained] : rows) {
    const std::string full = path(name) + "-full";
    ASSERT_EQ(run_linnet({"merge", path(name), "-o", full}).status, 0);
    for (const std::string& folder : {path(name), full}) {
      const Outcome outcome = run_linnet({"inspect", folder, "--json", "out.json"});
      EXPECT_EQ(parse_json(outcome.files.at("out.json"), "out.json")["new"]["trained"], trained) << folder;
      EXPECT_THAT(outcome.out, HasSubstr(trained ? "\ntrained  " : "\nnew  ")) << folder;
    }
  }
}

TEST_F(TrainingProgram, RefusesNumbersOutOfRangeAndNamesTheOption) {
  // The checks are the runtime's: one value of each option, in turn, says that the option has one.
  std::set<std::string> seen;
  for (const char* command : {"linearize", "finetune", "pretrain", "leak"}) {
    for (const NumericOption& option : numeric_options(run_linnet({command, "--help"}).out)) {
      ASSERT_NE(option.range, "") << command << " " << option.name << ": --help shows no range";
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

TEST_F(TrainingProgram, SaysWhatItWillTrainAndSkipsTransferWhereNothingLearns) {
  ASSERT_EQ(run_linnet(pretrain({"--tokens", "0", "-o", path("plain")})).status, 0);
  const Outcome outcome = run_linnet({"linearize", path("plain"), "--method", "elu1", "--train", "lora",
                                      "--data", text(), "--tokens", "0.1K", "--context", "16", "--batch", "2",
                                      "--threads", "1", "-o", path("out")});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.err,
              HasSubstr("training on 96 tokens of the 100 asked for: distill, 3 steps of 2 × 16 tokens"));
  EXPECT_EQ(kind_of(path("out")), "sidecar with LoRA elu1");
}

TEST_F(TrainingProgram, WarnsOfRowsTooShortForSummariesWhereOtherTensorsLearn) {
  const Outcome outcome = run_linnet({"linearize", path("model"), "--recipe", "finetune", "--tokens", "64",
                                      "--context", "16", "-o", path("out")});
  EXPECT_THAT(outcome.err,
              HasSubstr("warning: in rows of 16 tokens 2 of 2 layers see all in their local branch"));
  EXPECT_THAT(outcome.err, HasSubstr("--context: more than 256, or smaller groups"));
}

TEST_F(TrainingProgram, LogsAndDrawsTheScoreBeforeTraining) {
  const Outcome outcome =
      run_linnet(pretrain({"--tokens", "96", "--valid", valid(), "-o", path("out"), "--json", "out.json"}));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const nlohmann::json json = parse_json(outcome.files.at("out.json"), "out.json");
  std::istringstream log{std::string(MappedFile(path("out/training.jsonl")).text())};
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(log, line);) lines.push_back(parse_json(line, "training.jsonl"));
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0]["step"], 0);
  EXPECT_EQ(lines[0]["tokens"], 0);
  EXPECT_TRUE(lines[0].at("loss").is_null());
  EXPECT_EQ(lines[0]["validation_bits_per_byte"], json["validation_bits_per_byte_before"]);
  EXPECT_FALSE(lines[1].contains("validation_bits_per_byte"));
  EXPECT_EQ(lines[3]["validation_bits_per_byte"], json["validation_bits_per_byte"]);
  const MappedFile svg(path("out/training.svg"));
  EXPECT_THAT(std::string(svg.text()), HasSubstr("validation, bits per byte"));
}

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

TEST_F(TrainingProgram, KeepsWhatItTrainedWhereItsLastWriteFails) {
  ASSERT_EQ(run_linnet(pretrain({"--tokens", "0", "-o", path("plain")})).status, 0);
  ASSERT_EQ(run_linnet({"linearize", path("plain"), "--set", "group=2", "sinks=1", "--tokens", "0", "-o",
                        path("side")})
                .status,
            0);
  ASSERT_EQ(run_linnet({"merge", path("side"), "-o", path("linear")}).status, 0);
  const auto train = [&](const char* out, bool resume, RunOptions run = {}) {
    std::vector<std::string> arguments = {
        "finetune",  path("linear"), "--train", "new", "--data",    text(), "--tokens", "64",
        "--context", "16",           "--batch", "2",   "--threads", "1",    "-o",       path(out)};
    if (resume) arguments.push_back("--resume");
    return run_linnet(arguments, run);
  };
  const auto model_of = [&](const char* out) {
    return std::string(MappedFile(path(out) + "/model.safetensors").text());
  };
  ASSERT_EQ(train("whole", false).status, 0);
  // The checkpoint, of the new tensors alone, has room where the model has none.
  const Outcome full = train("out", false, {.full_disk = true, .room = model_of("whole").size() - 1});
  EXPECT_EQ(full.status, 2);
  EXPECT_THAT(full.err, HasSubstr("cannot write"));
  EXPECT_THAT(full.err, HasSubstr("what was trained is kept in " + path("out/checkpoints/step-00000002")));
  EXPECT_THAT(full.err, HasSubstr("--resume"));
  ASSERT_TRUE(fs::exists(path("out/checkpoints/step-00000002/checkpoint.json")));
  EXPECT_FALSE(fs::exists(path("out/model.safetensors")));
  // What appeared in the folder meanwhile is not overwritten.
  write_file(path("out/config.json"), "mine");
  const Outcome taken = train("out", true);
  EXPECT_EQ(taken.status, 2);
  EXPECT_THAT(taken.err, HasSubstr("out/config.json: is there already"));
  EXPECT_THAT(taken.err, HasSubstr("what was trained is kept in"));
  EXPECT_EQ(MappedFile(path("out/config.json")).text(), "mine");
  EXPECT_FALSE(fs::exists(path("out/model.safetensors")));
  fs::remove(path("out/config.json"));

  const std::string log(MappedFile(path("out/training.jsonl")).text());
  const Outcome resumed = train("out", true);
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_EQ(MappedFile(path("out/training.jsonl")).text(), log);  // nothing was trained again
  EXPECT_EQ(model_of("out"), model_of("whole"));
  EXPECT_FALSE(fs::exists(path("out/checkpoints")));
}

TEST_F(TrainingProgram, BenchMeasuresTrainingAndWritesItsResultAlone) {
  const Outcome out =
      run_linnet({"bench", model(), "--training", "--steps", "2", "--batch", "3", "--micro-batch", "2",
                  "--context", "16", "--threads", "1", "--dtype", "float32", "--json", "out.json"});
  ASSERT_EQ(out.status, 0) << out.err;
  EXPECT_THAT(out.out, HasSubstr("2 steps of 3 rows of 16 tokens, 2 at once"));
  ASSERT_EQ(out.files.size(), 1u);
  const auto result = nlohmann::json::parse(out.files.at("out.json"));
  const auto number = [&](const char* key) { return result.at(key).get<double>(); };
  EXPECT_EQ(result.at("dtype"), "Float");
  EXPECT_GT(number("training_tokens_per_second"), 0);
  EXPECT_GT(number("peak_memory_bytes"), 1e6);
  EXPECT_NEAR(number("training_fraction_of_matrix_rate"),
              6 * number("parameters") * number("training_tokens_per_second") /
                  number("matrix_operations_per_second"),
              1e-9);
}

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
  const auto longer = leak({"--judge", path("judge"), "-o", "out", "--context", "4096"});
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

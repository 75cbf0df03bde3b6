// The commands that train, as a user runs them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/training_program.h"

namespace linnet {
namespace {

using testing::HasSubstr;

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

TEST_F(TrainingProgram, TheShapeOfAClassifierIsRefusedAndOfIntegersTheShapeAloneIsTaken) {
  nlohmann::json config = read_json(path("config.json"));
  config["tie_word_embeddings"] = false;
  config["intermediate_size"] = 64;
  write_file(path("config.json"), config.dump());
  ASSERT_EQ(run_linnet(pretrain({"--tokens", "0", "-o", path("whole")})).status, 0);
  ASSERT_EQ(run_linnet({"quantize", path("whole"), "-o", path("integers"), "--group", "row"}).status, 0);
  config["quantization_config"] = read_json(path("integers/config.json"))["quantization_config"];
  write_file(path("config.json"), config.dump());
  const Outcome trained = run_linnet(pretrain({"--tokens", "0", "-o", path("out")}));
  EXPECT_EQ(trained.status, 0) << trained.err;
  EXPECT_FALSE(read_json(path("out/config.json")).contains("quantization_config"));
  EXPECT_EQ(run_linnet({"generate", path("out"), "-p", "a", "-n", "1"}).status, 0);
  config["architectures"] = {"LlamaForSequenceClassification"};
  write_file(path("config.json"), config.dump());
  expect_refused({{"a classifier"}, "config.json: is a classifier's, which has no head over the vocabulary"},
                 run_linnet(pretrain({"--tokens", "0", "-o", "none"})));
}

TEST_F(TrainingProgram, AShapeWithoutAPadTokenIsWrittenWithNoneAndOneIsKept) {
  nlohmann::json config = read_json(path("config.json"));
  for (const nlohmann::json& pad : {nlohmann::json(), nlohmann::json(0)}) {
    config.erase("pad_token_id");
    if (!pad.is_null()) config["pad_token_id"] = pad;
    write_file(path("config.json"), config.dump());
    const std::string out = path(pad.is_null() ? "none" : "zero");
    const Outcome made = run_linnet(pretrain({"--tokens", "0", "-o", out}));
    ASSERT_EQ(made.status, 0) << made.err;
    EXPECT_EQ(read_json(out + "/config.json").at("pad_token_id"), pad);
  }
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
    more.insert(more.begin(), {"linearize", path("base"), "-o", path("linear")});
    const Outcome outcome = run_linnet(more);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome;
  };
  const std::string warned = linearize({"--tokens", "0"}).err;
  EXPECT_THAT(warned, HasSubstr("layer 0 and 1 more: the local branch sees up to 256 tokens, the model's own "
                                "window is 8"));
  fs::remove_all(path("linear"));
  const Outcome trained =
      linearize({"--data", text(), "--tokens", "64", "--batch", "2", "--context", "16", "--threads", "1",
                 "--set", "group=4", "local_groups=2", R"(layers={"1": {"method": "softmax"}})"});
  EXPECT_THAT(trained.err, testing::Not(HasSubstr("local branch")));
  EXPECT_EQ(read_json(path("linear/config.json"))["linear_attention"]["layers"]["1"],
            nlohmann::json({{"method", "softmax"}, {"window", 8}}));
  const Outcome checked = run_linnet({"check", path("linear"), "--dtype", "float32"});
  EXPECT_EQ(checked.status, 0) << checked.out << checked.err;
  EXPECT_EQ(run_linnet({"merge", path("linear"), "-o", path("merged")}).status, 0);
  EXPECT_THAT(run_linnet({"inspect", path("merged")}).out,
              HasSubstr(R"(layer 1: {"method":"softmax","window":8})"));
}

TEST_F(TrainingProgram, TakesAttentionAndBudgetsFromTextOrFile) {
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
  // Budgets change what they name, in layers that stand alone too.
  const char* const budgets = R"({"local_groups": 3, "layers": {"1": {"local_groups": [2, 3], "kept": 5}}})";
  write_file(path("budgets.json"), budgets);
  const auto by_hand = layers({"--budgets", path("budgets.json")});
  EXPECT_EQ(by_hand, layers({"--budgets", budgets}));
  EXPECT_EQ(by_hand, layers({"--attention", R"({"method": "grouped", "local_groups": 3,
      "layers": {"1": {"local_groups": [2, 3], "kept": 5}}})"}));
  EXPECT_EQ(layers({"--method", "transnormer_t1", "--budgets", R"({"group": 8})"}),
            layers({"--attention", halves}));
  // A whole layer exact: windows of the whole context.
  EXPECT_EQ(
      layers({"--budgets", R"({"layers": {"1": {"local_groups": 1024}}})"})["layers"]["1"]["local_groups"],
      1024);
}

TEST_F(TrainingProgram, SpendsAStateOnTheHeadsThatNeedIt) {
  std::string story;
  for (int i = 0; i < 3000; ++i) story += static_cast<char>('a' + i * i % 23);
  write_file(path("story.txt"), story);
  write_file(path("reach.json"), reach_of_the_model().dump());
  const auto spend = [&](const char* base, std::vector<std::string> more) {
    more.insert(more.begin(), {"linearize", path(base), "-o", path("out"), "--threads", "2"});
    Outcome outcome = run_linnet(more);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr(" MB of at most "));
    const auto config = read_json(path("out/config.json"))["linear_attention"];
    fs::remove_all(path("out"));
    return std::pair{config, std::move(outcome)};
  };
  const auto [given, told] =
      spend("model", {"--tokens", "0", "--state", "30KB", "--set", "group=8", "--reach", path("reach.json")});
  EXPECT_THAT(told.out, HasSubstr("\n1.0           64\n"));
  EXPECT_EQ(given["layers"]["1"]["local_groups"][0], 8);
  EXPECT_LT(given["layers"]["1"]["local_groups"][1], 8);
  // Where standard output is the result's, the choice is not said there, nor what was written.
  const Outcome printed =
      run_linnet({"linearize", path("model"), "-o", path("printed"), "--tokens", "0", "--state", "30KB",
                  "--set", "group=8", "--reach", path("reach.json"), "--json", "-"});
  EXPECT_EQ(printed.status, 0) << printed.err;
  EXPECT_EQ(parse_json(printed.out, "printed")["out"], path("printed"));
  ASSERT_EQ(run_linnet(pretrain({"--tokens", "64", "-o", path("base")})).status, 0);
  const auto measured =
      spend("base", {"--tokens", "0", "--state", "30KB", "--set", "group=8", "--data", path("story.txt")});
  EXPECT_NE(measured.first, given);
  // The narrowest windows, told without a table that is empty.
  const std::vector<std::string> group8 = {"--tokens", "0",       "--set",
                                           "group=8",  "--reach", path("reach.json")};
  const auto with_state = [&](const std::string& state) {
    std::vector<std::string> more = group8;
    more.insert(more.end(), {"--state", state});
    return more;
  };
  std::vector<std::string> too_little = with_state("1");
  too_little.insert(too_little.begin(), {"linearize", path("model"), "-o", path("out")});
  const std::string refused = run_linnet(too_little).err, at_least = "at least ";
  const size_t digits = refused.find(at_least) + at_least.size();
  const auto [narrow, few] =
      spend("model", with_state(refused.substr(digits, refused.find(',', digits) - digits)));
  EXPECT_THAT(few.out, HasSubstr("in every head\nexpected loss"));
  // Nothing said of windows, and a long context: 5%.
  nlohmann::json config = read_json(path("base/config.json"));
  config["max_position_embeddings"] = 4096;
  write_file(path("base/config.json"), config.dump());
  const auto [chosen, recommended] =
      spend("base", {"--data", path("story.txt"), "--tokens", "64", "--batch", "1", "--context", "1024"});
  EXPECT_THAT(recommended.err, HasSubstr("--state 5% as no window is given"));
  EXPECT_THAT(recommended.out, HasSubstr("% of the softmax cache's 0.5 MB at 4096 tokens"));
  EXPECT_EQ(chosen["method"], "t2r");
  // A method that is named is taken as it stands.
  const Outcome named =
      run_linnet({"linearize", path("base"), "--method", "grouped", "--data", path("story.txt"), "--tokens",
                  "64", "--batch", "1", "--context", "512", "-o", path("named")});
  EXPECT_EQ(named.status, 0) << named.err;
  EXPECT_THAT(named.err, testing::Not(HasSubstr("--state 5%")));
  const auto as_it_stands = read_json(path("named/config.json"))["linear_attention"];
  EXPECT_EQ(as_it_stands["method"], "grouped");
  EXPECT_EQ(as_it_stands["local_groups"], 4);
  EXPECT_FALSE(as_it_stands.contains("layers"));
  // Nothing is chosen for a training that has no text.
  const Outcome without = run_linnet({"linearize", path("model"), "--state", "30KB", "--set", "group=8",
                                      "--reach", path("reach.json"), "--tokens", "64", "-o", path("out")});
  EXPECT_EQ(without.status, 2);
  EXPECT_THAT(without.err, HasSubstr("--data: is missing"));
  EXPECT_EQ(without.out, "");
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

TEST_F(TrainingProgram, TrainsInTheTypeThatTheProcessorMultiplies) {
  const auto type_of = [&](const std::vector<std::string>& more, const std::string& said) {
    std::vector<std::string> arguments = pretrain({"--tokens", "32", "-o", "out", "--json", "out.json"});
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run_linnet(arguments);
    EXPECT_THAT(outcome.err, HasSubstr("training on 32 tokens in " + said + ": "));
    return parse_json(outcome.files.at("out.json"), "out.json")["dtype"].get<std::string>();
  };
  const std::string chosen = type_of({}, automatic());
  EXPECT_EQ(chosen, automatic().substr(0, automatic().find(' ')));
  EXPECT_EQ(type_of({"--dtype", "bfloat16"}, "bfloat16"), "bfloat16");
  EXPECT_EQ(type_of({"--dtype", "float32"}, "float32"), "float32");
  const Outcome bench = run_linnet({"bench", model(), "--training", "--steps", "1", "--batch", "2",
                                    "--context", "16", "--threads", "1", "--json", "bench.json"});
  ASSERT_EQ(bench.status, 0) << bench.err;
  EXPECT_EQ(parse_json(bench.files.at("bench.json"), "bench.json")["dtype"], chosen);
}

TEST_F(TrainingProgram, SaysWhatItWillTrainAndSkipsTransferWhereNothingLearns) {
  ASSERT_EQ(run_linnet(pretrain({"--tokens", "0", "-o", path("plain")})).status, 0);
  const Outcome outcome = run_linnet({"linearize", path("plain"), "--method", "elu1", "--train", "lora",
                                      "--data", text(), "--tokens", "0.1K", "--context", "16", "--batch", "2",
                                      "--threads", "1", "-o", path("out")});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("training on 96 tokens of the 100 asked for in " + automatic() +
                                     ": distill, 3 steps of 2 × 16 tokens"));
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

TEST_F(TrainingProgram, BenchMeasuresTrainingAndWritesItsResultAlone) {
  const Outcome out =
      run_linnet({"bench", model(), "--training", "--steps", "2", "--batch", "96", "--micro-batch", "64",
                  "--context", "64", "--threads", "1", "--dtype", "float32", "--json", "out.json"});
  ASSERT_EQ(out.status, 0) << out.err;
  EXPECT_THAT(out.out, HasSubstr("2 steps of 96 rows of 64 tokens, 64 at once"));
  ASSERT_EQ(out.files.size(), 1u);
  const auto result = nlohmann::json::parse(out.files.at("out.json"));
  const auto number = [&](const char* key) { return result.at(key).get<double>(); };
  EXPECT_EQ(result.at("dtype"), "float32");
  EXPECT_GT(number("training_tokens_per_second"), 0);
  EXPECT_GT(number("peak_memory_bytes"), 1e6);
  EXPECT_GT(number("kept_memory_bytes"), 0);  // freed tensors stay for the next
  EXPECT_NEAR(number("training_fraction_of_matrix_rate"),
              6 * number("parameters") * number("training_tokens_per_second") /
                  number("matrix_operations_per_second"),
              1e-9);
}

}  // namespace
}  // namespace linnet

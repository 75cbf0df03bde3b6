// Classifiers, as a user trains and asks them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <sstream>

#include "base/file.h"
#include "base/json.h"
#include "format/safetensors.h"
#include "tests/cli/training_program.h"

namespace linnet {
namespace {

using testing::HasSubstr;

class ClassifierProgram : public TrainingProgram {
 protected:
  ClassifierProgram() {
    std::string train, valid;
    for (int i = 0; i < 12; ++i) {
      const bool good = i % 2 == 0;
      const std::string line = R"({"sentence": ")" + std::string(good ? "good " : "bad ") +
                               std::to_string(i) + R"(", "label": )" + (good ? "1" : "0") + "}\n";
      (i < 8 ? train : valid) += line;
    }
    write_file(path("sst2-train.jsonl"), train);
    write_file(path("sst2-validation.jsonl"), valid);
    write_file(path("pairs.jsonl"), R"({"a": "one", "b": "two", "kind": "x"}
{"a": "two", "b": "two", "kind": "y"}
)");
    const Outcome made = run_train(pretrain({"--tokens", "32", "-o", path("base")}));
    EXPECT_EQ(made.status, 0) << made.err;
  }

  std::vector<std::string> finetune(const std::vector<std::string>& more) const {
    std::vector<std::string> all = {"finetune", path("base"), "--batch", "4",       "--lr",
                                    "1e-2",     "--threads",  "1",       "--dtype", "float32"};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  std::vector<std::string> sst2(const std::vector<std::string>& more) const {
    std::vector<std::string> all =
        finetune({"--task", path("sst2-train.jsonl"), "--valid", path("sst2-validation.jsonl")});
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
};

TEST_F(ClassifierProgram, TrainsClassifiesAndScoresAsItTrained) {
  const Outcome trained = run_train(sst2({"-o", path("out"), "--json", path("result.json")}));
  ASSERT_EQ(trained.status, 0) << trained.err;
  EXPECT_THAT(trained.out, HasSubstr("kept epoch "));
  const auto result = read_json(path("result.json"));
  EXPECT_EQ(result["labels"], nlohmann::json({"negative", "positive"}));
  EXPECT_EQ(result["epochs"].size(), 3u);
  EXPECT_FALSE(fs::exists(path("out/checkpoints")));
  const Outcome scored = run_linnet(
      {"classify", path("out"), "--task", path("sst2-validation.jsonl"), "--json", path("scores.json")});
  ASSERT_EQ(scored.status, 0) << scored.err;
  const auto scores = read_json(path("scores.json"))["scores"];
  EXPECT_EQ(scores["acc"], result["validation"]["acc"]);
  EXPECT_NEAR(scores["loss"], result["validation"]["loss"], 1e-5);
  const Outcome evaluated = run_linnet({"evaluate", path("out"), "--tasks", "glue_sst2", "--data",
                                        folder_.path().string(), "--json", path("task.json")});
  ASSERT_EQ(evaluated.status, 0) << evaluated.err;
  EXPECT_EQ(read_json(path("task.json"))["results"]["glue_sst2"]["acc,none"], scores["acc"]);
  const Outcome lines = run_linnet({"classify", path("out"), "-"}, {.input = "good 3\nbad pair\n"});
  ASSERT_EQ(lines.status, 0) << lines.err;
  std::istringstream each(lines.out);
  std::string line;
  int count = 0;
  for (; std::getline(each, line); ++count) {
    const auto json = nlohmann::json::parse(line);
    EXPECT_NEAR(
        json["probabilities"]["negative"].get<double>() + json["probabilities"]["positive"].get<double>(), 1,
        1e-9);
  }
  EXPECT_EQ(count, 2);
  EXPECT_THAT(run_linnet({"inspect", path("out")}).out, HasSubstr(R"(["negative","positive"])"));
}

TEST_F(ClassifierProgram, LinearizesAsItTrainsAndTrainsWhatIsAsked) {
  const struct {
    std::vector<std::string> options;
    const char* part;  // of a tensor's name that is written
  } rows[] = {
      {{"--method", "relu", "--set", "group=4", "local=softmax", "taps=4"}, "linear_attention.taps"},
      {{"--train", "lora", "--lora-rank", "2"}, "score.weight"},
      {{"--train", "head"}, "score.weight"},
  };
  int number = 0;
  for (const auto& row : rows) {
    const std::string out = path("out") + std::to_string(number++);
    std::vector<std::string> arguments = sst2({"--epochs", "1", "-o", out});
    arguments.insert(arguments.end(), row.options.begin(), row.options.end());
    const Outcome trained = run_train(arguments);
    ASSERT_EQ(trained.status, 0) << trained.err;
    bool found = false;
    const auto written = Model::open(out);
    for (const auto& [name, tensor] : written->base_tensors().tensors())
      found |= name.find(row.part) != name.npos;
    EXPECT_TRUE(found) << row.part;
    EXPECT_EQ(run_linnet({"classify", out, "-"}, {.input = "good"}).status, 0);
  }
  // A classifier is trained on, or given a fresh head for other labels, and pairs are read by their fields.
  const Outcome pairs =
      run_train({"finetune", path("out0"), "--task", path("pairs.jsonl"), "--text-fields", "a,b",
                 "--label-field", "kind", "--epochs", "1", "--threads", "1", "-o", path("pairs")});
  EXPECT_EQ(pairs.status, 0) << pairs.err;
  EXPECT_THAT(pairs.err, HasSubstr("the model's labels are others"));
  EXPECT_EQ(Model::open(path("pairs"))->config().labels, (std::vector<std::string>{"x", "y"}));
}

TEST_F(ClassifierProgram, IsCheckedMeasuredQuantizedAndMerged) {
  nlohmann::json config = read_json(path("config.json"));
  config["intermediate_size"] = 64;  // whole groups of 32
  write_file(path("wide.json"), config.dump());
  std::vector<std::string> made = pretrain({"--tokens", "32", "-o", path("wide")});
  made[2] = path("wide.json");
  ASSERT_EQ(run_train(made).status, 0);
  const std::vector<std::string> task = {"--task", path("sst2-train.jsonl"), "--epochs", "1", "--threads",
                                         "1"};
  const auto tuned = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"finetune", path("wide")});
    more.insert(more.end(), task.begin(), task.end());
    const Outcome outcome = run_train(more);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
  };
  tuned({"-o", path("whole")});
  tuned({"--method", "relu", "--set", "group=4", "-o", path("linear")});
  for (const char* folder : {"whole", "linear"}) {
    const Outcome checked = run_linnet({"check", path(folder)});
    EXPECT_EQ(checked.status, 0) << checked.out << checked.err;
    EXPECT_THAT(checked.out, HasSubstr("causality"));
    const Outcome measured = run_linnet(
        {"bench", path(folder), "--prefill-tokens", "8", "--windows", "1", "--json", path("bench.json")});
    EXPECT_EQ(measured.status, 0) << measured.err;
    EXPECT_GT(read_json(path("bench.json"))["encode"][0]["sequences_per_second"], 0);
    const Outcome inspected = run_linnet({"inspect", path(folder)});
    EXPECT_EQ(inspected.status, 0) << inspected.out;
    EXPECT_THAT(inspected.out, HasSubstr("LlamaForSequenceClassification"));
  }
  const auto answers = [&](const std::string& folder) {
    const Outcome outcome = run_linnet({"classify", folder, "--task", path("sst2-train.jsonl"), "--json",
                                        path("scores.json"), "--dtype", "float32"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return read_json(path("scores.json"))["scores"]["loss"].get<double>();
  };
  const double loss = answers(path("whole"));
  const Outcome turned = run_linnet({"quantize", path("whole"), "-o", path("int8")});
  ASSERT_EQ(turned.status, 0) << turned.err;
  EXPECT_NEAR(answers(path("int8")), loss, 0.05);
  const auto written = Model::open(path("int8"));
  EXPECT_TRUE(written->is_quantized());
  EXPECT_EQ(written->head_tensor("score", "weight")->type, DType::kF32);
  EXPECT_EQ(read_json(path("int8/config.json"))["quantization_config"]["ignore"], nlohmann::json({"score"}));
  // A LoRA of the language model, on the classifier as its base.
  std::vector<std::string> lora = {"finetune", path("wide"), "--train", "lora",   "--lora-rank",
                                   "2",        "--lr",       "1e-1",    "--data", text(),
                                   "--tokens", "64",         "--batch", "2",      "--context",
                                   "16",       "--threads",  "1",       "-o",     path("lora")};
  ASSERT_EQ(run_train(lora).status, 0);
  const Outcome merged = run_linnet({"merge", path("lora"), "--base", path("whole"), "-o", path("merged")});
  ASSERT_EQ(merged.status, 0) << merged.err;
  EXPECT_NE(answers(path("merged")), loss);
  expect_refused(
      {{"quantize", path("whole"), "--valid", text(), "-o", path("out")}, "--valid: given for a classifier"},
      run_linnet({"quantize", path("whole"), "--valid", text(), "-o", path("out")}));
  expect_refused({{}, "--contexts: given, and this is a classifier"},
                 run_linnet({"bench", path("whole"), "--contexts", "8"}));
}

TEST_F(ClassifierProgram, ScoresAnswersThatAreAllButCertainlyWrong) {
  ASSERT_EQ(run_train(sst2({"--epochs", "1", "-o", path("out")})).status, 0);
  const fs::path weights = path("out/model.safetensors");
  {
    const SafetensorsFile file = SafetensorsFile::open(weights);
    std::vector<float> score;
    std::vector<NamedTensor> tensors;
    for (const auto& [name, tensor] : file.tensors()) tensors.push_back({name, tensor});
    for (NamedTensor& one : tensors) {
      if (one.name != "score.weight") continue;
      ASSERT_EQ(one.tensor.type, DType::kF32);
      score.resize(one.tensor.bytes.size() / sizeof(float));
      std::memcpy(score.data(), one.tensor.bytes.data(), one.tensor.bytes.size());
      for (float& number : score) number *= 1e6F;
      one.tensor.bytes = std::as_bytes(std::span(score));
    }
    ASSERT_FALSE(score.empty());
    write_safetensors(weights, tensors);
  }
  // One of the two is wrong, by more than the smallest number above 0 says.
  write_file(path("sst2-both.jsonl"), R"({"sentence": "good 1", "label": 0}
{"sentence": "good 1", "label": 1}
)");
  const Outcome scored =
      run_linnet({"classify", path("out"), "--task", path("sst2-both.jsonl"), "--json", path("scores.json")});
  ASSERT_EQ(scored.status, 0) << scored.err;
  EXPECT_THAT(scored.out, testing::Not(HasSubstr("inf")));
  const nlohmann::json loss = read_json(path("scores.json"))["scores"]["loss"];
  ASSERT_TRUE(loss.is_number()) << loss;
  EXPECT_GT(loss, 400);
}

TEST_F(ClassifierProgram, RefusesWhatItCannotLearnFromOrAnswer) {
  ASSERT_EQ(run_train(sst2({"--epochs", "1", "-o", path("done")})).status, 0);
  const Outcome paired =
      run_train(finetune({"--task", path("pairs.jsonl"), "--text-fields", "a,b", "--label-field", "kind",
                          "--epochs", "1", "-o", path("paired")}));
  ASSERT_EQ(paired.status, 0) << paired.err;
  EXPECT_EQ(read_json(path("paired/config.json"))["texts_per_example"], 2);
  write_file(path("blank.txt"), "good\n\nbad\n");
  write_file(path("pair.txt"), "good\ngood\tbad\n");
  write_file(path("tabs.txt"), "good\tbad\ngood\tbad\tworse\n");
  write_file(path("bytes.txt"), "go\xFFod\n");
  write_file(path("sst2-true.jsonl"), R"({"sentence": "good", "label": true})");
  write_file(path("sst2-odd.jsonl"), R"({"sentence": "a", "label": 7})");
  const std::string task = path("sst2-train.jsonl"), out = path("out");
  const BadRow trained[] = {
      {finetune({"--task", path("sst2-odd.jsonl"), "-o", out}),
       "the label is \"7\", expected one of negative, positive"},
      {finetune({"--task", path("pairs.jsonl"), "-o", out}), "its name begins with no known task's"},
      {finetune({"--task", path("pairs.jsonl"), "--text-fields", "c", "-o", out}), "no field `c`"},
      {finetune({"--task", path("pairs.jsonl"), "--text-fields", "a,b,c", "-o", out}), "3 fields"},
      {finetune({"--task", path("empty.txt"), "--text-fields", "a", "-o", out}), "no record"},
      {finetune({"--task", task, "--valid", task, "-o", out}), "stands in --task and in --valid"},
      {finetune({"--task", task, "--tokens", "5", "-o", out}), "--task: given with --tokens"},
      {finetune({"--task", task, "--metric", "acc", "-o", out}), "--metric: given without --valid"},
      {finetune({"--task", task, "--set", "group=4", "-o", out}), "given without --method or --attention"},
      {finetune({"--task", task, "--train", "new", "-o", out}), "nothing to train"},
      {finetune({"--task", task, "--lr", "0", "-o", out}), "expected"},
      {finetune({"--task", task, "--micro-batch", "5", "-o", out}),
       "--micro-batch: 5 rows at once of the 4 of a step, expected at most 4, or a larger --batch"},
      {finetune({"--tokens", "5", "--data", text(), "--epochs", "2", "-o", out}),
       "--epochs: given without --task"},
      {finetune({"--data", text(), "-o", out}), "--tokens: is missing"},
      {{"finetune", path("done"), "--data", text(), "--tokens", "32", "-o", out}, "is a classifier"},
      {{"linearize", path("done"), "--tokens", "0", "-o", out}, "is a classifier"},
  };
  for (const BadRow& row : trained) expect_refused(row, run_train(row.arguments));
  const BadRow asked[] = {
      {{"classify", path("base"), task}, "has no classification head"},
      {{"classify", path("done")}, "FILE: is missing"},
      {{"evaluate", path("done"), "--tasks", "piqa"}, "piqa by a classifier"},
      {{"evaluate", path("base"), "--tasks", "glue_sst2"}, "has no classification head"},
      {{"evaluate", path("done"), "--tasks", "glue_sst2", "--shots", "1"}, "--shots: given for a classifier"},
      {{"classify", path("done"), "--task", path("sst2-odd.jsonl")}, "the label is \"7\""},
      {{"classify", path("done"), path("empty.txt")}, "no text"},
      {{"classify", path("done"), path("pairs.jsonl"), "--text-fields", "a,b,b"}, "--text-fields: 3 fields"},
      {{"classify", path("done"), path("pairs.jsonl"), "--text-fields", "a", "--label-field", "kind"},
       "--label-field: given without --task"},
      {{"classify", path("done"), "--task", task, "--label-field", "kind"},
       "--label-field: given without --text-fields"},
      {{"classify", path("done"), path("blank.txt"), "--text-fields", "a"},
       "--text-fields: given, and a line of the files is a text"},
      {{"classify", path("done"), path("pair.txt")},
       "pair.txt:2: a pair, and the classifier was trained on single texts, expected one text"},
      {{"classify", path("paired"), path("blank.txt")},
       "blank.txt:1: a single text, and the classifier was trained on pairs, expected two"},
      {{"classify", path("paired"), path("tabs.txt")},
       "tabs.txt:2: 2 tabs, expected none, or one between the two texts of a pair"},
      {{"classify", path("done"), path("bytes.txt")}, "bytes.txt:1: bytes that are no UTF-8"},
      {{"classify", path("done"), "--task", path("sst2-true.jsonl")}, "the field `label` is boolean"},
      {{"evaluate", path("nowhere"), "--tasks", "piqa"}, "nowhere"},
      {{"evaluate", path("base"), "--tasks", "piqa", "--data", path("nodata")}, "nodata"},
      {{"generate", path("done"), "--prompt", "a"}, "is a classifier, which has no head over the vocabulary"},
      {{"perplexity", path("done"), text()}, "is a classifier"},
  };
  for (const BadRow& row : asked) expect_refused(row, run_linnet(row.arguments));
  // A blank line is a text too: answers stand in the lines of what was asked.
  const Outcome blank = run_linnet({"classify", path("done"), path("blank.txt")});
  EXPECT_EQ(std::ranges::count(blank.out, '\n'), 3) << blank.err;
}

}  // namespace
}  // namespace linnet

// Classifiers against transformers' numbers (tests/data/classifiers), and their training.
#include "train/classifier.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/remove_folder.h"
#include "format/safetensors.h"
#include "model/classifier.h"
#include "model/encoder.h"
#include "tests/train/random_rows.h"
#include "train/output.h"
#include "train/weights.h"

namespace linnet::train {
namespace {

namespace fs = std::filesystem;

const fs::path kFolder = fs::path(LINNET_TEST_DATA) / "classifiers";

template <class T>
std::vector<T> numbers(const SafetensorsFile& file, const char* name) {
  const TensorView& view = file.tensors().find(name)->second;
  std::vector<T> all(static_cast<size_t>(view.numbers()));
  std::memcpy(all.data(), view.bytes.data(), view.bytes.size());
  return all;
}

struct Golden {
  explicit Golden(const std::string& name)
      : file(SafetensorsFile::open(kFolder / name / "golden.safetensors")),
        optimizer(parse_json(file.metadata().at("optimizer"), name)),
        logits(numbers<float>(file, "logits")),
        losses(numbers<double>(file, "losses")) {
    const auto ids = numbers<int64_t>(file, "input_ids"), lengths = numbers<int64_t>(file, "lengths");
    const size_t longest = ids.size() / lengths.size();
    for (size_t row = 0; row < lengths.size(); ++row) {
      const auto begin = ids.begin() + static_cast<ptrdiff_t>(row * longest);
      texts.tokens.emplace_back(begin, begin + lengths[row]);
    }
    texts.labels = numbers<int64_t>(file, "labels");
    if (file.tensors().find("types") == file.tensors().end()) return;
    const auto kinds = numbers<int64_t>(file, "types");
    for (size_t row = 0; row < lengths.size(); ++row) {
      const auto begin = kinds.begin() + static_cast<ptrdiff_t>(row * longest);
      texts.types.emplace_back(begin, begin + lengths[row]);
    }
  }
  SafetensorsFile file;
  nlohmann::json optimizer;
  LabeledTokens texts;
  std::vector<float> logits;
  std::vector<double> losses;
};

std::vector<int64_t> places(int64_t first, int64_t count, int64_t all) {
  std::vector<int64_t> result;
  for (int64_t i = first; i < first + count; ++i) result.push_back(i % all);
  return result;
}

class ClassifierGolden : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Checkpoints, ClassifierGolden,
                         testing::Values("llama", "gpt2", "gpt-neox", "bert", "roberta", "t5"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST_P(ClassifierGolden, LogitsAndTenStepsAreTransformers) {
  const Golden golden(GetParam());
  const auto model = Model::open(kFolder / GetParam());
  ASSERT_EQ(model->config().labels, (std::vector<std::string>{"bad", "middling", "good"}));
  EXPECT_TRUE(model->unused_tensors().empty());
  Module module(model, {});
  module.set_trainable({.what = Train::kAll});
  const TrainedClassifier classifier(module, *model, 0, /*fresh=*/false);
  const int64_t count = golden.texts.size();
  const at::Tensor logits = classifier.logits(golden.texts, places(0, count, count)).detach().contiguous();
  for (int64_t i = 0; i < logits.numel(); ++i)
    EXPECT_NEAR(logits.data_ptr<float>()[i], golden.logits[i], 1e-5) << i;
  size_t with_gradient = 0;
  classifier.loss(golden.texts, places(0, count, count)).div(count).backward();
  for (const Parameter& parameter : classifier.parameters()) {
    const auto found = golden.file.tensors().find("gradient." + parameter.name);
    if (found != golden.file.tensors().end()) {
      const at::Tensor expected = load_tensor(found->second, at::kCPU, at::kFloat, parameter.name);
      EXPECT_LT(relative_error(parameter.tensor.grad(), expected), 1e-4) << parameter.name;
    }
    with_gradient += found != golden.file.tensors().end() ? 1 : 0;
    parameter.tensor.mutable_grad() = at::Tensor();
  }
  EXPECT_EQ(with_gradient, model->encoder() ? classifier.parameters().size() : 0);
  AdamW optimizer(classifier.parameters(),
                  {golden.optimizer["beta1"], golden.optimizer["beta2"], golden.optimizer["epsilon"], 0.0});
  for (int64_t step = 0; step < std::ssize(golden.losses); ++step) {
    const at::Tensor loss = classifier.loss(golden.texts, places(4 * step, 4, count)) / 4;
    EXPECT_NEAR(loss.item<double>(), golden.losses[step], 1e-4) << step;
    loss.backward();
    optimizer.step(golden.optimizer["learning_rate"]);
  }
}

TEST_P(ClassifierGolden, TheRuntimeTakesEachTextForWhatTransformersDoes) {
  const Golden golden(GetParam());
  const auto model = Model::open(kFolder / GetParam());
  const Classifier head(*model);
  ThreadPool pool(1);
  const auto encoder = Encoder::make(model, {}, pool);
  const auto size = static_cast<size_t>(encoder->hidden_size());
  for (size_t row = 0; row < golden.texts.tokens.size(); ++row) {
    const auto& tokens = golden.texts.tokens[row];
    std::vector<float> rows(tokens.size() * size);
    const Encoder::Sequence sequence{
        tokens, golden.texts.types.empty() ? std::span<const int32_t>() : std::span(golden.texts.types[row])};
    encoder->encode({&sequence, 1}, rows);
    const size_t read = head.row() == ReadRow::kFirst ? 0 : tokens.size() - 1;
    const auto logits = head.logits(std::span<const float>(rows).subspan(read * size, size));
    for (size_t label = 0; label < 3; ++label)
      EXPECT_NEAR(logits[label], golden.logits[3 * row + label], 1e-5);
  }
}

/// A run on the golden texts, held-out ones among them; stopped by Ctrl-C at a step, and gone on with.
class ClassifierRunTest : public testing::Test {
 protected:
  void SetUp() override {
    out_ = fs::path(testing::TempDir()) /
           ("classifier_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    remove_folder(out_);
    fs::create_directories(out_);
  }
  void TearDown() override { remove_folder(out_); }

  struct Trained {
    ClassifierResult result;
    std::vector<double> losses;
    std::vector<at::Tensor> parameters;
  };
  Trained train(const RunOptions& options, double rate = 1e-2) {
    Module module(model_, {});
    module.set_trainable({.what = Train::kAll});
    TrainedClassifier classifier(module, *model_, 0, /*fresh=*/true);
    LabeledTokens train, valid;
    for (size_t i = 0; i < golden_.texts.tokens.size(); ++i) {
      LabeledTokens& to = i < 7 ? train : valid;
      to.tokens.push_back(golden_.texts.tokens[i]);
      to.labels.push_back(golden_.texts.labels[i]);
    }
    Hyperparameters numbers;
    numbers.batch = 2;
    numbers.learning_rate = rate;
    Trained trained;
    RunOptions how = options;
    how.on_line = [&](const LogLine& line) { trained.losses.push_back(line.loss); };
    trained.result = train_classifier(module, classifier, train, {&valid, {Metric::kAccuracy}},
                                      classifier_recipe(numbers, 3, train.size()), how);
    for (const Parameter& parameter : classifier.parameters())
      trained.parameters.push_back(parameter.tensor.detach().clone());
    return trained;
  }

  Golden golden_{"llama"};
  std::shared_ptr<const Model> model_ = Model::open(kFolder / "llama");
  fs::path out_;
};

TEST_F(ClassifierRunTest, GoesOnAfterCtrlCAsIfNothingHadHappened) {
  const Trained whole = train({.out = out_ / "whole", .seed = 3});
  EXPECT_EQ(whole.result.run.steps, 12);  // 7 texts in batches of 2: four steps an epoch
  ASSERT_EQ(whole.result.epochs.size(), 3u);
  RunOptions options{.out = out_ / "cut", .seed = 3};
  options.on_step = [](int64_t step) {
    if (step == 9) ::raise(SIGINT);
  };
  const Trained cut = train(options);
  EXPECT_TRUE(cut.result.run.interrupted);
  EXPECT_EQ(cut.result.run.steps, 9);
  options.resume = true;
  options.on_step = {};
  const Trained rest = train(options);
  EXPECT_FALSE(rest.result.run.interrupted);
  std::vector<double> losses = cut.losses;
  losses.insert(losses.end(), rest.losses.begin(), rest.losses.end());
  EXPECT_EQ(losses, whole.losses);
  EXPECT_EQ(rest.result.epoch, whole.result.epoch);
  EXPECT_EQ(rest.result.scores, whole.result.scores);
  EXPECT_EQ(rest.result.epochs, whole.result.epochs);  // those of the cut run too
  for (size_t i = 0; i < whole.parameters.size(); ++i)
    EXPECT_TRUE(at::equal(rest.parameters[i], whole.parameters[i])) << i;
  EXPECT_EQ(train(options).result.run.loss, whole.losses.back());  // nothing is left to train
}

TEST_F(ClassifierRunTest, ScoresAnEpochThatCtrlCCutOffAndLogsIt) {
  const Trained whole = train({.out = out_ / "whole", .seed = 3});
  RunOptions options{.out = out_ / "cut", .seed = 3};
  options.on_step = [](int64_t step) {
    if (step == 8) ::raise(SIGINT);  // an epoch's last: its score is cut off
  };
  EXPECT_TRUE(train(options).result.run.interrupted);
  options.resume = true;
  options.on_step = {};
  const Trained rest = train(options);
  EXPECT_EQ(rest.result.epochs, whole.result.epochs);
  const auto scores_of = [](const fs::path& run) {
    std::vector<std::string> lines;
    std::ifstream file(run / "training.jsonl");
    for (std::string line; std::getline(file, line);)
      lines.push_back(nlohmann::json::parse(line).value("validation", nlohmann::json()).dump());
    return lines;
  };
  EXPECT_EQ(scores_of(out_ / "cut"), scores_of(out_ / "whole"));
}

TEST_F(ClassifierRunTest, RefusesABestEpochThatIsNotAsItWasWritten) {
  RunOptions options{.out = out_ / "cut", .seed = 3};
  options.on_step = [](int64_t step) {
    if (step == 9) ::raise(SIGINT);
  };
  train(options);
  catch_interrupts();  // a new process knows nothing of the signal
  const fs::path best = out_ / "cut" / "checkpoints" / "best.safetensors";
  std::string bytes = read_whole(best.string());
  bytes[bytes.size() - 1] ^= 1;  // of a weight
  write_file(best, bytes);
  options.resume = true;
  options.on_step = {};
  try {
    train(options);
    ADD_FAILURE() << "it was taken";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("not the best epoch of this run"), std::string::npos)
        << error.what();
  }
}

TEST_F(ClassifierRunTest, NamesTheLastCheckpointWhereItDiverges) {
  try {
    train({.out = out_ / "run", .checkpoint_every = 1, .log_every = 1}, 1e30);
    ADD_FAILURE() << "it did not";
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_NE(message.find("training diverged"), std::string::npos) << message;
    EXPECT_NE(message.find("the last checkpoint is " + (out_ / "run").string()), std::string::npos)
        << message;
    EXPECT_EQ(error.status(), ExitStatus::kFailed);
  }
}

TEST_F(ClassifierRunTest, KeepsTheFirstOfTheBestEpochs) {
  const Trained trained = train({.out = out_ / "run"});
  double best = -1;
  int64_t epoch = 0;
  for (const auto& scores : trained.result.epochs) {
    if (scores[2].second <= best) continue;
    best = scores[2].second;
    epoch = static_cast<int64_t>(scores[0].second);
  }
  EXPECT_EQ(trained.result.epoch, epoch);
  EXPECT_EQ(trained.result.scores[2], (std::pair<std::string, double>{"acc", best}));
}

TEST_F(ClassifierRunTest, WritesAFolderThatIsReadAsItWasTrained) {
  const auto base = Model::open(fs::path(LINNET_TEST_DATA) / "hf" / "llama-mha");  // with a head of its own
  const auto model = base->with_labels({"no", "yes"}, 2, 1);
  for (const Train what : {Train::kAll, Train::kLora}) {
    Module module(model, {});
    module.set_trainable({.what = what});
    const TrainedClassifier classifier(module, *model, 1, /*fresh=*/true);
    {
      at::NoGradGuard off;
      for (const Parameter& parameter : classifier.parameters()) at::Tensor(parameter.tensor).add_(0.01);
    }
    const fs::path out = out_ / (what == Train::kAll ? "all" : "lora");
    fs::create_directories(out);
    write_classifier(out, module, classifier.head(), *model, size_t{1} << 30);
    const auto read = Model::open(out);
    EXPECT_EQ(read->config().labels, (std::vector<std::string>{"no", "yes"}));
    EXPECT_EQ(read->config().raw["architectures"][0], "LlamaForSequenceClassification");
    EXPECT_EQ(read->base_tensors().find("lm_head.weight"), nullptr);
    Module again(read, {});
    const TrainedClassifier same(again, *read, 5, /*fresh=*/false);
    const int64_t count = golden_.texts.size();
    EXPECT_TRUE(at::allclose(same.logits(golden_.texts, places(0, count, count)),
                             classifier.logits(golden_.texts, places(0, count, count)), 1e-5, 1e-5));
  }
}

TEST(ClassifierOrder, IsAPermutationThatSeedAndEpochGive) {
  std::vector<int64_t> order = order_of(100, 1, 0);
  EXPECT_EQ(order, order_of(100, 1, 0));
  EXPECT_NE(order, order_of(100, 1, 1));
  EXPECT_NE(order, order_of(100, 2, 0));
  std::sort(order.begin(), order.end());
  for (int64_t i = 0; i < 100; ++i) EXPECT_EQ(order[i], i);
}

}  // namespace
}  // namespace linnet::train

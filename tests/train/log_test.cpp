#include "train/log.h"
#include "base/remove_folder.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "base/error.h"
#include "base/file.h"

namespace linnet::train {
namespace {

namespace fs = std::filesystem;

class Log : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) /
              ("log_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    remove_folder(folder_);
    fs::create_directories(folder_);
  }
  void TearDown() override { remove_folder(folder_); }
  std::string read(const char* name) const {
    std::ifstream file(folder_ / name);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  static std::vector<LogLine> lines(int64_t first, int64_t last) {
    std::vector<LogLine> result;
    for (int64_t step = first; step <= last; ++step)
      result.push_back({.step = step,
                        .tokens = step * 100,
                        .phase = step < 3 ? "transfer" : "distill",
                        .loss = 1.0 / static_cast<double>(step),
                        .learning_rate = 0.1,
                        .gradient_norm = 2});
    return result;
  }
  fs::path folder_;
};

TEST_F(Log, ALineHasTheNamedFields) {
  EXPECT_EQ(to_json_line({.step = 2,
                          .tokens = 64,
                          .phase = "distill",
                          .loss = 1.5,
                          .learning_rate = 0.001,
                          .gradient_norm = 0.25,
                          .tokens_per_second = 10,
                          .seconds = 3,
                          .validation_bits_per_byte = 2.5}),
            "{\"step\":2,\"tokens\":64,\"phase\":\"distill\",\"loss\":1.5,\"learning_rate\":0.001,"
            "\"gradient_norm\":0.25,\"tokens_per_second\":10.0,\"seconds\":3.0,"
            "\"validation_bits_per_byte\":2.5}\n");
}

TEST_F(Log, AResumedOneKeepsTheLinesBeforeAndDropsAHalfWrittenOne) {
  std::string before;
  {
    TrainingLog log(folder_, "title", std::nullopt);
    log.write(lines(1, 4));
    before = read("training.jsonl");
    log.write(lines(5, 6));
  }
  std::ofstream(folder_ / "training.jsonl", std::ios::app) << "{\"step\":7,\"tok";
  TrainingLog log(folder_, "title", 4);
  EXPECT_EQ(read("training.jsonl"), before);
}

TEST_F(Log, AMalformedLineIsAnErrorThatNamesIt) {
  write_file(folder_ / "training.jsonl", to_json_line(lines(1, 1)[0]) + "{\"step\":2}\n");
  try {
    TrainingLog log(folder_, "title", 4);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("training.jsonl:2"), std::string::npos) << error.what();
  }
}

TEST_F(Log, ThePictureHasAPanelForEachPhaseAndIsSelfContained) {
  TrainingLog log(folder_, "a < b & c", std::nullopt);
  auto all = lines(1, 5);
  all.back().validation_bits_per_byte = 1.25;
  log.write(all);
  log.plot();
  const std::string svg = read("training.svg");
  for (const char* part : {"<svg ", "loss, transfer", "loss, distill", "validation, bits per byte",
                           "learning rate", "a &lt; b &amp; c", "</svg>"})
    EXPECT_NE(svg.find(part), std::string::npos) << part;
  EXPECT_EQ(svg.find("href"), std::string::npos);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

}  // namespace
}  // namespace linnet::train

// The commands that train, run on a tiny model: the fixture that their tests share.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/json.h"
#include "cli/reach_run.h"
#include "cli/train_commands.h"
#include "kernels/cpu/large_product.h"
#include "model/model.h"
#include "tests/cli/run.h"

namespace linnet {

namespace fs = std::filesystem;

inline std::string model() { return std::string(LINNET_TEST_DATA) + "/hf/llama-gqa-tied"; }

/// What inspect calls a folder, with the first layer's method: "sidecar grouped"; what it says where it
/// refuses.
inline std::string kind_of(const std::string& folder) {
  const Outcome outcome = run_linnet({"inspect", folder, "--json", "out.json"});
  if (!outcome.files.contains("out.json")) return outcome.err;
  const nlohmann::json json = parse_json(outcome.files.at("out.json"), "out.json");
  return json.at("kind").get<std::string>() + " " + json.at("attention")[0].at("method").get<std::string>();
}

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

  /// What --dtype auto is on this machine, as a run says it.
  static std::string automatic() {
    return kernels::fast_bfloat16() ? "bfloat16" : "float32 (this processor does not multiply bfloat16)";
  }

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

  /// What `linnet reach --json` says of the model: head 1.0 alone loses anything past a few tokens.
  static nlohmann::json reach_of_the_model() {
    const nlohmann::json config = read_json(model() + "/config.json");
    nlohmann::json reach{{"model", model()},
                         {"model_hash", cli::measured_hash(*Model::open(model()))},
                         {"context", 64},
                         {"windows", {16, 32}}};
    for (int layer = 0; layer < config["num_hidden_layers"]; ++layer) {
      nlohmann::json heads;
      for (int head = 0; head < config["num_key_value_heads"]; ++head) {
        const double loss = layer == 1 && head == 0 ? 1 : 1e-3;
        nlohmann::json windows;
        for (const double mean : {loss, loss * loss})
          windows.push_back(
              {{"text", {{"mean", mean}}}, {"far_pairs", {{"mean", mean}}}, {"passages", {{"mean", mean}}}});
        heads.push_back({{"windows", windows}});
      }
      reach["layers"].push_back({{"heads", heads}});
    }
    return reach;
  }

  /// linnet-train, without loading libtorch each time.
  static Outcome run_train(const std::vector<std::string>& arguments) {
    return run_linnet(arguments, {.program = cli::run_train_commands});
  }

  TemporaryFolder folder_;
};

}  // namespace linnet

// The program on a small model of its own, for tests of commands.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/cli/run.h"

namespace linnet {

/// A golden checkpoint with a tokenizer of printable ASCII: a whole model folder, small enough for every
/// test. Beside it other models and texts.
class Program : public testing::Test {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite();

  static std::filesystem::path model() { return inputs_->path() / "model"; }
  static const std::filesystem::path& inputs() { return inputs_->path(); }
  static std::string input(const char* name) { return inputs_->path() / name; }
  /// "{m}" and "{i}" stand for the model and the folder of inputs.
  static std::vector<std::string> fill_in(std::vector<std::string> arguments);
  static Outcome run(std::vector<std::string> arguments, const RunOptions& options = {}) {
    return run_linnet(fill_in(std::move(arguments)), options);
  }

  /// Linear attention without learned tensors on the model's own weights.
  static void make_sidecar(const std::filesystem::path& folder, const nlohmann::json& attention);

 private:
  static TemporaryFolder* inputs_;
};

}  // namespace linnet

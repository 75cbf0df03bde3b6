// What options take, and which of them are refused where they would do nothing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <regex>
#include <set>
#include <sstream>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/numeric_options.h"
#include "tests/cli/program.h"

namespace linnet {
namespace {

using testing::StartsWith;

const std::vector<std::string> kCommands[] = {{"generate"}, {"chat"},      {"perplexity"},
                                              {"evaluate"}, {"reach"},     {"inspect"},
                                              {"check"},    {"recall"},    {"import"},
                                              {"bench"},    {"merge"},     {"tokenizer", "train"},
                                              {"methods"},  {"attention"}, {"tokenizer", "encode"},
                                              {"serve"},    {"classify"},  {"embed"}};

TEST_F(Program, RefusesNumbersOutOfRangeAndNamesTheOption) {
  size_t options = 0;
  for (std::vector<std::string> command : kCommands) {
    command.emplace_back("--help");
    const std::string help = run(command).out;
    for (const NumericOption& option : numeric_options(help)) {
      ++options;
      ASSERT_NE(option.range, "") << command[0] << " " << option.name << ": --help shows no range";
      EXPECT_TRUE(is_in_range(option)) << command[0] << " " << option.name << ": default " << option.standard;
      for (const std::string& value : bad_values(option)) {
        std::vector<std::string> arguments(command.begin(), command.end() - 1);
        arguments.push_back(option.name + "=" + value);
        const std::string message = "error: " + option.name + ": " + value + ", expected ";
        expect_refused({arguments, message.c_str()}, run(arguments));
      }
    }
  }
  EXPECT_GE(options, 40u);
}

TEST_F(Program, SaysInItsOwnWordsWhatAnOptionLacksOrHasTwice) {
  size_t options = 0;
  for (std::vector<std::string> command : kCommands) {
    command.emplace_back("--help");
    const std::string help = run(command).out;
    command.pop_back();
    const auto refused = [&](const std::vector<std::string>& more, const std::string& message) {
      std::vector<std::string> arguments = command;
      arguments.insert(arguments.end(), more.begin(), more.end());
      expect_refused({arguments, message.c_str()}, run(arguments));
    };
    for (const HelpOption& option : options_in(help)) {
      if (option.name == "--help") continue;
      ++options;
      const std::string where = "error: " + option.name + ": ";
      if (!option.takes_value) {
        refused({option.name + "=3"}, where + "given a value, expected none");
        continue;
      }
      refused({option.name}, where + "no value, expected " + option.kind);
      refused({option.name, "--help"}, where + "no value before --help, expected " + option.kind);
      if (!option.takes_several) refused({option.name, "1", option.name, "1"}, where + "given twice");
      if (option.kind.ends_with("…")) {
        for (const char* list : {"1,,2", ",1", "1,"})
          refused({option.name, list}, where + list + ", expected a list with one comma between two");
      }
    }
  }
  EXPECT_GE(options, 80u);
  const std::vector<BadRow> rows = {
      {{"methods", "--head-size", ""}, "--head-size: \"\", expected a number 1 to 1024"},
      {{"methods", "--head-size="}, "--head-size: no value, expected INT, 1 to 1024"},
      {{"tokenizer", "encode", "{m}", "a", "b"}, "FILE: given too often, expected what"},
      {{"bench", "{m}", "--contexts", "4,8,4"}, "--contexts: 4 twice, expected each once"},
  };
  for (const BadRow& row : rows) expect_refused(row, run(row.arguments));
  EXPECT_EQ(run({"generate", "{m}", "--prompt=--seed", "-n", "1"}).status, 0);
}

TEST_F(Program, BlamesTheOptionWhoseValueIsNone) {
  const std::string file = std::string(LINNET_TEST_DATA) + "/attention/relu.safetensors";
  const std::set<std::string> any = {"--prompt", "--system", "--stop",   "--text",
                                     "--field",  "--out",    "--output", "--name"};  // take any text
  const std::vector<std::string> commands[] = {{"generate", "{m}"},
                                               {"chat", "{m}"},
                                               {"serve", "{m}"},
                                               {"perplexity", "{m}", "{i}/text.txt"},
                                               {"evaluate", "{m}", "--tasks", "piqa", "--data", "{i}/tasks"},
                                               {"reach", "{m}", "{i}/text.txt"},
                                               {"inspect", "{m}"},
                                               {"check", "{m}"},
                                               {"recall", "{m}", "{i}/text.txt"},
                                               {"bench", "{m}"},
                                               {"merge", "{i}/sidecar", "-o", "out"},
                                               {"tokenizer", "train", "{i}/text.txt", "-o", "out"},
                                               {"tokenizer", "encode", "{m}"},
                                               {"tokenizer", "decode", "{m}"},
                                               {"methods"},
                                               {"attention", file, "-o", "out"}};
  constexpr const char* kNone = "no/such";
  size_t options = 0;
  for (std::vector<std::string> arguments : commands) {
    std::vector<std::string> help = {"help", arguments[0]};
    if (arguments[0] == "tokenizer") help.push_back(arguments[1]);
    for (const std::string& option : text_options(run(help).out)) {
      if (any.contains(option)) continue;
      ++options;
      std::vector<std::string> bad = arguments;
      bad.push_back(option + "=" + kNone);
      const Outcome outcome = run(bad, {.input = "a"});
      EXPECT_EQ(outcome.status, 2) << arguments[0] << option << outcome.err;
      EXPECT_THAT(outcome.err, testing::AnyOf(StartsWith("linnet: error: " + option + ": "),
                                              StartsWith(std::string("linnet: error: ") + kNone)))
          << arguments[0] << " " << option;
    }
  }
  EXPECT_GE(options, 40u);
}

TEST_F(Program, RefusesOptionsThatWouldDoNothing) {
  const std::vector<BadRow> rows = {
      {{"perplexity", "{m}", "{i}/text.txt", "--field", "body"},
       "--field: given, and no FILE has records, expected a .jsonl or .json file, or standard input"},
      {{"reach", "{m}", "{i}/text.txt", "--field", "body"}, "--field: given, and no FILE has records"},
      {{"tokenizer", "encode", "{m}", "{i}/text.txt", "--field", "body"}, "--field: given, and no FILE"},
      {{"tokenizer", "encode", "{m}", "--text", "a", "--field", "body"}, "--field: given, and no FILE"},
      {{"tokenizer", "train", "{i}/text.txt", "-o", "out", "--field", "body"}, "--field: given, and no FILE"},
      {{"generate", "{m}", "-p", "a", "--temperature", "0", "--top-k", "3"},
       "--top-k: given with --temperature 0, expected a temperature above 0: at 0 the likeliest token is "
       "taken"},
      {{"generate", "{m}", "-p", "a", "--temperature", "0", "--top-p", "0.5"}, "--top-p: given with"},
      {{"chat", "{m}", "--temperature", "0", "--min-p", "0.5"}, "--min-p: given with --temperature 0"},
      {{"serve", "{m}", "--heads", "x"}, "--heads: given without --speculative heads"},
      {{"bench", "{m}", "--batch", "2"}, "--batch: given without --training, expected --training too"},
      {{"bench", "{m}", "--micro-batch", "2"}, "--micro-batch: given without --training"},
      {{"bench", "{m}", "--context", "2"}, "--context: given without --training"},
      {{"bench", "{m}", "--steps", "2"}, "--steps: given without --training"},
      {{"bench", "{m}", "--activation-checkpointing"},
       "--activation-checkpointing: given without --training"},
      {{"inspect", "{m}", "--base", "{i}"}, "--base: "},
      {{"attention", "x", "-o", "o", "--form", "decode", "--chunk", "2"},
       "--chunk: given with --form decode"},
  };
  for (const BadRow& row : rows) expect_refused(row, run(row.arguments));
}

TEST_F(Program, WritesJsonInEveryCommandWhoseHelpNamesIt) {
  write_file(input("line.jinja"), "{{ messages[-1].content }}");
  write_file(input("stories.txt"), std::string(400, 'a'));
  const std::string file = std::string(LINNET_TEST_DATA) + "/attention/relu.safetensors";
  const std::vector<std::string> commands[] = {
      {"generate", "{m}", "-p", "a", "-n", "2"},
      {"chat", "{m}", "--template", "{i}/line.jinja", "-n", "2"},
      {"perplexity", "{m}", "{i}/text.txt"},
      {"evaluate", "{m}", "--tasks", "piqa", "--data", "{i}/tasks"},
      {"reach", "{m}", "{i}/text.txt", "--near", "8"},
      {"recall", "{m}", "{i}/stories.txt", "--context", "160", "--passage", "8", "--distances", "32"},
      {"inspect", "{m}"},
      {"check", "{m}", "--tokens", "16"},
      {"bench", "{m}", "--contexts", "0,4", "--prefill-tokens", "8", "--windows", "1", "--window-tokens",
       "2"},
      {"tokenizer", "train", "{i}/text.txt", "-o", "out", "--vocabulary", "260"},
      {"tokenizer", "encode", "{m}", "--text", "a"},
      {"tokenizer", "decode", "{m}", "--ids", "7"},
      {"methods"},
      {"tune-tree", "{m}", "--tokens", "64", "-o", "tree.json"},
      {"attention", file, "-o", "o.safetensors"},
      {"merge", "{i}/sidecar", "-o", "out"},
  };
  // Each that `linnet --help` lists stands here, or trains (training_test.cpp), or wants files
  // (files_test.cpp), or another kind of model (embed_test.cpp, classify_test.cpp), or goes on until it is
  // told to end (serve_test.cpp).
  std::set<std::string> named = {"pretrain", "finetune", "linearize", "compare",  "train-heads", "leak",
                                 "import",   "quantize", "embed",     "classify", "serve"};
  for (const auto& arguments : commands) named.insert(arguments[0]);
  std::istringstream help(run({"--help"}).out);
  size_t listed = 0;
  for (std::string line; std::getline(help, line);) {
    std::smatch command;
    if (!std::regex_match(line, command, std::regex("^  ([a-z-]+) +[a-z].*"))) continue;
    ++listed;
    EXPECT_TRUE(named.contains(command[1])) << command[1];
  }
  EXPECT_EQ(listed, named.size());
  for (std::vector<std::string> arguments : commands) {
    arguments.insert(arguments.end(), {"--json", "out.json"});
    const Outcome outcome = run(arguments, {.input = "hi\n"});
    EXPECT_EQ(outcome.status, 0) << arguments[0] << outcome.err;
    ASSERT_TRUE(outcome.files.contains("out.json")) << arguments[0];
    const nlohmann::json written = parse_json(outcome.files.at("out.json"), "out.json");
    EXPECT_FALSE(written.empty()) << arguments[0];
    // Standard output has the same, and nothing else.
    arguments.pop_back();
    arguments.emplace_back("-");
    const Outcome said = run(arguments, {.input = "hi\n"});
    EXPECT_EQ(said.status, 0) << arguments[0] << said.err;
    EXPECT_FALSE(said.files.contains("-")) << arguments[0];
    const nlohmann::json printed = parse_json(said.out, arguments[0]);
    EXPECT_EQ(printed.size(), written.size()) << arguments[0];
    if (written.is_object()) {
      for (const auto& [key, value] : written.items()) EXPECT_TRUE(printed.contains(key)) << key;
    }
  }
}

}  // namespace
}  // namespace linnet

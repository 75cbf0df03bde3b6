// What all commands keep to: errors, standard streams, full disks, Ctrl-C, help.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/program.h"

namespace linnet {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

TEST_F(Program, AnswersBadInputWithOneLineAndStatus2AndWritesNothing) {
  const std::vector<std::string> generate = {"generate", "{m}", "--json", "out.json"};
  const std::vector<std::string> perplexity = {"perplexity", "{m}", "--json", "out.json"};
  const auto with = [](std::vector<std::string> arguments, const std::vector<std::string>& more) {
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  const BadRow rows[] = {
      {{}, "command line: no command, expected what `linnet --help` lists"},
      {{"generat", "{m}"}, "unknown command \"generat\", expected generate or what `linnet --help` lists"},
      {{"generat", "--help"}, "expected generate or"},
      {{"help", "generat"}, "expected generate or"},
      {{"--versoin"}, "unknown option \"--versoin\", expected --version or"},
      {{"tokenizer"}, "no command, expected what `linnet tokenizer --help` lists"},
      {{"tokenizer", "encod", "--help"}, "expected encode or what `linnet tokenizer --help` lists"},
      {{"methods", "more"}, "unknown argument \"more\""},
      {{"generate"}, "error: MODEL: not given, expected what `linnet generate --help` lists"},
      {{"generate", "/nonexistent", "--prompt", "a"}, "/nonexistent: "},
      {{"generate", "{i}/nothing", "--prompt", "a"}, "nothing"},
      {{"generate", "{i}/text.txt", "--prompt", "a"}, "text.txt"},
      {generate, "prompt: empty, and the tokenizer adds no token of its own"},  // standard input is empty
      {with(generate, {"--prompt", ""}), "prompt: empty, and the tokenizer adds no token of its own"},
      {{"generate", "{i}/bos", "--raw", "-p", ""},
       "prompt: empty, and the tokenizer adds no token of its own"},
      {with(generate, {"--prompt", "a", "--prompt-file", "{i}/text.txt"}), "--prompt: given together"},
      {with(generate, {"--prompt-file", "/nonexistent"}),
       "/nonexistent: cannot read (No such file or directory), expected a readable file"},
      {with(generate, {"--prompt-file", "{i}/nothing"}), "nothing: cannot read (Is a directory)"},
      {with(generate, {"--prompt-file", "{i}/empty.txt"}), "prompt: empty, and the tokenizer"},
      {with(generate, {"--prompt-file", "-"}), "prompt: empty, and the tokenizer"},
      {with(generate, {"--prompt", "a", "--temperature", "-1"}), "--temperature: -1"},
      {with(generate, {"--prompt", "a", "--temperature", "nan"}), "--temperature: nan"},
      {with(generate, {"--prompt", "a", "--temperature", "hot"}),
       "--temperature: hot, expected a number at least 0"},
      {with(generate, {"--prompt", "a", "--top-k", "-1"}), "--top-k: -1"},
      {with(generate, {"--prompt", "a", "--top-p", "1.5"}), "--top-p: 1.5"},
      {with(generate, {"--prompt", "a", "--min-p", "-0.1"}), "--min-p: -0.1"},
      {with(generate, {"--prompt", "a", "--repetition-penalty", "0"}), "--repetition-penalty: 0"},
      {with(generate, {"--prompt", "a", "--max-new-tokens", "0"}), "--max-new-tokens: 0"},
      {with(generate, {"--prompt", "a", "--max-new-tokens", "1e99"}), "--max-new-tokens"},
      {with(generate, {"--prompt", "a", "--samples", "0"}), "--samples: 0, expected 1 to 65536"},
      {with(generate, {"--prompt", "a", "--logprobs", "-1"}), "--logprobs: -1, expected 0 to 100"},
      {with(generate, {"--prompt", "a", "--threads", "-1"}), "--threads: -1, expected 0 to 1024"},
      {with(generate, {"--prompt", "a", "--threads", "two"}),
       "--threads: two, expected a whole number 0 to 1024"},
      {with(generate, {"--prompt", "a", "--seed", "-1"}), "--seed: -1, expected at least 0"},
      {with(generate, {"--prompt", "a", "--seed", "nan"}), "--seed: nan, expected a whole number at least 0"},
      {with(generate, {"--prompt", "a", "--dtype", "int3"}), "--dtype"},
      {with(generate, {"--prompt", "a", "--device", "cuda"}), "--device: device unavailable"},
      {with(generate, {"--prompt", "a", "--device", "tpu"}), "--device: unknown device \"tpu\""},
      {with(generate, {"--prompt", "a", "--base", "/nonexistent"}), "base"},
      {with(generate, {"--prompt", "a", "--tempratur", "1"}),
       "--temperature or what `linnet generate --help` lists"},
      {{"generate", "--tempratur=1", "{m}"}, "unknown option \"--tempratur\", expected --temperature or"},
      {{"generate", "{m}", "--prompt", "a", "--json", "/nonexistent/out.json"},
       "/nonexistent/out.json: cannot be written"},
      {{"generate", "{m}", "--prompt", "a", "--json", ""}, "--json: \"\", expected a file's name"},
      {with(generate, {"--prompt", "a", "--save-state", "../nothing/out.json"}), "cannot be written"},
      {with(generate, {"--prompt", "a", "--save-state", ""}), "--save-state: \"\", expected a file's name"},
      {with(generate, {"--prompt", "a", "--save-state", "./out.json"}),
       "--save-state: ./out.json is what --json writes too, expected another name"},
      {with(generate, {"--prompt", "a", "--save-state", "-"}),
       "--save-state: standard output, expected a name (./- for one that is called so)"},
      {{"reach", "{m}", "{i}/text.txt", "--json", "out", "--plot", "out"},
       "--plot: out is what --json writes too"},
      {{"merge", "{i}/sidecar", "-o", "out/", "--json", "out"}, "out"},
      {{"merge", "{i}/sidecar", "-o", ""}, "--out: \"\", expected a folder's name"},
      {with(generate, {"--prompt", "a", "--load-state", "/nonexistent"}),
       "/nonexistent: cannot open (No such file or directory), expected a readable file"},
      {with(generate, {"--prompt", "a", "--speculative", "lookup", "--lookup-file", "/nonexistent"}),
       "/nonexistent: cannot read (No such file or directory), expected a readable file"},
      {{"generate", "{m}", "--prompt", "a", "--json", "/dev/full"}, "/dev/full: not a regular file"},
      {perplexity, "error: FILE: not given, expected what"},
      {with(perplexity, {"/nonexistent.txt"}), "/nonexistent.txt"},
      {with(perplexity, {"{i}/model"}), "model"},
      {with(perplexity, {"{i}/empty.txt"}), "no token to score"},
      {with(perplexity, {"{i}/broken.jsonl"}), "broken.jsonl:2"},
      {with(perplexity, {"{i}/broken.jsonl", "--field", "body"}), "broken.jsonl:1: no string `body`"},
      {with(perplexity, {"{i}/text.txt", "--field", ""}), "--field: \"\", expected a name"},
      {with(perplexity, {"-", "-"}), "standard input: named twice"},
      {with(perplexity, {"{i}/text.txt", "--window", "0"}), "--window: 0"},
      {with(perplexity, {"{i}/text.txt", "--window", "-8"}), "--window: -8"},
      {with(perplexity, {"{i}/text.txt", "--window", "0.0001K"}), "--window: 0.0001K"},
      {with(perplexity, {"{i}/text.txt", "--window", "0.005K", "--stride", "0.006K"}), "--stride: 6"},
      {with(generate, {"--prompt", "a", "--max-new-tokens", "10000000T"}), "--max-new-tokens: 10000000T"},
      {with(perplexity, {"{i}/text.txt", "--window", "8", "--stride", "9"}), "--stride: 9"},
      {with(perplexity, {"{i}/text.txt", "--window", "8", "--stride", "0"}), "--stride: 0"},
      {with(perplexity, {"{i}/text.txt", "--stride", "8"}), "--stride: given without --window"},
      {with(perplexity, {"{i}/text.txt", "--score-from", "-1"}), "--score-from: -1"},
      {with(perplexity, {"{i}/text.txt", "--score-from", "5", "--score-to", "5"}), "--score-to: 5"},
      {with(perplexity, {"{i}/text.txt", "--score-from", "5000"}), "no token to score"},
      {with(perplexity, {"{i}/text.txt", "--far-pairs", "-1"}), "--far-pairs: -1"},
      {{"evaluate", "{m}"}, "error: --tasks: not given"},
      {{"evaluate", "{m}", "--tasks", "piqua"}, "--tasks: unknown task \"piqua\", expected one of piqa, "},
      {{"evaluate", "{m}", "--tasks", "piqa,piqa"}, "--tasks: piqa twice"},
      {{"evaluate", "{m}", "--tasks", "piqa", "--json", "x.out", "--samples", "./x.out"}, "--samples: "},
      {{"evaluate", "{m}", "--tasks", "piqa", "--html", ""}, "--html: \"\", expected a file's name"},
      {{"tune-tree", "{m}", "-o", ""}, "\"\", expected a file's name"},
      {{"tune-tree", "{m}"}, "--out: not given, and only heads have a folder"},
      {{"generate", "{m}", "--prompt-file", "-", "--speculative", "lookup", "--lookup-file", "-"},
       "standard input: named twice, expected it once"},
      {{"generate", "{m}", "-p", "a", "--speculative", "lookup", "--accept", "typical"},
       "--accept: typical, and the likeliest token is always taken"},
      {{"evaluate", "{m}", "--tasks", "piqa"}, "tasks/piqa-validation.jsonl.xz: not there, expected"},
      {{"evaluate", "{m}", "--tasks", "piqa", "--data", "{i}/tasks", "--shots", "2"},
       "--shots: 2 examples before each prompt of piqa, expected at most 1"},
      {{"evaluate", "{m}", "--tasks", "piqa", "--data", "{i}/tasks", "--limit", "0"}, "--limit: 0"},
      {{"reach", "{m}", "{i}/text.txt", "--near", "8", "--context", "8"}, "--near: 8"},
      {{"reach", "{m}", "{i}/text.txt", "--windows", "16", "--context", "16"},
       "--windows: 16 tokens, expected fewer"},
      {{"reach", "{m}", "{i}/text.txt", "--windows", "4,4"}, "--windows: 4 twice"},
      {{"reach", "{m}", "{i}/text.txt", "--sinks", "65"}, "--sinks: 65, expected 0 to 64"},
      {{"reach", "{m}", "{i}/empty.txt"}, "reach: 0 rows of "},
      {{"reach", "{i}/sidecar", "{i}/text.txt", "--near", "8"}, "not all its own softmax"},
      {{"recall", "{m}", "{i}/empty.txt"}, "recall: 0 rows of "},
      {{"recall", "{m}", "{i}/text.txt", "--context", "16", "--passage", "4", "--distances", "4"},
       "--distances: a passage and its needle do not fit into rows of 16 tokens"},
      {{"inspect", "/nonexistent"}, "/nonexistent"},
      {{"merge", "{m}", "-o", "out"}, "model: has its own weights"},
      {{"merge", "{i}/sidecar"}, "error: --out: not given, expected what"},
      {{"methods", "--head-size", "0"}, "--head-size"},
      {with(perplexity, {"{i}/text.txt", "--seed", "1"}), "unknown option \"--seed\""},
      {{"tokenizer", "train", "{i}/text.txt", "-o", "out", "--vocabulary", "-1"}, "--vocabulary: -1"},
      {{"attention", "x", "-o", "{i}/nothing"}, "nothing: not a regular file"},
      {{"attention", "x", "-o", "o", "--form", "decode", "--chunk", "2"},
       "--chunk: given with --form decode"},
      {{"tokenizer", "encode", "{m}", "--txt", "a"},
       "expected --text or what `linnet tokenizer encode --help` lists"},
      {{"tokenizer", "decode", "{m}", "--ids", "1 x"}, "--ids: \"x\", expected token ids"},
      {{"tokenizer", "train", "{i}/empty.txt", "-o", "out"}, "no text in the files"},
      {{"check", "{m}", "--tokens", "-1"}, "--tokens"},
      {{"check", "{m}", "--tokens", "3"}, "--tokens: 3"},
      {{"check", "/nonexistent"}, "/nonexistent"},
  };
  for (const BadRow& row : rows) {
    expect_refused(row, run(row.arguments));
  }
}

TEST_F(Program, SaysSoOnAFullDisk) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"generate", "{m}", "--prompt", "a", "--max-new-tokens", "3", "--json",
                                 "out.json"},
        {"perplexity", "{m}", "{i}/text.txt", "--json", "out.json"},
        {"check", "{m}", "--tokens", "24", "--json", "out.json"},
        {"merge", "{i}/sidecar", "-o", "out"},
        {"tokenizer", "train", "{i}/text.txt", "-o", "out", "--vocabulary", "260"},
        {"attention", std::string(LINNET_TEST_DATA) + "/attention/relu.safetensors", "-o", "out"}}) {
    const Outcome outcome = run(arguments, {.full_disk = true});
    EXPECT_EQ(outcome.status, 2) << arguments[0];
    EXPECT_THAT(outcome.err, testing::ContainsRegex("linnet: error: .*out.*: cannot write")) << arguments[0];
    EXPECT_THAT(outcome.files, IsEmpty()) << arguments[0];
  }
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"generate", "{m}", "--prompt", "a", "--json", "out.json"},
        {"perplexity", "{m}", "{i}/text.txt"},
        {"check", "{m}", "--tokens", "24"},
        {"inspect", "{m}"},
        {"methods"},
        {"tokenizer", "encode", "{m}", "--text", "a"},
        {"tokenizer", "decode", "{m}", "--ids", "7"},
        {"tokenizer", "--help"}}) {
    const Outcome outcome = run(arguments, {.full_output = true});
    EXPECT_EQ(outcome.status, 2) << arguments[0];
    EXPECT_THAT(outcome.err, HasSubstr("linnet: error: standard output: cannot write")) << arguments[0];
    EXPECT_THAT(outcome.files, IsEmpty()) << arguments[0];
  }
}

TEST_F(Program, WritesNothingWhereNobodyReadsAndSaysNothing) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"generate", "{m}", "--prompt", "a", "--json", "out.json"},
        {"inspect", "{m}"},
        {"tokenizer", "encode", "{m}", "--text", "a"},
        {"methods", "--json", "out.json"},
        {"check", "--help"},
        {"--help"}}) {
    const Outcome outcome = run(arguments, {.no_reader = true});
    EXPECT_EQ(outcome.status, 141) << arguments[0];  // what a shell shows of a program that SIGPIPE ended
    EXPECT_THAT(outcome.err, IsEmpty()) << arguments[0];
    EXPECT_THAT(outcome.files, IsEmpty()) << arguments[0];
  }
}

TEST_F(Program, RunsWithItsStandardStreamsClosed) {
  const Outcome outcome = run({"perplexity", "{m}", "{i}/text.txt", "--json", "out.json"}, {.closed = true});
  EXPECT_EQ(outcome.status, 2);  // nobody sees the result
  EXPECT_TRUE(parse_json(outcome.files.at("out.json"), "out.json").contains("bits_per_byte"));
}

TEST_F(Program, EndsAtCtrlCWithStatus130AndLeavesNothingHalfDone) {
  std::string text;  // long enough for each command to be at work when the signal comes
  std::mt19937 random(1);
  for (int i = 0; i < 3'000'000; ++i)
    text += random() % 6 == 0 ? ' ' : static_cast<char>('a' + random() % 26);
  write_file(input("long.txt"), text);
  const std::vector<std::string> rows[] = {
      {"generate", "{m}", "--prompt", "a", "--ignore-eos", "--max-new-tokens", "1000000"},
      {"generate", "{m}", "--prompt-file", "-"},
      {"chat", "{m}", "--template", "{i}/text.txt"},
      {"perplexity", "{m}", "{i}/long.txt", "--window", "512", "--json", "out.json"},
      {"check", "{m}", "--tokens", "2000", "--json", "out.json"},
      {"bench", "{m}", "--windows", "10000", "--json", "out.json"},
      {"tokenizer", "encode", "{m}", "--json", "out.json"},
      {"tokenizer", "train", "{i}/long.txt", "-o", "out", "--vocabulary", "100000"},
  };
  for (const auto& arguments : rows) {
    const Outcome outcome = run(arguments, {.interrupt = true});
    EXPECT_EQ(outcome.status, 130) << arguments[0] << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("interrupt")) << arguments[0];
    EXPECT_THAT(outcome.err, testing::Not(HasSubstr("error"))) << arguments[0];
    EXPECT_THAT(outcome.files, IsEmpty()) << arguments[0];
  }
}

TEST_F(Program, HelpIsThatOfTheCommandNamed) {
  const std::pair<std::vector<std::string>, const char*> rows[] = {
      {{"help"}, "Usage: linnet [OPTIONS] COMMAND"},
      {{"--help"}, "Usage: linnet [OPTIONS] COMMAND"},
      {{"tokenizer", "--help"}, "Usage: linnet tokenizer [OPTIONS] COMMAND"},
      {{"help", "tokenizer", "train"}, "Usage: linnet tokenizer train [OPTIONS] FILE..."},
      {{"tokenizer", "train", "--help"}, "Usage: linnet tokenizer train [OPTIONS] FILE..."},
      {{"tokenizer", "encode", "--help"}, "Usage: linnet tokenizer encode [OPTIONS] MODEL [FILE]"},
      {{"tokenizer", "decode", "-h"}, "Usage: linnet tokenizer decode [OPTIONS] MODEL [FILE]"},
      {{"help", "merge"}, "Usage: linnet merge [OPTIONS] MODEL"}};
  for (const auto& [arguments, usage] : rows) {
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr(usage));
  }
}

TEST_F(Program, HelpShowsRangesAndDefaultsOnce) {
  const std::string help = run({"generate", "--help"}).out;
  EXPECT_THAT(help, testing::ContainsRegex("--threads INT +Threads; 0 is one for each processor "
                                           "\\(0 to 1024; default 0\\)"));
  EXPECT_THAT(help, testing::ContainsRegex("--device TEXT +Where to compute: .* \\(default cpu\\)"));
  EXPECT_THAT(help, testing::Not(HasSubstr("[]")));
  EXPECT_THAT(help, testing::ContainsRegex("default:[^a-z]*auto where"));
  const std::string tune = run({"tune-tree", "--help"}).out;
  EXPECT_THAT(tune, testing::ContainsRegex("default[^a-z]+lookup[)]"));
  EXPECT_THAT(tune, testing::Not(HasSubstr("auto where")));
}

TEST_F(Program, DescribesItselfAndEveryOption) {
  EXPECT_THAT(run({"--version"}).out, StartsWith("linnet "));
  const std::pair<const char*, std::vector<const char*>> rows[] = {
      {"generate",
       {"--prompt", "--prompt-file", "--max-new-tokens", "--temperature", "--top-k", "--top-p", "--min-p",
        "--repetition-penalty", "--stop", "--ignore-eos", "--seed", "--threads", "--instructions", "--dtype",
        "--device", "--base", "--json"}},
      {"chat", {"--system", "--template", "--max-new-tokens", "--seed"}},
      {"perplexity", {"--window", "--stride", "--score-from", "--score-to", "--far-pairs", "--json"}},
      {"check", {"--tokens", "--dtype", "--json"}}};
  for (const auto& [command, options] : rows) {
    const Outcome help = run({command, "--help"});
    EXPECT_EQ(help.status, 0);
    for (const char* option : options) EXPECT_THAT(help.out, HasSubstr(option)) << command;
    EXPECT_THAT(run({"--help"}).out, HasSubstr(command));
  }
}

}  // namespace
}  // namespace linnet

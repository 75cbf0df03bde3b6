// The program as a user runs it.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "attention/attention.h"
#include "attention/method.h"
#include "base/file.h"
#include "base/json.h"
#include "model/model.h"
#include "tests/cli/run.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

/// A golden checkpoint with a tokenizer of printable ASCII: a whole model folder, small enough for every
/// test.
class Program : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    inputs_ = new TemporaryFolder;
    fs::copy(fs::path(LINNET_TEST_DATA) / "hf/llama-gqa-tied", model());
    write_file(model() / "tokenizer.json", tokenizer().dump());
    write_file(inputs_->path() / "empty.txt", "");
    write_file(inputs_->path() / "text.txt", "a story about nothing. it is short, and it ends.");
    write_file(inputs_->path() / "broken.jsonl", "{\"text\": \"a\"}\n{\"text\": 3}\n");
    fs::create_directory(inputs_->path() / "nothing");
    fs::copy(model(), inputs_->path() / "bos");
    write_file(inputs_->path() / "bos/tokenizer_config.json",
               R"({"bos_token": "<s>", "add_bos_token": true})");
    make_sidecar(inputs_->path() / "sidecar", {{"method", "relu"}, {"group", 8}});
    fs::copy(model(), inputs_->path() / "gpt2");
    for (const char* file : {"config.json", "generation_config.json", "model.safetensors"}) {
      fs::copy_file(fs::path(LINNET_TEST_DATA) / "hf/gpt2" / file, inputs_->path() / "gpt2" / file,
                    fs::copy_options::overwrite_existing);
    }
  }
  static void TearDownTestSuite() { delete inputs_; }

  static fs::path model() { return inputs_->path() / "model"; }
  static const fs::path& inputs() { return inputs_->path(); }
  static std::string input(const char* name) { return inputs_->path() / name; }
  /// "{m}" and "{i}" stand for the model and the folder of inputs.
  static std::vector<std::string> fill_in(std::vector<std::string> arguments) {
    for (std::string& argument : arguments) {
      const auto replace = [&](std::string_view what, const std::string& with) {
        const size_t at = argument.find(what);
        if (at != std::string::npos) argument.replace(at, what.size(), with);
      };
      replace("{m}", model());
      replace("{i}", inputs_->path());
    }
    return arguments;
  }
  static Outcome run(std::vector<std::string> arguments, const RunOptions& options = {}) {
    return run_linnet(fill_in(std::move(arguments)), options);
  }

  /// Linear attention without learned tensors on the model's own weights.
  static void make_sidecar(const fs::path& folder, const nlohmann::json& attention) {
    const std::string header = "{}      ";
    fs::create_directories(folder);
    write_file(folder / "linear_attention.safetensors", std::string("\x08\0\0\0\0\0\0\0", 8) + header);
    const nlohmann::json config = {{"linear_attention", attention},
                                   {"base", "model"},
                                   {"base_hash", tensors_hash(Model::open(model())->base_tensors())}};
    write_file(folder / "config.json", config.dump());
  }

 private:
  static nlohmann::json tokenizer() {
    nlohmann::json vocab = {{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}, {"Ġ", 3}, {"Ċ", 4}};
    for (char c = '!'; c <= '~'; ++c) vocab[std::string(1, c)] = vocab.size();
    nlohmann::json added = nlohmann::json::array();
    for (const char* name : {"<unk>", "<s>", "</s>"}) {
      added.push_back({{"id", vocab[name]},
                       {"content", name},
                       {"special", true},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false}});
    }
    return {
        {"version", "1.0"},
        {"added_tokens", added},
        {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
        {"decoder", {{"type", "ByteLevel"}}},
        {"model",
         {{"type", "BPE"}, {"vocab", vocab}, {"merges", nlohmann::json::array()}, {"unk_token", "<unk>"}}}};
  }
  static TemporaryFolder* inputs_;
};

TemporaryFolder* Program::inputs_ = nullptr;

TEST_F(Program, WarnsOnceOfWeightsThatTheConfigDoesNotUse) {
  const fs::path folder = input("unused");
  fs::copy(model(), folder);
  const TensorStore store = TensorStore::open_folder(model());
  const std::string number(4, '\0');
  const TensorView zero{DType::kF32, {1}, std::as_bytes(std::span(number))};
  std::vector<NamedTensor> tensors = {{"model.layers.0.self_attn.q_proj.bias", zero},
                                      {"model.layers.0.self_attn.rotary_emb.inv_freq", zero}};
  for (const auto& [name, tensor] : store.tensors()) tensors.push_back({name, tensor});
  write_safetensors(folder / "model.safetensors", tensors);
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"generate", folder, "--prompt", "a", "--max-new-tokens", "1"},
        std::vector<std::string>{"perplexity", folder, "{i}/text.txt"}}) {
    const Outcome outcome = run(command);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("1 tensor is not used by this config: "
                                       "\"model.layers.0.self_attn.q_proj.bias\""));
    EXPECT_EQ(outcome.err.find("is not used"), outcome.err.rfind("is not used"));
  }
  EXPECT_THAT(run({"generate", "{m}", "--prompt", "a", "--max-new-tokens", "1"}).err,
              Not(HasSubstr("not used")));
}

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
      {{"generate"}, "MODEL is required"},
      {{"generate", "/nonexistent", "--prompt", "a"}, "/nonexistent: "},
      {{"generate", "{i}/nothing", "--prompt", "a"}, "nothing"},
      {{"generate", "{i}/text.txt", "--prompt", "a"}, "text.txt"},
      {generate, "prompt: empty, and the tokenizer adds no token of its own"},  // standard input is empty
      {with(generate, {"--prompt", ""}), "prompt: empty, and the tokenizer adds no token of its own"},
      {{"generate", "{i}/bos", "--raw", "-p", ""},
       "prompt: empty, and the tokenizer adds no token of its own"},
      {with(generate, {"--prompt", "a", "--prompt-file", "{i}/text.txt"}), "--prompt: given together"},
      {with(generate, {"--prompt-file", "/nonexistent"}), "/nonexistent: cannot read (No such file"},
      {with(generate, {"--prompt-file", "{i}/nothing"}), "nothing: cannot read (Is a directory)"},
      {with(generate, {"--prompt-file", "{i}/empty.txt"}), "prompt: empty, and the tokenizer"},
      {with(generate, {"--prompt-file", "-"}), "prompt: empty, and the tokenizer"},
      {with(generate, {"--prompt", "a", "--temperature", "-1"}), "--temperature: -1"},
      {with(generate, {"--prompt", "a", "--temperature", "nan"}), "--temperature: nan"},
      {with(generate, {"--prompt", "a", "--temperature", "hot"}), "--temperature = hot"},
      {with(generate, {"--prompt", "a", "--top-k", "-1"}), "--top-k: -1"},
      {with(generate, {"--prompt", "a", "--top-p", "1.5"}), "--top-p: 1.5"},
      {with(generate, {"--prompt", "a", "--min-p", "-0.1"}), "--min-p: -0.1"},
      {with(generate, {"--prompt", "a", "--repetition-penalty", "0"}), "--repetition-penalty: 0"},
      {with(generate, {"--prompt", "a", "--max-new-tokens", "0"}), "--max-new-tokens: 0"},
      {with(generate, {"--prompt", "a", "--max-new-tokens", "1e99"}), "--max-new-tokens"},
      {with(generate, {"--prompt", "a", "--samples", "0"}), "--samples: 0, expected 1 to 65536"},
      {with(generate, {"--prompt", "a", "--logprobs", "-1"}), "--logprobs: -1, expected 0 to 100"},
      {with(generate, {"--prompt", "a", "--threads", "-1"}), "--threads: -1, expected 0 to 1024"},
      {with(generate, {"--prompt", "a", "--threads", "two"}), "--threads: two, expected a number 0 to 1024"},
      {with(generate, {"--prompt", "a", "--seed", "-1"}), "--seed: -1, expected at least 0"},
      {with(generate, {"--prompt", "a", "--seed", "nan"}), "--seed: nan, expected at least 0"},
      {with(generate, {"--prompt", "a", "--dtype", "int3"}), "--dtype"},
      {with(generate, {"--prompt", "a", "--device", "cuda"}), "--device: device unavailable"},
      {with(generate, {"--prompt", "a", "--device", "tpu"}), "--device: unknown device \"tpu\""},
      {with(generate, {"--prompt", "a", "--base", "/nonexistent"}), "base"},
      {with(generate, {"--prompt", "a", "--tempratur", "1"}),
       "--temperature or what `linnet generate --help` lists"},
      {{"generate", "--tempratur=1", "{m}"}, "unknown option \"--tempratur\", expected --temperature or"},
      {{"generate", "{m}", "--prompt", "a", "--json", "/nonexistent/out.json"},
       "/nonexistent/out.json: cannot be written"},
      {{"generate", "{m}", "--prompt", "a", "--json", "/dev/full"}, "/dev/full: not a regular file"},
      {perplexity, "FILE is required"},
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
      {{"reach", "{m}", "{i}/text.txt", "--near", "8", "--context", "8"}, "--near: 8"},
      {{"reach", "{m}", "{i}/empty.txt"}, "reach: 0 tokens of text"},
      {{"reach", "{i}/sidecar", "{i}/text.txt", "--near", "8"}, "not all its own softmax"},
      {{"inspect", "/nonexistent"}, "/nonexistent"},
      {{"merge", "{m}", "-o", "out"}, "model: has its own weights"},
      {{"merge", "{i}/sidecar"}, "--out is required"},
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

TEST_F(Program, ReadsTextsFromStandardInputAsFromFiles) {
  const std::string text(MappedFile(input("text.txt")).text()), record = "{\"body\": \"" + text + "\"}\n";
  const auto read = [](std::vector<std::string> arguments, const std::string& from) {
    arguments.insert(arguments.end(), {"-", "--json", "out.json"});
    const Outcome outcome = run(arguments, {.input = from});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    nlohmann::json result = parse_json(outcome.files.at("out.json"), "out.json");
    result.erase("seconds");
    return result;
  };
  const std::vector<std::string> commands[] = {
      {"perplexity", "{m}"}, {"reach", "{m}", "--near", "8"}, {"tokenizer", "encode", "{m}"}};
  for (std::vector<std::string> command : commands) {
    const auto whole = read(command, text);
    command.insert(command.end(), {"--field", "body"});
    auto records = read(command, record);
    if (records.contains("documents")) records["documents"][0]["id"] = "standard input";
    EXPECT_EQ(records, whole) << command[0];
  }
  EXPECT_EQ(run({"tokenizer", "train", "-", "-o", "out", "--vocabulary", "260"}, {.input = text}).status, 0);
}

TEST_F(Program, NamesTheLimitOfLearnedPositions) {
  write_file(input("long.txt"), std::string(3000, 'a'));
  const Outcome stream = run({"perplexity", "{i}/gpt2", "{i}/long.txt"});
  EXPECT_EQ(stream.status, 2);
  EXPECT_THAT(stream.err, HasSubstr("--window 64"));
  EXPECT_THAT(stream.out, IsEmpty());
  EXPECT_EQ(run({"perplexity", "{i}/gpt2", "{i}/long.txt", "--window", "64"}).status, 0);
  const Outcome prompt = run({"generate", "{i}/gpt2", "--prompt-file", "{i}/long.txt"});
  EXPECT_EQ(prompt.status, 2);
  EXPECT_THAT(prompt.err, HasSubstr("at most 64"));
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

TEST_F(Program, GeneratesTheSameTextForTheSameSeed) {
  const std::vector<std::string> sampled = {"generate",         "{m}", "--prompt",      "a story",
                                            "--max-new-tokens", "20",  "--temperature", "1",
                                            "--seed",           "5",   "--json",        "out.json"};
  const Outcome first = run(sampled), second = run(sampled);
  EXPECT_EQ(first.status, 0) << first.err;
  EXPECT_EQ(first.out, second.out);
  auto other = sampled;
  other[9] = "6";
  EXPECT_NE(run(other).out, first.out);
  const nlohmann::json json = parse_json(first.files.at("out.json"), "out.json");
  EXPECT_EQ(json["text"].get<std::string>(), first.out);
  EXPECT_EQ(json["prompt_tokens"], 7);
  EXPECT_LE(json["generated_tokens"].get<int>(), 20);
  EXPECT_GT(json["prefill_tokens_per_second"].get<double>(), 0);
  EXPECT_GT(json["state_bytes"].get<int64_t>(), 0);
  EXPECT_THAT(first.err, HasSubstr("tokens/s"));
}

TEST_F(Program, ReadsThePromptFromAFileOrStandardInput) {
  const std::vector<std::string> common = {"generate", "{m}", "--max-new-tokens", "9", "--ignore-eos"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), common.begin(), common.end());
    return more;
  };
  const std::string text = std::string(MappedFile(input("text.txt")).text());
  const Outcome expected = run(with({"--prompt", text}));
  EXPECT_EQ(expected.status, 0) << expected.err;
  EXPECT_EQ(run(with({"--prompt-file", "{i}/text.txt"})).out, expected.out);
  EXPECT_EQ(run(with({"--prompt-file", "-"}), {.input = text}).out, expected.out);
  EXPECT_EQ(run(common, {.input = text}).out, expected.out);
}

TEST_F(Program, GoesOnFromBosWhereThePromptIsEmpty) {
  write_file(input("bos.txt"), "<s>");
  const Outcome expected =
      run({"generate", "{m}", "--prompt-file", "{i}/bos.txt", "-n", "9", "--ignore-eos"});
  EXPECT_EQ(expected.status, 0) << expected.err;
  const std::vector<std::string> common = {"generate", "{i}/bos", "-n", "9", "--ignore-eos"};
  for (const std::vector<std::string>& prompt :
       {std::vector<std::string>{"-p", ""}, {"--prompt-file", "{i}/empty.txt"}, {}}) {
    auto arguments = common;
    arguments.insert(arguments.end(), prompt.begin(), prompt.end());
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.out, expected.out);
    EXPECT_THAT(outcome.err, HasSubstr("prefill 1 tokens"));
  }
  EXPECT_THAT(run({"generate", "{i}/bos", "--raw", "-p", "a", "-n", "1"}).err, HasSubstr("prefill 1 tokens"));
}

TEST_F(Program, LaysAChatOutByTheTemplateAndItsSpecialTokensAreOneEach) {
  const std::string source =
      "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}</s>{% endfor %}"
      "{% if add_generation_prompt %}[answer]{% endif %}";
  const fs::path chat = inputs() / "chat";
  fs::copy(inputs() / "bos", chat);
  nlohmann::json config = {{"bos_token", "<s>"}, {"add_bos_token", true}, {"chat_template", source}};
  write_file(chat / "tokenizer_config.json", config.dump());
  write_file(inputs() / "messages.json",
             R"([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "b"},
                 {"role": "user", "content": "c", "name": null}])");
  write_file(inputs() / "chat.jinja", source);
  const std::vector<std::string> common = {"-n", "7", "--ignore-eos", "--echo", "--json", "out.json"};
  const auto with = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), common.begin(), common.end());
    return run(arguments);
  };
  const std::string one = "<s>[user]hi</s>[answer]";
  const Outcome raw = with({"generate", "{i}/chat", "--raw", "-p", one});
  ASSERT_EQ(raw.status, 0) << raw.err;
  EXPECT_THAT(raw.err, HasSubstr("prefill 18 tokens"));  // BOS once; <s> and </s> are a token each
  const std::vector<std::string> same[] = {
      {"generate", "{i}/chat", "--chat", "-p", "hi"},
      {"generate", "{i}/bos", "--chat", "-p", "hi\n", "--template", "{i}/chat.jinja"}};
  for (const auto& arguments : same) {
    const Outcome outcome = with(arguments);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.out, raw.out);
    EXPECT_THAT(outcome.err, HasSubstr("prefill 18 tokens"));
  }
  config["chat_template"] = {{{"name", "tool_use"}, {"template", "t"}},
                             {{"name", "default"}, {"template", source}}};
  write_file(chat / "tokenizer_config.json", config.dump());
  const Outcome turns = with({"generate", "{i}/chat", "--messages", "{i}/messages.json", "--system", "S"});
  EXPECT_THAT(turns.out, StartsWith("<s>[system]S</s>[user]hi</s>[assistant]b</s>[user]c</s>[answer]"));
  write_file(chat / "chat_template.jinja", "x{{ raise_exception('Not today.') }}");
  const BadRow rows[] = {
      {{"generate", "{i}/bos", "--chat", "-p", "a"},
       "bos: no chat template here, expected one in tokenizer_config.json or chat_template.jinja, or "
       "--template FILE"},
      {{"generate", "{i}/chat", "--chat", "-p", "a"}, "chat_template.jinja, line 1: Not today."},
      {{"generate", "{i}/chat", "--chat", "--messages", "{i}/messages.json", "-p", "a"},
       "--messages: given together with a prompt"},
      {{"generate", "{i}/chat", "--messages", "{i}/text.txt"}, "text.txt: not JSON"},
      {{"generate", "{i}/chat", "--system", "a", "-p", "a"}, "--system: given without a chat"},
      {{"generate", "{i}/chat", "--template", "a", "-p", "a"}, "--template: given without a chat"},
      {{"generate", "{i}/chat", "--chat", "--raw", "-p", "a"}, "--raw: given for a chat"},
      {{"generate", "{i}/chat", "--chat", "--template", "/nonexistent", "-p", "a"},
       "/nonexistent: cannot read"},
  };
  for (const BadRow& row : rows) expect_refused(row, run(row.arguments));
}

TEST_F(Program, ChatsAndReadsTheNewTokensOfATurnAlone) {
  const auto lay_out = [](const char* name, const std::string& content) {
    write_file(inputs() / name, "{{ bos_token }}{% for m in messages %}[{{ m.role[0] }}]{{ " + content +
                                    " }}</s>{% endfor %}[a]");
  };
  lay_out("plain.jinja", "m.content");
  lay_out("rewriting.jinja", "m.content if loop.revindex < 3 else m.content | upper ~ '!'");
  const auto chat = [](const char* file, const char* input) {
    return run({"chat", "{i}/bos", "--template", file, "-n", "5", "--ignore-eos"}, {.input = input});
  };
  const Outcome turns = chat("{i}/plain.jinja", "hi\n\n/what\nand\r\n/reset\nhi\n/system S\nhi\n/exit\nno\n");
  EXPECT_EQ(turns.status, 0) << turns.err;
  // <s> [u] hi </s> [a]; then the answer's last token, </s> [u] and </s> [a].
  EXPECT_THAT(turns.err, HasSubstr("linnet: read 10 of 10 tokens; answered 5"));
  EXPECT_THAT(turns.err, HasSubstr("linnet: read 12 of 26 tokens; answered 5"));
  EXPECT_THAT(turns.err, HasSubstr("unknown command /what, expected /exit, /reset or /system TEXT"));
  EXPECT_THAT(turns.err, HasSubstr("all anew: the history is no longer as it was read"));  // of /system
  const Outcome once = run({"generate", "{i}/bos", "--chat", "-p", "hi", "--template", "{i}/plain.jinja",
                            "-n", "5", "--ignore-eos"});
  EXPECT_THAT(turns.out, StartsWith(once.out + "\n"));
  const std::string without_end = chat("{i}/plain.jinja", "hi\n/reset\nhi").out;
  EXPECT_EQ(without_end, once.out + "\n" + once.out + "\n");
  const Outcome rewritten = chat("{i}/rewriting.jinja", "hi\nand\n");
  EXPECT_EQ(rewritten.status, 0) << rewritten.err;
  EXPECT_THAT(rewritten.err, HasSubstr("all anew: the history is no longer as it was read"));
  EXPECT_THAT(chat("{i}/plain.jinja", "").out, IsEmpty());
  expect_refused({{}, "bos: no chat template here"}, run({"chat", "{i}/bos"}));
}

TEST_F(Program, DoesNotWaitForAPromptAtATerminal) {
  const BadRow row = {{"generate", "{m}"},
                      "--prompt: absent, expected --prompt TEXT, --prompt-file FILE or piped"};
  expect_refused(row, run(row.arguments, {.terminal = true}));
}

TEST_F(Program, SaysWhyATextEnded) {
  const std::vector<std::string> common = {"generate",     "{i}/gpt2", "-p",      "Once upon a time",
                                           "--ignore-eos", "--json",   "out.json"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), common.begin(), common.end());
    return more;
  };
  const auto json_of = [&](const Outcome& outcome) {
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return parse_json(outcome.files.at("out.json"), "out.json");
  };
  const Outcome far = run(with({"-n", "200"}));  // 64 positions, 16 of them the prompt's
  EXPECT_EQ(json_of(far)["finished"], "positions");
  EXPECT_EQ(json_of(far)["generated_tokens"], 49);
  EXPECT_THAT(far.err, HasSubstr("ended by the end of the model's positions"));
  const nlohmann::json near = json_of(run(with({"-n", "3", "--seed", "7"})));
  EXPECT_EQ(near["finished"], "length");
  EXPECT_EQ(near["seed"], 7);
  EXPECT_EQ(near["token_ids"].size(), 3u);
  const std::string text = json_of(far)["text"];
  const nlohmann::json stopped = json_of(run(with({"-n", "200", "--stop", text.substr(text.size() - 3)})));
  EXPECT_EQ(stopped["finished"], "stop");
}

TEST_F(Program, GivesIndependentSamplesOfOnePrompt) {
  const std::vector<std::string> common = {
      "generate", "{m}", "-p", "a story", "-n", "12", "--seed", "5", "--temperature", "1", "--ignore-eos"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), common.begin(), common.end());
    return more;
  };
  const Outcome outcome = run(with({"--samples", "11", "--json", "out.json"}));  // more than go side by side
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const nlohmann::json json = parse_json(outcome.files.at("out.json"), "out.json");
  EXPECT_EQ(json.size(), 11u);
  EXPECT_EQ(json[0]["text"], run(with({})).out);
  std::string expected;
  for (size_t i = 0; i < json.size(); ++i) {
    expected += fmt::format("==> sample {} of 11 <==\n{}\n", i + 1, json[i]["text"].get<std::string>());
  }
  EXPECT_EQ(outcome.out, expected);
  EXPECT_NE(json[0]["text"], json[1]["text"]);
}

TEST_F(Program, GivesLogProbabilitiesAsCompletionsDo) {
  const std::vector<std::string> arguments = {"generate",   "{m}", "-p",     "a story", "-n",    "5",
                                              "--logprobs", "2",   "--echo", "--json",  "o.json"};
  const Outcome outcome = run(arguments);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, StartsWith("a story"));
  const nlohmann::json json = parse_json(outcome.files.at("o.json"), "o.json"), &logs = json["logprobs"];
  EXPECT_EQ(json["text"].get<std::string>(), outcome.out);
  const size_t tokens = 7 + json["token_ids"].size();
  for (const char* field : {"tokens", "token_logprobs", "top_logprobs", "text_offset"}) {
    EXPECT_EQ(logs[field].size(), tokens) << field;
  }
  EXPECT_EQ(logs["tokens"][2], "s");
  EXPECT_EQ(logs["text_offset"][2], 2);
  EXPECT_TRUE(logs["token_logprobs"][0].is_null() && logs["top_logprobs"][0].is_null());
  for (size_t i = 1; i < tokens; ++i) {
    double best = -1e9;
    for (const auto& item : logs["top_logprobs"][i]) best = std::max(best, item.get<double>());
    EXPECT_LE(logs["token_logprobs"][i].get<double>(), best + 1e-9);
    EXPECT_LE(best, 0);
    if (i >= 7) {
      EXPECT_EQ(logs["token_logprobs"][i], best) << "greedy takes the likeliest";
    }
  }
  EXPECT_THAT(outcome.err, HasSubstr("\"s\""));
}

TEST_F(Program, ScoresTextAndWritesTheFieldsThatAreAgreed) {
  const Outcome outcome =
      run({"perplexity", "{m}", "{i}/text.txt", "--far-pairs", "2", "--json", "out.json"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const nlohmann::json json = parse_json(outcome.files.at("out.json"), "out.json");
  const int64_t bytes = static_cast<int64_t>(MappedFile(input("text.txt")).text().size());
  EXPECT_EQ(json["bytes"], bytes);
  EXPECT_EQ(json["tokens"], bytes);  // this tokenizer has a token a byte
  EXPECT_EQ(json["words"], 10);
  EXPECT_NEAR(json["bits_per_byte"].get<double>(), std::log2(json["byte_perplexity"].get<double>()), 1e-9);
  for (const char* field :
       {"token_perplexity", "word_perplexity", "seconds", "far_pair_nats", "far_pair_share", "other_nats"}) {
    EXPECT_TRUE(json[field].is_number()) << field;
  }
  EXPECT_THAT(outcome.out, HasSubstr("bits_per_byte"));
}

// What reach says of a layer is what perplexity says of the model whose config limits that layer.
TEST_F(Program, MeasuresWhatEachLayerLosesWithoutItsFarTokens) {
  const std::vector<std::string> context = {"{i}/text.txt", "--json", "out.json"};
  const auto with = [&](std::vector<std::string> arguments, const std::vector<std::string>& more) {
    arguments.insert(arguments.end(), context.begin(), context.end());
    arguments.insert(arguments.end(), more.begin(), more.end());
    return arguments;
  };
  const Outcome outcome = run(with({"reach", "{m}"}, {"--near", "5", "--context", "32"}));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const nlohmann::json reach = parse_json(outcome.files.at("out.json"), "out.json");
  const auto score = [&](const std::string& folder) {
    const Outcome scored = run(with({"perplexity", folder}, {"--window", "32"}));
    EXPECT_EQ(scored.status, 0) << scored.err;
    return parse_json(scored.files.at("out.json"), "out.json")["bits_per_byte"].get<double>();
  };
  EXPECT_EQ(reach["whole"]["bits_per_byte"].get<double>(), score("{m}"));
  nlohmann::json config = parse_json(MappedFile(model() / "config.json").text(), "config.json");
  ASSERT_EQ(reach["layers"].size(), config["num_hidden_layers"].get<size_t>());
  for (size_t layer = 0; layer < reach["layers"].size(); ++layer) {
    const std::string name = fmt::format("limited-{}", layer);
    const fs::path folder = input(name.c_str());
    fs::copy(model(), folder);
    config["linear_attention"] = {
        {"method", "softmax"}, {"layers", {{std::to_string(layer), {{"method", "softmax"}, {"window", 5}}}}}};
    write_file(folder / "config.json", config.dump());
    EXPECT_EQ(reach["layers"][layer]["bits_per_byte"].get<double>(), score("{i}/" + name)) << layer;
  }
  EXPECT_THAT(outcome.out, HasSubstr("--exact-layers"));
  // A layer whose own window is shorter still loses nothing.
  fs::copy(model(), input("windowed"));
  config.erase("linear_attention");
  config["model_type"] = "mistral";
  config["sliding_window"] = 5;
  write_file(fs::path(input("windowed")) / "config.json", config.dump());
  const Outcome windowed = run(with({"reach", "{i}/windowed"}, {"--near", "8", "--context", "32"}));
  ASSERT_EQ(windowed.status, 0) << windowed.err;
  const nlohmann::json near = parse_json(windowed.files.at("out.json"), "out.json");
  EXPECT_NE(near["whole"], reach["whole"]);
  for (const auto& layer : near["layers"]) EXPECT_EQ(layer["loss"], 0.0);
}

TEST_F(Program, WarnsOnceOfAStreamPastTheTrainedPositions) {
  write_file(input("long.txt"), std::string(100, 'a'));
  const std::vector<std::string> stream = {"perplexity", "{m}", "{i}/long.txt", "{i}/long.txt"};
  const Outcome warned = run(stream);
  EXPECT_EQ(warned.status, 0) << warned.err;
  const size_t at = warned.err.find("linnet: warning: ");
  ASSERT_NE(at, std::string::npos) << warned.err;
  EXPECT_EQ(warned.err.find("linnet: warning: ", at + 1), std::string::npos);
  auto windows = stream;
  windows.insert(windows.end(), {"--window", "64"});
  EXPECT_THAT(run(windows).err, testing::Not(HasSubstr("warning")));
}

TEST_F(Program, WarnsOfPositionsOnlyWhereOldKeysKeepThem) {
  write_file(input("long.txt"), std::string(100, 'a'));
  const std::pair<nlohmann::json, bool> rows[] = {
      {{{"method", "relu"}, {"group", 8}}, true},
      {{{"method", "relu"}, {"group", 8}, {"feature_position", "none"}}, false},
      {{{"method", "relu"}, {"group", 8}, {"local", "softmax"}, {"alpha", 1}}, false},
      {{{"method", "softmax"}, {"window", 16}}, false},
      {{{"method", "relu"},
        {"group", 8},
        {"feature_position", "none"},
        {"layers", {{"1", {{"method", "softmax"}}}}}},
       true}};
  for (const auto& [attention, warns] : rows) {
    make_sidecar(input("of-positions"), attention);
    const Outcome outcome = run({"perplexity", "{i}/of-positions", "{i}/long.txt"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.err.find("longer than the 64 positions") != std::string::npos, warns)
        << attention << outcome.err;
  }
}

TEST_F(Program, ChecksAModel) {
  const Outcome outcome = run({"check", "{m}", "--json", "out.json"});
  EXPECT_EQ(outcome.status, 0) << outcome.err << outcome.out;
  const nlohmann::json json = parse_json(outcome.files.at("out.json"), "out.json");
  EXPECT_TRUE(json["holds"].get<bool>());
  EXPECT_EQ(json["checks"].size(), 7u);
}

TEST_F(Program, InspectsAModel) {
  const Outcome outcome = run({"inspect", "{m}", "--json", "out.json"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("llama"));
  const nlohmann::json json = parse_json(outcome.files.at("out.json"), "out.json");
  EXPECT_EQ(json["kind"], "plain");
  EXPECT_EQ(json["layers"], 2);
  EXPECT_EQ(json["vocabulary"], 160);
  EXPECT_EQ(json["state"]["bytes_a_token"], 2 * 2 * (8 + 8) * 4);  // layers, key-value heads, sizes, bytes
  EXPECT_THAT(json["problems"], IsEmpty());
}

TEST_F(Program, MergesASidecarIntoAFolderThatScoresTheSame) {
  const Outcome merged = run({"merge", "{i}/sidecar", "-o", "{i}/full"});
  EXPECT_EQ(merged.status, 0) << merged.err;
  const auto score = [&](const char* folder) {
    const Outcome outcome = run({"perplexity", folder, "{i}/text.txt", "--json", "out.json"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return parse_json(outcome.files.at("out.json"), "out.json").at("token_perplexity").get<double>();
  };
  EXPECT_EQ(score("{i}/full"), score("{i}/sidecar"));
  EXPECT_NE(score("{i}/full"), score("{m}"));
  EXPECT_EQ(run({"merge", "{i}/sidecar", "-o", "{i}/full"}).status, 2);  // it exists now
}

TEST_F(Program, TrainsATokenizerThatGivesTheTextBack) {
  const Outcome trained = run({"tokenizer", "train", "{i}/text.txt", "-o", "{i}/bpe", "--vocabulary", "262"});
  EXPECT_EQ(trained.status, 0) << trained.err;
  const std::string text = "it ends: é";
  const Outcome encoded = run({"tokenizer", "encode", "{i}/bpe", "--text", text});
  EXPECT_EQ(encoded.status, 0) << encoded.err;
  EXPECT_LT(std::count(encoded.out.begin(), encoded.out.end(), ' ') + 1, static_cast<int64_t>(text.size()));
  EXPECT_EQ(run({"tokenizer", "decode", "{i}/bpe", "--ids", encoded.out}).out, text);
}

TEST_F(Program, WritesAnAttentionsResultOverAFileThatIsThere) {
  const std::string file = std::string(LINNET_TEST_DATA) + "/attention/grouped.safetensors";
  const std::string out = input("o.safetensors");
  write_file(out, "something older");
  for (int i = 0; i < 2; ++i) {
    const Outcome outcome = run({"attention", file, "-o", out, "--json", "out.json"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(parse_json(outcome.files.at("out.json"), "out.json").at("form"), "prefill");
    EXPECT_GT(fs::file_size(out), 100u);
  }
}

/// A layer of one query head on one key-value head with its initial tensors.
template <class T>
std::unique_ptr<Attention<T>> fresh_attention(const std::string& method, int head_size) {
  const AttentionShape shape = {1, 1, head_size, head_size};
  const AttentionConfig config = parse_layer_attention({{"method", method}}, method);
  ParameterTensors parameters;
  std::vector<std::vector<float>> values;
  for (const ParameterSpec& spec : parameter_specs(config, shape)) {
    values.push_back(initial_parameter(spec, config, 0, 0));
    parameters[spec.name] = {DType::kF32, spec.shape, std::as_bytes(std::span(values.back()))};
  }
  return make_attention<T>(config, shape, parameters, nullptr, method);
}

/// Bytes of a saved state after `tokens` tokens.
template <class T>
int64_t saved_bytes(const Attention<T>& attention, int64_t tokens, int head_size) {
  const auto state = attention.make_state();
  const std::vector<T> numbers(tokens * head_size, T(1));
  std::vector<T> out(tokens * head_size);
  const HeadRows<const T> rows{numbers.data(), tokens * head_size, head_size};
  ThreadPool pool(1);
  attention.prefill(*state, {tokens, rows, rows, rows, rows, rows},
                    {out.data(), tokens * head_size, head_size}, pool);
  std::vector<std::byte> bytes;
  state->save(bytes);
  return static_cast<int64_t>(bytes.size());
}

TEST_F(Program, ListsTheStateThatEachMethodAllocatesAndSaves) {
  constexpr int kSize = 16, kTokens = 200;
  const Outcome outcome =
      run({"methods", "--head-size", std::to_string(kSize), "--markdown", "--json", "out.json"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const nlohmann::json json = parse_json(outcome.files.at("out.json"), "out.json");
  EXPECT_EQ(json["methods"].size(), methods().size());
  for (const auto& row : json["methods"]) {
    const std::string name = row["method"];
    const auto single = fresh_attention<float>(name, kSize);
    // The same state of numbers of twice the size: all that differs is numbers.
    const int64_t numbers = (saved_bytes(*fresh_attention<double>(name, kSize), kTokens, kSize) -
                             saved_bytes(*single, kTokens, kSize)) /
                            4;
    const int64_t growing = row["state"]["numbers_per_token"];
    EXPECT_EQ(numbers, growing > 0 ? kTokens * growing : row["state"]["numbers"].get<int64_t>()) << name;
    const std::string shown = growing > 0 ? "grows by " + std::to_string(growing) + " per token"
                                          : std::to_string(numbers) + ", constant";
    EXPECT_THAT(outcome.out, HasSubstr("| `" + name + "` | "));
    EXPECT_THAT(outcome.out.substr(outcome.out.find("| `" + name + "` | ")), HasSubstr("| " + shown + " |"));
    if (growing > 0) continue;
    // Rows of 16 numbers need no padding, but those of keys may: what is allocated is hardly larger.
    const double allocated = static_cast<double>(single->make_state()->bytes()) / 4;
    EXPECT_LE(static_cast<double>(numbers), allocated) << name;
    EXPECT_GE(static_cast<double>(numbers), allocated * 0.88) << name;
  }
}

TEST_F(Program, ListsWhatEachMethodLearnsDrawsAndTakes) {
  const Outcome outcome = run({"methods", "--head-size", "16", "--json", "out.json"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const nlohmann::json json = parse_json(outcome.files.at("out.json"), "out.json");
  std::map<std::string, nlohmann::json> rows;
  for (const auto& row : json["methods"]) rows[row["method"]] = row;
  for (const auto& [name, row] : rows) EXPECT_THAT(outcome.out, HasSubstr(name + ": "));
  EXPECT_EQ(rows["softmax"]["learned"].size(), 0u);
  EXPECT_EQ(rows["hedgehog"]["learned"]["q.weight"], nlohmann::json({1, 16, 16}));
  EXPECT_EQ(rows["performer"]["learned"].size(), 0u);
  EXPECT_EQ(rows["performer"]["drawn"]["projection"], nlohmann::json({1, 32, 16}));
  EXPECT_EQ(rows["performer"]["options"][0]["key"], "features");
  EXPECT_THAT(outcome.out, HasSubstr("option    features 0 … 65536 [0]: rows of the projection"));
  EXPECT_EQ(rows["transnormer_t1"]["first_half"], "transnormer_t1_diagonal");
}

TEST_F(Program, PrintsTheTableThatItsPageHolds) {
  const std::string page(MappedFile(LINNET_TEST_DATA "/../../docs/attention.md").text());
  const Outcome outcome = run({"methods", "--markdown"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(page, HasSubstr(outcome.out)) << "docs/attention.md: put in `linnet methods --markdown`";
}

TEST_F(Program, TellsTheStoryThatARealModelIsKnownFor) {
  const fs::path stories = fs::path(LINNET_SHARED) / "data/models/stories260k";
  if (!fs::exists(stories)) GTEST_SKIP() << stories << " is not here";
  const auto greedy = read_json(stories / "reference.json")["greedy"][0];
  const std::string prompt = greedy["prompt"];
  const std::vector<std::string> arguments = {
      "generate", stories, "--prompt", prompt, "--max-new-tokens", std::to_string(greedy["ids"].size())};
  EXPECT_EQ(prompt + run_linnet(arguments).out, greedy["text"].get<std::string>());
  auto stopped = arguments;
  stopped.insert(stopped.end(), {"--stop", "Lily", "--stop", "big, red"});
  EXPECT_EQ(run_linnet(stopped).out, ", there was a little girl named ");
}

}  // namespace
}  // namespace linnet

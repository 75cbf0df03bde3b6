// The commands that read texts and measure models: perplexity, reach, check, bench.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/program.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;

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

std::string from_hex(std::string_view digits) {
  std::string bytes;
  for (size_t i = 0; i < digits.size(); i += 2)
    bytes += static_cast<char>(std::stoi(std::string(digits.substr(i, 2)), nullptr, 16));
  return bytes;
}

TEST_F(Program, UnpacksStandardInputByItsFirstBytes) {
  const auto encode = [](const std::string& from, std::vector<std::string> more = {}) {
    more.insert(more.begin(), {"tokenizer", "encode", "{m}", "-"});
    return run(more, {.input = from});
  };
  const std::string plain = encode("a story").out;
  ASSERT_NE(plain, "");
  const std::string_view packed[] = {// xz, gzip, zstd
                                     "fd377a585a000004e6d6b4460200210116000000742fe5a3010006612073746f7279000"
                                     "077858cacde1bbde100011f07162eb8731f"
                                     "b6f37d010000000004595a",
                                     "1f8b08000000000002034b54282ec92faa04003c6e759a07000000",
                                     "28b52ffd0458390000612073746f7279ef2e3ae4"};
  for (const std::string_view digits : packed) {
    const std::string bytes = from_hex(digits);
    const Outcome outcome = encode(bytes);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.out, plain);
    expect_refused({{}, "standard input: the "}, encode(bytes.substr(0, bytes.size() - 3)));
    expect_refused({{}, "standard input:1: not JSON"}, encode(bytes, {"--field", "body"}));
  }
}

TEST_F(Program, MeasuresTheEmptyContextBesideOthers) {
  const Outcome outcome = run({"bench", "{m}", "--contexts", "0,5", "--prefill-tokens", "8", "--windows", "2",
                               "--window-tokens", "3", "--threads", "1", "--json", "out.json"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const nlohmann::json rows = parse_json(outcome.files.at("out.json"), "out.json")["decode"];
  ASSERT_EQ(rows.size(), 2u);
  constexpr int kTokenBytes = 2 * 2 * (8 + 8) * 4;  // layers, key-value heads, sizes, bytes
  EXPECT_EQ(rows[0]["context"], 0);
  EXPECT_EQ(rows[0]["state_bytes"], kTokenBytes);  // of BOS
  EXPECT_EQ(rows[1]["state_bytes"], 5 * kTokenBytes);
  EXPECT_GT(rows[0]["decode_tokens_per_second"].get<double>(), 0);
  EXPECT_THAT(outcome.out, HasSubstr("after BOS alone"));
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

}  // namespace
}  // namespace linnet

// The commands that read texts and measure models: perplexity, reach, check, bench.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <sstream>
#include <string>

#include "base/file.h"
#include "base/json.h"
#include "cli/bench_text.h"
#include "tests/cli/program.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using testing::ContainsRegex;
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

TEST_F(Program, EvaluatesWrittenAnswersWhereThereIsRoomForThem) {
  const fs::path tasks = input("written"), longer = input("longer");
  fs::create_directory(tasks);
  std::string records;
  for (const char* subject : {"sums", "words"})
    for (int i = 0; i < 2; ++i)
      records +=
          nlohmann::json{{"task", subject}, {"idx", i}, {"input", "a"}, {"target", "(A)"}}.dump() + "\n";
  write_file(tasks / "bbh-test.jsonl", records);
  const std::vector<std::string> bbh = {"evaluate", "{m}", "--tasks", "bbh", "--data", tasks};
  expect_refused({bbh, "bbh-cot-prompts.jsonl.xz: not there, expected the few-shot examples of BBH"},
                 run(bbh));
  const std::string worked = "Say it.\n\nQ: x\nA: Let's think step by step.\nSo the answer is (B).";
  write_file(tasks / "bbh-cot-prompts.jsonl",
             nlohmann::json{{"task", "sums"}, {"prompt", worked}}.dump() + "\n");
  auto one = bbh;
  one.insert(one.end(), {"--shots", "1"});
  expect_refused({one, "--shots: 1 examples before each prompt of bbh_cot_fewshot_words, expected at most 0"},
                 run(one));
  one.back() = "0";
  expect_refused({one, "bbh-cot-prompts.jsonl: no record of words, expected one a subject"}, run(one));
  one = {"evaluate", "{m}", "--tasks", "bbh_cot_fewshot_sums", "--data", tasks, "--shots", "1"};
  expect_refused(
      {one, "bbh_cot_fewshot_sums, example 1: answers of up to 1024 tokens, of a model of 64 positions"},
      run(one));
  fs::copy(model(), longer);
  nlohmann::json config = read_json(longer / "config.json");
  config["max_position_embeddings"] = 2048;
  write_file(longer / "config.json", config.dump());
  one.emplace_back("--apply-chat-template");
  expect_refused(
      {one, "--apply-chat-template: given for bbh_cot_fewshot_sums, whose worked examples are texts"},
      run(one));
  one.pop_back();
  one[1] = longer;
  one.insert(one.end(), {"--json", "out.json", "--samples", "samples.jsonl"});
  const Outcome outcome = run(one);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const nlohmann::json result = parse_json(outcome.files.at("out.json"), "out.json");
  EXPECT_EQ(result["results"]["bbh_cot_fewshot_sums"]["exact_match,get-answer"], 0);
  EXPECT_EQ(result["reading"]["requests"], 2);
  const std::string samples = outcome.files.at("samples.jsonl");
  const nlohmann::json sample = parse_json(samples.substr(0, samples.find('\n')), "a line");
  EXPECT_EQ(sample["arguments"][0][0], worked + "\n\nQ: a\nA: Let's think step by step.\n");
  EXPECT_TRUE(sample["resps"][0][0].is_string() && sample["filtered_resps"][0].is_string());
}

TEST_F(Program, EvaluatesTasksAlikeHoweverTheirRequestsAreRead) {
  const auto evaluate = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"evaluate",      "--tasks",  "piqa",   "--data",   "{i}/tasks",
                                          "--json",        "out.json", "--html", "out.html", "--samples",
                                          "samples.jsonl", "--shots",  "1"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr("acc_norm"));
    // Alone every token is read, and there is nothing to say of fewer.
    const bool is_alone = arguments.back() == "--alone";
    EXPECT_THAT(outcome.out,
                ContainsRegex(is_alone ? "[0-9] tokens read, [0-9.]+ s\n"
                                       : "[0-9] tokens read of [0-9]+ in them \\([1-9.]+ times fewer\\)"));
    return outcome.files;
  };
  for (const std::vector<std::string>& model :
       {std::vector<std::string>{"{m}"}, {"{i}/sidecar"}, {"{i}/bos"}}) {
    auto files = evaluate(model);
    std::vector<std::string> alone = model;
    alone.push_back("--alone");
    auto others = evaluate(alone);
    const nlohmann::json result = parse_json(files["out.json"], "out.json");
    EXPECT_EQ(result["results"], parse_json(others["out.json"], "out.json")["results"]);
    EXPECT_TRUE(result["results"]["piqa"]["acc_norm_stderr,none"].is_number());
    EXPECT_EQ(result["n-samples"]["piqa"], (nlohmann::json{{"original", 2}, {"effective", 2}}));
    EXPECT_EQ(result["n-shot"]["piqa"], 1);
    EXPECT_THAT(files["out.html"], HasSubstr("<td>piqa<td>1<td>2<td>acc_norm<td>"));
    EXPECT_LT(result["reading"]["tokens"], result["reading"]["tokens_alone"]);
    std::istringstream lines(files["samples.jsonl"]), other_lines(others["samples.jsonl"]);
    for (std::string line, other; std::getline(lines, line) && std::getline(other_lines, other);) {
      const auto one = parse_json(line, "a line"), two = parse_json(other, "a line");
      EXPECT_EQ(one["arguments"], two["arguments"]);
      for (size_t i = 0; i < 2; ++i)
        EXPECT_NEAR(one["filtered_resps"][i][0].get<double>(), two["filtered_resps"][i][0].get<double>(),
                    1e-3);
    }
  }
}

TEST_F(Program, MeasuresTheEmptyContextBesideOthers) {
  const Outcome outcome =
      run({"bench", "{m}", "--contexts", "0,5", "--prefill-tokens", "8,3", "--windows", "2",
           "--window-tokens", "3", "--threads", "1", "--json", "out.json", "--plot", "out.svg"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const nlohmann::json rows = parse_json(outcome.files.at("out.json"), "out.json")["decode"];
  ASSERT_EQ(rows.size(), 2u);
  constexpr int kTokenBytes = 2 * 2 * (8 + 8) * 4;  // layers, key-value heads, sizes, bytes
  EXPECT_EQ(rows[0]["context"], 0);
  EXPECT_EQ(rows[0]["state_bytes"], kTokenBytes);  // of BOS
  EXPECT_EQ(rows[1]["state_bytes"], 5 * kTokenBytes);
  EXPECT_GT(rows[0]["decode_tokens_per_second"].get<double>(), 0);
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("after BOS alone"), HasSubstr("over 3 tokens")));
  EXPECT_THAT(outcome.files.at("out.svg"),
              AllOf(HasSubstr("<svg"), HasSubstr("tokens/s"), HasSubstr("MB that a token reads")));
}

TEST_F(Program, MeasuresAShapeWithoutWeightsAndSaysWhereAStepsTimeGoes) {
  const Outcome outcome = run({"bench",
                               "--config",
                               "{m}/config.json",
                               "--contexts",
                               "0",
                               "--prefill-tokens",
                               "8",
                               "--windows",
                               "1",
                               "--window-tokens",
                               "3",
                               "--threads",
                               "2",
                               "--rows",
                               "4,3",
                               "--sequences",
                               "3",
                               "--profile",
                               "--json",
                               "out.json"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const nlohmann::json json = parse_json(outcome.files.at("out.json"), "out.json");
  ASSERT_EQ(json["rows"].size(), 3u);  // one row beside them
  EXPECT_EQ(json["rows"][0]["of_one_row"], 1);
  EXPECT_EQ(json["rows"][1]["rows"], 4);
  ASSERT_EQ(json["sequences"].size(), 2u);
  EXPECT_EQ(json["sequences"][1]["sequences"], 3);
  EXPECT_THAT(outcome.out, HasSubstr("sequences   a step of 3: "));
  double bytes = 0, seconds = 0;
  for (const auto& row : json["profile"]["operations"]) {
    bytes += row["bytes"].get<double>(), seconds += row["seconds"].get<double>();
  }
  EXPECT_EQ(json["profile"]["layers"].size(), 2u);
  EXPECT_NEAR(seconds, json["profile"]["seconds_per_step"].get<double>(), 1e-9);
  EXPECT_NEAR(bytes, json["decode"][0]["bytes_per_token"].get<double>(), 768);  // but for three tokens' state
  double best = 0;
  for (const auto& rate : json["reading"]) best = std::max(best, rate["bytes_per_second"].get<double>());
  EXPECT_GE(best, json["decode"][0]["roofline_bytes_per_second"].get<double>());
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("a step of 4:"), HasSubstr("down product"), HasSubstr("regions")));
}

TEST_F(Program, MeasuresTwoModelsInTurns) {
  const Outcome outcome = run({"bench", "{m}", "--beside", "{m}/config.json", "--contexts", "0,5",
                               "--prefill-tokens", "8", "--windows", "2", "--window-tokens", "3", "--threads",
                               "1", "--json", "out.json", "--plot", "out.svg"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const nlohmann::json json = parse_json(outcome.files.at("out.json"), "out.json");
  ASSERT_EQ(json["decode"].size(), 2u);
  ASSERT_EQ(json["beside"]["decode"].size(), 2u);
  EXPECT_THAT(json["beside"]["model"].get<std::string>(), HasSubstr("config.json"));
  EXPECT_GT(json["beside"]["decode"][1]["fraction_of_roofline"].get<double>(), 0);
  EXPECT_THAT(outcome.out,
              AllOf(HasSubstr("times as fast after BOS alone"), HasSubstr("times as fast after 5 tokens")));
  EXPECT_THAT(outcome.files.at("out.svg"), HasSubstr("decode beside"));
}

TEST(Bench, CallsMoreThanAllOfALimitAnErrorOfTheRuler) {
  EXPECT_EQ(cli::percent_of_limit(0.944), "94%");
  EXPECT_EQ(cli::percent_of_limit(1), "100%");
  EXPECT_EQ(cli::percent_of_limit(1.2), "120% (over 100%: an error of the ruler)");
  const nlohmann::ordered_json training = {{"dtype", "float32"},
                                           {"matrix_operations_per_second", 5e10},
                                           {"training_tokens_per_second", 1000},
                                           {"steps", 2},
                                           {"batch", 4},
                                           {"context", 16},
                                           {"micro_batch", 2},
                                           {"training_fraction_of_matrix_rate", 1.2}};
  EXPECT_THAT(cli::bench_training_text(training),
              HasSubstr("token: 120% (over 100%: an error of the ruler) of the matrix rate"));
}

TEST_F(Program, TurnsWeightsIntoIntegersWhereTheirRowsAreWholeGroups) {
  const BadRow row = {
      {"generate", "{m}", "-p", "a", "--weights", "int8"},
      "no multiple of 32, expected a multiple, of which int8 makes groups, or --weights stored"};
  expect_refused(row, run(row.arguments));
  expect_refused(
      {{"perplexity", "{m}", "{i}/text.txt", "--weights", "int3"}, "--weights: \"int3\", expected"},
      run({"perplexity", "{m}", "{i}/text.txt", "--weights", "int3"}));
}

TEST_F(Program, BenchTakesAModelOrAConfig) {
  nlohmann::json config = read_json(model() / "config.json");
  config["dtype"] = "float8";
  write_file(input("eight.json"), config.dump());
  const std::vector<BadRow> rows = {
      {{"bench"}, "MODEL: not given, expected a model folder, or --config"},
      {{"bench", "{m}", "--config", "{m}/config.json"},
       "--config: given beside MODEL, expected one of the two"},
      {{"bench", "--config", "{m}/config.json", "--base", "{m}"}, "--base: given with --config"},
      {{"bench", "--config", "{m}/config.json", "--verify-weights"}, "--verify-weights: given with --config"},
      {{"bench", "--config", "{i}/text.txt"}, "text.txt: not JSON"},
      {{"bench", "{m}", "--beside", "{i}/text.txt"}, "text.txt: not JSON"},
      {{"bench", "--config", "{i}/eight.json"},
       "eight.json: dtype: \"float8\", expected float32, float16 or bfloat16"},
      {{"bench", "{m}", "--rows", "4,4"}, "--rows: 4 twice, expected each once"},
  };
  for (const BadRow& row : rows) expect_refused(row, run(row.arguments));
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

TEST_F(Program, RanksHeadsByWhatTheyLoseWithoutTheirFarTokens) {
  const std::vector<std::string> rest = {"{i}/text.txt", "--near",    "5",      "--windows",
                                         "5,9",          "--context", "16",     "--json",
                                         "out.json",     "--plot",    "out.svg"};
  const auto reach = [&](const std::string& folder) {
    std::vector<std::string> arguments = {"reach", folder};
    arguments.insert(arguments.end(), rest.begin(), rest.end());
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr("passages again"));
    EXPECT_THAT(outcome.files.at("out.svg"), HasSubstr("</svg>"));
    return parse_json(outcome.files.at("out.json"), "out.json");
  };
  nlohmann::json config = parse_json(MappedFile(model() / "config.json").text(), "config.json");
  const nlohmann::json whole = reach("{m}");
  ASSERT_EQ(whole["layers"].size(), config["num_hidden_layers"].get<size_t>());
  size_t heads = 0;
  for (const auto& layer : whole["layers"]) heads += layer["heads"].size();
  EXPECT_EQ(whole["ranked_heads"].size(), heads);
  // A model whose own window is shorter loses nothing.
  fs::copy(model(), input("windowed"));
  config["model_type"] = "mistral";
  config["sliding_window"] = 5;
  write_file(fs::path(input("windowed")) / "config.json", config.dump());
  const nlohmann::json near = reach("{i}/windowed");
  EXPECT_NE(near["whole"], whole["whole"]);
  for (const auto& layer : near["layers"])
    for (const auto& head : layer["heads"])
      for (const auto& window : head["windows"]) EXPECT_NEAR(window["loss"].get<double>(), 0.0, 1e-6);
}

TEST_F(Program, SaysWhatALinearModelRecallsBesideItsBaseAndItsWindowAlone) {
  std::string text;
  for (int i = 0; i < 800; ++i) text += static_cast<char>('a' + i * i % 23);
  write_file(input("stories.txt"), text);
  const std::vector<std::string> rows = {
      "{i}/stories.txt", "--context", "200",     "--passage",   "8",    "--json",
      "out.json",        "--plot",    "out.svg", "--distances", "16,64"};
  const auto recall = [&](const std::string& folder) {
    std::vector<std::string> arguments = {"recall", folder};
    arguments.insert(arguments.end(), rows.begin(), rows.end());
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_THAT(outcome.out, HasSubstr("A passage of 8 tokens"));
    EXPECT_THAT(outcome.files.at("out.svg"), HasSubstr("</svg>"));
    return parse_json(outcome.files.at("out.json"), "out.json");
  };
  const nlohmann::json linear = recall("{i}/sidecar"), base = recall("{m}");
  EXPECT_EQ(base["models"].size(), 1u);
  ASSERT_EQ(linear["models"].size(), 3u);
  const nlohmann::json& model = linear["models"]["model"];
  ASSERT_EQ(model["distances"].size(), 2u);
  EXPECT_TRUE(model["distances"][0].contains("kept"));  // null: a tiny model gains nothing
  for (const char* number : {"again", "gain"})
    EXPECT_TRUE(model["distances"][0][number]["mean"].is_number()) << number;
  // No more numbers (WindowAlone.* in tests/evaluate); of heads as small as these most bytes are padding.
  EXPECT_LE(linear["models"]["window alone"]["state_bytes"], 1.25 * model["state_bytes"].get<double>());
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

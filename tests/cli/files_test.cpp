// The commands that say what files hold, and write them: inspect, merge, tokenizer, methods, attention.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <span>
#include <sstream>

#include "attention/attention.h"
#include "attention/method.h"
#include "attention/rotation.h"
#include "base/file.h"
#include "base/json.h"
#include "format/safetensors.h"
#include "model/model.h"
#include "tests/cli/program.h"
#include "tests/generate/random_heads.h"
#include "tests/model/random_model.h"
#include "tests/model/tiny_gguf.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

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

TEST_F(Program, InspectsAModel) {
  const Outcome outcome = run({"inspect", "{m}", "--json", "out.json"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("llama"));
  const nlohmann::json json = parse_json(outcome.files.at("out.json"), "out.json");
  EXPECT_EQ(json["kind"], "plain");
  EXPECT_EQ(json["layers"], 2);
  EXPECT_EQ(json["vocabulary"], 160);
  EXPECT_EQ(json["state"]["bytes_a_token"], 2 * 2 * (8 + 8) * 4);  // layers, key-value heads, sizes, bytes
  EXPECT_EQ(json["state"]["type"], "float32");                     // as the weights
  EXPECT_THAT(json["problems"], IsEmpty());
}

TEST_F(Program, InspectNamesCapsFactorsAndLayersWithoutPositions) {
  const auto inspect = [](const char* name) {
    return run({"inspect", std::string(LINNET_TEST_DATA) + "/hf/" + name}).out;
  };
  EXPECT_THAT(inspect("gemma2"), AllOf(HasSubstr("scores x are "), HasSubstr("logits x are ")));
  EXPECT_THAT(inspect("smollm3"), HasSubstr(", none in layers ["));
  EXPECT_THAT(inspect("phi3-longrope"), HasSubstr("64, longrope's long factors"));
  EXPECT_THAT(inspect("phi3-longrope-short"), HasSubstr("64, longrope's short factors"));
  EXPECT_THAT(inspect("llama-mha"), AllOf(Not(HasSubstr("none in layers")), Not(HasSubstr("tanh"))));
}

TEST_F(Program, InspectEndsWithStatus1WhereAFolderThatOpensHasAProblem) {
  const std::string folder = input("changed");
  fs::copy(model(), folder);
  fs::remove(folder + "/tokenizer.json");
  const Outcome outcome = run({"inspect", folder});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_THAT(outcome.out, HasSubstr("problem      "));
  EXPECT_EQ(outcome.err, "");
}

TEST_F(Program, InspectCountsDrawnTensorsApartFromThoseThatAreTrained) {
  const std::string folder = input("drawn");
  make_sidecar(folder, {{"method", "performer"}, {"group", 8}, {"local", "softmax"}});
  const auto base = Model::open(model());
  const AttentionShape shape = base->attention_shape();
  const std::vector<float> zeros(4096, 0.0f);
  std::vector<NamedTensor> tensors;
  for (int layer = 0; layer < base->config().layers; ++layer) {
    for (const ParameterSpec& spec : parameter_specs(
             parse_layer_attention({{"method", "performer"}, {"local", "softmax"}}, "f"), shape)) {
      const auto count = static_cast<size_t>(
          std::accumulate(spec.shape.begin(), spec.shape.end(), int64_t{1}, std::multiplies<int64_t>()));
      tensors.push_back({base->linear_prefix(layer) + spec.name,
                         {DType::kF32, spec.shape, std::as_bytes(std::span(zeros).first(count))}});
    }
  }
  write_safetensors(fs::path(folder) / "linear_attention.safetensors", tensors, {});
  const Outcome outcome = run({"inspect", folder, "--json", "out.json"});
  EXPECT_EQ(outcome.status, 0) << outcome.out << outcome.err;
  const nlohmann::json added = parse_json(outcome.files.at("out.json"), "out.json")["new"];
  EXPECT_EQ(added["parameters"], 2 * shape.heads);  // alpha
  EXPECT_EQ(added["drawn"]["parameters"], 2 * shape.kv_heads * 2 * shape.head_size * shape.head_size);
  EXPECT_THAT(outcome.out, HasSubstr("drawn        "));
}

TEST_F(Program, RefusesAFolderWhoseTensorsDoNotFitItsMethod) {
  make_sidecar(input("misfit"), {{"method", "hedgehog"}, {"group", 8}});  // no tensors
  for (const char* command : {"inspect", "check"}) {
    expect_refused(
        {{command, "{i}/misfit"},
         "no tensor \"model.layers.0.self_attn.linear_attention.q.weight\", expected it, of shape"},
        run({command, "{i}/misfit"}));
  }
}

TEST_F(Program, MergesASidecarIntoAFolderThatScoresTheSame) {
  const Outcome merged = run({"merge", "{i}/sidecar", "-o", "{i}/full"});
  EXPECT_EQ(merged.status, 0) << merged.err;
  EXPECT_EQ(merged.err, "linnet: wrote " + input("full") + "\n");  // nothing learned, no LoRA
  const auto score = [&](const char* folder) {
    const Outcome outcome = run({"perplexity", folder, "{i}/text.txt", "--json", "out.json"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return parse_json(outcome.files.at("out.json"), "out.json").at("token_perplexity").get<double>();
  };
  EXPECT_EQ(score("{i}/full"), score("{i}/sidecar"));
  EXPECT_NE(score("{i}/full"), score("{m}"));
  EXPECT_EQ(run({"merge", "{i}/sidecar", "-o", "{i}/full"}).status, 2);  // it exists now
}

TEST_F(Program, MergesASidecarWithItsDraftHeads) {
  const fs::path sidecar = input("sidecar");
  write_random_heads({}, *Model::open(sidecar), sidecar / "heads");
  const Outcome merged = run({"merge", "{i}/sidecar", "-o", "{i}/headed"});
  EXPECT_EQ(merged.status, 0) << merged.err;
  EXPECT_THAT(merged.err, HasSubstr("its draft heads"));
  const auto text = [&](const char* model, const char* speculative) {
    const Outcome outcome = run({"generate", model, "-p", "a story", "-n", "40", "--ignore-eos",
                                 "--speculative", speculative, "--verify"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome.out;
  };
  EXPECT_EQ(text("{i}/headed", "heads"), text("{i}/sidecar", "heads"));
  EXPECT_EQ(read_json(inputs() / "headed/heads/config.json")["model"], "headed");
  // Heads beside a model guess unless told otherwise.
  const Outcome unsaid =
      run({"generate", "{i}/headed", "-p", "a story", "-n", "40", "--ignore-eos", "--report"});
  EXPECT_EQ(unsaid.status, 0) << unsaid.err;
  EXPECT_THAT(unsaid.err, HasSubstr("auto: "));
  EXPECT_THAT(
      run({"generate", "{i}/headed", "-p", "a", "--speculative", "none", "--report"}).err,
      HasSubstr("--report: given with --speculative none, expected --speculative lookup, heads, draft or "
                "auto"));
  ASSERT_EQ(run({"tune-tree", "{i}/sidecar", "--speculative", "heads", "--tokens", "16"}).status, 0);
  EXPECT_EQ(run({"generate", "{i}/sidecar", "-p", "a", "-n", "5", "--speculative", "heads", "--tree",
                 "{i}/sidecar/heads/tree.json"})
                .status,
            0);
  // Without room for them there is no folder either.
  expect_refused({{"no room"}, "heads.safetensors: cannot write"},
                 run({"merge", "{i}/sidecar", "-o", "none", "--shard-size", "1"},
                     {.full_disk = true, .room = fs::file_size(sidecar / "heads/heads.safetensors") - 1}));
  // Another model's are refused before anything is written.
  fs::remove_all(sidecar / "heads");
  write_random_heads({}, *Model::open(input("gpt2")), sidecar / "heads");
  const Outcome others = run({"merge", "{i}/sidecar", "-o", "{i}/none"});
  EXPECT_EQ(others.status, 2);
  EXPECT_THAT(others.err, HasSubstr("heads of gpt2 ("));
  EXPECT_EQ(std::count(others.err.begin(), others.err.end(), '\n'), 1) << others.err;
  EXPECT_FALSE(fs::exists(input("none")));
  const Outcome guessed = run({"generate", "{i}/sidecar", "-p", "a", "--speculative", "heads"});
  EXPECT_EQ(guessed.status, 2);
  EXPECT_EQ(guessed.out, "");
  EXPECT_EQ(std::count(guessed.err.begin(), guessed.err.end(), '\n'), 1) << guessed.err;
  fs::remove_all(sidecar / "heads");
}

TEST_F(Program, QuantizesAModelThatThenRunsAndIsNotQuantizedTwice) {
  write_random_model({.hidden = 64,
                      .heads = 4,
                      .head_size = 16,
                      .intermediate = 96,
                      .vocabulary = 100,
                      .type = DType::kBF16},
                     inputs() / "whole");
  fs::copy_file(model() / "tokenizer.json", inputs() / "whole/tokenizer.json");
  write_random_heads({}, *Model::open(input("whole")), inputs() / "whole/heads");
  const Outcome outcome = run({"quantize", "{i}/whole", "-o", "{i}/integers", "--weights", "int4", "--valid",
                               "{i}/text.txt", "--json", "out.json"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("layer 1 "), HasSubstr("bits per byte ")));
  EXPECT_THAT(outcome.err, HasSubstr("linnet: wrote " + input("integers")));
  const nlohmann::json json = parse_json(outcome.files.at("out.json"), "out.json");
  const Outcome scored = run({"perplexity", "{i}/integers", "{i}/text.txt", "--json", "out.json"});
  ASSERT_EQ(scored.status, 0) << scored.err;
  EXPECT_EQ(parse_json(scored.files.at("out.json"), "out.json")["bits_per_byte"], json["bits_per_byte"]);
  const nlohmann::json seen =
      parse_json(run({"inspect", "{i}/integers", "--json", "out.json"}).files.at("out.json"), "out.json");
  const nlohmann::json before =
      parse_json(run({"inspect", "{i}/whole", "--json", "out.json"}).files.at("out.json"), "out.json");
  EXPECT_EQ(seen["weights"]["parameters"], before["weights"]["parameters"]);
  EXPECT_EQ(seen["weights"]["types"]["int4, groups of 32, offsets"].get<int64_t>() +
                seen["weights"]["types"]["int8, groups of 32"].get<int64_t>(),
            json["parameters"].get<int64_t>());
  EXPECT_THAT(seen["problems"], IsEmpty());
  EXPECT_EQ(seen["state"], before["state"]);  // keys and values stay in the model's own type
  EXPECT_EQ(run({"generate", "{i}/integers", "-p", "a", "-n", "9", "--speculative", "heads"}).status, 0);
  EXPECT_EQ(read_json(inputs() / "integers/heads/config.json")["model"], "integers");
  EXPECT_EQ(run({"check", "{i}/integers", "--tokens", "8"}).status, 0);
  const Outcome calibrated = run({"quantize", "{i}/whole", "-o", "out", "--weights", "int4", "--calibrate",
                                  "{i}/text.txt", "--calibrate-tokens", "20", "--window", "8"});
  EXPECT_EQ(calibrated.status, 0) << calibrated.err;
  expect_refused(
      {{"no room"}, "heads.safetensors: cannot write"},
      run({"quantize", "{i}/whole", "-o", "out", "--shard-size", "1"},
          {.full_disk = true, .room = fs::file_size(inputs() / "whole/heads/heads.safetensors") - 1}));
  const std::vector<BadRow> rows = {
      {{"quantize", "{i}/integers", "-o", "out"}, "integers: is quantized already, expected the model"},
      {{"quantize", "{i}/whole", "-o", "out", "--group", "128"},
       "model.embed_tokens: rows of 64 numbers, no multiple of 128, expected a multiple, of which int8 makes "
       "groups, or another --group"},
      {{"quantize", "{i}/whole", "-o", "out", "--valid", "-"},
       "--valid: standard input, and it is read before"},
      {{"quantize", "{i}/whole", "-o", "out", "--weights", "int4", "--int8", "v_proj,v_proj"},
       "--int8: v_proj twice"},
      {{"quantize", "{i}/whole", "-o", "out", "--group", "48"}, "--group: \"48\", expected"},
      {{"quantize", "{i}/whole", "-o", "out", "--weights", "stored"}, "--weights: \"stored\", expected"},
      {{"quantize", "{i}/whole", "-o", "out", "--symmetric"}, "--symmetric: given with --weights int8"},
      {{"quantize", "{i}/whole", "-o", "out", "--weights", "int4", "--int8", "gate"},
       "--int8: \"gate\" is no"},
      {{"quantize", "{i}/whole", "-o", "out", "--window", "8"}, "--window: given without --valid"},
      {{"quantize", "{i}/whole", "-o", "out", "--calibrate", "{i}/text.txt"},
       "--calibrate: given with --weights"},
      {{"quantize", "{i}/whole", "-o", "out", "--calibrate-tokens", "8"},
       "--calibrate-tokens: given without"},
      {{"quantize", "{i}/whole", "-o", "out", "--weights", "int4", "--calibrate", "{i}/empty.txt"},
       "no token"},
      {{"quantize", "{i}/whole", "-o", "out", "--dtype", "float64"}, "--dtype: given without --valid"},
      {{"quantize", "{m}", "-o", "out", "--group", "row"},
       " numbers, no multiple of 32, expected a multiple, of which int8 makes groups, or another model"},
      {{"quantize", "{i}/whole", "-o", "{i}/integers"}, "already exists"},
      {{"perplexity", "{i}/integers", "{i}/text.txt", "--weights", "int8"}, "is in integers already"},
  };
  for (const BadRow& row : rows) expect_refused(row, run(row.arguments));
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
  const Rotation learned;  // keys stand still: a model's layer
  return make_attention<T>(config, shape, parameters, &learned, method);
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

TEST_F(Program, PrintsTheRowsThatThePageHolds) {
  const std::string page(MappedFile(LINNET_TEST_DATA "/../../docs/attention.md").text());
  const Outcome outcome = run({"methods", "--markdown"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const size_t header = page.find(outcome.out.substr(0, outcome.out.find('\n')));
  ASSERT_NE(header, std::string::npos);
  std::istringstream table(page.substr(header, page.find("\n\n", header) - header));
  size_t rows = 0;
  for (std::string line; std::getline(table, line); ++rows)
    EXPECT_THAT(outcome.out, HasSubstr(line + "\n"))
        << "docs/attention.md: put in `linnet methods --markdown`";
  EXPECT_GT(rows, 10u);
}

TEST_F(Program, ImportsAGgufFileThatThenGenerates) {
  const auto folder = Model::open(model());
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : folder->base_tensors().tensors()) tensors.push_back({name, tensor});
  GgufWriter writer = gguf_metadata(folder->config());
  add_bpe(writer);
  add_tensors(writer, tensors, folder->config());
  const std::string bytes = writer.file();
  write_file(input("tiny.gguf"), bytes);
  const Outcome outcome = run({"import", "{i}/tiny.gguf", "-o", "{i}/imported", "--json", "out.json"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, IsEmpty());
  EXPECT_EQ(parse_json(outcome.files.at("out.json"), "out.json")["types"]["F32"].get<int64_t>(),
            parse_json(outcome.files.at("out.json"), "out.json")["parameters"].get<int64_t>());
  const Outcome answer = run({"generate", "{i}/imported", "--chat", "--prompt", "ab", "-n", "2"});
  EXPECT_EQ(answer.status, 0) << answer.err;

  write_file(input("short.gguf"), std::string_view(bytes).substr(0, bytes.size() - 1));
  for (const char* folder : {"ggufs", "none"}) fs::create_directory(input(folder));
  for (const char* file : {"ggufs/b.gguf", "ggufs/a.gguf"}) write_file(input(file), bytes);
  const BadRow rows[] = {
      {{"import", "{i}/short.gguf", "-o", "{i}/new"}, "from offset"},
      {{"import", "{i}/tiny.gguf", "-o", "{i}/imported"}, "already exists"},
      {{"import", "{m}/config.json", "-o", "{i}/new"}, "not a GGUF file"},
      {{"import", "{m}", "-o", "{i}/new"}, "is a model folder already, expected no import: every command"},
      {{"import", "{i}/ggufs", "-o", "{i}/new"}, "ggufs: is a folder, expected a GGUF file, such as "},
      {{"import", "{i}/ggufs", "-o", "{i}/new"}, "/ggufs/a.gguf"},
      {{"import", "{i}/none", "-o", "{i}/new"}, "none: is a folder, expected a GGUF file\n"},
      {{"import", "{i}/absent.gguf", "-o", "{i}/new"}, "cannot open"},
      {{"import", "{i}/tiny.gguf"}, "--out"},
  };
  for (const BadRow& row : rows) {
    expect_refused(row, run(row.arguments));
    EXPECT_FALSE(fs::exists(input("new")));
  }
  RunOptions full;
  full.full_disk = true;
  full.room = 6000;
  EXPECT_EQ(run({"import", "{i}/tiny.gguf", "-o", "full"}, full).status, 2);
}

}  // namespace
}  // namespace linnet

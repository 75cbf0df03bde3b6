#include "model/model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/state_size.h"
#include "model/write_model.h"
#include "tests/model/tiny_model.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using testing::HasSubstr;

std::string open_error(const fs::path& folder, const Model::OpenOptions& options = {}) {
  return error_of([&] { Model::open(folder, options); });
}

constexpr const char* kQuery = "model.layers.1.self_attn.q_proj.weight";
constexpr const char* kEmbedding = "model.embed_tokens.weight";

TEST(Model, RefusesEveryBrokenTensorByItsName) {
  const struct {
    void (*break_it)(TinyModel&);
    const char* message;
  } rows[] = {
      {[](TinyModel& m) { m.tensors.erase(kQuery); }, "no tensor \"model.layers.1.self_attn.q_proj.weight\""},
      {[](TinyModel& m) { m.tensors.erase("model.norm.weight"); }, "no tensor \"model.norm.weight\""},
      {[](TinyModel& m) {
         m.add(kQuery, {16, 15});
       },
       "q_proj.weight\": shape [16, 15], expected [16, 16]"},
      {[](TinyModel& m) {
         m.add(kEmbedding, {29, 16});
       },
       "embed_tokens.weight\": shape [29, 16], expected [30, 16]"},
      {[](TinyModel& m) { m.config["vocab_size"] = 31; },
       "embed_tokens.weight\": shape [30, 16], expected [31, 16]"},
      {[](TinyModel& m) { m.tensors[kQuery].type = DType::kI32; }, "q_proj.weight\": numbers of type I32"},
      {[](TinyModel& m) {
         m.add("lm_head.weight", {30, 16});
       },
       "differs from the embedding"},
      {[](TinyModel& m) { m.config["tie_word_embeddings"] = false; }, "no tensor \"lm_head.weight\""},
      {[](TinyModel& m) { m.config["attention_bias"] = true; },
       "no tensor \"model.layers.0.self_attn.q_proj.bias\""},
      {[](TinyModel& m) { m.config["num_key_value_heads"] = 4; },
       "k_proj.weight\": shape [8, 16], expected [16, 16]"},
      {[](TinyModel& m) { m.add("model.layers.0.self_attn.linear_attention.alpha", {4}); },
       "linear_attention.alpha\": a tensor that the config does not ask for"},
      {[](TinyModel& m) {
         m.config["linear_attention"] = {{"method", "hedgehog"}};
       },
       "no tensor \"model.layers.0.self_attn.linear_attention.q.weight\", expected it, of shape [4, 4, 4], "
       "for "
       "hedgehog in layer 0"},
      {[](TinyModel& m) {
         m.config["linear_attention"] = {{"method", "nonsense"}};
       },
       "linear_attention"},
  };
  for (const auto& row : rows) {
    TemporaryFolder folder;
    TinyModel model = make_tiny(tiny_llama_config());
    row.break_it(model);
    EXPECT_THAT(open_error(model.write(folder.path, "m")), HasSubstr(row.message));
  }
}

TEST(Model, ATiedHeadThatEqualsTheEmbeddingIsFine) {
  TemporaryFolder folder;
  TinyModel model = make_tiny(tiny_llama_config());
  model.tensors["lm_head.weight"] = model.tensors[kEmbedding];
  const auto open = Model::open(model.write(folder.path, "m"));
  EXPECT_EQ(open->tensor(open->family().head, "weight"), nullptr);
}

TEST(Model, NamesTheTensorWithANumberThatIsNotFiniteOrTooLargeToComputeWith) {
  for (DType type : {DType::kF64, DType::kF32, DType::kF16, DType::kBF16}) {
    for (float bad : {NAN, INFINITY, -INFINITY, 3e38f, -0x1p63f}) {  // all infinite in F16
      TemporaryFolder folder;
      TinyModel model = make_tiny(tiny_llama_config(), type);
      OwnedTensor& tensor = model.tensors["model.layers.1.mlp.up_proj.weight"];
      std::vector<float> numbers = to_float(tensor.view(), "");
      numbers.back() = bad;
      tensor.bytes = from_float(numbers, type);
      const fs::path path = model.write(folder.path, "m");
      EXPECT_THAT(open_error(path), HasSubstr("\"model.layers.1.mlp.up_proj.weight\": NaN, infinite or huge"))
          << name_of(type);
      EXPECT_EQ(Model::open(path, {.check_numbers = false})->broken_tensors().size(), 1u) << name_of(type);
      if (type == DType::kF16) continue;
      numbers.back() = std::nextafter(0x1p63f, 0.0f) * 0.99f;  // the largest of BF16 below
      tensor.bytes = from_float(numbers, type);
      EXPECT_EQ(open_error(model.write(folder.path, "n")), "") << name_of(type);
    }
  }
}

TEST(Model, EveryFamilyOpensWithAndWithoutItsPrefix) {
  Json qwen = tiny_llama_config(), mistral = tiny_llama_config();
  qwen["model_type"] = "qwen2";
  mistral["model_type"] = "mistral";
  for (const Json& config : {tiny_llama_config(), tiny_gpt2_config(), qwen, mistral}) {
    for (bool prefix : {true, false}) {
      TemporaryFolder folder;
      const auto model = Model::open(make_tiny(config, DType::kBF16, prefix).write(folder.path, "m"));
      const Family& family = model->family();
      EXPECT_NE(model->layer_tensor(1, family.o, "weight"), nullptr) << config;
      EXPECT_NE(model->tensor(family.final_norm, "weight"), nullptr) << config;
      EXPECT_EQ(model->layer_tensor(0, family.o, "bias") != nullptr, config["model_type"] == "gpt2");
      EXPECT_TRUE(model->unused_tensors().empty());
    }
  }
}

TEST(Model, MasksThatOldGpt2FilesHoldAreUnused) {
  TemporaryFolder folder;
  TinyModel model = make_tiny(tiny_gpt2_config());
  model.add("transformer.h.0.attn.bias", {1, 1, 32, 32});
  EXPECT_EQ(Model::open(model.write(folder.path, "m"))->unused_tensors(),
            std::vector<std::string>{"transformer.h.0.attn.bias"});
}

TEST(Model, NewTensorsOfAFullFolderAreUsedAndAGainMayBeAbsentFromAllLayersAlone) {
  TemporaryFolder folder;
  TinyModel model = make_tiny(tiny_llama_config());
  model.config["linear_attention"] = {{"method", "relu"}, {"local", "relu"}};
  for (const char* layer : {"0", "1"}) {
    model.add(std::string("model.layers.") + layer + ".self_attn.linear_attention.alpha", {4});
  }
  const auto open = Model::open(model.write(folder.path, "m"));
  EXPECT_TRUE(open->unused_tensors().empty());
  EXPECT_EQ(open->added_tensors().size(), 2u);
  EXPECT_FALSE(open->linear_parameters(1).contains("local_gain"));
  model.add("model.layers.1.self_attn.linear_attention.local_gain", {4, 4});
  EXPECT_THAT(open_error(model.write(folder.path, "one")),
              HasSubstr("no tensor \"model.layers.0.self_attn.linear_attention.local_gain\", expected it, of "
                        "shape [4, 4], for relu in layer 0, as layer 1 has one"));
  model.add("model.layers.0.self_attn.linear_attention.local_gain", {4, 4});
  EXPECT_EQ(Model::open(model.write(folder.path, "both"))->added_tensors().size(), 4u);
  model.add("model.layers.1.self_attn.linear_attention.local_gain", {4, 5});
  EXPECT_THAT(open_error(model.write(folder.path, "bad")), HasSubstr("shape [4, 5], expected [4, 4]"));
}

TEST(StateSize, CountsStatesThatDoNotGrowAndRefusesWhatNoMemoryHolds) {
  const AttentionShape shape{4, 2, 8, 8};
  const auto bytes = [&](const char* text) {
    return constant_state_bytes(std::vector{parse_layer_attention(Json::parse(text), "f")}, shape);
  };
  // yoso: a table's rows of 8 numbers, by key-value head, and two groups that wait.
  EXPECT_GE(bytes(R"({"method": "yoso", "tables": 256, "bits": 16})"), int64_t{2} * 256 * 65536 * 8 * 4);
  EXPECT_LT(bytes(R"({"method": "yoso", "tables": 1, "bits": 1})"), 1 << 20);
  EXPECT_EQ(bytes(R"({"method": "softmax"})"), 0);
  const auto refusal = [](int64_t each, int64_t sequences) {
    return error_of([&] { check_state_fits(each, sequences, 1'000'000'000, "m"); });
  };
  EXPECT_EQ(refusal(200'000'000, 1), "");
  testing::internal::CaptureStderr();
  EXPECT_EQ(refusal(300'000'000, 1), "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "linnet: warning: m: a state of 0.3 GB per sequence, of this machine's 1.0 GB of memory\n");
  EXPECT_EQ(
      refusal(300'000'000, 4),
      "m: a state of 0.3 GB per sequence, 4 sequences at once, expected one that fits into this machine's "
      "1.0 GB of memory");
}

TEST(Model, FoldersThatAreNoModelsAreRefused) {
  TemporaryFolder folder;
  EXPECT_THAT(open_error(folder.path / "none"), HasSubstr("no such folder"));
  EXPECT_THAT(open_error(folder.write("file", "x")), HasSubstr("not a folder"));
  EXPECT_THAT(open_error(folder.path), HasSubstr("no config.json"));
  const fs::path plain = make_tiny(tiny_llama_config()).write(folder.path, "plain");
  EXPECT_THAT(open_error(plain, {.base = plain}),
              HasSubstr("--base: given for a folder with its own weights"));
}

// A base, and beside it a sidecar whose config.json and tensors the test may break.
struct Linearized {
  TemporaryFolder folder;
  fs::path base = make_tiny(tiny_llama_config()).write(folder.path, "base");
  TinyModel added;

  Linearized() {
    const auto model = Model::open(base);
    const Json linear = {{"method", "hedgehog"},
                         {"local", "softmax"},
                         {"group", 8},
                         {"layers", {{"0", {{"method", "softmax"}}}}}};
    const auto configs = parse_attention(linear, 2, "test");
    added.config = {
        {"linear_attention", linear}, {"base", "base"}, {"base_hash", base_reference(*model).hash}};
    for (const ParameterSpec& spec : parameter_specs(configs[1], model->attention_shape())) {
      added.add(model->linear_prefix(1) + spec.name, spec.shape);
    }
  }
  fs::path write() const {
    const fs::path out = folder.path / "sidecar";
    fs::create_directories(out);
    write_file(out / "config.json", added.config.dump());
    write_safetensors(out / "linear_attention.safetensors", added.views());
    return out;
  }
};

TEST(Model, ALayerThatStaysSoftmaxKeepsTheWindowOfItsConfig) {
  TemporaryFolder folder;
  TinyModel tiny = make_tiny(tiny_llama_config());
  tiny.config["model_type"] = "mistral";
  tiny.config["sliding_window"] = 5;
  const auto windows = [&](const Json& linear) {
    tiny.config["linear_attention"] = linear;
    std::vector<int> found;
    static int count = 0;
    const auto model = Model::open(tiny.write(folder.path, "model-" + std::to_string(count++)));
    for (const AttentionConfig& layer : model->attention()) found.push_back(layer.window);
    return found;
  };
  EXPECT_EQ(windows(nullptr), (std::vector<int>{5, 5}));
  EXPECT_EQ(windows({{"method", "softmax"}}), (std::vector<int>{5, 5}));
  EXPECT_EQ(windows({{"method", "relu"}, {"layers", {{"1", {{"method", "softmax"}}}}}}),
            (std::vector<int>{0, 5}));
  EXPECT_EQ(windows({{"method", "softmax"}, {"window", 0}, {"layers", {{"1", {{"window", 3}}}}}}),
            (std::vector<int>{5, 3}));
}

TEST(Sidecar, OpensOverTheBaseBesideIt) {
  const Linearized linear;
  const auto model = Model::open(linear.write());
  EXPECT_TRUE(model->is_sidecar());
  EXPECT_EQ(model->attention()[0].name(), "softmax");
  EXPECT_EQ(model->attention()[1].name(), "hedgehog");
  EXPECT_EQ(model->linear_parameters(1).size(), linear.added.tensors.size());
  EXPECT_TRUE(model->linear_parameters(0).empty());
  EXPECT_TRUE(model->linear_parameters(1).contains("alpha"));
  EXPECT_EQ(model->tokenizer_folder(), linear.base);
}

TEST(Sidecar, OpensFromWithinItselfAndWithTheBaseElsewhere) {
  const Linearized linear;
  const fs::path sidecar = linear.write();
  EXPECT_NO_THROW(Model::open(sidecar / ""));
  EXPECT_NO_THROW(Model::open(sidecar / "."));
  EXPECT_NO_THROW(Model::open(sidecar / ".." / "sidecar"));
  fs::rename(linear.base, linear.folder.path / "elsewhere");
  EXPECT_THAT(open_error(sidecar), HasSubstr("the sidecar's base is not there, expected it, or --base"));
  EXPECT_NO_THROW(Model::open(sidecar, {.base = linear.folder.path / "elsewhere"}));
}

TEST(Sidecar, SaysWhereItsMissingBaseIsFromIfItsCardDoes) {
  const Linearized linear;
  const fs::path sidecar = linear.write();
  fs::rename(linear.base, linear.folder.path / "elsewhere");
  const struct {
    const char* card;
    const char* expected;
  } rows[] = {
      {"---\nlicense: apache-2.0\nbase_from: scripts/fetch it\n---\n# A model\n",
       "expected it, from scripts/fetch it as its README.md says, or --base"},
      {"---\nbase_from: a\033[1mb\n---\n", "expected it, from a\\x1b[1mb as its"},
      {"---\nbase_from: x", "from x as"},
      {"---\nlicense: mit\n---\nbase_from: later\n", "expected it, or --base"},
      {"# A model\nbase_from: nowhere\n", "expected it, or --base"},
      {"---\nbase_from:\n---\n", "expected it, or --base"},
      {"---\nbase_from_more: x\n---\n", "expected it, or --base"},
      {"", "expected it, or --base"},
  };
  for (const auto& row : rows) {
    write_file(sidecar / "README.md", row.card);
    EXPECT_THAT(open_error(sidecar), HasSubstr(row.expected)) << row.card;
  }
}

TEST(Sidecar, RefusesEveryBrokenFieldAndTensorByItsName) {
  constexpr const char* kAlpha = "model.layers.1.self_attn.linear_attention.alpha";
  const struct {
    void (*break_it)(TinyModel&);
    const char* message;
  } rows[] = {
      {[](TinyModel& m) { m.config["base"] = "../base"; }, "\"base\" is \"../base\""},
      {[](TinyModel& m) { m.config["base"] = "/tmp"; }, "\"base\" is \"/tmp\""},
      {[](TinyModel& m) { m.config["base"] = ".."; }, "\"base\" is \"..\""},
      {[](TinyModel& m) { m.config["base"] = "sidecar"; }, "a sidecar, expected a base"},
      {[](TinyModel& m) { m.config.erase("base"); }, "no \"base\""},
      {[](TinyModel& m) { m.config.erase("base_hash"); }, "no \"base_hash\""},
      {[](TinyModel& m) { m.config["base_hash"] = "xxh3-128:1"; },
       "expected xxh3-128: and 32 hexadecimal digits"},
      {[](TinyModel& m) { m.config["base_hash"] = "xxh3-128:" + std::string(32, '0'); },
       "another base than the sidecar"},
      {[](TinyModel& m) { m.config["hidden_size"] = 16; }, "\"hidden_size\" in a sidecar"},
      {[](TinyModel& m) { m.config.erase("linear_attention"); }, "no \"linear_attention\""},
      {[](TinyModel& m) { m.config["linear_attention"]["methid"] = 1; }, "methid"},
      {[](TinyModel& m) { m.tensors.erase(kAlpha); }, "linear_attention.alpha\", expected it, of shape [4]"},
      {[](TinyModel& m) { m.add(kAlpha, {5}); },
       "linear_attention.alpha\": shape [5], expected [4], for hedgehog in layer 1"},
      {[](TinyModel& m) { m.add("model.layers.0.self_attn.linear_attention.alpha", {4}); },
       "does not ask for, expected the tensors of linear_attention alone, for softmax in layer 0"},
      {[](TinyModel& m) {
         m.add(kEmbedding, {30, 16});
       },
       "embed_tokens.weight\": a tensor that the config"},
  };
  for (const auto& row : rows) {
    Linearized linear;
    row.break_it(linear.added);
    EXPECT_THAT(open_error(linear.write()), HasSubstr(row.message));
  }
}

TEST(Sidecar, ABaseThatIsLinearizedItselfIsRefused) {
  Linearized linear;
  TinyModel base = make_tiny(tiny_llama_config());
  base.config["linear_attention"] = {{"method", "softmax"}};
  base.write(linear.folder.path, "linear");
  linear.added.config["base"] = "linear";
  EXPECT_THAT(open_error(linear.write()), HasSubstr("linear/config.json: has linear_attention itself"));
}

TEST(Sidecar, AChangedBaseIsRefusedWhereverItLies) {
  const Linearized linear;
  const fs::path sidecar = linear.write();
  TinyModel other = make_tiny(tiny_llama_config());
  other.tensors["model.norm.weight"].bytes[0] ^= std::byte{1};
  const fs::path changed = other.write(linear.folder.path, "changed");
  EXPECT_THAT(open_error(sidecar, {.base = changed}),
              HasSubstr("another base than the sidecar was made from"));
  EXPECT_NO_THROW(Model::open(sidecar, {.base = changed, .check_hash = false}));
}

}  // namespace
}  // namespace linnet

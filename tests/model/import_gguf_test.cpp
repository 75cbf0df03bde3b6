#include "model/import_gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/json.h"
#include "model/model.h"
#include "tests/model/tiny_gguf.h"
#include "tests/model/tiny_model.h"
#include "text/tokenizer.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using Ids = std::vector<int32_t>;

GgufFile parse(const std::string& bytes) {
  return GgufFile::parse(std::as_bytes(std::span(bytes.data(), bytes.size())), "x.gguf");
}

/// What the import of `bytes` writes into a folder.
fs::path import_into(const fs::path& folder, const std::string& bytes) {
  const GgufFile file = parse(bytes);
  write_imported(folder, import_gguf(file), size_t{1} << 30);
  return folder;
}

std::string refused(const std::string& bytes) {
  return error_of([&] { import_gguf(parse(bytes)); });
}

TEST(ImportGguf, GivesTheFolderThatTheFileWasMadeOf) {
  for (const char* type : {"llama", "qwen2", "qwen3", "gemma"}) {
    for (const bool tied : {false, true}) {
      SCOPED_TRACE(type);
      Json json = tiny_gguf_config(type);
      json["tie_word_embeddings"] = tied;
      if (type == std::string("qwen3") || type == std::string("gemma")) json["head_dim"] = 6;
      if (type == std::string("llama") && tied) json["attention_bias"] = json["mlp_bias"] = true;
      const TinyModel model = make_tiny(json, DType::kBF16);
      const ModelConfig config = ModelConfig::parse(json, "test");
      GgufWriter writer = gguf_metadata(config);
      add_bpe(writer);
      add_tensors(writer, model.views(), config);
      TemporaryFolder place;
      const auto opened = Model::open(import_into(place.path / "out", writer.file()));
      EXPECT_EQ(opened->config().model_type, type);
      EXPECT_EQ(opened->config().activation, config.activation);
      EXPECT_EQ(opened->config().norm_epsilon, 1e-5);
      EXPECT_EQ(opened->config().rope.theta, 100000.0);
      EXPECT_EQ(opened->config().tied_embeddings, tied);
      EXPECT_THAT(opened->config().eos, ElementsAre(1));
      EXPECT_EQ(opened->base_tensors().tensors().size(), model.tensors.size());
      for (const auto& [name, tensor] : model.tensors) {
        const TensorView* own = opened->base_tensors().find(name);
        ASSERT_NE(own, nullptr) << name;
        EXPECT_EQ(own->shape, tensor.shape) << name;
        EXPECT_EQ(as_text(own->bytes), as_text(tensor.bytes)) << name;
      }
      const Tokenizer tokenizer = Tokenizer::load(place.path / "out");
      EXPECT_EQ(tokenizer.encode("ab a</s>b"), (Ids{7, 6, 2, 1, 3}));
      EXPECT_EQ(tokenizer.bos(), 0);
      EXPECT_EQ(place.entries(), 1u);
    }
  }
}

TEST(ImportGguf, DequantizesAModelOfEveryType) {
  Json json = tiny_gguf_config();
  json.update({{"hidden_size", 256}, {"intermediate_size", 256}, {"num_hidden_layers", 1}});
  const ModelConfig config = ModelConfig::parse(json, "test");
  const TinyModel shapes = make_tiny(json, DType::kF32);
  for (const GgmlType& type : ggml_types()) {
    if (type.dequantize == nullptr) continue;
    SCOPED_TRACE(type.name);
    GgufWriter writer = gguf_metadata(config);
    add_bpe(writer);
    TinyModel plain;  // norms and the matrices that the loop below does not replace
    plain.tensors = shapes.tensors;
    plain.tensors.erase("lm_head.weight");
    plain.tensors.erase("model.layers.0.mlp.down_proj.weight");
    add_tensors(writer, plain.views(), config);
    const auto fill = [&](int64_t rows) {
      std::string bytes(static_cast<size_t>(rows) * 256 / type.block * type.bytes, '\0');
      // Neither NaN nor infinite in any of the floating types: no exponent has all bits set.
      for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>((i * 2654435761u >> 7) & 0x3B);
      return bytes;
    };
    const std::string head = fill(10), down = fill(256);
    writer.tensor("output.weight", {10, 256}, type.number, head);
    writer.tensor("blk.0.ffn_down.weight", {256, 256}, type.number, down);
    TemporaryFolder place;
    const auto opened = Model::open(import_into(place.path / "out", writer.file()));
    const std::pair<const char*, const std::string*> tensors[] = {
        {"lm_head.weight", &head}, {"model.layers.0.mlp.down_proj.weight", &down}};
    for (const auto& [name, bytes] : tensors) {
      std::vector<float> numbers(bytes->size() / type.bytes * type.block);
      dequantize(type, std::as_bytes(std::span(bytes->data(), bytes->size())), numbers);
      EXPECT_EQ(as_text(opened->base_tensors().find(name)->bytes),
                as_text(from_float(numbers, DType::kBF16)));
    }
  }
}

struct Sound {
  Json json = tiny_gguf_config();
  ModelConfig config = ModelConfig::parse(json, "test");
  TinyModel model = make_tiny(json, DType::kF32);
};

/// A sound model but for what `metadata` and `tensors` do.
std::string file_of(const std::function<void(GgufWriter&)>& metadata,
                    const std::function<void(TinyModel&)>& tensors = {},
                    const std::function<void(GgufWriter&)>& more = {}) {
  Sound sound;
  if (tensors) tensors(sound.model);
  GgufWriter writer = gguf_metadata(sound.config);
  metadata(writer);
  add_tensors(writer, sound.model.views(), sound.config);
  if (more) more(writer);
  return writer.file();
}

TEST(ImportGguf, ReadsTheScalingsOfRotaryPositions) {
  TemporaryFolder place;
  const auto rope_of = [&](const char* name, const std::string& bytes) {
    return Model::open(import_into(place.path / name, bytes))->config().rope;
  };
  const RopeConfig linear =
      rope_of("linear", file_of([](GgufWriter& w) {
                add_bpe(w);
                w.add("llama.rope.scaling.type", "linear").add("llama.rope.scaling.factor", 4.0f);
              }));
  EXPECT_EQ(linear.scaling, RopeScaling::kLinear);
  EXPECT_EQ(linear.factor, 4);
  const RopeConfig old = rope_of("old", file_of([](GgufWriter& w) {
                                   add_bpe(w);
                                   w.add("llama.rope.scale_linear", 2.0f);
                                 }));
  EXPECT_EQ(old.factor, 2);
  const RopeConfig yarn =
      rope_of("yarn", file_of([](GgufWriter& w) {
                add_bpe(w);
                w.add("llama.rope.scaling.type", "yarn").add("llama.rope.scaling.factor", 4.0f);
                w.add("llama.rope.scaling.original_context_length", uint32_t{16});
              }));
  EXPECT_EQ(yarn.scaling, RopeScaling::kYarn);
  EXPECT_EQ(yarn.original_positions, 16);

  // Llama 3.1 as its converter writes it: what each frequency is divided by (here of heads of 4, base 1e5).
  const auto with_divisors = [](const std::vector<float>& divisors) {
    std::string bytes;
    for (float divisor : divisors) bytes += GgufWriter::raw(divisor);
    return file_of([](GgufWriter& w) { add_bpe(w); }, {},
                   [&](GgufWriter& w) {
                     w.tensor("rope_freqs.weight", {static_cast<int64_t>(divisors.size())}, 0, bytes);
                   });
  };
  // Frequencies 1 and 1e5^(−1/2): wavelengths 6.28 (kept) and 1987 of 8192, between 8192 / 4 and … : kept
  // too.
  EXPECT_THAT(refused(with_divisors({1.0f, 3.0f})),
              HasSubstr("tensor \"rope_freqs.weight\": frequency 1 divided by 3"));
  EXPECT_THAT(refused(with_divisors({1.0f})),
              HasSubstr("tensor \"rope_freqs.weight\": [1] in F32, expected [2] in F32"));
  const auto slow = [](const std::vector<float>& divisors) {
    Json json = tiny_gguf_config();
    json["rope_theta"] = 5e8;  // the second wavelength is 140,496
    const ModelConfig config = ModelConfig::parse(json, "test");
    GgufWriter writer = gguf_metadata(config);
    add_bpe(writer);
    const TinyModel model = make_tiny(json);
    add_tensors(writer, model.views(), config);
    std::string bytes;
    for (float divisor : divisors) bytes += GgufWriter::raw(divisor);
    return writer.tensor("rope_freqs.weight", {2}, 0, bytes).file();
  };
  const RopeConfig llama3 = rope_of("llama3", slow({1.0f, 32.0f}));
  EXPECT_EQ(llama3.scaling, RopeScaling::kLlama3);
  EXPECT_EQ(llama3.factor, 32);
}

TEST(ImportGguf, CutsTextsAsThePreTokenizersNameSays) {
  // "12" is a token, and where digits stand together a merge gives it.
  const std::pair<const char*, Ids> rows[] = {
      {"smollm", {7, 4, 5}}, {"starcoder", {7, 4, 5}}, {"gpt-2", {7, 9}},    {"phi-2", {7, 9}},
      {"default", {7, 9}},   {"llama-bpe", {0, 7, 9}}, {"qwen2", {7, 4, 5}}, {"tekken", {0, 7, 4, 5}},
      {"smaug-bpe", {7, 9}}, {"stablelm2", {7, 4, 5}},
  };
  TemporaryFolder place;
  for (const auto& [pre, ids] : rows) {
    SCOPED_TRACE(pre);
    const fs::path folder =
        import_into(place.path / pre, file_of([&, name = pre](GgufWriter& w) { add_bpe(w, name); }));
    EXPECT_EQ(Tokenizer::load(folder).encode("ab12", true), ids);  // with what begins a text
  }
}

void add_sentencepiece(GgufWriter& writer) {
  writer.add("tokenizer.ggml.model", "llama");
  writer.add("tokenizer.ggml.tokens", std::vector<std::string>{"<unk>", "<s>", "</s>", "\u2581", "a", "b",
                                                               "ab", "\u2581ab", "<|x|>", "<y>"});
  writer.add("tokenizer.ggml.scores", std::vector<float>{0, 0, 0, -3, -4, -5, -1, -2, 0, 0});
  writer.add("tokenizer.ggml.token_type", std::vector<int32_t>{2, 3, 3, 1, 1, 1, 1, 1, 3, 4});
  writer.add("tokenizer.ggml.bos_token_id", uint32_t{1}).add("tokenizer.ggml.eos_token_id", uint32_t{2});
  writer.add("tokenizer.ggml.unknown_token_id", uint32_t{0});
}

TEST(ImportGguf, MakesASentencepieceModelOfAVocabularyWithScores) {
  TemporaryFolder place;
  const Tokenizer spaced = Tokenizer::load(import_into(place.path / "a", file_of(add_sentencepiece)));
  EXPECT_EQ(spaced.encode("abab", true), (Ids{1, 7, 6}));
  EXPECT_EQ(spaced.encode("ab<|x|>ba"), (Ids{7, 8, 3, 5, 4}));
  EXPECT_EQ(spaced.encode("a<y>"), (Ids{3, 4, 9}));
  EXPECT_EQ(spaced.decode(Ids{7, 6, 8}), "abab");
  EXPECT_EQ(spaced.eos(), 2);
  const Tokenizer bare = Tokenizer::load(import_into(place.path / "b", file_of([](GgufWriter& w) {
                                                       add_sentencepiece(w);
                                                       w.add("tokenizer.ggml.add_space_prefix", false);
                                                       w.add("tokenizer.ggml.add_bos_token", false);
                                                       w.add("tokenizer.ggml.add_eos_token", true);
                                                     })));
  EXPECT_EQ(bare.encode("abab", true), (Ids{6, 6, 2}));
}

TEST(ImportGguf, RefusesWhatIsNoModelItKnowsWithTheReason) {
  const auto with = [](auto... more) {
    return file_of([&](GgufWriter& w) {
      add_bpe(w);
      (w.add(more.first, more.second), ...);
    });
  };
  using std::pair;
  const auto vocabulary = [](const std::function<void(GgufWriter&)>& change) {
    return file_of([&](GgufWriter& w) {
      w.add("tokenizer.ggml.model", "gpt2").add("tokenizer.ggml.pre", "gpt-2");
      change(w);
    });
  };
  const auto tokens = [](GgufWriter& w) {
    w.add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "b", "ab"});
  };
  const auto architecture = [](const char* name) {
    GgufWriter writer;
    writer.add("general.architecture", name);
    return writer.file();
  };
  const auto changed = [](const std::function<void(TinyModel&)>& change) {
    return file_of([](GgufWriter& w) { add_bpe(w); }, change);
  };
  const std::string nan = GgufWriter::raw(std::nanf(""));
  const struct {
    std::string file;
    const char* message;
  } rows[] = {
      {GgufWriter().file(), "no \"general.architecture\""},
      {architecture("gptneox"), "architecture \"gptneox\", expected llama or qwen2"},
      {architecture("llama"), "no tensor \"token_embd.weight\""},
      {changed([](TinyModel& m) { m.tensors.erase("model.norm.weight"); }),
       "tensor \"output_norm.weight\": missing"},
      {changed([](TinyModel& m) { m.add("model.norm.weight", {15}); }),
       "\"output_norm.weight\": [15], expected [16]"},
      {changed([](TinyModel& m) {
         m.add("model.layers.0.self_attn.k_proj.weight", {4, 16});
       }),
       "\"blk.0.attn_k.weight\": [4, 16], expected [8, 16]"},
      {changed([](TinyModel& m) { m.add("model.layers.7.mlp.up_proj.weight", {4}); }),
       "\"blk.7.ffn_up.weight\": not known in a model of architecture llama"},
      {changed([](TinyModel& m) { m.add("blk.0.ffn_gate_exps.weight", {4}); }),
       "ffn_gate_exps.weight\": not known"},
      {with(pair("llama.expert_count", uint32_t{8})), "\"llama.expert_count\" is 8, expected 0"},
      {with(pair("llama.attention.sliding_window", uint32_t{8})), "\"llama.attention.sliding_window\" is 8"},
      {with(pair("llama.attention.value_length", uint32_t{2})), "value_length\" is 2, expected 4"},
      {with(pair("llama.attention.key_length", uint32_t{8})), "rope.dimension_count\" is 4, expected 8"},
      {with(pair("llama.rope.scaling.type", "longrope")), "rope.scaling.type\" is longrope, expected none"},
      {with(pair("llama.rope.scaling.type", "linear"), pair("llama.rope.scaling.factor", -1.0f)), "factor"},
      {with(pair("split.count", uint32_t{3})), "one of 3 parts of a model"},
      {file_of([](GgufWriter& w) { add_bpe(w, "viking"); }),
       "the pre-tokenizer (\"tokenizer.ggml.pre\") is \"viking\", expected one of default, gpt-2"},
      {file_of([](GgufWriter& w) { w.add("tokenizer.ggml.model", "bert"); }),
       "is \"bert\", expected gpt2 or llama"},
      {file_of([](GgufWriter&) {}), "(\"tokenizer.ggml.model\") is \"\""},
      {vocabulary([](GgufWriter&) {}), "0 tokens"},
      {vocabulary([](GgufWriter& w) { w.add("tokenizer.ggml.tokens", uint32_t{1}); }),
       "expected ARRAY of STRING"},
      {vocabulary([](GgufWriter& w) { w.add("tokenizer.ggml.tokens", std::vector<std::string>(11, "a")); }),
       "11 tokens, expected at most 10"},
      {vocabulary([](GgufWriter& w) {
         w.add("tokenizer.ggml.tokens", std::vector<std::string>{"a", "a"});
       }),
       "tokenizer: key \"a\" stands twice"},
      {vocabulary([](GgufWriter& w) { w.add("tokenizer.ggml.tokens", std::vector<std::string>{"\xff"}); }),
       "token 0 is no UTF-8"},
      {vocabulary([&](GgufWriter& w) {
         tokens(w);
         w.add("tokenizer.ggml.token_type", std::vector<int32_t>{1});
       }),
       "1 token types, expected 3"},
      {vocabulary([&](GgufWriter& w) {
         tokens(w);
         w.add("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1, 7});
       }),
       "a token of type 7, expected 1 to 6"},
      {vocabulary([&](GgufWriter& w) {
         tokens(w);
         w.add("tokenizer.ggml.merges", std::vector<std::string>{"ab"});
       }),
       "merge 0 is \"ab\""},
      {vocabulary([&](GgufWriter& w) {
         tokens(w);
         w.add("tokenizer.ggml.merges", std::vector<std::string>{"a c"});
       }),
       "token \"c\" is not in the vocabulary"},
      {vocabulary([&](GgufWriter& w) {
         tokens(w);
         w.add("tokenizer.ggml.bos_token_id", uint32_t{3});
       }),
       "the BOS token's id is 3, expected 0 to 2"},
      {vocabulary([&](GgufWriter& w) {
         tokens(w);
         w.add("tokenizer.ggml.add_bos_token", true);
       }),
       "a BOS that has no id"},
      {vocabulary([&](GgufWriter& w) {
         tokens(w);
         w.add("tokenizer.chat_template", "\xff");
       }),
       "the chat template is no UTF-8"},
      {file_of([](GgufWriter& w) {
         w.add("tokenizer.ggml.model", "llama");
         w.add("tokenizer.ggml.tokens", std::vector<std::string>{"a"});
       }),
       "0 scores, expected 1"},
      {file_of([](GgufWriter& w) {
         w.add("tokenizer.ggml.model", "llama").add("tokenizer.ggml.scores", std::vector<float>{0});
         w.add("tokenizer.ggml.tokens", std::vector<std::string>{"a"});
       }),
       "tokenizer: 0 unknown pieces"},
  };
  for (const auto& row : rows) EXPECT_THAT(refused(row.file), HasSubstr(row.message));

  const std::string broken = changed([&](TinyModel& m) {
    auto& bytes = m.tensors["model.norm.weight"].bytes;
    std::memcpy(bytes.data(), nan.data(), nan.size());
  });
  TemporaryFolder place;
  EXPECT_THAT(error_of([&] { import_into(place.path / "out", broken); }),
              HasSubstr("tensor \"output_norm.weight\": NaN, infinite or huge numbers"));
  EXPECT_EQ(place.entries(), 0u);
}

}  // namespace
}  // namespace linnet

#include "model/write_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <cmath>
#include <set>

#include "base/json.h"
#include "model/decoder.h"
#include "model/slot_file.h"
#include "tests/model/tiny_model.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;
using testing::HasSubstr;

LoraAdapter make_lora(const Model& model, TinyModel& holder) {
  const Family& family = model.family();
  LoraAdapter lora{{2, 6.0, {std::string(family.q.substr(family.q.rfind('.') + 1))}}, {}};
  for (int layer = 0; layer < model.config().layers; ++layer) {
    const ModuleShape shape = module_shape(family, model.config(), family.q);
    holder.add(lora_name(family, layer, family.q, 'A'), {2, shape.in});
    holder.add(lora_name(family, layer, family.q, 'B'), {shape.out, 2});
  }
  lora.tensors = holder.views();
  return lora;
}

/// A base in a folder, and what may be trained of it.
struct Trained {
  TemporaryFolder folder;
  std::shared_ptr<const Model> base = Model::open(make_tiny(tiny_llama_config()).write(folder.path, "base"));
  std::vector<AttentionConfig> attention =
      parse_attention({{"method", "elu1"}, {"local", "softmax"}, {"taps", 2}}, 2, "test");
  TinyModel added, adapter;
  LoraAdapter lora = make_lora(*base, adapter);

  Trained() {
    for (int layer = 0; layer < 2; ++layer) {
      for (const auto& spec :
           parameter_specs(attention[static_cast<size_t>(layer)], base->attention_shape())) {
        added.add(base->linear_prefix(layer) + spec.name, spec.shape);
      }
    }
  }
  std::shared_ptr<const Model> write(const fs::path& out, const LoraAdapter* with) const {
    write_sidecar(out, attention, added.views(), base_reference(*base), with, base->config(), true);
    return Model::open(out);
  }
};

TEST(WriteModel, ASidecarOpensAsWhatWasWrittenAndTheBaseIsUntouched) {
  const Trained trained;
  const BaseReference reference = base_reference(*trained.base);
  EXPECT_EQ(reference.name, "base");
  for (const LoraAdapter* with : {static_cast<const LoraAdapter*>(nullptr), &trained.lora}) {
    const fs::path out = trained.folder.path / (with ? "with" : "without");
    const auto model = trained.write(out, with);
    EXPECT_EQ(model->attention(), trained.attention);
    EXPECT_EQ(model->added_tensors().size(), trained.added.tensors.size());
    EXPECT_EQ(model->lora_tensors().size(), with ? trained.adapter.tensors.size() : 0);
    EXPECT_EQ(model->lora().has_value(), with != nullptr);
    EXPECT_EQ(read_json(out / "config.json").size(), 3u);
  }
  EXPECT_EQ(tensors_hash(Model::open(trained.base->folder())->base_tensors()), reference.hash);
}

TEST(WriteModel, AStateBelongsToOneVersionOfEveryTrainedTensor) {
  Trained trained;
  std::set<std::array<std::byte, 16>> seen;
  const auto is_new = [&] {
    return seen.insert(fingerprint(*trained.write(trained.folder.path / "out", &trained.lora))).second;
  };
  EXPECT_TRUE(is_new());
  EXPECT_FALSE(is_new());
  for (TinyModel* part : {&trained.added, &trained.adapter}) {
    for (auto& [name, tensor] : part->tensors) {
      tensor.bytes[0] ^= std::byte{1};
      EXPECT_TRUE(is_new()) << name;
    }
  }
  trained.lora.config.alpha = 7;
  EXPECT_TRUE(is_new());
}

TEST(WriteModel, AFullFolderKeepsFieldsTensorsAndTokenizer) {
  TemporaryFolder folder;
  const fs::path path = make_tiny(tiny_llama_config()).write(folder.path, "base");
  write_file(path / "tokenizer.json", "{\"a\": 1}");
  write_file(path / "generation_config.json", "{\"eos_token_id\": 2}");
  const auto base = Model::open(path);
  TinyModel changed;
  changed.add("model.norm.weight", {16});
  write_full(folder.path / "full", *base, changed.views(), base->attention(), 4000, false);
  const auto full = Model::open(folder.path / "full");
  EXPECT_EQ(full->config().raw, base->config().raw);
  EXPECT_EQ(read_json(folder.path / "full" / "tokenizer.json")["a"], 1);
  EXPECT_EQ(full->generation().eos, std::vector<int64_t>{2});
  EXPECT_TRUE(fs::exists(folder.path / "full" / "model.safetensors.index.json"));
  EXPECT_EQ(full->base_tensors().tensors().size(), base->base_tensors().tensors().size());
  EXPECT_EQ(to_float(*full->tensor("norm", "weight"), ""),
            to_float(changed.tensors.at("model.norm.weight").view(), ""));
  EXPECT_THAT(error_of([&] { write_full(path, *base, {}, base->attention(), 4000, false); }),
              HasSubstr("already exists"));
}

TEST(WriteModel, AFullFolderOfSoftmaxIsAnOrdinaryOne) {
  TemporaryFolder folder;
  TinyModel tiny = make_tiny(tiny_llama_config());
  tiny.config["linear_attention"] = {{"method", "softmax"}};
  const auto model = Model::open(tiny.write(folder.path, "model"));
  write_full(folder.path / "full", *model, {}, model->attention(), kShardBytes, false);
  EXPECT_EQ(Model::open(folder.path / "full")->config().raw, tiny_llama_config());
}

TEST(WriteModel, AFullFolderWithWindowsIsAnOrdinaryOneUntilALayerChanges) {
  TemporaryFolder folder;
  TinyModel tiny = make_tiny(tiny_llama_config());
  tiny.config["model_type"] = "mistral";
  tiny.config["sliding_window"] = 5;
  const auto model = Model::open(tiny.write(folder.path, "model"));
  write_full(folder.path / "full", *model, {}, model->attention(), kShardBytes, false);
  EXPECT_EQ(Model::open(folder.path / "full")->config().raw, tiny.config);
  auto changed = model->attention();
  changed[1] = parse_layer_attention({{"method", "relu"}}, "test");
  write_full(folder.path / "changed", *model, {}, changed, kShardBytes, false);
  EXPECT_EQ(Model::open(folder.path / "changed")->attention(), changed);
}

TEST(WriteModel, ATiedHeadInTheFileDoesNotOutliveItsEmbedding) {
  TemporaryFolder folder;
  TinyModel tiny = make_tiny(tiny_llama_config()), changed;
  tiny.tensors["lm_head.weight"] = tiny.tensors["model.embed_tokens.weight"];
  const auto model = Model::open(tiny.write(folder.path, "model"));
  changed.add("model.embed_tokens.weight", {30, 16}, DType::kBF16);
  write_full(folder.path / "full", *model, changed.views(), model->attention(), kShardBytes, false);
  EXPECT_EQ(Model::open(folder.path / "full")->tensor("embed_tokens", "weight")->type, DType::kBF16);
}

TEST(Lora, MergesToWPlusScaledBaInEveryLayout) {
  for (const Json& config : {tiny_llama_config(), tiny_gpt2_config()}) {
    TemporaryFolder folder;
    const auto base = Model::open(make_tiny(config).write(folder.path, "base"));
    TinyModel holder;
    write_lora(folder.path / "lora", make_lora(*base, holder), base_reference(*base), base->family(), false);
    const auto model = Model::open(folder.path / "lora");
    const Family& family = model->family();
    EXPECT_EQ(model->lora()->rank, 2);
    // What PEFT calls matrices stored as [in, out].
    EXPECT_EQ(read_json(folder.path / "lora" / "adapter_config.json")["fan_in_fan_out"],
              config["model_type"] == "gpt2");
    const auto merged = merge_lora(*model);
    ASSERT_EQ(merged.size(), 2u);
    const auto shape = module_shape(family, model->config(), family.q);
    const auto w = to_float(*model->layer_tensor(1, family.q, "weight"), "");
    const auto a = to_float(*model->lora_of(1, family.q)->a, ""),
               b = to_float(*model->lora_of(1, family.q)->b, "");
    const auto sum = to_float(merged.at(model->module_name(1, family.q) + ".weight").view(), "");
    for (int64_t o = 0; o < shape.out; ++o) {
      for (int64_t i = 0; i < shape.in; ++i) {
        const auto at = static_cast<size_t>(family.transposed ? i * shape.out + o : o * shape.in + i);
        const auto of = [](const std::vector<float>& x, int64_t index) {
          return x[static_cast<size_t>(index)];
        };
        const float expected =
            w[at] + 3.0f * (of(b, 2 * o) * of(a, i) + of(b, 2 * o + 1) * of(a, shape.in + i));
        EXPECT_NEAR(sum[at], expected, 1e-6f);
      }
    }
  }
}

TEST(Lora, ComputesWhatTheMergedFolderComputes) {
  ThreadPool pool(1);
  const std::vector<int32_t> tokens = {1, 7, 3, 29, 4, 4, 12};
  const auto logits = [&](const fs::path& folder, ComputeType compute = ComputeType::kFloat32) {
    const auto decoder = Decoder::make(Model::open(folder), {.compute = compute}, pool);
    std::vector<float> out(tokens.size() * 30);
    decoder->prefill(0, tokens, 0, out);
    return out;
  };
  for (const Json& config : {tiny_llama_config(), tiny_gpt2_config()}) {
    for (DType type : {DType::kF32, DType::kBF16}) {  // of bf16 matrices side by side one becomes float32
      TemporaryFolder folder;
      const fs::path path = make_tiny(config, type).write(folder.path, "base");
      const auto base = Model::open(path);
      TinyModel holder;
      write_lora(folder.path / "lora", make_lora(*base, holder), base_reference(*base), base->family(),
                 false);
      const auto model = Model::open(folder.path / "lora");
      const auto merged = merge_lora(*model);
      std::vector<NamedTensor> changed;
      for (const auto& [name, tensor] : merged) changed.push_back({name, tensor.view()});
      write_full(folder.path / "full", *model, changed, model->attention(), kShardBytes, false);
      const auto lora = logits(folder.path / "lora"), full = logits(folder.path / "full");
      double away = 0, size = 0, far = 0;
      const auto plain = logits(path);
      for (size_t i = 0; i < full.size(); ++i) {
        away += std::pow(lora[i] - full[i], 2);
        far += std::pow(plain[i] - full[i], 2);
        size += std::pow(full[i], 2);
      }
      EXPECT_LT(std::sqrt(away / size), type == DType::kF32 ? 1e-5 : 1e-2);
      EXPECT_GT(far, 10 * away);  // the LoRA does something
      EXPECT_EQ(logits(folder.path / "lora", ComputeType::kAuto),
                logits(folder.path / "full", ComputeType::kAuto));
    }
  }
}

TEST(Lora, RefusesWhatItWouldComputeOtherwise) {
  const struct {
    Json change;
    const char* message;
  } rows[] = {
      {{{"use_dora", true}}, "\"use_dora\" is true"},
      {{{"peft_type", "IA3"}}, "\"peft_type\" is \"IA3\""},
      {{{"rank_pattern", {{"q_proj", 4}}}}, "shape [2, 16], expected [4, 16]"},
      {{{"rank_pattern", {{"q_proj", 0}}}}, "rank_pattern: \"q_proj\" is 0"},
      {{{"rank_pattern", {{"(q_proj", 2}}}}, "rank_pattern: pattern"},
      {{{"rank_pattern", 3}}, "\"rank_pattern\" is 3"},
      {{{"alpha_pattern", {{"q_proj", "x"}}}}, "alpha_pattern: \"q_proj\" is \"x\""},
      {{{"modules_to_save", {"lm_head"}}}, "\"modules_to_save\" names \"lm_head\""},
      {{{"modules_to_save", "lm_head"}}, "\"modules_to_save\" is \"lm_head\""},
      {{{"r", 3}}, "shape [2, 16], expected [3, 16]"},
      {{{"r", 0}}, "\"r\" is 0"},
      {{{"base_model_name_or_path", "elsewhere/model"}}, "is no folder here, expected it, or --base"},
  };
  for (const auto& row : rows) {
    TemporaryFolder folder;
    const auto base = Model::open(make_tiny(tiny_llama_config()).write(folder.path, "base"));
    TinyModel holder;
    write_lora(folder.path / "lora", make_lora(*base, holder), base_reference(*base), base->family(), false);
    Json config = read_json(folder.path / "lora" / "adapter_config.json");
    config.merge_patch(row.change);
    write_file(folder.path / "lora" / "adapter_config.json", config.dump());
    EXPECT_THAT(error_of([&] { Model::open(folder.path / "lora"); }), HasSubstr(row.message)) << row.change;
  }
}

TEST(Lora, UseRsloraScalesByAlphaOverTheRootOfTheRank) {
  TemporaryFolder folder;
  const auto base = Model::open(make_tiny(tiny_llama_config()).write(folder.path, "base"));
  TinyModel holder;
  write_lora(folder.path / "lora", make_lora(*base, holder), base_reference(*base), base->family(), false);
  Json config = read_json(folder.path / "lora" / "adapter_config.json");
  config["use_rslora"] = true;
  write_file(folder.path / "lora" / "adapter_config.json", config.dump());
  const auto model = Model::open(folder.path / "lora");
  EXPECT_DOUBLE_EQ(model->lora_of(1, base->family().q)->scale, 6 / std::sqrt(2));
}

/// A LoRA of a tiny model whose adapter_config.json has `change` and whose file has `more` tensors.
std::shared_ptr<const Model> open_lora(const fs::path& folder, const std::string& change,
                                       const TinyModel& more) {
  const auto base = Model::open(make_tiny(tiny_llama_config()).write(folder, "base"));
  TinyModel holder;
  LoraAdapter lora = make_lora(*base, holder);
  for (const NamedTensor& tensor : more.views()) lora.tensors.push_back(tensor);
  write_lora(folder / "lora", lora, base_reference(*base), base->family(), false);
  auto config = nlohmann::ordered_json::parse(MappedFile(folder / "lora" / "adapter_config.json").text());
  config.update(nlohmann::ordered_json::parse(change));
  write_file(folder / "lora" / "adapter_config.json", config.dump());
  return Model::open(folder / "lora");
}

TEST(Lora, TheFirstPatternThatMatchesAModulesWholeNameOrItsEndCounts) {
  const struct {
    const char* alphas;
    double scales[2];  // of the two layers' q_proj; 6 / 2 where nothing matches
  } rows[] = {
      {R"({"q_proj": 8})", {4, 4}},
      {R"({"_proj": 8, "q_pro": 8, "self_attn": 8})", {3, 3}},
      {R"({".*_proj": 10})", {5, 5}},
      {R"({"layers.1.self_attn.q_proj": 8, "q_proj": 2})", {1, 4}},
      {R"({"q_proj": 2, "layers.1.self_attn.q_proj": 8})", {1, 1}},
      {R"({"x|layers\\.[01]\\.self_attn\\.(q|k)_proj": 8})", {4, 4}},
      {R"({"model.layers.0.self_attn.q_proj": 8})", {4, 3}},
  };
  for (const auto& row : rows) {
    TemporaryFolder folder;
    const auto model = open_lora(
        folder.path, std::string(R"({"target_modules": "all-linear", "alpha_pattern": )") + row.alphas + "}",
        {});
    for (const int layer : {0, 1})
      EXPECT_DOUBLE_EQ(model->lora_of(layer, model->family().q)->scale, row.scales[layer]) << row.alphas;
  }
}

TEST(Lora, ModulesToSaveStandInTheBasesPlaceAndUntieWhatWasTied) {
  for (const char* spelling :
       {"base_model.model.lm_head.weight", "base_model.model.lm_head.modules_to_save.weight"}) {
    TemporaryFolder folder;
    TinyModel saved;
    saved.add(spelling, {30, 16});
    saved.add("base_model.model.model.norm.weight", {16});
    const auto model = open_lora(folder.path, R"({"modules_to_save": ["lm_head", "norm"]})", saved);
    EXPECT_FALSE(model->config().tied_embeddings);
    const auto numbers = [](const TensorView& view) { return to_float(view, ""); };
    EXPECT_EQ(numbers(*model->tensor("lm_head", "weight")), numbers(saved.tensors.at(spelling).view()));
    write_full(folder.path / "full", *model, {}, model->attention(), kShardBytes, false);
    const auto full = Model::open(folder.path / "full");
    for (const char* module : {"lm_head", "norm", "embed_tokens"})
      EXPECT_EQ(numbers(*full->tensor(module, "weight")), numbers(*model->tensor(module, "weight")))
          << module;
  }
}

TEST(Lora, OfAClassifierBringsItsHeadUnderTheNamesThatPeftGives) {
  const struct {
    const char* name;
    std::vector<const char*> modules;  // one of each stack, as PEFT names it
    const char *head, *saved;
  } rows[] = {
      {"llama", {"model.layers.0.self_attn.q_proj"}, "score", R"(["classifier", "score"])"},
      {"bert", {"bert.encoder.layer.0.attention.self.query"}, "classifier", R"(["classifier", "score"])"},
      {"roberta",
       {"roberta.encoder.layer.0.attention.self.query"},
       "classifier.out_proj",
       R"(["classifier", "score"])"},
      {"t5",
       {"transformer.decoder.block.0.layer.0.SelfAttention.q",
        "transformer.encoder.block.0.layer.0.SelfAttention.q"},
       "classification_head.out_proj",
       R"(["classification_head", "classifier", "score"])"},
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(row.name);
    TemporaryFolder folder;
    const fs::path base = fs::path(LINNET_TEST_DATA "/classifiers") / row.name, lora = folder.path / "lora";
    const auto plain = Model::open(base);
    const ModuleShape q = module_shape(plain->family(), plain->config(), plain->family().q),
                      head = module_shape(plain->family(), plain->config(), plain->family().classifier.out);
    const auto write = [&](bool with_head) {
      TinyModel holder;
      const std::string begin = "base_model.model.";
      for (const char* module : row.modules) {
        holder.add(begin + module + ".lora_A.weight", {2, q.in});
        holder.add(begin + module + ".lora_B.weight", {q.out, 2});
      }
      if (with_head) holder.add(begin + row.head + ".weight", {head.out, head.in});
      if (with_head && head.biased) holder.add(begin + row.head + ".bias", {head.out});
      write_lora(lora, {{2, 6.0, {"q"}}, holder.views()}, base_reference(*plain), plain->family(), true);
      Json config = read_json(lora / "adapter_config.json");
      config["modules_to_save"] = Json::parse(row.saved);
      write_file(lora / "adapter_config.json", config.dump());
    };
    write(true);
    const auto model = Model::open(lora, {.base = base});
    const auto numbers = [&](const Model& of) {
      return to_float(*of.head_tensor(plain->family().classifier.out, "weight"), "");
    };
    EXPECT_NE(numbers(*model), numbers(*plain));
    for (const Model* stack : model->stacks()) EXPECT_TRUE(stack->lora_of(0, stack->family().q));
    write_full(folder.path / "full", *model, {}, model->all_attention(), kShardBytes, false);
    EXPECT_EQ(numbers(*Model::open(folder.path / "full")), numbers(*model));
    write(false);
    EXPECT_THAT(error_of([&] { Model::open(lora, {.base = base}); }), HasSubstr("\"modules_to_save\" names"));
  }
}

TEST(Lora, RefusesTensorsThatAreNoPairOfAMatrix) {
  constexpr const char* kB = "base_model.model.model.layers.1.self_attn.q_proj.lora_B.weight";
  const struct {
    void (*break_it)(TinyModel&);
    const char* message;
  } rows[] = {
      {[](TinyModel& m) {
         m.add("base_model.model.lm_head.lora_A.weight", {2, 16});
       },
       "lm_head.lora_A.weight\": no LoRA of"},
      {[](TinyModel& m) { m.tensors.clear(); }, "no tensors, expected lora_A and lora_B"},
      {[](TinyModel& m) { m.tensors.erase(kB); }, "no tensor \"base_model.model.model.layers.1"},
      {[](TinyModel& m) {
         m.add(kB, {16, 3});
       },
       "q_proj.lora_B.weight\": shape [16, 3], expected [16, 2]"},
  };
  for (const auto& row : rows) {
    TemporaryFolder folder;
    const auto base = Model::open(make_tiny(tiny_llama_config()).write(folder.path, "base"));
    TinyModel holder;
    LoraAdapter lora = make_lora(*base, holder);
    row.break_it(holder);
    lora.tensors = holder.views();
    write_lora(folder.path / "lora", lora, base_reference(*base), base->family(), false);
    EXPECT_THAT(error_of([&] { Model::open(folder.path / "lora"); }), HasSubstr(row.message));
  }
}

// Writes a full folder when files may have at most `limit` bytes, as on a disk that is full.
int write_within(const fs::path& base, const fs::path& out, size_t limit) {
  const auto model = Model::open(base);
  ::signal(SIGXFSZ, SIG_IGN);
  const rlimit limits{limit, limit};
  ::setrlimit(RLIMIT_FSIZE, &limits);
  const std::string error =
      error_of([&] { write_full(out, *model, {}, model->attention(), 1 << 30, false); });
  return error.empty() ? 0 : error.find("File too large") != std::string::npos ? 2 : 3;
}

TEST(WriteModel, AFullDiskLeavesNothingWhereverItFills) {
  TemporaryFolder folder;
  const fs::path base = make_tiny(tiny_llama_config()).write(folder.path, "base");
  const size_t whole = fs::file_size(base / "model.safetensors");
  for (size_t limit : {size_t{0}, size_t{1}, size_t{100}, whole / 2, whole - 1}) {
    EXPECT_EXIT(::_exit(write_within(base, folder.path / "out", limit)), testing::ExitedWithCode(2), "")
        << limit;
    EXPECT_EQ(folder.entries(), 1u) << limit;
  }
  EXPECT_EXIT(::_exit(write_within(base, folder.path / "out", 2 * whole)), testing::ExitedWithCode(0), "");
  EXPECT_EQ(folder.entries(), 2u);
}

}  // namespace
}  // namespace linnet

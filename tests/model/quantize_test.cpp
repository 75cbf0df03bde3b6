#include "model/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/json.h"
#include "format/quantization_config.h"
#include "model/decoder.h"
#include "model/matrices.h"
#include "model/write_model.h"
#include "tests/model/tiny_model.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using kernels::WeightType;
using testing::HasSubstr;
using Json = nlohmann::json;

/// Rows of 64 and 96 numbers: whole groups, and half a block at the end.
Json llama_config(bool tied = true) {
  Json config = tiny_llama_config();
  config.update({{"hidden_size", 64}, {"intermediate_size", 96}, {"tie_word_embeddings", tied}});
  return config;
}

Json gpt2_config() {
  Json config = tiny_gpt2_config();
  config.update({{"n_embd", 64}, {"n_inner", 96}});
  return config;
}

class Quantize : public testing::Test {
 protected:
  std::shared_ptr<const Model> original(const Json& config, DType type = DType::kBF16) {
    return Model::open(make_tiny(config, type).write(folder_.path, "original"));
  }
  std::vector<QuantizedTensor> write(const Model& model, const QuantizeOptions& options) {
    fs::remove_all(out());
    return write_quantized(out(), model, options, size_t{1} << 20, pool_);
  }
  fs::path out() const { return folder_.path / "out"; }

  std::vector<float> logits(std::shared_ptr<const Model> model, std::optional<WeightType> weights = {},
                            ComputeType compute = ComputeType::kAuto) {
    const std::vector<int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6};
    const auto decoder = Decoder::make(std::move(model), {.compute = compute, .weights = weights}, pool_);
    std::vector<float> logits(tokens.size() * static_cast<size_t>(decoder->vocabulary()));
    decoder->prefill(0, tokens, 0, logits);
    return logits;
  }

  TemporaryFolder folder_;
  ThreadPool pool_{1};
};

TEST_F(Quantize, AFolderComputesWhatTheModelTurnedOnLoadingComputes) {
  for (const bool tied : {true, false}) {
    const auto model = original(llama_config(tied));
    for (const WeightType type : {WeightType::kInt8, WeightType::kInt4}) {
      write(*model, {.type = type});
      EXPECT_EQ(logits(Model::open(out())), logits(model, type)) << tied;
    }
  }
}

struct Form {
  const char* name;
  QuantizeOptions options;
  double error;  // most of any matrix
};
std::vector<Form> forms() {
  return {{"int8", {}, 0.006},
          {"int8 rows", {.group = 0}, 0.009},
          {"int4", {.type = WeightType::kInt4}, 0.08},
          {"int4 symmetric", {.type = WeightType::kInt4, .symmetric = true}, 0.09},
          {"int4 rows kept", {.type = WeightType::kInt4, .group = 0, .keep_embedding = true}, 0.11},
          {"int4 and int8", {.type = WeightType::kInt4, .int8 = {"down_proj", "c_proj"}}, 0.09}};
}

TEST_F(Quantize, EveryFormIsReadInPlaceAsFarFromTheModelAsItSays) {
  for (const Json& config : {llama_config(), gpt2_config()}) {
    const auto model = original(config, DType::kF32);
    const bool gpt2 = config["model_type"] == "gpt2";
    for (Form form : forms()) {
      if (!form.options.int8.empty()) form.options.int8 = {gpt2 ? "c_proj" : "down_proj"};
      const auto results = write(*model, form.options);
      const auto read = Model::open(out());
      const auto matrices = quantized_matrices(*read);
      ASSERT_EQ(results.size(), matrices.size()) << form.name;
      EXPECT_EQ(matrices.contains(read->full_module_name(-1, read->family().embedding)),
                !form.options.keep_embedding);
      for (int layer = 0; layer < 2; ++layer) {
        for (const std::string_view module : layer_modules(model->family())) {
          const auto matrix = read->quantized(layer, module);
          if (!matrix) continue;
          const Matrix before = matrix_of(*model, layer, module);
          double error = 0, size = 0;
          std::vector<double> a(static_cast<size_t>(before.in)), b(a.size());
          for (int64_t o = 0; o < before.out; ++o) {
            kernels::read_row(before, o, a.data()), kernels::read_row(*matrix, o, b.data());
            for (size_t i = 0; i < a.size(); ++i) error += std::pow(a[i] - b[i], 2), size += a[i] * a[i];
          }
          const std::string name = read->module_name(layer, module);
          const auto said = std::ranges::find(results, name, &QuantizedTensor::name);
          EXPECT_NEAR(std::sqrt(error / size), said->relative_error, 1e-6) << name;
          EXPECT_LT(said->relative_error, form.error) << form.name << " " << name;
          EXPECT_EQ(said->type, type_name(*matrix));
          const auto* packed = read->base_tensors().find(name + ".weight_packed");
          const auto* numbers = packed != nullptr ? packed : read->base_tensors().find(name + ".weight");
          EXPECT_EQ(matrix->data, numbers->bytes.data());
        }
      }
      EXPECT_EQ(read->unused_tensors(), std::vector<std::string>()) << form.name;
      const std::string method = read_json(out() / "config.json")["quantization_config"]["quant_method"];
      EXPECT_EQ(method, form.options.offsets() ? "linnet" : "compressed-tensors");
      for (const ComputeType compute : {ComputeType::kAuto, ComputeType::kBFloat16, ComputeType::kFloat64}) {
        for (const float logit : logits(read, {}, compute)) ASSERT_TRUE(std::isfinite(logit)) << form.name;
      }
    }
  }
}

// Fused parts, several norms, biases, caps: each family's folder in integers computes nearly what it did.
TEST_F(Quantize, EveryFamilysFolderIsWrittenAndRead) {
  for (const char* family : {"llama-biases", "mistral-window", "qwen2-window", "qwen3", "smollm3", "phi3",
                             "olmo2", "gemma", "gemma2", "gpt-neox", "gpt-neox-sequential"}) {
    Json config = read_json(fs::path(LINNET_TEST_DATA) / "hf" / family / "config.json");
    config.update({{"hidden_size", 64},
                   {"intermediate_size", 96},
                   {"num_attention_heads", 4},
                   {"num_key_value_heads", 2}});
    if (config.contains("head_dim")) config["head_dim"] = 16;
    const auto model = original(config);
    const auto results = write(*model, {.group = 0});
    const auto read = Model::open(out());
    EXPECT_EQ(results.size(), quantized_matrices(*read).size()) << family;
    EXPECT_GE(results.size(), 2u * 4u) << family;  // of two layers, fused or not
    const auto before = logits(model), after = logits(read);
    double error = 0, size = 0;
    for (size_t i = 0; i < before.size(); ++i)
      error += std::pow(after[i] - before[i], 2), size += std::pow(before[i], 2);
    EXPECT_LT(error, 0.002 * size) << family;
    EXPECT_GT(error, 0) << family;
  }
}

TEST_F(Quantize, Int4ErrsWhereWhatItMultipliesIsSmall) {
  const auto model = original(llama_config());
  InputMoments inputs;
  const std::vector<int32_t> tokens = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5};
  Decoder::make(model, {.inputs = &inputs}, pool_)->prefill(0, tokens, tokens.size(), {});
  const auto importance = importance_of(*model, inputs);
  EXPECT_EQ(importance.size(), 14u);
  // The norm before q makes each row's mean square 1, its gain (0.1 × normal numbers) apart.
  const std::string q = "model.layers.0.self_attn.q_proj", down = "model.layers.1.mlp.down_proj";
  const auto gain = to_float(*model->layer_tensor(0, "input_layernorm", "weight"), "gain");
  double sum = 0;
  for (size_t i = 0; i < gain.size(); ++i)
    sum += static_cast<double>(importance.at(q)[i] / (gain[i] * gain[i]));
  EXPECT_NEAR(sum / static_cast<double>(gain.size()), 1, 1e-3);
  EXPECT_EQ(importance.at(q), importance.at("model.layers.0.self_attn.v_proj"));
  EXPECT_EQ(importance.at(down).size(), 96u);
  const auto weighed_error = [&](const std::string& name, int layer, std::string_view module) {
    const auto before = matrix_of(*model, layer, module);
    const auto read = Model::open(out());
    const auto after = read->quantized(layer, module);
    std::vector<double> a(static_cast<size_t>(before.in)), b(a.size());
    double error = 0;
    for (int64_t o = 0; o < before.out; ++o) {
      kernels::read_row(before, o, a.data()), kernels::read_row(*after, o, b.data());
      for (size_t i = 0; i < a.size(); ++i)
        error += static_cast<double>(importance.at(name)[i]) * std::pow(a[i] - b[i], 2);
    }
    return error;
  };
  for (const bool symmetric : {false, true}) {
    QuantizeOptions options{.type = WeightType::kInt4, .symmetric = symmetric};
    write(*model, options);
    const double q_before = weighed_error(q, 0, "self_attn.q_proj"),
                 down_before = weighed_error(down, 1, "mlp.down_proj");
    options.importance = importance;
    write(*model, options);
    EXPECT_LT(weighed_error(q, 0, "self_attn.q_proj"), 0.95 * q_before);
    EXPECT_LT(weighed_error(down, 1, "mlp.down_proj"), 0.98 * down_before);
  }
}

TEST_F(Quantize, ASidecarsNewTensorsAndLoraComeAlong) {
  const auto base = original(llama_config());
  const auto attention = parse_attention({{"method", "elu1"}, {"local", "softmax"}, {"taps", 2}}, 2, "test");
  TinyModel added, adapter;
  for (int layer = 0; layer < 2; ++layer) {
    for (const auto& spec : parameter_specs(attention[static_cast<size_t>(layer)], base->attention_shape()))
      added.add(base->linear_prefix(layer) + spec.name, spec.shape);
  }
  adapter.add(lora_name(base->family(), 1, "mlp.down_proj", 'A'), {2, 96});
  adapter.add(lora_name(base->family(), 1, "mlp.down_proj", 'B'), {64, 2});
  const LoraAdapter lora{{2, 6.0, {"down_proj"}}, adapter.views()};
  const fs::path sidecar = folder_.path / "sidecar";
  write_sidecar(sidecar, attention, added.views(), base_reference(*base), &lora, base->family(), true);
  const auto model = Model::open(sidecar);
  write(*model, {});
  const auto read = Model::open(out());
  EXPECT_EQ(read->attention(), attention);
  EXPECT_FALSE(read->is_sidecar());
  EXPECT_EQ(logits(read), logits(model, WeightType::kInt8));
}

TEST_F(Quantize, ASidecarStandsOnAFolderInIntegersAndLoraIsNotMergedIntoOne) {
  write(*original(llama_config()), {});
  const auto base = Model::open(out());
  TinyModel adapter;
  adapter.add(lora_name(base->family(), 0, "self_attn.q_proj", 'A'), {2, 64});
  adapter.add(lora_name(base->family(), 0, "self_attn.q_proj", 'B'), {64, 2});
  const LoraAdapter lora{{2, 6.0, {"q_proj"}}, adapter.views()};
  const fs::path sidecar = folder_.path / "sidecar";
  write_sidecar(sidecar, parse_attention({{"method", "relu"}}, 2, "test"), {}, base_reference(*base), &lora,
                base->family(), true);
  const auto model = Model::open(sidecar);
  for (const float logit : logits(model)) ASSERT_TRUE(std::isfinite(logit));
  EXPECT_THAT(error_of([&] { merge_lora(*model); }),
              HasSubstr("in integers, which LoRA cannot be merged into"));
}

/// Rewrites the folder's tensors and config.
void change(const fs::path& folder,
            const std::function<void(Json&, std::map<std::string, OwnedTensor>&)>& how) {
  Json config = read_json(folder / "config.json");
  std::map<std::string, OwnedTensor> tensors;
  {
    const TensorStore store = TensorStore::open_folder(folder);
    for (const auto& [name, view] : store.tensors())
      tensors[name] = {view.type, view.shape, {view.bytes.begin(), view.bytes.end()}};
  }
  how(config, tensors);
  std::vector<NamedTensor> views;
  for (const auto& [name, tensor] : tensors) views.push_back({name, tensor.view()});
  write_file(folder / "config.json", config.dump());
  write_safetensors(folder / "model.safetensors", views);
}

TEST_F(Quantize, WhatDoesNotFitIsRefusedInOneLine) {
  const auto model = original(llama_config());
  const std::string q = "model.layers.1.self_attn.q_proj.weight";
  using Tensors = std::map<std::string, OwnedTensor>;
  const auto tensor = [](DType type, std::vector<int64_t> shape) {
    OwnedTensor made{type, shape, {}};
    made.bytes.resize(static_cast<size_t>(made.view().numbers()) * size_of(type));
    return made;
  };
  struct Row {
    std::function<void(Json&, Tensors&)> how;
    const char* message;
  };
  const std::vector<Row> rows = {
      {[&](Json&, Tensors& t) { t.erase(q + "_scale"); }, "q_proj.weight_scale\": missing, expected"},
      {[&](Json&, Tensors& t) { t.erase(q + "_packed"); },
       "no tensor \"model.layers.1.self_attn.q_proj.weight\""},
      {[&](Json&, Tensors& t) {
         t[q + "_packed"] = tensor(DType::kI32, {64, 4});
       },
       "expected [64, 8] of type I32"},
      {[&](Json&, Tensors& t) {
         t[q + "_packed"] = tensor(DType::kU32, {64, 8});
       },
       "of type U32, expected"},
      {[&](Json&, Tensors& t) {
         t[q + "_scale"] = tensor(DType::kF16, {64, 2});
       },
       "of type F16, expected"},
      {[&](Json&, Tensors& t) {
         t[q + "_scale"] = tensor(DType::kBF16, {64, 4});
       },
       "a scale for each 32"},
      {[&](Json&, Tensors& t) {
         t[q + "_scale"] = tensor(DType::kBF16, {64, 0});
       },
       "a scale for each 32"},
      {[&](Json&, Tensors& t) { t[q + "_scale"] = tensor(DType::kBF16, {128}); }, "a scale for each 32"},
      {[&](Json&, Tensors& t) {
         t[q + "_scale"] = tensor(DType::kBF16, {32, 2});
       },
       "expected [64, 2] of type BF16"},
      {[&](Json&, Tensors& t) {
         t[q + "_offset"] = tensor(DType::kBF16, {64, 1});
       },
       "expected [64, 2] of type BF16"},
      {[&](Json&, Tensors& t) { t[q + "_shape"] = tensor(DType::kI64, {2}); }, "[0, 0], expected [64, 64]"},
      {[&](Json&, Tensors& t) {
         t[q + "_zero_point"] = tensor(DType::kI32, {8, 2});
       },
       "another engine's"},
      {[&](Json&, Tensors& t) {
         t[q] = tensor(DType::kBF16, {64, 64});
       },
       "stands beside"},
      {[&](Json& c, Tensors&) { c.erase("quantization_config"); }, "numbers of type I8, expected F64"},
      {[&](Json& c, Tensors&) { c["quantization_config"]["quant_method"] = "gptq"; },
       "\"quant_method\" is \"gptq\", expected compressed-tensors or linnet"},
  };
  for (const Row& row : rows) {
    write(*model, {.type = WeightType::kInt4});
    change(out(), row.how);
    EXPECT_THAT(error_of([&] { Model::open(out()); }), HasSubstr(row.message));
  }
  EXPECT_THAT(error_of([&] { write(*model, {.group = 128}); }),
              HasSubstr("rows of 64 numbers, no multiple of 128, expected a multiple, of which int8 makes"));
  EXPECT_FALSE(fs::exists(out()));
  write(*model, {});
  const auto read = Model::open(out());
  EXPECT_THAT(error_of([&] { write_quantized(folder_.path / "twice", *read, {}, kShardBytes, pool_); }),
              HasSubstr("is quantized already"));
  EXPECT_THAT(error_of([&] { logits(read, WeightType::kInt4); }), HasSubstr("is in integers already"));
}

TEST_F(Quantize, FlippedBitsAndMissingEndsAreAnErrorOrAModel) {
  for (const bool symmetric : {false, true}) {
    write(*original(llama_config()), {.type = WeightType::kInt4, .symmetric = symmetric});
    for (const char* name : {"model.safetensors", "config.json"}) {
      const std::string sound(MappedFile(out() / name).text());
      const size_t head = std::min<size_t>(sound.size(), 8192);  // where a bit says something
      for (uint64_t i = 0; i < 150; ++i) {
        std::string text = sound;
        text[uniform_integer(1, 0, i, i % 3 == 0 ? text.size() : head)] ^= static_cast<char>(1 << i % 8);
        if (i % 10 == 9) text.resize(uniform_integer(1, 1, i, text.size()));
        write_file(out() / name, text);
        try {
          for (const float logit : logits(Model::open(out(), {.check_numbers = false}))) (void)logit;
        } catch (const Error&) {
        }
      }
      write_file(out() / name, sound);
    }
    Model::open(out());
  }
}

}  // namespace
}  // namespace linnet

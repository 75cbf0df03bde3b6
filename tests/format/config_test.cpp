#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numbers>

#include "base/json.h"
#include "format/fields.h"
#include "format/model_config.h"
#include "format/quantization_config.h"
#include "tests/format/files.h"

namespace linnet {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

Json llama() {
  return {{"model_type", "llama"},    {"hidden_size", 64},           {"num_hidden_layers", 5},
          {"num_attention_heads", 8}, {"num_key_value_heads", 4},    {"intermediate_size", 172},
          {"vocab_size", 512},        {"hidden_act", "silu"},        {"max_position_embeddings", 512},
          {"rope_theta", 10000.0},    {"tie_word_embeddings", true}, {"rms_norm_eps", 1e-5}};
}

Json gpt2() {
  return {{"model_type", "gpt2"}, {"n_embd", 48},      {"n_layer", 2},
          {"n_head", 4},          {"n_positions", 64}, {"vocab_size", 100}};
}

Json with(Json config, const Json& change) {
  config.merge_patch(change);
  return config;
}

Json mistral() { return with(llama(), {{"model_type", "mistral"}}); }
Json qwen2() { return with(llama(), {{"model_type", "qwen2"}, {"use_sliding_window", true}}); }

Json of(const char* model_type, const Json& change = Json::object()) {
  return with(with(llama(), {{"model_type", model_type}}), change);
}

/// A scaling of llama()'s four frequencies.
Json longrope(const Json& change = Json::object()) {
  return with({{"rope_type", "longrope"},
               {"short_factor", {1, 2, 3, 4}},
               {"long_factor", {2, 3, 4, 5}},
               {"original_max_position_embeddings", 128}},
              change);
}

/// `sliding_window` null, which is not the same as absent.
Json without_window(Json config, const Json& change = Json::object()) {
  config["sliding_window"] = nullptr;
  config.update(change);
  return config;
}

/// "fs": one full and one sliding layer; "c": a word that no family here has.
Json types(std::string_view letters) {
  Json layers = Json::array();
  for (const char letter : letters)
    layers.push_back(letter == 'f' ? "full_attention" : letter == 's' ? "sliding_attention" : "chunked");
  return layers;
}

ModelConfig parse(const Json& config) { return ModelConfig::parse(config, "config.json"); }

/// A config.json with compressed-tensors' object for packed int4, patched: as a whole, or its one group.
Json with_quantization(const Json& patch) {
  Json object = quantization_config({{{"Linear"}, 4, 32, false}}, {"lm_head"});
  object.merge_patch(patch);
  Json config = llama();
  config["quantization_config"] = object;
  return config;
}

Json with_group(const Json& patch) { return with_quantization({{"config_groups", {{"group_0", patch}}}}); }

TEST(Config, RefusesEveryBrokenFieldByItsName) {
  const struct {
    Json config;
    const char* message;
  } rows[] = {
      {Json::array(), "not a JSON object"},
      {with(llama(), {{"num_attention_heads", 0}}), "\"num_attention_heads\" is 0"},
      {with(llama(), {{"num_attention_heads", 7}, {"num_key_value_heads", 7}}),
       "expected a divisor of hidden_size 64"},
      {with(llama(), {{"num_key_value_heads", 3}}), "expected a divisor of the 8 heads"},
      {with(llama(), {{"num_key_value_heads", 9}}), "\"num_key_value_heads\" is 9"},
      {with(llama(), {{"num_key_value_heads", 0}}), "\"num_key_value_heads\" is 0"},
      {with(llama(), {{"head_dim", 7}}), "7 rotary numbers a head"},
      {with(llama(), {{"num_hidden_layers", 0}}), "\"num_hidden_layers\" is 0"},
      {with(llama(), {{"num_hidden_layers", 1000000000}}), "\"num_hidden_layers\" is 1000000000"},
      {with(llama(), {{"num_hidden_layers", "5"}}), "\"num_hidden_layers\" is \"5\""},
      {with(llama(), {{"num_hidden_layers", 5.0}}), "\"num_hidden_layers\" is 5.0"},
      {with(llama(), {{"num_hidden_layers", 18446744073709551615u}}),
       "\"num_hidden_layers\" is 18446744073709551615"},
      {with(llama(), {{"vocab_size", 0}}), "\"vocab_size\" is 0"},
      {with(llama(), {{"vocab_size", 1ll << 31}}), "\"vocab_size\" is 2147483648"},
      {with(llama(), {{"hidden_size", nullptr}}), "no \"hidden_size\""},
      {with(llama(), {{"intermediate_size", nullptr}}), "no \"intermediate_size\""},
      {with(llama(), {{"rope_theta", 0}}), "\"rope_theta\" is 0"},
      {with(llama(), {{"rope_theta", "NaN"}}), "\"rope_theta\" is \"NaN\""},
      {with(llama(), {{"rope_theta", NAN}}), "\"rope_theta\" is null"},
      {with(llama(), {{"rope_theta", -1}}), "\"rope_theta\" is -1"},
      {with(llama(), {{"rope_parameters", {{"rope_theta", 0}}}}), "rope_parameters: \"rope_theta\" is 0"},
      {with(llama(), {{"rope_scaling", "linear"}}), "rope_scaling: not a JSON object"},
      {with(llama(), {{"rope_scaling", {{"type", "dynamic"}, {"factor", 2.0}}}}), "rope scaling \"dynamic\""},
      {with(llama(), {{"rope_parameters", {{"rope_type", "longrope"}}}}),
       "no \"short_factor\", expected an array of 4 numbers from 0.000001 to 1000000"},
      {with(llama(), {{"rope_parameters", longrope({{"long_factor", {1, 2, 3}}})}}),
       "rope_parameters: \"long_factor\" is [1,2,3], expected an array of 4 numbers from 0.000001 to "
       "1000000"},
      {with(llama(), {{"rope_parameters", longrope({{"long_factor", {1, 2, 3, 1e-7}}})}}),
       "is [1,2,3,1e-07]"},
      {with(llama(), {{"rope_parameters", longrope({{"long_factor", {1, 2, 3, 2e6}}})}}),
       "is [1,2,3,2000000.0], expected an array of 4 numbers from 0.000001 to 1000000"},
      {with(llama(), {{"rope_parameters", longrope({{"short_factor", {1, 2, 0, 3}}})}}), "is [1,2,0,3]"},
      {with(llama(), {{"rope_parameters", longrope({{"short_factor", {1, 2, "3", 4}}})}}),
       "is [1,2,\"3\",4]"},
      {with(llama(), {{"rope_parameters", longrope({{"short_factor", {1, 2, 3, 4, "5"}}})}}),
       "is [1,2,3,4,\"5\"]"},
      {with(llama(), {{"rope_parameters", longrope({{"short_factor", 2}})}}), "\"short_factor\" is 2"},
      {with(llama(), {{"rope_parameters", longrope({{"original_max_position_embeddings", 1}})}}),
       "rope_parameters: longrope over original_max_position_embeddings of 1, expected 2 or more"},
      {with(llama(), {{"rope_parameters", longrope({{"original_max_position_embeddings", 32}})},
                      {"original_max_position_embeddings", 1}}),
       "rope_parameters: longrope over original_max_position_embeddings of 1, expected 2 or more"},
      {with(llama(), {{"rope_parameters", longrope({{"attention_factor", 0}})}}),
       "\"attention_factor\" is 0"},
      {with(llama(), {{"rope_parameters", longrope({{"attention_factor", "1"}})}}),
       "\"attention_factor\" is \"1\", expected a number above 0, at most 1000000"},
      {with(llama(), {{"rope_scaling", {{"type", "mrope"}}}}), "\"type\" is \"mrope\""},
      {with(llama(), {{"rope_scaling", {{"factor", 2.0}}}}), "no \"rope_type\""},
      {with(llama(), {{"rope_scaling", {{"type", "linear"}}}}), "no \"factor\""},
      {with(llama(), {{"rope_scaling", {{"type", "linear"}, {"factor", 0}}}}), "\"factor\" is 0"},
      {with(llama(), {{"rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}}}}),
       "no \"original_max_position_embeddings\""},
      {with(llama(), {{"rope_scaling",
                       {{"rope_type", "llama3"},
                        {"factor", 8.0},
                        {"original_max_position_embeddings", 128},
                        {"low_freq_factor", 4.0},
                        {"high_freq_factor", 4.0}}}}),
       "\"high_freq_factor\" is 4.0, expected more than low_freq_factor"},
      {with(llama(), {{"rms_norm_eps", 0}}), "\"rms_norm_eps\" is 0"},
      {with(llama(), {{"rms_norm_eps", 1e-320}}), "expected a number above 1e-38, at most 1"},
      {with(llama(), {{"hidden_act", "mish"}}), "\"hidden_act\" is \"mish\""},
      {with(llama(), {{"model_type", "electra"}}),
       "\"model_type\" is \"electra\", expected one of llama, mistral"},
      {with(llama(), {{"model_type", nullptr}}), "no \"model_type\""},
      {with(llama(), {{"model_type", "mixtral"}}),
       "\"model_type\" is \"mixtral\", a mixture of experts, expected one of llama, mistral"},
      {with(llama(), {{"model_type", "qwen3_moe"}}), "is \"qwen3_moe\", a mixture of experts"},
      {with(llama(), {{"num_local_experts", 8}}),
       "\"num_local_experts\" is 8, expected one feed-forward a layer (a mixture of experts is not "
       "computed)"},
      {with(llama(), {{"use_bidirectional_attention", true}}), "\"use_bidirectional_attention\" is true"},
      {of("gemma2", {{"attn_logit_softcapping", -1}}), "\"attn_logit_softcapping\" is -1"},
      {of("gemma2", {{"query_pre_attn_scalar", 0}}), "\"query_pre_attn_scalar\" is 0"},
      {without_window(of("gemma2"), {{"layer_types", types("fsfsf")}}),
       "expected full_attention in every layer, or sliding_window"},
      {of("smollm3", {{"no_rope_layers", {1, 0}}}), "expected an array of 5, one a layer"},
      {of("smollm3", {{"no_rope_layers", {1, 0, 2, 1, 1}}}), "expected 0 or 1 for each layer"},
      {of("smollm3", {{"no_rope_layer_interval", 0}}), "\"no_rope_layer_interval\" is 0"},
      {of("gpt_neox", {{"use_parallel_residual", 1}}), "\"use_parallel_residual\" is 1"},
      {of("gpt_neox", {{"rotary_pct", 0.1}}), "0 rotary numbers a head, expected an even number"},
      {of("flash"), "\"num_attention_heads\" is 8, expected 1: a gated attention unit has one head"},
      {of("flash", {{"num_attention_heads", 1}, {"num_key_value_heads", 1}, {"intermediate_size", nullptr}}),
       "no \"intermediate_size\", expected the size of values"},
      {of("flash", {{"num_attention_heads", 1}, {"num_key_value_heads", 1}, {"norm_type", "group"}}),
       "\"norm_type\" is \"group\", expected scale_norm, rms_norm or layer_norm"},
      {of("phi3", {{"rope_scaling", {{"type", "longrope"}}}}), "no \"short_factor\""},
      {of("phi3", {{"rope_scaling", {{"type", "yarn"}, {"factor", 4.0}}}}), "phi3 with another rope scaling"},
      {with(llama(), {{"eos_token_id", {1, 1 << 20}}}), "\"eos_token_id\" is [1,1048576], expected a token"},
      {with(llama(), {{"bos_token_id", 1 << 20}}), "\"bos_token_id\" is 1048576, expected a token"},
      {with(llama(), {{"pad_token_id", 1 << 20}}), "\"pad_token_id\" is 1048576, expected a token"},
      {with(llama(), {{"eos_token_id", -1}}), "\"eos_token_id\" is -1"},
      {with(llama(), {{"eos_token_id", {1, "2"}}}), "\"eos_token_id\" is [1,\"2\"]"},
      {with_quantization({{"quant_method", nullptr}}), "quantization_config: no \"quant_method\""},
      {with_quantization({{"quant_method", "gptq"}}), "is \"gptq\", expected compressed-tensors or linnet"},
      {with_quantization({{"quant_method", "awq"}}), "other quantized models are not read"},
      {with_quantization({{"quant_method", "bitsandbytes"}}), "\"quant_method\" is \"bitsandbytes\""},
      {with_quantization({{"quant_method", "fp8"}}), "\"quant_method\" is \"fp8\""},
      {with_quantization({{"quant_method", 4}}), "\"quant_method\" is 4, expected a string"},
      {with_quantization({{"format", "float-quantized"}}), "\"format\" is \"float-quantized\""},
      {with_quantization({{"format", nullptr}}), "no \"format\""},
      {with_quantization({{"config_groups", Json::array()}}), "\"config_groups\" is [], expected"},
      {with_quantization({{"config_groups", {{"a", 3}}}}), "quantization_config: a: not"},
      {with_quantization({{"kv_cache_scheme", {{"num_bits", 8}}}}),
       "\"kv_cache_scheme\" is {\"num_bits\":8}"},
      {with_quantization({{"sparsity_config", {{"format", "dense"}}}}), "\"sparsity_config\" is"},
      {with_group({{"input_activations", {{"num_bits", 8}}}}), "\"input_activations\" is"},
      {with_group({{"weights", nullptr}}), "group_0: no \"weights\""},
      {with_group({{"format", "int-quantized"}}), "\"format\" is \"int-quantized\", expected pack-quantized"},
      {with_group({{"weights", {{"num_bits", 3}}}}), "\"num_bits\" is 3, expected 4 or 8"},
      {with_group({{"weights", {{"type", "float"}}}}), "\"type\" is \"float\", expected int"},
      {with_group({{"weights", {{"symmetric", false}}}}), "\"symmetric\" is false, expected true"},
      {with_group({{"weights", {{"strategy", "block"}}}}), "\"strategy\" is \"block\""},
      {with_group({{"weights", {{"dynamic", true}}}}), "\"dynamic\" is true"},
      {with_group({{"weights", {{"actorder", "group"}}}}), "\"actorder\" is \"group\""},
      {with(llama(), {{"sliding_window", 256}}),
       "\"sliding_window\" is 256, expected null (llama has no window)"},
      {with(llama(), {{"use_sliding_window", true}}), "\"use_sliding_window\" is true, expected false"},
      {with(llama(), {{"layer_types", types("ffsff")}}), "expected full_attention in every layer, as llama"},
      {with(llama(), {{"layer_types", types("ff")}}), "expected an array of 5, one a layer"},
      {with(mistral(), {{"sliding_window", 0}}),
       "\"sliding_window\" is 0, expected a whole number from 1 to 9223372036854775807"},
      {with(mistral(), {{"sliding_window", -8}}), "\"sliding_window\" is -8"},
      {with(mistral(), {{"sliding_window", 8.0}}), "\"sliding_window\" is 8.0"},
      {with(mistral(), {{"sliding_window", true}}), "\"sliding_window\" is true"},
      {with(mistral(), {{"sliding_window", 8}, {"layer_types", types("ffsff")}}),
       "expected sliding_attention in every layer, as mistral computes"},
      {without_window(mistral(), {{"layer_types", types("ssfss")}}),
       "expected full_attention in every layer, as mistral computes"},
      {with(qwen2(), {{"sliding_window", 0}}), "\"sliding_window\" is 0"},
      {with(qwen2(), {{"use_sliding_window", 1}}), "\"use_sliding_window\" is 1, expected true or false"},
      {with(qwen2(), {{"max_window_layers", -1}}), "\"max_window_layers\" is -1"},
      {with(qwen2(), {{"layer_types", types("ssss")}}), "expected an array of 5, one a layer"},
      {with(qwen2(), {{"layer_types", "sliding_attention"}}), "\"layer_types\" is \"sliding_attention\""},
      {with(qwen2(), {{"layer_types", types("sfcss")}}), "expected full_attention or sliding_attention"},
      {with(qwen2(), {{"layer_types", {1, 2, 3, 4, 5}}}), "expected full_attention or sliding_attention"},
      {with(qwen2(), {{"layer_types", types("ffffs")}, {"use_sliding_window", false}}),
       "expected full_attention in every layer, or use_sliding_window and sliding_window"},
      {without_window(qwen2(), {{"layer_types", types("ffffs")}}),
       "expected full_attention in every layer, or use_sliding_window and sliding_window"},
      {with(gpt2(), {{"n_head", 5}}), "expected a divisor of n_embd 48"},
      {with(gpt2(), {{"scale_attn_by_inverse_layer_idx", true}}),
       "\"scale_attn_by_inverse_layer_idx\" is true"},
      {with(gpt2(), {{"activation_function", 1}}), "\"activation_function\" is 1, expected a string"},
  };
  for (const auto& row : rows) {
    EXPECT_THAT(error_of([&] { parse(row.config); }), HasSubstr(row.message)) << row.config;
  }
}

TEST(Fields, AWholeNumberIsInItsRangeAndNotOneThatWrapsIntoIt) {
  const Json json = {{"low", -5}, {"wraps", 18446744073709551611u}};  // 2⁶⁴ − 5
  const Fields fields(json, "f");
  EXPECT_EQ(fields.integer("low", -5, 5), -5);
  EXPECT_THAT(error_of([&] { fields.integer("low", -4, 5); }), HasSubstr("whole number from -4 to 5"));
  EXPECT_THAT(error_of([&] { fields.integer("wraps", -5, 5); }),
              HasSubstr("\"wraps\" is 18446744073709551611"));
}

TEST(Config, FilesThatAreNoJsonAreRefused) {
  const std::pair<std::string, const char*> rows[] = {
      {"\xEF\xBB\xBF{}", "byte-order mark"},
      {"{\"rope_theta\": NaN}", "not JSON at byte"},
      {"{\"rope_theta\": 1e400}", "1e400, past what a number may be"},
      {"", "empty file"},
  };
  TemporaryFolder folder;
  for (const auto& [text, message] : rows) {
    const auto file = folder.write("config.json", text);
    EXPECT_THAT(error_of([&] { read_json(file); }), HasSubstr(message));
  }
}

TEST(Config, ReadsLlama) {
  const ModelConfig config = parse(with(llama(), {{"eos_token_id", {2, 3}}, {"bos_token_id", 1}}));
  EXPECT_EQ(config.head_size, 8);
  EXPECT_EQ(config.kv_heads, 4);
  EXPECT_TRUE(config.tied_embeddings);
  EXPECT_EQ(config.eos, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(config.bos, 1);
  EXPECT_FALSE(config.attention_bias || config.attention_output_bias || config.mlp_bias);
  EXPECT_EQ(config.raw["hidden_size"], 64);
}

TEST(Config, TakesWhatTransformersTakesWhereAKeyIsAbsent) {
  Json bare = llama();
  for (const char* key : {"num_key_value_heads", "hidden_act", "rope_theta", "tie_word_embeddings",
                          "rms_norm_eps", "max_position_embeddings"}) {
    bare.erase(key);
  }
  const ModelConfig config = parse(bare);
  EXPECT_EQ(config.kv_heads, 8);
  EXPECT_EQ(config.activation, Activation::kSilu);
  EXPECT_EQ(config.rope.theta, 10000.0);
  EXPECT_FALSE(config.tied_embeddings);
  EXPECT_EQ(config.norm_epsilon, 1e-6);
  EXPECT_EQ(config.positions, 2048);
  EXPECT_EQ(parse(with(bare, {{"model_type", "mistral"}, {"num_attention_heads", 16}})).kv_heads, 8);
  EXPECT_EQ(
      parse(with(bare, {{"model_type", "qwen2"}, {"num_attention_heads", 64}, {"head_dim", 8}})).kv_heads,
      32);
}

TEST(Config, ReadsGpt2) {
  const ModelConfig config = parse(gpt2());
  EXPECT_EQ(config.intermediate, 192);
  EXPECT_EQ(config.kv_heads, 4);
  EXPECT_EQ(config.activation, Activation::kGeluTanh);
  EXPECT_TRUE(config.tied_embeddings && config.attention_bias && config.attention_output_bias &&
              config.mlp_bias);
}

TEST(Config, BiasesOfQwen2StandOnQueryKeyAndValueAlone) {
  const ModelConfig config = parse(with(llama(), {{"model_type", "qwen2"}, {"sliding_window", 100}}));
  EXPECT_TRUE(config.attention_bias);
  EXPECT_FALSE(config.attention_output_bias || config.mlp_bias);
}

TEST(Config, WindowsAreThoseOfTheLayersThatTransformersGivesThem) {
  const std::pair<Json, std::vector<int>> rows[] = {
      {llama(), {0, 0, 0, 0, 0}},
      {with(llama(), {{"sliding_window", 512}, {"layer_types", types("fffff")}}), {0, 0, 0, 0, 0}},
      {without_window(mistral()), {0, 0, 0, 0, 0}},
      {without_window(mistral(), {{"layer_types", types("fffff")}}), {0, 0, 0, 0, 0}},
      {mistral(), {4096, 4096, 4096, 4096, 4096}},
      {with(mistral(), {{"sliding_window", 8}}), {8, 8, 8, 8, 8}},
      {with(mistral(), {{"sliding_window", 1}, {"layer_types", types("sssss")}}), {1, 1, 1, 1, 1}},
      {with(mistral(), {{"sliding_window", INT64_MAX}}), std::vector<int>(5, 1 << 30)},
      {with(qwen2(), {{"max_window_layers", 3}}), {0, 0, 0, 4096, 4096}},
      {with(qwen2(), {{"max_window_layers", 0}, {"sliding_window", 9}}), {9, 9, 9, 9, 9}},
      {with(qwen2(), {{"sliding_window", 9}}), {0, 0, 0, 0, 0}},  // layers from 28 on
      {with(qwen2(), {{"layer_types", types("sfsff")}, {"max_window_layers", 3}, {"sliding_window", 9}}),
       {9, 0, 9, 0, 0}},
      {with(qwen2(), {{"layer_types", types("fffff")}, {"max_window_layers", 0}}), {0, 0, 0, 0, 0}},
      {without_window(qwen2(), {{"max_window_layers", 0}}), {0, 0, 0, 0, 0}},
      {with(qwen2(), {{"use_sliding_window", false}, {"max_window_layers", 0}, {"sliding_window", 0}}),
       {0, 0, 0, 0, 0}},
      {of("phi3"), {0, 0, 0, 0, 0}},
      {of("phi3", {{"sliding_window", 9}}), {9, 9, 9, 9, 9}},
      {of("gemma2"), {4096, 0, 4096, 0, 4096}},
      {of("gemma2", {{"sliding_window", 9}, {"layer_types", types("fffsf")}}), {0, 0, 0, 9, 0}},
      {of("smollm3", {{"use_sliding_window", true}, {"sliding_window", 9}}), {0, 0, 0, 9, 0}},
  };
  for (const auto& [config, windows] : rows) EXPECT_EQ(parse(config).windows, windows) << config;
}

TEST(Config, FamiliesReadWhatIsTheirOwn) {
  const ModelConfig gemma2 = parse(of("gemma2", {{"head_dim", 16}, {"query_pre_attn_scalar", 4}}));
  EXPECT_EQ(gemma2.embedding_scale, 8.0);
  EXPECT_EQ(gemma2.query_scale, 2.0);
  EXPECT_EQ(gemma2.score_cap, 50.0);
  EXPECT_EQ(gemma2.logit_cap, 30.0);
  EXPECT_EQ(gemma2.activation, Activation::kGeluTanh);
  EXPECT_EQ(parse(of("gemma2")).head_size, 256);
  Json uncapped = of("gemma2");
  uncapped["attn_logit_softcapping"] = uncapped["final_logit_softcapping"] = nullptr;
  EXPECT_EQ(parse(uncapped).score_cap, 0);
  EXPECT_EQ(parse(uncapped).logit_cap, 0);
  // The first Gemma's files say "gelu" and mean its approximation.
  EXPECT_EQ(parse(of("gemma", {{"hidden_act", "gelu"}})).activation, Activation::kGeluTanh);
  EXPECT_EQ(parse(of("gemma", {{"hidden_act", "gelu"}})).score_cap, 0);
  EXPECT_EQ(parse(of("qwen3")).head_size, 128);
  EXPECT_EQ(parse(of("smollm3", {{"no_rope_layers", {1, 0, 0, 1, 1}}})).rotated,
            (std::vector<bool>{true, false, false, true, true}));
  EXPECT_EQ(parse(of("smollm3")).rotated, (std::vector<bool>{true, true, true, false, true}));
  EXPECT_EQ(parse(of("smollm3", {{"rope_theta", nullptr}})).rope.theta, 2e6);
  const ModelConfig neox = parse(of("gpt_neox", {{"rotary_emb_base", 500.0}, {"hidden_act", nullptr}}));
  EXPECT_EQ(neox.rope.partial_rotary_factor, 0.25);
  EXPECT_EQ(neox.rope.theta, 500.0);
  EXPECT_EQ(neox.activation, Activation::kGelu);
  EXPECT_TRUE(neox.parallel && neox.attention_bias && neox.attention_output_bias && neox.mlp_bias);
  EXPECT_FALSE(parse(of("gpt_neox", {{"attention_bias", false}})).attention_bias);
}

TEST(Config, EmbeddingsAreScaledByWhatTheirTypeHolds) {
  const auto scale = [](const char* type) {
    return parse(of("gemma", {{"hidden_size", 3072}, {"torch_dtype", type}})).embedding_scale;
  };
  EXPECT_EQ(scale("bfloat16"), 55.5);  // √3072 = 55.4256
  EXPECT_EQ(scale("float16"), 55.4375);
  EXPECT_EQ(scale("float32"), static_cast<double>(std::sqrt(3072.0F)));
}

TEST(Config, BothSpellingsOfRopeSayTheSame) {
  const Json scaling = {{"factor", 8.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 4.0},
                        {"original_max_position_embeddings", 128}};
  const auto old =
      parse(with(llama(), {{"rope_theta", 5e5}, {"rope_scaling", with(scaling, {{"type", "llama3"}})}}));
  const auto both = with(scaling, {{"rope_type", "llama3"}, {"rope_theta", 5e5}});
  const auto now = parse(with(llama(), {{"rope_theta", nullptr}, {"rope_parameters", both}}));
  EXPECT_EQ(old.rope.theta, now.rope.theta);
  EXPECT_EQ(rope_frequencies(old).inverse, rope_frequencies(now).inverse);
  EXPECT_EQ(now.rope.scaling, RopeScaling::kLlama3);
  EXPECT_EQ(
      parse(with(llama(), {{"rope_parameters", {{"rope_theta", 7.0}, {"rope_type", "default"}}}})).rope.theta,
      7);
}

TEST(Rope, LinearDividesEveryFrequency) {
  const auto plain = rope_frequencies(parse(llama()));
  const auto linear =
      rope_frequencies(parse(with(llama(), {{"rope_scaling", {{"type", "linear"}, {"factor", 4.0}}}})));
  ASSERT_EQ(plain.inverse.size(), 4u);
  EXPECT_EQ(plain.factor, 1.0);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(plain.inverse[i], std::pow(10000.0, -static_cast<double>(i) / 4), 1e-15);
    EXPECT_EQ(linear.inverse[i], plain.inverse[i] / 4);
  }
}

TEST(Rope, Llama3KeepsShortWavesAndDividesLongOnes) {
  const auto plain = rope_frequencies(parse(llama()));
  const auto scaled = rope_frequencies(parse(with(llama(), {{"rope_scaling",
                                                             {{"rope_type", "llama3"},
                                                              {"factor", 8.0},
                                                              {"low_freq_factor", 1.0},
                                                              {"high_freq_factor", 4.0},
                                                              {"original_max_position_embeddings", 128}}}})));
  // Wavelengths 6.3, 62.8, 628, 6283 against 128/4 = 32 and 128/1 = 128.
  EXPECT_EQ(scaled.inverse[0], plain.inverse[0]);
  const double smooth = (128 * plain.inverse[1] / (2 * std::numbers::pi) - 1) / 3;
  EXPECT_NEAR(scaled.inverse[1], plain.inverse[1] * ((1 - smooth) / 8 + smooth), 1e-15);
  EXPECT_EQ(scaled.inverse[2], plain.inverse[2] / 8);
  EXPECT_EQ(scaled.inverse[3], plain.inverse[3] / 8);
}

TEST(Rope, YarnInterpolatesSlowPairsAndScalesTheAngles) {
  const Json yarn = {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 128}};
  const auto plain = rope_frequencies(parse(llama()));
  const auto scaled = rope_frequencies(parse(with(llama(), {{"rope_scaling", yarn}})));
  EXPECT_NEAR(scaled.factor, 0.1 * std::log(4.0) + 1, 1e-15);
  // Pairs by rotations: 8 ln(128/(2π·32))/(2 ln 10⁴) < 0, so low = 0; 8 ln(128/2π)/(2 ln 10⁴) = 1.31, high
  // = 2.
  const double part[] = {0, 0.5, 1, 1};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(scaled.inverse[i], plain.inverse[i] * (part[i] / 4 + 1 - part[i]), 1e-15) << i;
  }
  const auto exact =
      rope_frequencies(parse(with(llama(), {{"rope_scaling", with(yarn, {{"truncate", false}})}})));
  const double high = 8 * std::log(128 / (2 * std::numbers::pi)) / (2 * std::log(1e4));
  EXPECT_NEAR(exact.inverse[1], plain.inverse[1] * (1 / high / 4 + 1 - 1 / high), 1e-15);
  const Json longer = with(yarn, {{"original_max_position_embeddings", 4096}});  // 1.31 and 2.81: 1 and 3
  const auto middle = rope_frequencies(parse(with(llama(), {{"rope_scaling", longer}})));
  const double later[] = {0, 0, 0.5, 1};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(middle.inverse[i], plain.inverse[i] * (later[i] / 4 + 1 - later[i]), 1e-15) << i;
  }
  // Where low and high fall together (ln(6/2π) < 0) all pairs but the first are divided.
  const Json few = with(yarn, {{"original_max_position_embeddings", 6}});
  const auto steep = rope_frequencies(parse(with(llama(), {{"rope_scaling", few}})));
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(steep.inverse[i], plain.inverse[i] / (i == 0 ? 1 : 4), 1e-15);
  const auto factor = [&](const Json& more) {
    return rope_frequencies(parse(with(llama(), {{"rope_scaling", with(yarn, more)}}))).factor;
  };
  EXPECT_EQ(factor({{"attention_factor", 1.25}}), 1.25);
  EXPECT_EQ(factor({{"mscale", 1.0}, {"mscale_all_dim", 1.0}}), 1.0);
  EXPECT_NEAR(factor({{"factor", nullptr}}), 0.1 * std::log(512.0 / 128) + 1, 1e-15);
}

TEST(Rope, LongRopeHasOneSetOfFactorsByThePositionsThatTheModelIsFor) {
  const auto plain = rope_frequencies(parse(llama())).inverse;
  const auto of_llama = [&](const Json& fields) {
    return rope_frequencies(parse(with(llama(), {{"rope_parameters", longrope(fields)}})));
  };
  const RopeFrequencies longer = of_llama(Json::object()),
                        shorter = of_llama({{"original_max_position_embeddings", 512}});
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(longer.inverse[i], plain[i] / static_cast<double>(i + 2));
    EXPECT_EQ(shorter.inverse[i], plain[i] / static_cast<double>(i + 1));
  }
  // 512 positions, of which 128 were trained.
  EXPECT_NEAR(longer.factor, std::sqrt(1 + std::log(4.0) / std::log(128.0)), 1e-15);
  EXPECT_EQ(shorter.factor, 1);
  EXPECT_NEAR(of_llama({{"factor", 32}}).factor, std::sqrt(1 + std::log(32.0) / std::log(128.0)), 1e-15);
  EXPECT_EQ(of_llama({{"factor", 0.5}}).factor, 1);
  EXPECT_EQ(of_llama({{"attention_factor", 1.25}}).factor, 1.25);
  // What stands beside the scaling is before what stands in it, and Phi-3's class has 4096 of its own.
  const auto is_long = [&](const std::string& family, const Json& fields) {
    Json scaling = longrope();
    scaling.erase("rope_type");
    scaling["type"] = "su";  // as the first folders say it
    return parse(with(with(llama(), {{"model_type", family}, {"rope_scaling", scaling}}), fields))
        .rope.long_factors;
  };
  EXPECT_TRUE(is_long("llama", Json::object()));
  EXPECT_FALSE(is_long("llama", {{"original_max_position_embeddings", 512}}));
  EXPECT_FALSE(is_long("phi3", Json::object()));
  EXPECT_TRUE(is_long("phi3", {{"max_position_embeddings", 8192}}));
  EXPECT_TRUE(is_long("phi3", {{"original_max_position_embeddings", 128}}));
}

TEST(Rope, PartialRotaryTurnsTheFirstNumbersOnly) {
  EXPECT_EQ(rope_frequencies(parse(with(llama(), {{"partial_rotary_factor", 0.5}}))).inverse.size(), 2u);
}

TEST(GenerationConfig, AnAbsentFileIsEmptyAndBadFieldsAreNamed) {
  TemporaryFolder folder;
  EXPECT_TRUE(GenerationConfig::read(folder.path, 100).eos.empty());
  folder.write("generation_config.json",
               R"({"eos_token_id": 2, "temperature": 0.7, "top_k": 40, "other": 1})");
  const GenerationConfig config = GenerationConfig::read(folder.path, 100);
  EXPECT_EQ(config.eos, std::vector<int64_t>{2});
  EXPECT_EQ(config.temperature, 0.7);
  EXPECT_EQ(config.top_k, 40);
  EXPECT_THAT(error_of([&] { GenerationConfig::read(folder.path, 2); }),
              HasSubstr("\"eos_token_id\" is 2, expected a token of its 2"));
  folder.write("generation_config.json", R"({"top_p": 2})");
  EXPECT_THAT(error_of([&] { GenerationConfig::read(folder.path, 100); }), HasSubstr("\"top_p\" is 2"));
}

}  // namespace
}  // namespace linnet

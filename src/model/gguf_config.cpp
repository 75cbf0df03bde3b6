#include "model/gguf_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/error.h"
#include "format/model_config.h"
#include "format/tensor.h"
#include "model/family.h"

namespace linnet {
namespace {

using Json = nlohmann::json;

constexpr GgufArchitecture kArchitectures[] = {
    {"llama", "llama", true},
    {"qwen2", "qwen2", false},
    {"qwen3", "qwen3", false},
    {"gemma", "gemma", false},
};

// Metadata of an architecture (after its name and a dot) that would change what is computed, with the other
// value than 0 that changes nothing.
struct Unchanged {
  std::string_view key;
  double neutral;
};
constexpr Unchanged kUnchanged[] = {
    {"expert_count", 0},
    {"attention.max_alibi_bias", 0},
    {"attention.clamp_kqv", 0},
    {"attention.scale", 0},
    {"attn_logit_softcapping", 0},
    {"final_logit_softcapping", 0},
    {"rope.scaling.yarn_log_multiplier", 0},
    {"logit_scale", 1},
    {"residual_scale", 1},
    {"embedding_scale", 1},
};

/// The metadata of one architecture.
class Metadata {
 public:
  Metadata(const GgufFile& file, std::string_view prefix) : file_(file), prefix_(prefix) {}

  std::string key(std::string_view name) const { return fmt::format("{}.{}", prefix_, name); }
  bool has(std::string_view name) const { return file_.has(key(name)); }
  std::optional<int64_t> size(std::string_view name) const { return file_.integer(key(name), 1, INT32_MAX); }
  int64_t needed_size(std::string_view name) const { return *needed(size(name), name); }
  std::optional<double> number(std::string_view name) const { return file_.number(key(name)); }
  double needed_number(std::string_view name) const { return *needed(number(name), name); }
  std::optional<std::string_view> string(std::string_view name) const { return file_.string(key(name)); }
  [[noreturn]] void refuse(std::string_view name, std::string_view is, std::string_view expected) const {
    throw Error(file_.where(), fmt::format("\"{}\" is {}", key(name), is), expected);
  }

 private:
  template <class T>
  std::optional<T> needed(std::optional<T> value, std::string_view name) const {
    if (!value) throw Error(file_.where(), fmt::format("no \"{}\" in the metadata", key(name)), "it");
    return value;
  }

  const GgufFile& file_;
  std::string_view prefix_;
};

void check_unchanged(const Metadata& metadata, int64_t positions) {
  for (const Unchanged& row : kUnchanged) {
    const double value = metadata.number(row.key).value_or(0);
    if (value != 0 && value != row.neutral)
      metadata.refuse(row.key, fmt::format("{}", value), fmt::format("{}", row.neutral));
  }
  if (const auto window = metadata.size("attention.sliding_window"); window && *window < positions)
    metadata.refuse("attention.sliding_window", fmt::format("{}", *window), "no window");
}

/// `rope_scaling`, or null.
Json rope_scaling(const Metadata& metadata) {
  const std::string type(metadata.string("rope.scaling.type").value_or("none"));
  if (type == "none") {
    const double factor = metadata.number("rope.scale_linear").value_or(1);  // as files before 2024 say it
    return factor == 1 ? Json() : Json{{"rope_type", "linear"}, {"factor", factor}};
  }
  if (type == "longrope") metadata.refuse("rope.scaling.type", type, "none, linear or yarn");
  Json scaling = {{"rope_type", type}};
  const double factor = metadata.number("rope.scaling.factor").value_or(1);
  scaling["factor"] = factor;
  if (type != "yarn") return scaling;
  if (const auto original = metadata.size("rope.scaling.original_context_length"))
    scaling["original_max_position_embeddings"] = *original;
  if (const auto fast = metadata.number("rope.scaling.yarn_beta_fast")) scaling["beta_fast"] = *fast;
  if (const auto slow = metadata.number("rope.scaling.yarn_beta_slow")) scaling["beta_slow"] = *slow;
  // There it multiplies what config.json's takes the place of.
  if (const auto attention = metadata.number("rope.scaling.attn_factor"); attention && factor > 0)
    scaling["attention_factor"] = *attention * (0.1 * std::log(std::max(factor, 1.0)) + 1);
  return scaling;
}

/// Llama 3.1's scaling stands in a GGUF file as what each frequency is divided by. Its parameters are those
/// that give these numbers: the largest is the factor, the rest as Llama 3.1 and 3.2 have them.
Json llama3_scaling(const GgufFile& file, const GgufTensor& divisors, Json config) {
  constexpr double kClose = 1e-4;  // of factors that were computed in float32
  const std::string where = tensor_at(file.where(), kRopeFactors);
  const RopeFrequencies plain = rope_frequencies(ModelConfig::parse(config, where));
  std::vector<float> given(plain.inverse.size());
  if (divisors.type->name != "F32" || divisors.shape != std::vector{static_cast<int64_t>(given.size())}) {
    throw Error(where, fmt::format("{} in {}", to_string(divisors.shape), divisors.type->name),
                fmt::format("[{}] in F32", given.size()));
  }
  dequantize(*divisors.type, divisors.bytes, given);
  config["rope_scaling"] = {{"rope_type", "llama3"},
                            {"factor", *std::ranges::max_element(given)},
                            {"low_freq_factor", 1.0},
                            {"high_freq_factor", 4.0},
                            {"original_max_position_embeddings", 8192}};
  const RopeFrequencies scaled = rope_frequencies(ModelConfig::parse(config, where));
  for (size_t i = 0; i < given.size(); ++i) {
    const double divisor = plain.inverse[i] / scaled.inverse[i];
    if (!(std::abs(given[i] - divisor) <= kClose * divisor)) {
      throw Error(where, fmt::format("frequency {} divided by {}", i, given[i]),
                  fmt::format("{}, as Llama 3.1 scales them", divisor));
    }
  }
  return config["rope_scaling"];
}

}  // namespace

const GgufArchitecture& architecture_of(const GgufFile& file) {
  const auto name = file.string("general.architecture");
  if (!name) throw Error(file.where(), "no \"general.architecture\" in the metadata", "a model");
  std::string known;
  for (const GgufArchitecture& row : kArchitectures) {
    if (row.name == *name) return row;
    known += (known.empty() ? "" : " or ") + std::string(row.name);
  }
  throw Error(file.where(), fmt::format("architecture \"{}\"", printable(*name, 40)), known);
}

Json gguf_config(const GgufFile& file, const GgufArchitecture& architecture) {
  const Metadata metadata(file, architecture.name);
  const GgufTensor* embedding = file.find("token_embd.weight");
  if (embedding == nullptr) throw Error(file.where(), "no tensor \"token_embd.weight\"", "a whole model");
  if (const auto parts = file.integer("split.count", 0, INT32_MAX); parts && *parts > 1)
    throw Error(file.where(), fmt::format("one of {} parts of a model", *parts), "a model in one file");

  const int64_t heads = metadata.needed_size("attention.head_count");
  const int64_t hidden = metadata.needed_size("embedding_length");
  const int64_t positions = metadata.needed_size("context_length");
  const int64_t head_size = metadata.size("attention.key_length").value_or(hidden / heads);
  check_unchanged(metadata, positions);
  for (const char* key : {"attention.value_length", "rope.dimension_count"}) {
    if (const auto size = metadata.size(key); size && *size != head_size)
      metadata.refuse(key, fmt::format("{}", *size), fmt::format("{}, the size of a key head", head_size));
  }
  Json config = {
      {"model_type", architecture.model_type},
      {"vocab_size", embedding->shape.front()},
      {"hidden_size", hidden},
      {"intermediate_size", metadata.needed_size("feed_forward_length")},
      {"num_hidden_layers", metadata.needed_size("block_count")},
      {"num_attention_heads", heads},
      {"num_key_value_heads", metadata.size("attention.head_count_kv").value_or(heads)},
      {"head_dim", head_size},
      {"max_position_embeddings", positions},
      {"rms_norm_eps", metadata.needed_number("attention.layer_norm_rms_epsilon")},
      {"rope_theta", metadata.number("rope.freq_base").value_or(10000.0)},
      {"tie_word_embeddings", file.find("output.weight") == nullptr},
      {"torch_dtype", "bfloat16"},
  };
  for (const Family& family : families()) {
    if (family.model_type != architecture.model_type) continue;
    config["architectures"] = {family.architecture};
    config[std::string(family.keys.activation)] = family.defaults.activation;
    if (family.attention_bias == Bias::kIfAsked)
      config["attention_bias"] = file.find("blk.0.attn_q.bias") != nullptr;
    if (family.mlp_bias == Bias::kIfAsked) config["mlp_bias"] = file.find("blk.0.ffn_up.bias") != nullptr;
  }
  for (const char* name : {"bos", "eos"}) {
    const auto id = file.integer(fmt::format("tokenizer.ggml.{}_token_id", name), 0, INT32_MAX);
    if (id) config[fmt::format("{}_token_id", name)] = *id;
  }
  Json scaling = rope_scaling(metadata);
  if (const GgufTensor* divisors = file.find(kRopeFactors)) scaling = llama3_scaling(file, *divisors, config);
  if (!scaling.is_null()) config["rope_scaling"] = scaling;
  return config;
}

}  // namespace linnet

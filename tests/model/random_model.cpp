#include "tests/model/random_model.h"
#include "base/remove_folder.h"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cmath>

#include "base/file.h"
#include "base/random.h"
#include "kernels/cpu/elementwise.h"

namespace linnet {
namespace {

/// Gathers named random tensors and owns their bytes.
class Tensors {
 public:
  Tensors(uint64_t seed, DType type) : seed_(seed), type_(type) {}

  void add(const std::string& name, std::vector<int64_t> shape, double scale, double middle = 0) {
    add(name, std::move(shape), scale, middle, type_);
  }
  void add(const std::string& name, std::vector<int64_t> shape, double scale, double middle, DType type) {
    TensorView view{type, std::move(shape), {}};
    std::vector<float> numbers(static_cast<size_t>(view.numbers()));
    for (size_t i = 0; i < numbers.size(); ++i)
      numbers[i] = static_cast<float>(middle + scale * normal(seed_, tensors_.size(), i));
    auto bytes = std::make_unique<std::vector<std::byte>>(numbers.size() * size_of(type));
    if (type == DType::kBF16) {
      kernels::to_bfloat16(numbers.data(), view.numbers(), reinterpret_cast<uint16_t*>(bytes->data()));
    } else {
      std::copy_n(reinterpret_cast<const std::byte*>(numbers.data()), bytes->size(), bytes->data());
    }
    view.bytes = *bytes;
    bytes_.push_back(std::move(bytes));
    tensors_.push_back({name, view});
  }
  const std::vector<NamedTensor>& all() const { return tensors_; }

 private:
  uint64_t seed_;
  DType type_;
  std::vector<NamedTensor> tensors_;
  std::vector<std::unique_ptr<std::vector<std::byte>>> bytes_;
};

/// Weights of one layer; matrices keep the size of what passes through them.
void add_llama_layer(const RandomModel& m, const std::string& layer, Tensors& tensors) {
  const auto matrix = [&](const std::string& module, int64_t out, int64_t in, bool biased) {
    tensors.add(layer + module + ".weight", {out, in}, 1.5 / std::sqrt(static_cast<double>(in)));
    if (biased) tensors.add(layer + module + ".bias", {out}, 0.3);
  };
  tensors.add(layer + "input_layernorm.weight", {m.hidden}, 0.2, 1);
  matrix("self_attn.q_proj", m.heads * m.head_size, m.hidden, m.biased);
  matrix("self_attn.k_proj", m.kv_heads * m.head_size, m.hidden, m.biased);
  matrix("self_attn.v_proj", m.kv_heads * m.head_size, m.hidden, m.biased);
  matrix("self_attn.o_proj", m.hidden, m.heads * m.head_size, m.biased);
  tensors.add(layer + "post_attention_layernorm.weight", {m.hidden}, 0.2, 1);
  matrix("mlp.gate_proj", m.intermediate, m.hidden, m.biased);
  matrix("mlp.up_proj", m.intermediate, m.hidden, m.biased);
  matrix("mlp.down_proj", m.hidden, m.intermediate, m.biased);
}

void add_gpt2_layer(const RandomModel& m, const std::string& layer, Tensors& tensors) {
  const auto matrix = [&](const std::string& module, int64_t out, int64_t in) {
    tensors.add(layer + module + ".weight", {in, out}, 1.5 / std::sqrt(static_cast<double>(in)));
    tensors.add(layer + module + ".bias", {out}, 0.3);
  };
  const auto norm = [&](const std::string& module) {
    tensors.add(layer + module + ".weight", {m.hidden}, 0.2, 1);
    tensors.add(layer + module + ".bias", {m.hidden}, 0.2);
  };
  norm("ln_1");
  matrix("attn.c_attn", 3 * m.hidden, m.hidden);
  matrix("attn.c_proj", m.hidden, m.hidden);
  norm("ln_2");
  matrix("mlp.c_fc", m.intermediate, m.hidden);
  matrix("mlp.c_proj", m.hidden, m.intermediate);
}

nlohmann::json config_of(const RandomModel& m) {
  nlohmann::json config;
  if (m.gpt2) {
    config = {{"model_type", "gpt2"},
              {"architectures", {"GPT2LMHeadModel"}},
              {"n_embd", m.hidden},
              {"n_layer", m.layers},
              {"n_head", m.heads},
              {"n_inner", m.intermediate},
              {"n_positions", m.positions},
              {"vocab_size", m.vocabulary},
              {"layer_norm_epsilon", 1e-5},
              {"activation_function", "gelu_new"},
              {"tie_word_embeddings", m.tied}};
  } else {
    config = {{"model_type", "llama"},          {"architectures", {"LlamaForCausalLM"}},
              {"hidden_size", m.hidden},        {"num_hidden_layers", m.layers},
              {"num_attention_heads", m.heads}, {"num_key_value_heads", m.kv_heads},
              {"head_dim", m.head_size},        {"intermediate_size", m.intermediate},
              {"vocab_size", m.vocabulary},     {"max_position_embeddings", m.positions},
              {"rms_norm_eps", 1e-5},           {"hidden_act", "silu"},
              {"rope_theta", m.theta},          {"attention_bias", m.biased},
              {"mlp_bias", m.biased},           {"tie_word_embeddings", m.tied}};
  }
  config["bos_token_id"] = 1;
  config["eos_token_id"] = 2;
  if (!m.attention.is_null()) config["linear_attention"] = m.attention;
  return config;
}

}  // namespace

void write_random_model(const RandomModel& m, const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  Tensors tensors(m.seed, m.type);
  const std::string prefix = m.gpt2 ? "transformer." : "model.";
  tensors.add(prefix + (m.gpt2 ? "wte.weight" : "embed_tokens.weight"), {m.vocabulary, m.hidden}, 1);
  if (m.gpt2) tensors.add("transformer.wpe.weight", {m.positions, m.hidden}, 0.5);
  const int kv_heads = static_cast<int>(m.gpt2 ? m.heads : m.kv_heads);
  const int head_size = static_cast<int>(m.gpt2 ? m.hidden / m.heads : m.head_size);
  const AttentionShape shape{static_cast<int>(m.heads), kv_heads, head_size, head_size};
  const auto attention = parse_attention(m.attention, static_cast<int>(m.layers), "the test's model");
  for (int64_t i = 0; i < m.layers; ++i) {
    const std::string layer = fmt::format("{}{}.{}.", prefix, m.gpt2 ? "h" : "layers", i);
    if (m.gpt2) {
      add_gpt2_layer(m, layer, tensors);
    } else {
      add_llama_layer(m, layer, tensors);
    }
    for (const ParameterSpec& spec : parameter_specs(attention[static_cast<size_t>(i)], shape)) {
      tensors.add(layer + (m.gpt2 ? "attn." : "self_attn.") + "linear_attention." + spec.name, spec.shape,
                  0.5, 0, DType::kF32);
    }
  }
  tensors.add(prefix + (m.gpt2 ? "ln_f.weight" : "norm.weight"), {m.hidden}, 0.2, 1);
  if (m.gpt2) tensors.add("transformer.ln_f.bias", {m.hidden}, 0.2);
  if (!m.tied) tensors.add("lm_head.weight", {m.vocabulary, m.hidden}, 0.5);
  write_safetensors(folder / "model.safetensors", tensors.all());
  write_file(folder / "config.json", config_of(m).dump(2));
}

TemporaryModel::TemporaryModel(const RandomModel& spec) {
  static std::atomic<int> counter{0};
  folder_ = std::filesystem::temp_directory_path() / fmt::format("linnet-model-{}-{}", getpid(), counter++);
  write_random_model(spec, folder_);
  model_ = Model::open(folder_, {.state = spec.state});
}

TemporaryModel::~TemporaryModel() {
  model_.reset();
  remove_folder(folder_);
}

std::vector<int32_t> random_tokens(size_t count, int64_t vocabulary, uint64_t seed) {
  std::vector<int32_t> tokens(count);
  for (size_t i = 0; i < count; ++i)
    tokens[i] = static_cast<int32_t>(uniform_integer(seed, 77, i, static_cast<uint64_t>(vocabulary)));
  return tokens;
}

}  // namespace linnet

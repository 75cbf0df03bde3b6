// Models as GGUF files, made by the test's own writer.
#pragma once

#include <fmt/format.h>

#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "format/model_config.h"
#include "format/safetensors.h"
#include "tests/format/gguf_writer.h"

namespace linnet {

inline std::string as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// The vocabulary of the 256 bytes in ByteLevel's characters would be long: letters, a merge, two special
/// tokens.
inline void add_bpe(GgufWriter& writer, const char* pre = "smollm") {
  writer.add("tokenizer.ggml.model", "gpt2").add("tokenizer.ggml.pre", pre);
  writer.add("tokenizer.ggml.tokens",
             std::vector<std::string>{"<s>", "</s>", "a", "b", "1", "2", "\u0120", "ab", "<u>", "12"});
  writer.add("tokenizer.ggml.token_type", std::vector<int32_t>{3, 3, 1, 1, 1, 1, 1, 1, 4, 1});
  writer.add("tokenizer.ggml.merges", std::vector<std::string>{"a b", "1 2"});
  writer.add("tokenizer.ggml.bos_token_id", uint32_t{0}).add("tokenizer.ggml.eos_token_id", uint32_t{1});
  writer.add("tokenizer.chat_template", "{{ bos_token }}{{ messages[0].content }}");
}

/// The metadata of `config`, as llama.cpp's converter writes it.
inline GgufWriter gguf_metadata(const ModelConfig& config) {
  GgufWriter writer;
  const auto key = [&](std::string_view name) { return fmt::format("{}.{}", config.model_type, name); };
  const auto size = [](int64_t value) { return static_cast<uint32_t>(value); };
  writer.add("general.architecture", config.model_type.c_str());
  writer.add(key("block_count"), size(config.layers)).add(key("context_length"), size(config.positions));
  writer.add(key("embedding_length"), size(config.hidden));
  writer.add(key("feed_forward_length"), size(config.intermediate));
  writer.add(key("attention.head_count"), size(config.heads));
  writer.add(key("attention.head_count_kv"), size(config.kv_heads));
  writer.add(key("attention.layer_norm_rms_epsilon"), static_cast<float>(config.norm_epsilon));
  writer.add(key("rope.freq_base"), static_cast<float>(config.rope.theta));
  writer.add(key("rope.dimension_count"), size(config.head_size));
  if (config.head_size * config.heads != config.hidden) {
    for (const char* name : {"attention.key_length", "attention.value_length"})
      writer.add(key(name), size(config.head_size));
  }
  return writer;
}

/// Rows [heads, 2, half] as [heads, half, 2]: llama.cpp's order.
inline std::string permuted(const std::string& rows, int64_t heads, int64_t count) {
  const size_t width = rows.size() / static_cast<size_t>(count);
  const auto half = static_cast<size_t>(count / heads / 2);
  std::string out;
  for (size_t head = 0; head < static_cast<size_t>(heads); ++head) {
    for (size_t i = 0; i < half; ++i) {
      for (size_t j = 0; j < 2; ++j) out += rows.substr(((head * 2 + j) * half + i) * width, width);
    }
  }
  return out;
}

/// All tensors of a folder's model under their names in GGUF, as they stand (F32 or BF16).
inline void add_tensors(GgufWriter& writer, const std::vector<NamedTensor>& tensors,
                        const ModelConfig& config) {
  const std::pair<const char*, const char*> names[] = {{"model.embed_tokens", "token_embd"},
                                                       {"model.norm", "output_norm"},
                                                       {"lm_head", "output"},
                                                       {"model.layers.", "blk."},
                                                       {"input_layernorm", "attn_norm"},
                                                       {"post_attention_layernorm", "ffn_norm"},
                                                       {"self_attn.q_norm", "attn_q_norm"},
                                                       {"self_attn.k_norm", "attn_k_norm"},
                                                       {"self_attn.q_proj", "attn_q"},
                                                       {"self_attn.k_proj", "attn_k"},
                                                       {"self_attn.v_proj", "attn_v"},
                                                       {"self_attn.o_proj", "attn_output"},
                                                       {"mlp.gate_proj", "ffn_gate"},
                                                       {"mlp.up_proj", "ffn_up"},
                                                       {"mlp.down_proj", "ffn_down"}};
  for (const NamedTensor& one : tensors) {
    const TensorView& tensor = one.tensor;
    std::string other = one.name, bytes = as_text(tensor.bytes);
    for (const auto& [from, to] : names) {
      if (const size_t at = other.find(from); at != other.npos) other.replace(at, std::strlen(from), to);
    }
    const bool q = other.find("attn_q.") != other.npos, k = other.find("attn_k.") != other.npos;
    if ((q || k) && config.model_type == "llama")
      bytes = permuted(bytes, q ? config.heads : config.kv_heads, tensor.shape[0]);
    if (config.model_type == "gemma" && tensor.shape.size() == 1) {  // gains as they multiply, in F32
      std::vector<float> gains = to_float(tensor, one.name);
      for (float& gain : gains) gain += 1;
      writer.tensor(other, tensor.shape, 0, as_text(std::as_bytes(std::span(gains))));
      continue;
    }
    writer.tensor(other, tensor.shape, tensor.type == DType::kF32 ? 0 : 30, bytes);
  }
}

inline nlohmann::json tiny_gguf_config(const char* model_type = "llama") {
  return {{"model_type", model_type},
          {"hidden_size", 16},
          {"num_hidden_layers", 2},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"intermediate_size", 24},
          {"vocab_size", 10},
          {"max_position_embeddings", 64},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 100000.0},
          {"tie_word_embeddings", false}};
}

}  // namespace linnet

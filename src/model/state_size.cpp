#include "model/state_size.h"

#include <fmt/format.h>

#include <algorithm>

#include "attention/attention.h"
#include "attention/method.h"
#include "base/count.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"

namespace linnet {

int64_t state_bytes_a_token(const Model& model) {
  const AttentionShape shape = model.attention_shape();
  int64_t layers = 0;
  for (const AttentionConfig& config : model.attention()) {
    layers += config.grows() && config.window == 0;
  }
  return layers * shape.kv_heads * (shape.head_size + shape.value_size) * held_bytes(shape);
}

int64_t softmax_state_bytes(const ModelConfig& config, const AttentionShape& shape, int64_t tokens) {
  const int64_t each = shape.kv_heads * (shape.head_size + shape.value_size) * held_bytes(shape);
  int64_t bytes = 0;
  for (const int window : config.windows)
    bytes += each * (window > 0 ? std::min<int64_t>(window, tokens) : tokens);
  return bytes;
}

int64_t constant_state_bytes(std::span<const AttentionConfig> layers, const AttentionShape& shape) {
  int64_t bytes = 0;
  for (const AttentionConfig& config : layers) bytes += state_layout(config, shape).bytes;
  return bytes;
}

void check_state_fits(int64_t bytes, int64_t sequences, int64_t memory, const std::string& where) {
  constexpr int kWarned = 4;  // a share of the memory that leaves room for weights
  const double each = static_cast<double>(bytes), all = each * static_cast<double>(sequences);
  if (all <= static_cast<double>(memory) / kWarned) return;
  const std::string what =
      fmt::format("a state of {:.1f} GB per sequence{}", each * 1e-9,
                  sequences > 1 ? fmt::format(", {} at once", counted(sequences, "sequence")) : "");
  const std::string there = fmt::format("{:.1f} GB of memory", static_cast<double>(memory) * 1e-9);
  if (all > static_cast<double>(memory))
    throw Error(where, what, "one that fits into this machine's " + there);
  warn(fmt::format("{}: {}, of this machine's {}", where, what, there));
}

int64_t tokens_that_fit(const Model& model) {
  const int64_t each = state_bytes_a_token(model);
  return each > 0 ? machine_memory() / each : INT64_MAX;
}

}  // namespace linnet

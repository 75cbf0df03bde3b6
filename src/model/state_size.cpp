#include "model/state_size.h"

#include <unistd.h>

#include "attention/method.h"

namespace linnet {

int64_t state_bytes_a_token(const Model& model) {
  const AttentionShape shape = model.attention_shape();
  int64_t layers = 0;
  for (const AttentionConfig& config : model.attention()) {
    layers += config.grows() && config.window == 0;
  }
  return layers * shape.kv_heads * (shape.head_size + shape.value_size) * int64_t{sizeof(float)};
}

int64_t tokens_that_fit(const Model& model) {
  const int64_t each = state_bytes_a_token(model);
  const auto memory = int64_t{::sysconf(_SC_PHYS_PAGES)} * ::sysconf(_SC_PAGESIZE);
  return each > 0 ? memory / each : INT64_MAX;
}

}  // namespace linnet

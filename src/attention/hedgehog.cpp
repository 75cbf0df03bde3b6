#include "attention/hedgehog.h"

#include "attention/method.h"

namespace linnet {

std::vector<ParameterSpec> hedgehog_parameters(const AttentionConfig&, const AttentionShape& shape) {
  const int64_t d = shape.head_size;
  return {{"q.weight", {shape.heads, d, d}, {}}, {"k.weight", {shape.kv_heads, d, d}, {}}};
}

/// The identity: what a softmax over a query's own coordinates starts from.
std::vector<float> hedgehog_initial(const ParameterSpec& spec, const AttentionConfig&, uint64_t, int) {
  const int64_t heads = spec.shape[0], d = spec.shape[1];
  std::vector<float> weight(heads * d * d, 0.0f);
  for (int64_t h = 0; h < heads; ++h) {
    for (int64_t i = 0; i < d; ++i) weight[(h * d + i) * d + i] = 1.0f;
  }
  return weight;
}

const Method& hedgehog_method() {
  static const Method row = [] {
    Method m;
    m.name = "hedgehog";
    m.line = "learned features [softmax(Wx), softmax(-Wx)], normalized by their sum";
    m.defaults.method = "hedgehog";
    m.summary = SummaryKind::kFeatures;
    m.parameters = hedgehog_parameters;
    m.initial = hedgehog_initial;
    return m;
  }();
  return row;
}

}  // namespace linnet

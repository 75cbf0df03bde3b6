#include "attention/attention.h"

#include <fmt/format.h>

#include "attention/method.h"
#include "attention/softmax.h"
#include "base/error.h"

namespace linnet {

template <class T>
std::unique_ptr<Attention<T>> make_attention(const AttentionConfig& config, const AttentionShape& shape,
                                             const ParameterTensors& parameters,
                                             const SinkRotation* sink_rotation, const std::string& where) {
  (void)parameters;
  (void)sink_rotation;
  const Method& method = find_method(config.method, where);
  if (method.grows) return make_softmax<T>(config, shape);
  throw Error(where, fmt::format("method {}", config.method), "softmax");
}

template std::unique_ptr<Attention<float>> make_attention<float>(const AttentionConfig&,
                                                                 const AttentionShape&,
                                                                 const ParameterTensors&, const SinkRotation*,
                                                                 const std::string&);
template std::unique_ptr<Attention<double>> make_attention<double>(const AttentionConfig&,
                                                                   const AttentionShape&,
                                                                   const ParameterTensors&,
                                                                   const SinkRotation*, const std::string&);

}  // namespace linnet

#include "attention/attention.h"

#include <fmt/format.h>

#include <cmath>

#include "attention/linear.h"
#include "attention/method.h"
#include "attention/rotation.h"
#include "attention/rows.h"
#include "attention/softmax.h"
#include "base/error.h"

namespace linnet {
namespace {

/// Every tensor that the config asks for: there, of its shape, finite.
template <class T>
Parameters<T> checked(const AttentionConfig& config, const AttentionShape& shape,
                      const ParameterTensors& tensors, const std::string& where) {
  Parameters<T> parameters;
  for (const ParameterSpec& spec : parameter_specs(config, shape)) {
    const std::string name = where + spec.name;
    const auto found = tensors.find(spec.name);
    if (found == tensors.end()) {
      if (!spec.absent) throw Error(name, "missing tensor", to_string(spec.shape));
      int64_t count = 1;
      for (int64_t dimension : spec.shape) count *= dimension;
      parameters[spec.name].assign(count, T(*spec.absent));
      continue;
    }
    if (found->second.shape != spec.shape) {
      throw Error(name, "shape " + to_string(found->second.shape), to_string(spec.shape));
    }
    std::vector<T> numbers = to_numbers<T>(found->second, name);
    for (size_t i = 0; i < numbers.size(); ++i) {
      if (!std::isfinite(numbers[i])) {
        throw Error(name, fmt::format("number {} is {}", i, numbers[i]), "finite numbers");
      }
    }
    parameters[spec.name] = std::move(numbers);
  }
  return parameters;
}

void check_shape(const AttentionShape& shape, const std::string& where) {
  const bool sizes = shape.kv_heads > 0 && shape.heads > 0 && shape.head_size > 0 && shape.value_size > 0;
  if (!sizes || shape.heads % shape.kv_heads != 0) {
    throw Error(where,
                fmt::format("{} heads, {} key-value heads of {} and {}", shape.heads, shape.kv_heads,
                            shape.head_size, shape.value_size),
                "sizes above 0, heads a multiple of key-value heads");
  }
}

}  // namespace

StateLayout state_layout(const AttentionConfig& config, const AttentionShape& shape) {
  if (config.grows()) return make_softmax<float>(config, shape)->layout();
  Parameters<float> zeros;
  for (const ParameterSpec& spec : parameter_specs(config, shape)) {
    int64_t count = 1;
    for (int64_t dimension : spec.shape) count *= dimension;
    zeros[spec.name].assign(count, 0.0f);
  }
  const Rotation rotation;  // whichever it is, a token's key is held once
  return make_linear<float>(config, shape, std::move(zeros), &rotation)->layout();
}

template <class T>
void Attention<T>::attend_all(std::span<const StateTree<T>> branches, const Rows<T>& rows, HeadRows<T> out,
                              ThreadPool& pool) const {
  int64_t first = 0;
  for (const auto& [state, tree] : branches) {
    attend(*state, *tree, part_of(rows, first, tree->size()), from_row(out, first), pool);
    first += tree->size();
  }
}
template class Attention<float>;
template class Attention<double>;

void check_cross(const AttentionConfig& config) {
  if (config.grows() || config.has_summary()) return;
  throw Error("cross form", fmt::format("{} without a summary", config.name()),
              "a method with one, and alpha that leaves something of it");
}

template <class T>
std::unique_ptr<Attention<T>> make_attention(const AttentionConfig& config, const AttentionShape& shape,
                                             const ParameterTensors& tensors, const Rotation* rotation,
                                             const std::string& where) {
  check_shape(shape, where);
  check_heads(config, shape.kv_heads, where);
  if (config.grows()) return make_softmax<T>(config, shape);
  return make_linear<T>(config, shape, checked<T>(config, shape, tensors, where), rotation);
}

template std::unique_ptr<Attention<float>> make_attention<float>(const AttentionConfig&,
                                                                 const AttentionShape&,
                                                                 const ParameterTensors&, const Rotation*,
                                                                 const std::string&);
template std::unique_ptr<Attention<double>> make_attention<double>(const AttentionConfig&,
                                                                   const AttentionShape&,
                                                                   const ParameterTensors&, const Rotation*,
                                                                   const std::string&);

}  // namespace linnet

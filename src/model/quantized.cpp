#include "model/quantized.h"

#include <fmt/format.h>

#include <cstring>

#include "base/error.h"

namespace linnet {
namespace {

using kernels::WeightType;

/// A tensor of a module by what follows its name, of this type and shape.
const TensorView& part_of(const TensorStore& store, const std::string& name, DType type,
                          const std::vector<int64_t>& shape) {
  const TensorView* tensor = store.find(name);
  if (tensor == nullptr) throw Error(store.where(name), "missing", "it, of shape " + to_string(shape));
  if (tensor->type != type || tensor->shape != shape)
    throw Error(store.where(name),
                fmt::format("{} of type {}", to_string(tensor->shape), name_of(tensor->type)),
                fmt::format("{} of type {}", to_string(shape), name_of(type)));
  return *tensor;
}

/// Scales or offsets [out, groups].
const uint16_t* of_groups(const TensorStore& store, const std::string& name, int64_t out, int64_t groups) {
  const auto* numbers = part_of(store, name, DType::kBF16, {out, groups}).bytes.data();
  if (reinterpret_cast<uintptr_t>(numbers) % alignof(uint16_t) != 0)
    throw Error(store.where(name), "stands at an odd place in its file", "an even one");
  return reinterpret_cast<const uint16_t*>(numbers);
}

void check_written_shape(const TensorStore& store, const std::string& name, const ModuleShape& shape) {
  const TensorView* tensor = store.find(name);
  if (tensor == nullptr) return;
  part_of(store, name, DType::kI64, {2});
  int64_t written[2];
  std::memcpy(written, tensor->bytes.data(), sizeof(written));
  if (written[0] != shape.out || written[1] != shape.in)
    throw Error(store.where(name), fmt::format("[{}, {}]", written[0], written[1]),
                fmt::format("[{}, {}]", shape.out, shape.in));
}

}  // namespace

bool has_matrix(const TensorStore& store, const std::string& name) {
  return store.find(name + std::string(kPlainWeight)) != nullptr ||
         store.find(name + std::string(kPackedWeight)) != nullptr;
}

std::optional<kernels::Weights> quantized_matrix(const TensorStore& store, const std::string& name,
                                                 const ModuleShape& shape) {
  const auto named = [&](std::string_view part) { return name + std::string(part); };
  const std::string packed = named(kPackedWeight), plain = named(kPlainWeight);
  const TensorView* int8 = store.find(plain);
  const bool is_int4 = store.find(packed) != nullptr;
  if (!is_int4 && (int8 == nullptr || int8->type != DType::kI8)) return std::nullopt;
  if (is_int4 && int8 != nullptr)
    throw Error(store.where(packed), fmt::format("stands beside \"{}\"", plain), "one of them");
  for (const std::string_view part : {".weight_zero_point", ".weight_g_idx"}) {
    if (store.find(named(part)) != nullptr)
      throw Error(store.where(named(part)), "another engine's", "integers with scales alone");
  }
  kernels::Weights weights;
  weights.type = is_int4 ? WeightType::kInt4 : WeightType::kInt8;
  weights.out = shape.out, weights.in = shape.in;
  if (shape.in % kernels::kScaleGroup != 0)
    throw Error(store.where(is_int4 ? packed : plain), fmt::format("rows of {} integers", shape.in),
                fmt::format("a multiple of {}", kernels::kScaleGroup));
  const TensorView& numbers = is_int4 ? part_of(store, packed, DType::kI32, {shape.out, shape.in / 8})
                                      : part_of(store, plain, DType::kI8, {shape.out, shape.in});
  weights.data = numbers.bytes.data();
  const std::string scale = named(kWeightScale);
  const TensorView* scales = store.find(scale);
  const int64_t groups = scales != nullptr && scales->shape.size() == 2 ? scales->shape[1] : 0;
  if (groups > 0 && shape.in % groups == 0) weights.group = shape.in / groups;
  if (scales != nullptr &&
      (groups < 1 || shape.in % groups != 0 || !kernels::is_scale_group(weights.group, shape.in)))
    throw Error(store.where(scale), fmt::format("{} for rows of {}", to_string(scales->shape), shape.in),
                "a scale for each 32, each multiple of 64, or each row");
  weights.scales = of_groups(store, scale, shape.out, weights.groups());
  if (store.find(named(kWeightOffset)) != nullptr)
    weights.offsets = of_groups(store, named(kWeightOffset), shape.out, weights.groups());
  check_written_shape(store, named(kWeightShape), shape);
  return weights;
}

std::map<std::string, kernels::Weights> quantized_matrices(const Model& model) {
  std::map<std::string, kernels::Weights> out;
  const Family& family = model.family();
  const auto take = [&](int layer, std::string_view module) {
    if (module.empty() || module_shape(family, model.config(), module).in == 0) return;
    if (const auto weights = model.quantized(layer, module))
      out.emplace(model.full_module_name(layer, module), *weights);
  };
  for (const std::string_view module : {family.embedding, family.position_embedding, family.head})
    take(-1, module);
  for (int layer = 0; layer < model.config().layers; ++layer) {
    for (const std::string_view module : layer_modules(family)) take(layer, module);
  }
  return out;
}

std::string type_name(const kernels::Weights& weights) {
  const std::string group = weights.group == weights.in ? "rows" : fmt::format("groups of {}", weights.group);
  return fmt::format("{}, {}{}", kernels::row_of(weights.type).name, group,
                     weights.offsets == nullptr ? "" : ", offsets");
}

}  // namespace linnet

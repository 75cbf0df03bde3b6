// Matrices in integers as a folder's tensors hold them (docs/formats.md#quantized-folders).
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "format/safetensors.h"
#include "kernels/cpu/weights.h"
#include "model/family.h"
#include "model/model.h"

namespace linnet {

// What a module's tensors are called after its name.
inline constexpr std::string_view kPlainWeight = ".weight", kPackedWeight = ".weight_packed",
                                  kWeightScale = ".weight_scale", kWeightOffset = ".weight_offset",
                                  kWeightShape = ".weight_shape";

/// Those that it has beside or in place of a plain weight where it is in integers.
inline constexpr std::string_view kIntegerParts[] = {kPackedWeight, kWeightScale, kWeightOffset,
                                                     kWeightShape};

/// Whether a module's matrix is in the store, in integers or not.
bool has_matrix(const TensorStore& store, const std::string& name);

/// The matrix of a module in its place in the mapped file, [out, in] also where a family's others are
/// transposed; nothing where it is not in integers. Throws Error on tensors that do not fit `shape` or each
/// other.
std::optional<kernels::Weights> quantized_matrix(const TensorStore& store, const std::string& name,
                                                 const ModuleShape& shape);

/// All of a model's, by their modules' names.
std::map<std::string, kernels::Weights> quantized_matrices(const Model& model);

/// "int4, groups of 32, offsets", for people.
std::string type_name(const kernels::Weights& weights);

}  // namespace linnet

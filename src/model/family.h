// What follows from a family's row (format/family.h) and a config: names and shapes of modules, how keys
// turn.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "attention/config.h"
#include "attention/distance_bias.h"
#include "attention/rotation.h"
#include "format/family.h"
#include "format/model_config.h"

namespace linnet {

/// "layers.3.": what stands between the family's prefix and a layer's module.
std::string layer_prefix(const Family& family, int layer);

/// A module's numbers: a matrix of `out` rows and `in` columns (a file of a transposed family has it as
/// [in, out]), or, where `in` is 0, a norm's vector.
struct ModuleShape {
  int64_t out, in;
  bool biased;
  bool transposed;

  /// Of the weight as it stands in the file.
  std::vector<int64_t> weight() const {
    if (in == 0) return {out};
    return transposed ? std::vector{in, out} : std::vector{out, in};
  }
};
ModuleShape module_shape(const Family& family, const ModelConfig& config, std::string_view module);

/// What a layer's attention computes on.
AttentionShape shape_of(const Family& family, const ModelConfig& config);
/// How the distances between a stack's tokens share the rows of its relative bias.
DistanceBuckets distance_buckets(const Family& family, const ModelConfig& config);

/// What a layer's keys do with their positions: nothing where it does not rotate them.
Rotation rotation_of(const ModelConfig& config, int layer);

/// Of a family whose fused matrix has a head's q, k and v side by side, the rows in the order of [q; k; v].
std::vector<int64_t> rows_by_part(const ModelConfig& config);

/// The embeddings that the family has and the norms of no layer: every folder has them.
std::vector<std::string_view> outer_modules(const Family& family);

/// The modules of the family's head. Their names have no prefix.
std::vector<std::string_view> head_modules(const Family& family);
bool is_of_head(const Family& family, std::string_view module);

/// The modules of one layer that the family has, in the order in which they act.
std::vector<std::string_view> layer_modules(const Family& family);

}  // namespace linnet

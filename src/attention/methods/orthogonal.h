// Random orthogonal rows, drawn once and stored with the model: the tensor `projection` of Performer's rows.
#pragma once

#include <cstdint>
#include <vector>

#include "attention/method.h"

namespace linnet {

/// [heads, rows, size]: in each head blocks of up to `size` orthogonal rows of normal directions, each row of
/// the length of a normal vector (Choromanski et al. 2021, "Rethinking Attention with Performers",
/// section 2.4). A function of (seed, layer) alone.
std::vector<float> orthogonal_rows(int64_t heads, int64_t rows, int64_t size, uint64_t seed, int layer);

/// The option `features`: rows of Ω; 0 is twice the head size.
inline constexpr Option kProjectionRows{
    "features", 0, 65536, 0, "rows of the projection; 0: twice the head size", "projection", 1};
/// `projection` [G, f, d], not trained, and how it is drawn.
std::vector<ParameterSpec> projection_parameters(const AttentionConfig& config, const AttentionShape& shape);
std::vector<float> projection_initial(const ParameterSpec& spec, const AttentionConfig& config, uint64_t seed,
                                      int layer);

}  // namespace linnet

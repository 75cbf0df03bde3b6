// Integer weights in the order in which a product reads them: 32 rows of W side by side, so that a step
// follows one stream of memory and each lane of a vector is a number of the result, whose integer sum over a
// group of inputs needs one scaling and no sum over lanes.
//
// Of each 64 inputs a tile of 32 rows makes one record. int8: 16 times two vectors of 16 rows × 4 inputs,
// then two of the rows' bf16 scales, those of the first 32 inputs in the lower halves of the lanes' words.
// int4: 8 times two vectors, of the first 32 inputs in the lower halves of the bytes; then the scales.
// Integers are unsigned, packed_offset() added. Rows and inputs past the matrix's are zeros with scales of
// zero.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/weights.h"

namespace linnet::kernels {

inline constexpr int64_t kTileRows = 32, kTileInputs = 64;

/// What makes integers unsigned.
constexpr int unsigned_by(WeightType type) { return type == WeightType::kInt8 ? 128 : 8; }

/// What a tile's record holds.
struct RecordForm {
  WeightType type;
  bool offsets;

  constexpr int64_t scales_at() const { return kTileRows * kTileInputs * row_of(type).bits / 8; }
  constexpr int64_t offsets_at() const { return scales_at() + kTileRows * 4; }
  constexpr int64_t bytes() const { return offsets ? offsets_at() + kTileRows * 4 : offsets_at(); }
};

constexpr int64_t tiles_of(int64_t out) { return (out + kTileRows - 1) / kTileRows; }
constexpr int64_t records_of(int64_t in) { return (in + kTileInputs - 1) / kTileInputs; }

/// Writes one tile, records_of(in) records, of row-major integers.
void pack_tile(const Weights& weights, int64_t tile, std::byte* to);

}  // namespace linnet::kernels

#include "kernels/cpu/packed_weights.h"

#include <algorithm>
#include <cstring>

namespace linnet::kernels {
namespace {

constexpr int64_t kLanes = 16, kFour = 4;  // rows of a vector; inputs in a lane
constexpr int64_t kVector = kLanes * kFour;

/// Where the four inputs from `input` on of a tile's row stand in a record of bytes.
int64_t place_of(int64_t row, int64_t input) {
  const int64_t vector = input / kFour * (kTileRows / kLanes) + row / kLanes;
  return vector * kVector + row % kLanes * kFour;
}

/// A row's part of a record: its integers, `count` of kTileInputs (or half of them) and zeros after, int8
/// with 128 added, of int4 those of the second half above those of the first; words of four where they
/// belong.
template <WeightType kType>
void put_integers(const uint8_t* from, int64_t count, uint8_t* to) {
  constexpr int64_t kBytes = kTileInputs * row_of(kType).bits / 8, kHalf = kBytes / 2;
  uint8_t given[kBytes] = {}, bytes[kBytes];
  if (count == kTileInputs) {
    std::memcpy(given, from, kBytes);
  } else {
    std::memcpy(given, from, kHalf);
  }
  if constexpr (kType == WeightType::kInt8) {
    for (int64_t i = 0; i < kBytes; ++i) bytes[i] = static_cast<uint8_t>(given[i] ^ 0x80);
    if (count < kTileInputs) std::fill_n(bytes + kHalf, kHalf, uint8_t{0});
  } else {
    for (int64_t i = 0; i < kHalf; ++i) {
      bytes[2 * i] = static_cast<uint8_t>((given[i] & 15) | given[kHalf + i] << 4);
      bytes[2 * i + 1] = static_cast<uint8_t>(given[i] >> 4 | (given[kHalf + i] & 0xF0));
    }
  }
  for (int64_t i = 0; i < kBytes; i += kFour) std::memcpy(to + place_of(0, i), bytes + i, kFour);
}

/// Two numbers of a row's groups as one word.
void put_pair(uint16_t one, uint16_t other, uint8_t* to) {
  const uint16_t both[2] = {one, other};
  std::memcpy(to, both, sizeof(both));
}

template <WeightType kType>
void pack(const Weights& weights, int64_t tile, uint8_t* record) {
  const RecordForm form{kType, weights.offsets != nullptr};
  const int64_t groups = weights.groups(), row_bytes = weights.row_bytes();
  const int64_t first = tile * kTileRows, rows = std::min(kTileRows, weights.out - first);
  for (int64_t input = 0; input < weights.in; input += kTileInputs, record += form.bytes()) {
    const int64_t count = std::min(kTileInputs, weights.in - input);
    if (rows < kTileRows || count < kTileInputs) std::fill_n(record, form.bytes(), uint8_t{0});
    const auto* from =
        reinterpret_cast<const uint8_t*>(weights.data) + first * row_bytes + input * row_of(kType).bits / 8;
    const int64_t group = first * groups + input / weights.group;
    const int64_t next = count == kTileInputs ? first * groups + (input + kScaleGroup) / weights.group : -1;
    for (int64_t row = 0; row < rows; ++row) {
      put_integers<kType>(from + row * row_bytes, count, record + place_of(row, 0));
      const auto put = [&](const uint16_t* of_groups, int64_t at) {
        const uint16_t* of_row = of_groups + row * groups;
        put_pair(of_row[group], next < 0 ? uint16_t{0} : of_row[next], record + at + row * 4);
      };
      put(weights.scales, form.scales_at());
      if (form.offsets) put(weights.offsets, form.offsets_at());
    }
  }
}

}  // namespace

size_t packed_bytes(WeightType type, bool offsets, int64_t out, int64_t in) {
  return static_cast<size_t>(tiles_of(out) * records_of(in) * RecordForm{type, offsets}.bytes());
}

void pack_tile(const Weights& weights, int64_t tile, std::byte* to) {
  auto* record = reinterpret_cast<uint8_t*>(to);
  if (weights.type == WeightType::kInt8) {
    pack<WeightType::kInt8>(weights, tile, record);
  } else {
    pack<WeightType::kInt4>(weights, tile, record);
  }
}

}  // namespace linnet::kernels

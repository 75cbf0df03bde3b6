#include "kernels/cpu/packed_weights.h"

#include <algorithm>
#include <cstring>
#include <vector>

namespace linnet::kernels {
namespace {

constexpr int64_t kLanes = 16, kFour = 4;  // rows of a vector; inputs in a lane
constexpr int64_t kVector = kLanes * kFour;

/// Where the four inputs from `input` on of a tile's row stand in a record of bytes.
int64_t place_of(int64_t row, int64_t input) {
  const int64_t vector = input / kFour * (kTileRows / kLanes) + row / kLanes;
  return vector * kVector + row % kLanes * kFour;
}

/// One row of a record: integers [kTileInputs], offset added.
void put_integers(WeightType type, const uint8_t* integers, int64_t row, uint8_t* record) {
  if (type == WeightType::kInt8) {
    for (int64_t i = 0; i < kTileInputs; i += kFour)
      std::memcpy(record + place_of(row, i), integers + i, kFour);
    return;
  }
  for (int64_t i = 0; i < kTileInputs / 2; i += kFour) {
    uint8_t* to = record + place_of(row, i);
    for (int64_t k = 0; k < kFour; ++k)
      to[k] = static_cast<uint8_t>(integers[i + k] | integers[kTileInputs / 2 + i + k] << 4);
  }
}

}  // namespace

size_t packed_bytes(WeightType type, bool offsets, int64_t out, int64_t in) {
  return static_cast<size_t>(tiles_of(out) * records_of(in) * RecordForm{type, offsets}.bytes());
}

void pack_tile(const Weights& weights, int64_t tile, std::byte* to) {
  const RecordForm form{weights.type, weights.offsets != nullptr};
  const int64_t in = weights.in, records = records_of(in);
  auto* bytes = reinterpret_cast<uint8_t*>(to);
  std::fill_n(bytes, records * form.bytes(), uint8_t{0});
  std::vector<int8_t> integers(static_cast<size_t>(in));
  std::vector<uint8_t> shifted(static_cast<size_t>(records * kTileInputs));
  const int64_t first = tile * kTileRows, count = std::min(kTileRows, weights.out - first);
  for (int64_t row = 0; row < count; ++row) {
    read_integers(weights, first + row, integers.data());
    std::transform(integers.begin(), integers.end(), shifted.begin(),
                   [&](int8_t q) { return static_cast<uint8_t>(q + unsigned_by(weights.type)); });
    const int64_t of_row = (first + row) * weights.groups();
    const auto put_pair = [&](const uint16_t* numbers, int64_t input, uint8_t* at) {
      const auto number = [&](int64_t i) {
        return i < in ? numbers[of_row + i / weights.group] : uint16_t{0};
      };
      const uint16_t both[2] = {number(input), number(input + kScaleGroup)};
      std::memcpy(at + row * 4, both, sizeof(both));
    };
    for (int64_t r = 0; r < records; ++r) {
      uint8_t* record = bytes + r * form.bytes();
      put_integers(weights.type, shifted.data() + r * kTileInputs, row, record);
      put_pair(weights.scales, r * kTileInputs, record + form.scales_at());
      if (form.offsets) put_pair(weights.offsets, r * kTileInputs, record + form.offsets_at());
    }
  }
}

}  // namespace linnet::kernels

// Products of rows in 8 bits and packed integer weights by AVX512_VNNI or, without it, AVX2. A number is the
// sum of its groups of 32 inputs in their order, each an exact integer times both scales: one order, so
// few_rows.h's promises hold.
#include <algorithm>

#include "kernels/cpu/few_rows.h"

#if defined(__x86_64__)
#include "kernels/cpu/few_rows_integer.h"
#include "kernels/cpu/instruction_sets.h"
#include "kernels/cpu/row_groups.h"

namespace linnet::kernels::integer_dot {
namespace {

constexpr int64_t kMostGroups = 11;     // that go through the weights together
constexpr int64_t kStretch = 8;         // records that stay in the first cache from group to group
constexpr int64_t kDistance = 8 << 10;  // bytes ahead that are asked for where there is one group

const Instructions& in_use() { return avx512_in_use() && have_vnni() ? kVnni : kAvx2; }

Groups groups_of(int64_t rows) { return {rows, (rows + kMostRows - 1) / kMostRows}; }

/// Groups [from, to) of x's rows by outputs [begin, end).
void product_of_groups(const Groups& groups, int64_t from, int64_t to, const Weights& weights, int64_t begin,
                       int64_t end, const Prepared* prepared, float* y, int64_t y_stride) {
  alignas(64) float sums[kMostGroups * kMostRows * kTileRows];
  const Tile* tiles = in_use().tiles[weights.type == WeightType::kInt8][weights.packed_offsets];
  const int64_t records = records_of(weights.in),
                bytes = RecordForm{weights.type, weights.packed_offsets}.bytes(), turns = to - from;
  const int64_t stretch = turns == 1 ? records : kStretch;
  for (int64_t t = begin / kTileRows; t * kTileRows < end; ++t) {
    const int64_t first = t * kTileRows;
    for (int64_t i = 0; i < records; i += stretch) {
      const int64_t count = std::min(stretch, records - i);
      Stretch at{weights.data + (t * records + i) * bytes,
                 count,
                 nullptr,
                 sums,
                 i == 0,
                 i + count >= records,
                 nullptr,
                 y_stride,
                 {}};
      for (int64_t h = 0; h < kTileRows / 16; ++h) {
        const int64_t low = std::clamp<int64_t>(begin - first - h * 16, 0, 16);
        const int64_t high = std::clamp<int64_t>(end - first - h * 16, 0, 16);
        at.written[h] = static_cast<uint16_t>((1u << high) - (1u << low));
      }
      const int64_t lines = bytes / kLine, pace = (lines + 2 * turns - 1) / (2 * turns);
      Ahead ahead{reinterpret_cast<const char*>(at.weights + (turns == 1 ? kDistance : count * bytes)), pace};
      for (int64_t g = from; g < to; ++g) {
        const int64_t row = groups.begin(g), size = groups.begin(g + 1) - row;
        at.x = prepared + row * records + i * size;
        at.y = y + row * y_stride + first;
        tiles[size - 1](at, ahead);
        at.sums += size * kTileRows;
      }
    }
  }
}

/// `groups` (1 or 2) groups of numbers; zeros in place of a second that is not there.
void prepare_block(const Instructions& by, const float* from, int64_t groups, int shift, Prepared& to) {
  for (int64_t g = 0; g < 2; ++g) {
    int8_t* numbers = to.numbers + g * kScaleGroup;
    to.scale[g] = g < groups ? by.prepare_group(from + g * kScaleGroup, numbers) : 0.0f;
    if (g >= groups) std::fill_n(numbers, kScaleGroup, int8_t{0});
    int32_t sum = 0;
    for (int64_t i = 0; i < kScaleGroup; ++i) sum += numbers[i];
    to.start[g] = -shift * sum;
    to.sum[g] = to.scale[g] * static_cast<float>(sum);
  }
}

}  // namespace

bool on_this_machine() { return avx2_in_use(); }

int64_t prepared_size(int64_t in) {
  return records_of(in) * static_cast<int64_t>(sizeof(Prepared) / sizeof(float));
}

void prepare(WeightType weights, const float* x, int64_t x_stride, int64_t begin, int64_t end, int64_t rows,
             int64_t in, void* prepared) {
  const int64_t records = records_of(in);
  const Groups groups = groups_of(rows);
  const Instructions& by = in_use();
  for (int64_t r = begin; r < end; ++r) {
    const int64_t g = groups.of_row(r), first = groups.begin(g), size = groups.begin(g + 1) - first;
    Prepared* to = static_cast<Prepared*>(prepared) + first * records + r - first;
    const float* from = x + r * x_stride;
    for (int64_t i = 0; i < records; ++i, to += size)
      prepare_block(by, from + i * kTileInputs, std::min<int64_t>(2, in / kScaleGroup - 2 * i),
                    unsigned_by(weights), *to);
  }
}

void product(const Weights& weights, int64_t begin, int64_t end, const void* prepared, int64_t rows, float* y,
             int64_t y_stride) {
  const Groups groups = groups_of(rows);
  const auto* x = static_cast<const Prepared*>(prepared);
  for (int64_t g = 0; g < groups.count; g += kMostGroups)
    product_of_groups(groups, g, std::min(g + kMostGroups, groups.count), weights, begin, end, x, y,
                      y_stride);
}

}  // namespace linnet::kernels::integer_dot

#else

namespace linnet::kernels::integer_dot {

bool on_this_machine() { return false; }
int64_t prepared_size(int64_t) { return 0; }
void prepare(WeightType, const float*, int64_t, int64_t, int64_t, int64_t, int64_t, void*) {}
void product(const Weights&, int64_t, int64_t, const void*, int64_t, float*, int64_t) {}

}  // namespace linnet::kernels::integer_dot

#endif

// What few_rows_tiles.h multiplies by, as Intel's manual describes the instructions, one number after the
// other.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "base/bfloat16.h"
#include "kernels/cpu/few_rows_tiles.h"

namespace linnet {

class PlainTiles {
  static constexpr int64_t kTile = kernels::tile_dot::kTile, kInputs = kernels::tile_dot::kInputs;

 public:
  void use(const kernels::tile_dot::TileShape& shape) { shape_ = shape; }

  template <int kOuts, int kRows>
  void clear() {
    for_tiles<kOuts, kRows>([&](int o, int g) {
      for (float& sum : sums_[o][g]) sum = 0;
    });
  }

  template <int kIndex>
  void load_weights(const uint16_t* from, int64_t stride) {
    for (int64_t o = 0; o < shape_.outs[kIndex]; ++o) {
      for (int64_t i = 0; i < kInputs; ++i) weights_[kIndex][o][i] = number(from[o * stride / 2 + i]);
    }
  }

  template <int kIndex>
  void load_rows(const uint16_t* from) {
    for (int64_t i = 0; i < kInputs; ++i) {
      for (int64_t r = 0; r < shape_.rows[kIndex]; ++r)
        rows_[kIndex][i][r] = number(from[(i / 2 * shape_.rows[kIndex] + r) * 2 + i % 2]);
    }
  }

  template <int kOuts, int kRows>
  void multiply() {
    for_tiles<kOuts, kRows>([&](int o, int g) {
      for (int64_t m = 0; m < shape_.outs[o]; ++m) {
        for (int64_t n = 0; n < shape_.rows[g]; ++n) {
          float two[2] = {0, 0};
          for (int64_t i = 0; i < kInputs; ++i)
            two[i % 2] = flushed(std::fma(weights_[o][m][i], rows_[g][i][n], two[i % 2]));
          float& sum = sums_[o][g][m * shape_.rows[g] + n];
          sum = flushed(sum + flushed(two[0] + two[1]));
        }
      }
    });
  }

  template <int kOuts, int kRows>
  void store(float (&to)[2][2][kTile * kTile]) {
    for_tiles<kOuts, kRows>([&](int o, int g) {
      for (int64_t n = 0; n < shape_.outs[o] * shape_.rows[g]; ++n) to[o][g][n] = sums_[o][g][n];
    });
  }

 private:
  /// Numbers too small for their exponent are zeros, operands and results.
  static float flushed(float x) { return std::abs(x) < FLT_MIN ? std::copysign(0.0f, x) : x; }
  static float number(uint16_t bits) { return flushed(bfloat16_to_float(bits)); }

  template <int kOuts, int kRows, class Work>
  void for_tiles(const Work& work) {
    for (int o = 0; o < kOuts; ++o) {
      for (int g = 0; g < kRows; ++g) work(o, g);
    }
  }

  kernels::tile_dot::TileShape shape_{};
  float weights_[2][kTile][kInputs], rows_[2][kInputs][kTile], sums_[2][2][kTile * kTile];
};

}  // namespace linnet

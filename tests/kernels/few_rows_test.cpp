#include "kernels/cpu/few_rows.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/bfloat16.h"
#include "kernels/cpu/elementwise.h"
#include "tests/kernels/numbers.h"
#include "tests/kernels/targets.h"

namespace linnet {
namespace {

using kernels::RowType;
using kernels::WeightType;

struct Shape {
  int64_t in, out;
};
constexpr Shape kShapes[] = {{1, 1},    {3, 5},    {31, 7},  {32, 8},   {33, 9},  {64, 172},
                             {172, 64}, {385, 37}, {96, 21}, {2048, 6}, {160, 9}, {608, 5}};

struct Types {
  WeightType weights;
  RowType rows;

  bool can_be(const Shape& shape) const {
    return !kernels::row_of(weights).integer || shape.in % kernels::kScaleGroup == 0;
  }
};

/// Those that the instruction set in use multiplies.
std::vector<Types> every_types() {
  std::vector<Types> all;
  for (const WeightType type :
       {WeightType::kFloat32, WeightType::kBFloat16, WeightType::kInt8, WeightType::kInt4}) {
    all.push_back({type, RowType::kFloat32});
    if (kernels::fastest_rows(type) != RowType::kFloat32) all.push_back({type, kernels::fastest_rows(type)});
  }
  return all;
}

/// Random rows, in numbers that their type has: of integers each group's largest is 127 of its units.
std::vector<float> random_rows(RowType type, int64_t count, uint64_t seed) {
  auto x = normals(count, seed);
  if (type == RowType::kBFloat16) {
    std::vector<uint16_t> narrow(x.size());
    kernels::to_bfloat16(x.data(), count, narrow.data());
    kernels::from_bfloat16(narrow.data(), count, x.data());
  }
  if (type == RowType::kInt8) {
    for (size_t i = 0; i < x.size(); ++i) {
      const float unit = i / 32 % 2 == 0 ? 0.03125f : 0.5f;
      x[i] = unit * (i % 32 == 7 ? -127.0f : std::clamp(std::nearbyint(40 * x[i]), -127.0f, 127.0f));
    }
  }
  return x;
}

/// Random weights of a type, and what numbers they are. They stand one number off the start, so that vectors
/// lie unaligned.
struct RandomWeights {
  RandomWeights(const Shape& shape, Types types) : rows(types.rows) {
    const kernels::Weights sizes{types.weights, shape.out, shape.in, nullptr, nullptr};
    const int64_t row_bytes = sizes.row_bytes(), groups = shape.in / kernels::kScaleGroup;
    bytes.resize(static_cast<size_t>(shape.out * row_bytes + 4));
    scales.resize(static_cast<size_t>(shape.out * groups + 1));
    std::byte* to = bytes.data() + std::max(1, kernels::row_of(types.weights).bits / 8);
    const auto numbers = normals(static_cast<size_t>(shape.out * shape.in), 7);
    for (int64_t o = 0; o < shape.out; ++o) {
      const float* from = numbers.data() + o * shape.in;
      if (types.weights == WeightType::kFloat32) std::memcpy(to + o * row_bytes, from, row_bytes);
      if (types.weights == WeightType::kBFloat16)
        kernels::to_bfloat16(from, shape.in, reinterpret_cast<uint16_t*>(to + o * row_bytes));
      if (kernels::row_of(types.weights).integer)
        kernels::quantize_row(types.weights, from, shape.in, to + o * row_bytes,
                              scales.data() + 1 + o * groups);
    }
    view = {types.weights, shape.out, shape.in, to, scales.data() + 1};
    wide.resize(static_cast<size_t>(shape.out * shape.in));
    for (int64_t o = 0; o < shape.out; ++o) kernels::read_row(view, o, wide.data() + o * shape.in);
  }

  RowType rows;  // that they are multiplied with
  std::vector<std::byte> bytes;
  std::vector<uint16_t> scales;
  kernels::Weights view;
  std::vector<double> wide;
};

std::vector<float> product(const RandomWeights& weights, const Shape& shape, const std::vector<float>& x,
                           int64_t rows, int64_t begin, int64_t end) {
  auto prepared = poison(rows * kernels::prepared_size(weights.rows, shape.in));
  // As callers do on several threads: in parts.
  const int64_t size = kernels::prepared_size(weights.rows, shape.in);
  for (int64_t r = 0; r < rows; r += kernels::kRowBlock)
    kernels::prepare_rows(weights.view.type, weights.rows, x.data() + r * shape.in, shape.in,
                          std::min(kernels::kRowBlock, rows - r), shape.in, prepared.data() + r * size);
  auto y = poison(rows * shape.out);
  kernels::few_rows_product(weights.view, weights.rows, begin, end, prepared.data(), rows, y.data(),
                            shape.out);
  return y;
}

class FewRows : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(EveryTarget, FewRows, every_target(), target_name);

TEST_P(FewRows, EqualThePlainProduct) {
  for (const Types& types : every_types()) {
    for (const Shape& shape : kShapes) {
      if (!types.can_be(shape)) continue;
      for (int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 11, 17, 18, 35, 64, 130}) {
        const RandomWeights weights(shape, types);
        const auto x = random_rows(types.rows, rows * shape.in, 1);
        std::vector<double> expected(rows * shape.out);
        kernels::reference::product(weights.wide.data(), shape.in, 0, shape.out, widened(x).data(), shape.in,
                                    rows, expected.data(), shape.out);
        EXPECT_LT(relative_rms(product(weights, shape, x, rows, 0, shape.out), expected), 1e-6)
            << shape.in << " to " << shape.out << ", " << rows << " rows";
      }
    }
  }
}

TEST_P(FewRows, ARowHasTheSameBitsAloneAndBesideOthersAndInAnyCut) {
  for (const Types& types : every_types()) {
    for (const Shape& shape : kShapes) {
      if (!types.can_be(shape)) continue;
      const RandomWeights weights(shape, types);
      const int64_t rows = 18;
      const auto x = random_rows(types.rows, rows * shape.in, 2);
      const auto together = product(weights, shape, x, rows, 0, shape.out);
      for (int64_t r = 0; r < rows; ++r) {
        const std::vector<float> row(x.begin() + r * shape.in, x.begin() + (r + 1) * shape.in);
        std::vector<float> alone;
        for (int64_t o = 0; o < shape.out; ++o) alone.push_back(product(weights, shape, row, 1, o, o + 1)[o]);
        EXPECT_EQ(bits(alone), bits(std::span(together).subspan(r * shape.out, shape.out))) << shape.in;
        EXPECT_EQ(bits(alone), bits(product(weights, shape, row, 1, 0, shape.out)));
      }
    }
  }
}

TEST_P(FewRows, WriteNothingOutsideTheirRange) {
  const Shape shape{96, 21};
  for (const Types& types : every_types()) {
    const RandomWeights weights(shape, types);
    for (int64_t rows : {1, 6}) {
      for (int64_t end : {9, 12, 13, 16, 20}) {
        const auto y = product(weights, shape, normals(rows * shape.in, 3), rows, 5, end);
        for (int64_t i = 0; i < rows * shape.out; ++i) {
          const int64_t o = i % shape.out;
          EXPECT_EQ(std::isnan(y[i]), o < 5 || o >= end) << i << " of " << rows << " rows to " << end;
        }
      }
    }
  }
}

TEST_P(FewRows, KeepWhatIsNotFinite) {
  const Shape shape{64, 5};
  for (const Types& types : every_types()) {
    const RandomWeights weights(shape, types);
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      auto x = random_rows(types.rows, 2 * shape.in, 4);
      x[40] = bad;
      const auto y = product(weights, shape, x, 2, 0, shape.out);
      for (int64_t o = 0; o < shape.out; ++o) {
        EXPECT_FALSE(std::isfinite(y[o])) << kernels::row_of(types.weights).name;
        EXPECT_TRUE(std::isfinite(y[shape.out + o]));
      }
    }
  }
}

TEST(QuantizedRow, IsOffByHalfAScaleAtMost) {
  for (const WeightType type : {WeightType::kInt8, WeightType::kInt4}) {
    for (const int64_t in : {32, 64, 96, 608}) {
      auto numbers = normals(static_cast<size_t>(in), 5);
      std::fill_n(numbers.begin(), 32, 0.0f);  // a group of zeros has no scale
      const kernels::Weights sizes{type, 1, in, nullptr, nullptr};
      std::vector<std::byte> bytes(static_cast<size_t>(sizes.row_bytes()), std::byte{0x5A});
      std::vector<uint16_t> scales(static_cast<size_t>(in / 32), 0x7FC0);
      kernels::quantize_row(type, numbers.data(), in, bytes.data(), scales.data());
      std::vector<float> back(static_cast<size_t>(in));
      kernels::read_row({type, 1, in, bytes.data(), scales.data()}, 0, back.data());
      for (int64_t i = 0; i < in; ++i) {
        const float scale = std::abs(bfloat16_to_float(scales[i / 32]));
        const float most = *std::ranges::max_element(std::span(numbers).subspan(i / 32 * 32, 32), {},
                                                     [](float x) { return std::abs(x); });
        // int4 ends at +7, before numbers as large as the largest: those may be off by more.
        const bool end = std::abs(numbers[i]) > std::abs(most) * 7 / 9.2f;
        EXPECT_LE(std::abs(back[i] - numbers[i]), scale * (end ? 1.6f : 0.501f) + 1e-30f) << in << " " << i;
      }
    }
  }
}

}  // namespace
}  // namespace linnet

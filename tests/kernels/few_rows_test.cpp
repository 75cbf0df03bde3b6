#include "kernels/cpu/few_rows.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/bfloat16.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/few_rows_tiles.h"
#include "kernels/cpu/packed_weights.h"
#include "tests/kernels/numbers.h"
#include "tests/kernels/plain_tiles.h"
#include "tests/kernels/targets.h"

namespace linnet {
namespace {

using kernels::RowType;
using kernels::WeightType;

struct Shape {
  int64_t in, out;
};
constexpr Shape kShapes[] = {{1, 1},    {3, 5},   {31, 7},   {32, 8},  {33, 9},  {64, 172},  {172, 64},
                             {385, 37}, {96, 21}, {2048, 6}, {160, 9}, {608, 5}, {1056, 70}, {5000, 5}};

struct Types {
  WeightType weights;
  RowType rows;
  int64_t group = kernels::kScaleGroup;  // of integers; 0: a row
  bool offsets = false;
  bool plain_tiles = false;  // the instructions' description in their place

  int64_t group_of(const Shape& shape) const { return group == 0 ? shape.in : group; }
  bool can_be(const Shape& shape) const {
    return !kernels::row_of(weights).integer || kernels::is_scale_group(group_of(shape), shape.in);
  }
  std::string text() const {
    return fmt::format("{}, groups of {}{}{}", kernels::row_of(weights).name, group,
                       offsets ? ", offsets" : "", plain_tiles ? ", plain tiles" : "");
  }
};

/// Those that the instruction set in use multiplies.
std::vector<Types> every_types() {
  std::vector<Types> all;
  const auto add = [&](Types types) {
    all.push_back(types);
    types.rows = kernels::fastest_rows(types.weights);
    if (types.rows != RowType::kFloat32) all.push_back(types);
  };
  add({WeightType::kFloat32, RowType::kFloat32});
  add({WeightType::kBFloat16, RowType::kFloat32});
  all.push_back({WeightType::kBFloat16, RowType::kBFloat16Tiles, kernels::kScaleGroup, false, true});
  for (const WeightType type : {WeightType::kInt8, WeightType::kInt4}) {
    for (const int64_t group : {32, 64, 128, 0}) add({type, RowType::kFloat32, group});
    for (const int64_t group : {32, 64}) add({type, RowType::kFloat32, group, true});
  }
  return all;
}

/// Random rows, in numbers that their type has: of integers each group's largest is 127 of its units.
std::vector<float> random_rows(RowType type, int64_t count, uint64_t seed) {
  auto x = normals(count, seed);
  if (type == RowType::kBFloat16 || type == RowType::kBFloat16Tiles) {
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
  RandomWeights(const Shape& shape, Types types) : rows(types.rows), plain_tiles(types.plain_tiles) {
    view.type = types.weights, view.out = shape.out, view.in = shape.in;
    view.group = types.group_of(shape);
    const int64_t row_bytes = view.row_bytes(), groups = view.groups();
    bytes.resize(static_cast<size_t>(shape.out * row_bytes + 4));
    scales.resize(static_cast<size_t>(shape.out * groups + 1));
    offsets.resize(scales.size());
    std::byte* to = bytes.data() + std::max(1, kernels::row_of(types.weights).bits / 8);
    view.data = to, view.scales = scales.data() + 1;
    if (types.offsets) view.offsets = offsets.data() + 1;
    const auto numbers = normals(static_cast<size_t>(shape.out * shape.in), 7);
    for (int64_t o = 0; o < shape.out; ++o) {
      const float* from = numbers.data() + o * shape.in;
      if (types.weights == WeightType::kFloat32) std::memcpy(to + o * row_bytes, from, row_bytes);
      if (types.weights == WeightType::kBFloat16)
        kernels::to_bfloat16(from, shape.in, reinterpret_cast<uint16_t*>(to + o * row_bytes));
      if (kernels::row_of(types.weights).integer)
        kernels::quantize_row(view, from, nullptr,
                              {to + o * row_bytes, scales.data() + 1 + o * groups,
                               types.offsets ? offsets.data() + 1 + o * groups : nullptr});
    }
    // int8 has none where it is made; products take them all the same.
    for (size_t i = 0; types.weights == WeightType::kInt8 && i < offsets.size(); ++i)
      offsets[i] = float_to_bfloat16(0.1f * static_cast<float>(i % 7));
    wide.resize(static_cast<size_t>(shape.out * shape.in));
    for (int64_t o = 0; o < shape.out; ++o) kernels::read_row(view, o, wide.data() + o * shape.in);
    if (types.rows == RowType::kInt8) pack();
  }

  void pack() {
    kernels::Weights made = view;
    made.packed = true, made.packed_offsets = view.offsets != nullptr;
    packed.resize(made.bytes() + 1);
    made.data = packed.data() + 1, made.scales = made.offsets = nullptr;
    const int64_t tiles = kernels::tiles_of(view.out), size = static_cast<int64_t>(made.bytes()) / tiles;
    for (int64_t tile = 0; tile < tiles; ++tile)
      kernels::pack_tile(view, tile, packed.data() + 1 + tile * size);
    view = made;
  }

  RowType rows;  // that they are multiplied with
  bool plain_tiles;
  std::vector<std::byte> bytes, packed;
  std::vector<uint16_t> scales, offsets;
  kernels::Weights view;
  std::vector<double> wide;
};

std::vector<float> product(const RandomWeights& weights, const Shape& shape, const std::vector<float>& x,
                           int64_t rows, int64_t begin, int64_t end) {
  auto prepared = poison(rows * kernels::prepared_size(weights.rows, shape.in));
  constexpr int64_t kPart = 3;  // rows: as callers do on several threads
  for (int64_t r = 0; r < rows; r += kPart)
    kernels::prepare_rows(weights.view.type, weights.rows, x.data(), shape.in, r, std::min(r + kPart, rows),
                          rows, shape.in, prepared.data());
  auto y = poison(rows * shape.out);
  if (weights.plain_tiles) {
    kernels::tile_dot::product<PlainTiles>(reinterpret_cast<const uint16_t*>(weights.view.data), shape.in,
                                           begin, end, reinterpret_cast<const uint16_t*>(prepared.data()),
                                           rows, y.data(), shape.out);
  } else {
    kernels::few_rows_product(weights.view, weights.rows, begin, end, prepared.data(), rows, y.data(),
                              shape.out);
  }
  return y;
}

class FewRows : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(EveryTarget, FewRows, every_target(), target_name);

TEST_P(FewRows, EqualThePlainProduct) {
  const double bound = GetParam() == "SCALAR" ? 3e-6 : 1e-6;  // two sums of half a row each
  for (const Types& types : every_types()) {
    for (const Shape& shape : kShapes) {
      if (!types.can_be(shape)) continue;
      for (int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 16, 17, 18, 35, 64, 130}) {
        const RandomWeights weights(shape, types);
        const auto x = random_rows(types.rows, rows * shape.in, 1);
        std::vector<double> expected(rows * shape.out);
        kernels::reference::product(weights.wide.data(), shape.in, 0, shape.out, widened(x).data(), shape.in,
                                    rows, expected.data(), shape.out);
        EXPECT_LT(relative_rms(product(weights, shape, x, rows, 0, shape.out), expected), bound)
            << types.text() << ", " << shape.in << " to " << shape.out << ", " << rows << " rows";
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
      for (const int64_t some : {2, 3, 4, 6, 8, 12}) {
        EXPECT_EQ(bits(product(weights, shape, x, some, 0, shape.out)),
                  bits(std::span(together).first(some * shape.out)))
            << some << " of " << shape.in;
      }
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

TEST_P(FewRows, SumIntegersExactlyWithinAGroupAndGroupsInTheirOrder) {
  constexpr int64_t kGroup = 32;
  for (const Types& types : every_types()) {
    if (types.rows != RowType::kInt8) continue;
    for (const Shape& shape : kShapes) {
      if (!types.can_be(shape)) continue;
      const int64_t rows = 7, groups = shape.in / kGroup, each = types.group_of(shape) / kGroup;
      const RandomWeights weights(shape, types);
      const auto x = random_rows(types.rows, rows * shape.in, 6);
      std::vector<float> expected;
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t o = 0; o < shape.out; ++o) {
          float sum = 0;
          for (int64_t g = 0; g < groups; ++g) {
            const size_t of = static_cast<size_t>(1 + o * (groups / each) + g / each);
            const float scale = bfloat16_to_float(weights.scales[of]);
            const float offset = types.offsets ? bfloat16_to_float(weights.offsets[of]) : 0;
            const int64_t first = r * shape.in + g * kGroup;
            const float unit = std::abs(x[first + 7]) / 127;  // each group's largest
            int products = 0, numbers = 0;
            for (int64_t i = 0; i < kGroup; ++i) {
              const int number = static_cast<int>(x[first + i] / unit);
              const double weight = weights.wide[o * shape.in + g * kGroup + i];
              products +=
                  number * (scale == 0 ? 0 : static_cast<int>(std::nearbyint((weight - offset) / scale)));
              numbers += number;
            }
            sum = std::fma(static_cast<float>(products), scale * unit, sum);
            if (types.offsets) sum = std::fma(offset, unit * static_cast<float>(numbers), sum);
          }
          expected.push_back(sum);
        }
      }
      EXPECT_EQ(bits(product(weights, shape, x, rows, 0, shape.out)), bits(expected))
          << types.text() << ", " << shape.in << " to " << shape.out;
    }
  }
}

TEST_P(FewRows, WriteNothingOutsideTheirRange) {
  const Shape shape{96, 21};
  for (const Types& types : every_types()) {
    if (!types.can_be(shape)) continue;
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
    if (!types.can_be(shape)) continue;
    const RandomWeights weights(shape, types);
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      auto x = random_rows(types.rows, 2 * shape.in, 4);
      x[40] = bad;
      const auto y = product(weights, shape, x, 2, 0, shape.out);
      for (int64_t o = 0; o < shape.out; ++o) {
        EXPECT_FALSE(std::isfinite(y[o])) << types.text();
        EXPECT_TRUE(std::isfinite(y[shape.out + o]));
      }
    }
  }
}

TEST(Tiles, TheInstructionsAreTheirDescriptionBitForBit) {
  if (kernels::instruction_sets().front() != "AMX") GTEST_SKIP() << "no AMX here";
  kernels::use_instruction_set("AMX");
  ASSERT_EQ(kernels::fastest_rows(WeightType::kBFloat16), RowType::kBFloat16Tiles);
  for (const Shape& shape : kShapes) {
    const RandomWeights weights(shape, {WeightType::kBFloat16, RowType::kBFloat16Tiles});
    RandomWeights plain = weights;
    plain.plain_tiles = true;
    for (const int64_t rows : {1, 2, 15, 16, 17, 32, 33, 64, 65, 130}) {
      for (const float scale : {1.0f, 1e-38f}) {  // of products and sums too small for their exponent
        auto x = random_rows(RowType::kBFloat16Tiles, rows * shape.in, 5);
        for (float& number : x) number *= scale;
        EXPECT_EQ(bits(product(weights, shape, x, rows, 0, shape.out)),
                  bits(product(plain, shape, x, rows, 0, shape.out)))
            << shape.in << " to " << shape.out << ", " << rows << " rows times " << scale;
      }
    }
  }
  kernels::use_instruction_set("");
}

TEST(Tiles, SumEvenAndOddInputsOfEach32ByThemselvesAndLeaveOutWhatIsTooSmall) {
  const Shape shape{64, 1};
  const auto of = [&](std::initializer_list<std::pair<int, float>> inputs) {
    RandomWeights ones(shape,
                       {WeightType::kBFloat16, RowType::kBFloat16Tiles, kernels::kScaleGroup, false, true});
    std::fill_n(reinterpret_cast<uint16_t*>(ones.bytes.data()) + 1, shape.in, float_to_bfloat16(1));
    std::vector<float> x(64);
    for (const auto& [i, number] : inputs) x[i] = number;
    return product(ones, shape, x, 1, 0, 1)[0];
  };
  const float large = 1 << 24;  // to which one is nothing
  EXPECT_EQ(of({{0, large}, {1, 1}, {2, 1}, {3, 1}}), large + 2);
  EXPECT_EQ(of({{0, large}, {2, 1}, {4, -large}, {6, 1}}), 1);
  EXPECT_EQ(of({{31, large}, {32, 1}, {34, 1}}), large + 2);
  EXPECT_EQ(of({{0, 1e-39f}}), 0);
  EXPECT_EQ(of({{0, -1.25e-38f}, {2, 1.5e-38f}}), 0);
}

class QuantizeRow : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(EveryTarget, QuantizeRow, every_target(), target_name);

/// A row in integers, and what it stands for.
struct QuantizedRow {
  QuantizedRow(kernels::Weights form, bool with_offsets, const std::vector<float>& numbers,
               const std::vector<float>& importance = {})
      : bytes(static_cast<size_t>(form.in * kernels::row_of(form.type).bits / 8), std::byte{0x5A}),
        scales(static_cast<size_t>(form.groups()), 0x7FC0),
        offsets(scales.size(), 0x7FC0),
        back(static_cast<size_t>(form.in)) {
    kernels::quantize_row(form, numbers.data(), importance.empty() ? nullptr : importance.data(),
                          {bytes.data(), scales.data(), with_offsets ? offsets.data() : nullptr});
    form.data = bytes.data(), form.scales = scales.data();
    if (with_offsets) form.offsets = offsets.data();
    kernels::read_row(form, 0, back.data());
  }

  std::vector<std::byte> bytes;
  std::vector<uint16_t> scales, offsets;
  std::vector<float> back;
};

kernels::Weights form_of(WeightType type, int64_t in, int64_t group) {
  kernels::Weights form;
  form.type = type, form.out = 1, form.in = in, form.group = group;
  return form;
}

TEST_P(QuantizeRow, Int8IsOffByHalfAScaleAtMost) {
  for (const int64_t in : {32, 64, 96, 640}) {
    for (const int64_t group : {int64_t{32}, int64_t{64}, in}) {
      if (!kernels::is_scale_group(group, in)) continue;
      auto numbers = normals(static_cast<size_t>(in), 5);
      if (group == 32) std::fill_n(numbers.begin(), 32, 0.0f);  // a group of zeros has no scale
      const QuantizedRow row(form_of(WeightType::kInt8, in, group), false, numbers);
      for (int64_t i = 0; i < in; ++i) {
        const float scale = bfloat16_to_float(row.scales[i / group]);
        EXPECT_LE(std::abs(row.back[i] - numbers[i]), scale * 0.501f + 1e-30f) << in << " " << i;
      }
    }
  }
}

TEST_P(QuantizeRow, Int4LosesATwelfthOfNormalNumbersAndLessWithOffsets) {
  const auto numbers = normals(4096, 5);
  double before = 0.083;
  for (const bool offsets : {false, true}) {
    const double error =
        relative_rms(QuantizedRow(form_of(WeightType::kInt4, 4096, 32), offsets, numbers).back, numbers);
    EXPECT_LT(error, before);
    EXPECT_GT(error, 0.06);
    before = error;
  }
}

TEST_P(QuantizeRow, NumbersOnALineOfSixteenComeBackWithOffsets) {
  // As llama.cpp's Q4_1 has them: d · q + m, q from 0 to 15; d and m here such as bf16 holds.
  std::vector<float> numbers(128);
  for (size_t i = 0; i < numbers.size(); ++i) {
    const size_t group = i / 32, q = i % 32 == 0 ? 0 : i % 32 == 1 ? 15 : i * 7 % 16;
    numbers[i] = 0.015625f * static_cast<float>(group + 1) * static_cast<float>(q) - 0.125f;
  }
  EXPECT_EQ(QuantizedRow(form_of(WeightType::kInt4, 128, 32), true, numbers).back, numbers);
}

TEST_P(QuantizeRow, ErrorsGoWhereTheyMatterLess) {
  const auto numbers = normals(1024, 6);
  std::vector<float> importance(numbers.size());
  for (size_t i = 0; i < importance.size(); ++i) importance[i] = i % 4 == 0 ? 100.0f : 1.0f;
  for (const bool offsets : {false, true}) {
    const auto form = form_of(WeightType::kInt4, 1024, 32);
    const auto error = [&](const QuantizedRow& row) {
      double sum = 0;
      for (size_t i = 0; i < numbers.size(); i += 4) sum += std::pow(row.back[i] - numbers[i], 2);
      return sum;
    };
    EXPECT_LT(error(QuantizedRow(form, offsets, numbers, importance)),
              0.8 * error(QuantizedRow(form, offsets, numbers)));
  }
}

TEST_P(QuantizeRow, ZerosAndEqualNumbersAreExact) {
  for (const float number : {0.0f, 0.5f, -3.0f}) {
    const std::vector<float> numbers(64, number);
    for (const bool offsets : {false, true})
      EXPECT_EQ(QuantizedRow(form_of(WeightType::kInt4, 64, 32), offsets, numbers).back, numbers) << number;
  }
}

}  // namespace
}  // namespace linnet

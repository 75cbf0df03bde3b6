#include "kernels/cpu/few_rows.h"

#include <gtest/gtest.h>

#include "kernels/cpu/elementwise.h"
#include "tests/kernels/numbers.h"
#include "tests/kernels/targets.h"

namespace linnet {
namespace {

using kernels::WeightType;

struct Shape {
  int64_t in, out;
};
constexpr Shape kShapes[] = {{1, 1}, {3, 5}, {31, 7}, {32, 8}, {33, 9}, {64, 172}, {172, 64}, {385, 37}};

/// Weights of both types with the same values, one number off the start so that vectors lie unaligned.
struct Weights {
  Weights(const Shape& shape, WeightType type) : type(type) {
    const size_t count = shape.in * shape.out + 1;
    narrow.resize(count);
    wide.resize(count);
    kernels::to_bfloat16(normals(count, 7).data(), count, narrow.data());
    kernels::from_bfloat16(narrow.data(), count, wide.data());
  }
  const void* data() const {
    return type == WeightType::kBFloat16 ? static_cast<const void*>(narrow.data() + 1) : wide.data() + 1;
  }
  WeightType type;
  std::vector<uint16_t> narrow;
  std::vector<float> wide;
};

std::vector<float> product(const Weights& weights, const Shape& shape, const std::vector<float>& x,
                           int64_t rows, int64_t begin, int64_t end) {
  auto prepared = poison(rows * kernels::prepared_size(shape.in));
  kernels::prepare_rows(weights.type, x.data(), shape.in, rows, shape.in, prepared.data());
  auto y = poison(rows * shape.out);
  kernels::few_rows_product(weights.type, weights.data(), shape.in, begin, end, prepared.data(), rows,
                            y.data(), shape.out);
  return y;
}

class FewRows : public OnEveryTarget {};
INSTANTIATE_TEST_SUITE_P(EveryTarget, FewRows, every_target(), target_name);

TEST_P(FewRows, EqualThePlainProduct) {
  for (WeightType type : {WeightType::kFloat32, WeightType::kBFloat16}) {
    for (const Shape& shape : kShapes) {
      for (int64_t rows : {1, 2, 3, 4, 5, 11, 64}) {
        const Weights weights(shape, type);
        const auto x = normals(rows * shape.in, 1);
        std::vector<double> expected(rows * shape.out);
        kernels::reference::product(weights.wide.data() + 1, shape.in, 0, shape.out, widened(x).data(),
                                    shape.in, rows, expected.data(), shape.out);
        EXPECT_LT(relative_rms(product(weights, shape, x, rows, 0, shape.out), expected), 1e-6)
            << shape.in << " to " << shape.out << ", " << rows << " rows";
      }
    }
  }
}

TEST_P(FewRows, ARowHasTheSameBitsAloneAndBesideOthersAndInAnyCut) {
  for (WeightType type : {WeightType::kFloat32, WeightType::kBFloat16}) {
    for (const Shape& shape : kShapes) {
      const Weights weights(shape, type);
      const int64_t rows = 13;
      const auto x = normals(rows * shape.in, 2);
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
  const Shape shape{40, 21};
  const Weights weights(shape, WeightType::kBFloat16);
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

}  // namespace
}  // namespace linnet

#include "kernels/cpu/large_product.h"

#include <gtest/gtest.h>

#include "base/thread_pool.h"
#include "kernels/cpu/elementwise.h"
#include "tests/kernels/numbers.h"
#include "tests/kernels/targets.h"

namespace linnet {
namespace {

using kernels::WeightType;

void expect_plain_products() {
  const struct {
    int64_t in, out;
  } kShapes[] = {{1, 1}, {24, 40}, {64, 172}, {172, 600}, {385, 301}, {2050, 50}, {66, 790}};
  ThreadPool pool(3);
  for (WeightType stored : {WeightType::kFloat32, WeightType::kBFloat16}) {
    for (WeightType multiply : {WeightType::kFloat32, WeightType::kBFloat16}) {
      if (multiply == WeightType::kBFloat16 && (stored != multiply || !kernels::fast_bfloat16())) continue;
      for (const auto& shape : kShapes) {
        auto weights = normals(shape.in * shape.out, 1);
        std::vector<uint16_t> narrow(weights.size());
        kernels::to_bfloat16(weights.data(), weights.size(), narrow.data());
        if (stored == WeightType::kBFloat16)
          kernels::from_bfloat16(narrow.data(), narrow.size(), weights.data());
        const int64_t y_stride = shape.out + 3;
        const auto* data =
            stored == WeightType::kBFloat16 ? static_cast<const void*>(narrow.data()) : weights.data();
        const kernels::Weights view{stored, shape.out, shape.in, static_cast<const std::byte*>(data),
                                    nullptr};
        kernels::LargeMatrix matrix(view, multiply, y_stride);
        for (int64_t rows : {1, 16, 127, 128, 129, 300, 515}) {
          auto x = normals(rows * shape.in, 2);
          std::vector<uint16_t> narrow_x(x.size());
          kernels::to_bfloat16(x.data(), x.size(), narrow_x.data());
          if (multiply == WeightType::kBFloat16) kernels::from_bfloat16(narrow_x.data(), x.size(), x.data());
          auto y = poison(rows * y_stride);
          pool.run(matrix.prepare(rows), [&](size_t piece) {
            matrix.piece(
                piece,
                multiply == WeightType::kBFloat16 ? static_cast<const void*>(narrow_x.data()) : x.data(),
                rows, y.data());
          });
          std::vector<double> expected(rows * shape.out);
          kernels::reference::product(weights.data(), shape.in, 0, shape.out, widened(x).data(), shape.in,
                                      rows, expected.data(), shape.out);
          std::vector<float> dense;
          for (int64_t r = 0; r < rows; ++r)
            dense.insert(dense.end(), y.begin() + r * y_stride, y.begin() + r * y_stride + shape.out);
          // A sum may be one chain over all inputs.
          EXPECT_LT(relative_rms(dense, expected), shape.in > 1000 ? 2e-6 : 1e-6)
              << shape.in << " to " << shape.out << ", " << rows;
          for (int64_t r = 0; r < rows; ++r) EXPECT_TRUE(std::isnan(y[r * y_stride + shape.out]));
        }
      }
    }
  }
}

TEST(LargeProduct, EqualsThePlainProductInEveryTypeAndCut) { expect_plain_products(); }

// oneDNN obeys before its first product alone: each instruction set gets a process of its own.
TEST(LargeProduct, EqualsThePlainProductOnEveryInstructionSet) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  for (const std::string& name : kernels::instruction_sets()) {
    const auto run = [&] {
      kernels::use_instruction_set(name);
      expect_plain_products();
      std::exit(testing::Test::HasFailure() ? 1 : 0);
    };
    EXPECT_EXIT(run(), testing::ExitedWithCode(0), "") << name;
  }
}

}  // namespace
}  // namespace linnet

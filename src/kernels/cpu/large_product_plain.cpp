// Where oneDNN is not installed: the same products through the kernel for a few rows. Slower, nothing else.
#include <algorithm>
#include <vector>

#include "base/bfloat16.h"
#include "kernels/cpu/large_product.h"

namespace linnet::kernels {
namespace {

constexpr int64_t kRows = 16;    // of a piece
constexpr int64_t kPanel = 256;  // outputs of a piece

}  // namespace

void limit_large_products(std::string_view) {}  // its kernel is one of those chosen from

bool fast_bfloat16() { return false; }

struct LargeMatrix::Impl {
  Weights weights;
  WeightType multiply;
  int64_t y_stride;
};

LargeMatrix::LargeMatrix(const Weights& weights, WeightType multiply, int64_t y_stride)
    : impl_(std::make_unique<Impl>(Impl{weights, multiply, y_stride})) {}

LargeMatrix::~LargeMatrix() = default;
LargeMatrix::LargeMatrix(LargeMatrix&&) noexcept = default;

int64_t LargeMatrix::prepare(int64_t rows) { return pieces(rows); }

int64_t LargeMatrix::pieces(int64_t rows) const {
  return (impl_->weights.out + kPanel - 1) / kPanel * ((rows + kRows - 1) / kRows);
}

void LargeMatrix::piece(int64_t index, const void* x, int64_t rows, float* y) const {
  const int64_t blocks = (rows + kRows - 1) / kRows, in = impl_->weights.in;
  const int64_t outputs = index / blocks * kPanel, begin = index % blocks * kRows;
  const int64_t now = std::min(kRows, rows - begin);
  thread_local std::vector<float> wide, prepared;
  wide.resize(now * in);
  prepared.resize(now * prepared_size(RowType::kFloat32, in));
  if (impl_->multiply == WeightType::kBFloat16) {
    const auto* from = static_cast<const uint16_t*>(x) + begin * in;
    std::transform(from, from + now * in, wide.begin(), bfloat16_to_float);
  } else {
    const auto* from = static_cast<const float*>(x) + begin * in;
    std::copy(from, from + now * in, wide.begin());
  }
  prepare_rows(impl_->weights.type, RowType::kFloat32, wide.data(), in, 0, now, now, in, prepared.data());
  few_rows_product(impl_->weights, RowType::kFloat32, outputs, std::min(outputs + kPanel, impl_->weights.out),
                   prepared.data(), now, y + begin * impl_->y_stride, impl_->y_stride);
}

}  // namespace linnet::kernels

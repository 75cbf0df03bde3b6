#include "model/linear.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include "base/memory.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/packed_weights.h"

namespace linnet {
namespace {

using kernels::RowType;
using kernels::WeightType;

// Pieces of a product of a few rows: small enough that a thread that was held up leaves work to others, large
// enough (32 KiB of weights are read in 2 µs) that handing them out doesn't show.
constexpr int64_t kPieceBytes = 32 << 10;
constexpr int64_t kPieceStep = 32;  // outputs: as many as packed weights have in a tile

/// Integers in the order in which products read them.
Matrix packed(const Matrix& matrix, ThreadPool* pool) {
  Matrix made;
  made.type = matrix.type, made.out = matrix.out, made.in = matrix.in, made.group = matrix.group;
  made.packed = true, made.packed_offsets = matrix.offsets != nullptr;
  auto kept =
      std::make_shared<AlignedArray<std::byte>>(zeroed<std::byte>(static_cast<int64_t>(made.bytes())));
  prefer_large_pages(kept->get(), made.bytes());
  const int64_t tiles = kernels::tiles_of(matrix.out), size = static_cast<int64_t>(made.bytes()) / tiles;
  const auto pack = [&](size_t tile) {
    const auto index = static_cast<int64_t>(tile);
    kernels::pack_tile(matrix, index, kept->get() + index * size);
  };
  if (pool != nullptr) {
    pool->run(static_cast<size_t>(tiles), pack);
  } else {
    for (int64_t tile = 0; tile < tiles; ++tile) pack(static_cast<size_t>(tile));
  }
  made.data = kept->get();
  made.owner = std::move(kept);
  return made;
}

}  // namespace

void ProductScratch::plan(int64_t count, int64_t in) {
  int64_t size = 0;
  for (RowType type : {RowType::kFloat32, RowType::kBFloat16, RowType::kBFloat16Tiles, RowType::kInt8})
    size = std::max(size, kernels::prepared_size(type, in));
  rows.plan(count * size);
}

Linear::Linear(std::vector<Matrix> matrices, std::vector<float> bias, bool rounded_rows, ThreadPool* pool)
    : matrices_(std::move(matrices)), bias_(std::move(bias)), in_(matrices_.front().in) {
  const WeightType type = matrices_.front().type;
  if (rounded_rows) row_type_ = kernels::fastest_rows(type);
  if (row_type_ == RowType::kInt8) {
    prefill_type_ = WeightType::kInt8;
    for (Matrix& matrix : matrices_) matrix = packed(matrix, pool);
  } else if (row_type_ == RowType::kBFloat16Tiles ||
             (rounded_rows && type != WeightType::kFloat32 && kernels::fast_bfloat16())) {
    prefill_type_ = WeightType::kBFloat16;
  }
  for (const Matrix& matrix : matrices_) out_ += matrix.out;
}

size_t Linear::bytes() const {
  size_t sum = 0;
  for (const Matrix& matrix : matrices_) sum += matrix.bytes();
  return sum;
}

/// product(matrix, begin, end, y) writes y[r * out_ + o] for o in [begin, end) of one matrix; its outputs are
/// cut into pieces for the threads.
template <class T, class Product>
void Linear::cut(int64_t rows, T* y, ThreadPool& pool, Product product) const {
  const int64_t most = std::max<int64_t>(1, static_cast<int64_t>(bytes()) / kPieceBytes);
  const int64_t count = pool.size() == 1 ? 1 : std::min<int64_t>(most, 8 * pool.size());
  const int64_t width = ((out_ + count - 1) / count + kPieceStep - 1) / kPieceStep * kPieceStep;
  pool.run(static_cast<size_t>((out_ + width - 1) / width), [&](size_t piece) {
    const int64_t begin = static_cast<int64_t>(piece) * width, end = std::min(out_, begin + width);
    int64_t first = 0;  // output of the matrix's row 0
    for (const Matrix& matrix : matrices_) {
      const int64_t from = std::max(begin, first), to = std::min(end, first + matrix.out);
      if (from < to) product(matrix, from - first, to - first, y + first);
      first += matrix.out;
    }
    if (bias_.empty()) return;
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t o = begin; o < end; ++o) y[r * out_ + o] += static_cast<T>(bias_[o]);
    }
  });
}

void Linear::step(const float* x, int64_t x_stride, int64_t rows, float* y, ProductScratch& scratch,
                  ThreadPool& pool) const {
  scratch.plan(rows, in_);
  for_rows(rows, pool, [&](int64_t begin, int64_t end) {
    kernels::prepare_rows(matrices_.front().type, row_type_, x, x_stride, begin, end, rows, in_,
                          scratch.rows.data());
  });
  cut(rows, y, pool, [&](const Matrix& matrix, int64_t begin, int64_t end, float* to) {
    kernels::few_rows_product(matrix, row_type_, begin, end, scratch.rows.data(), rows, to, out_);
  });
}

void Linear::step(const double* x, int64_t x_stride, int64_t rows, double* y, ProductScratch&,
                  ThreadPool& pool) const {
  cut(rows, y, pool, [&](const Matrix& matrix, int64_t begin, int64_t end, double* to) {
    std::vector<double> row(static_cast<size_t>(in_));
    for (int64_t o = begin; o < end; ++o) {
      kernels::read_row(matrix, o, row.data());
      kernels::reference::product(row.data(), in_, 0, 1, x, x_stride, rows, to + o, out_);
    }
  });
}

int64_t Linear::large_rows() const {
  switch (row_type_) {
    case RowType::kFloat32:  // bf16 weights would be widened and turned for each product
      return matrices_.front().type == WeightType::kBFloat16 ? 257 : 16;
    case RowType::kBFloat16:
      return 65;
    case RowType::kBFloat16Tiles:  // no slower than oneDNN's, without its copy of all weights in its layout
    case RowType::kInt8:
      break;
  }
  return std::numeric_limits<int64_t>::max();
}

void Linear::prefill(const float* x, int64_t x_stride, int64_t rows, float* y, ProductScratch& scratch,
                     ThreadPool& pool) {
  if (rows < large_rows()) return step(x, x_stride, rows, y, scratch, pool);
  if (large_.empty()) {
    for (const Matrix& matrix : matrices_) large_.emplace_back(matrix, prefill_type_, out_);
  }
  // oneDNN wants rows side by side, in the type to multiply.
  const void* from = x;
  if (prefill_type_ == WeightType::kBFloat16) {
    scratch.narrow.plan(rows * in_);
    for_rows(rows, pool, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r)
        kernels::to_bfloat16(x + r * x_stride, in_, scratch.narrow.data() + r * in_);
    });
    from = scratch.narrow.data();
  } else if (x_stride != in_) {
    scratch.rows.plan(rows * in_);
    for_rows(rows, pool, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) std::copy_n(x + r * x_stride, in_, scratch.rows.data() + r * in_);
    });
    from = scratch.rows.data();
  }
  int64_t pieces = 0;
  for (auto& matrix : large_) pieces += matrix.prepare(rows);
  pool.run(static_cast<size_t>(pieces), [&](size_t piece) {
    int64_t index = static_cast<int64_t>(piece);
    float* to = y;
    for (size_t i = 0; i < large_.size(); to += matrices_[i].out, ++i) {
      if (index < large_[i].pieces(rows)) return large_[i].piece(index, from, rows, to);
      index -= large_[i].pieces(rows);
    }
  });
  if (bias_.empty()) return;
  for_rows(rows, pool, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) kernels::add(y + r * out_, bias_.data(), out_);
  });
}

void Linear::prefill(const double* x, int64_t x_stride, int64_t rows, double* y, ProductScratch& scratch,
                     ThreadPool& pool) {
  step(x, x_stride, rows, y, scratch, pool);
}

}  // namespace linnet

#include "kernels/cpu/machine_rate.h"

#include <cstdint>
#include <vector>

#include "base/timing.h"
#include "kernels/cpu/large_product.h"

namespace linnet::kernels {
namespace {

/// Folds words so that no load can be left out; eight at a time, to be bound by loads alone.
uint64_t fold(const uint64_t* words, size_t count) {
  uint64_t sums[8] = {};
  for (size_t i = 0; i + 8 <= count; i += 8) {
    for (size_t j = 0; j < 8; ++j) sums[j] ^= words[i + j];
  }
  uint64_t sum = 0;
  for (uint64_t part : sums) sum ^= part;
  return sum;
}

}  // namespace

double read_bandwidth(ThreadPool& pool) {
  constexpr size_t kBytes = size_t{256} << 20, kPiece = size_t{1} << 20, kWords = kPiece / 8;
  constexpr size_t kPieces = kBytes / kPiece;
  std::vector<uint64_t> words(kBytes / 8, 1), sums(kPieces);
  const double seconds = median_seconds(5, [&] {
    pool.run(kPieces, [&](size_t piece) { sums[piece] = fold(words.data() + piece * kWords, kWords); });
  });
  uint64_t used = 0;
  for (uint64_t sum : sums) used ^= sum;
  return used == 0 ? static_cast<double>(kBytes) / seconds : 0;  // an even number of ones in each
}

double matrix_rate(WeightType type, ThreadPool& pool) {
  if (type == WeightType::kBFloat16 && !fast_bfloat16()) return 0;
  constexpr int64_t kRows = 1024, kIn = 2048, kOut = 2048;
  const size_t size = type == WeightType::kBFloat16 ? 2 : 4;
  const std::vector<std::byte> weights(kIn * kOut * size), x(kRows * kIn * size);
  std::vector<float> y(kRows * kOut);
  LargeMatrix matrix({type, kOut, kIn, weights.data(), nullptr}, type, kOut);
  const auto pieces = static_cast<size_t>(matrix.prepare(kRows));
  const double seconds = median_seconds(5, [&] {
    pool.run(pieces,
             [&](size_t piece) { matrix.piece(static_cast<int64_t>(piece), x.data(), kRows, y.data()); });
  });
  return 2.0 * kRows * kIn * kOut / seconds;
}

}  // namespace linnet::kernels

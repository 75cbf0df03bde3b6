#include "attention/methods/orthogonal.h"

#include <algorithm>
#include <cmath>

#include "base/random.h"

namespace linnet {
namespace {

using Row = std::vector<double>;

double dot(const Row& a, const Row& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

std::vector<float> orthogonal_rows(int64_t heads, int64_t rows, int64_t size, uint64_t seed, int layer) {
  constexpr uint64_t kStreams = uint64_t{0x6f7274} << 32;  // apart from all other draws of a seed
  uint64_t position = 0;
  const auto draw = [&] {
    Row row(size);
    for (double& number : row) number = normal(seed, kStreams + static_cast<uint64_t>(layer), position++);
    return row;
  };
  std::vector<float> out;
  for (int64_t h = 0; h < heads; ++h) {
    std::vector<Row> block;
    for (int64_t r = 0; r < rows; ++r) {
      if (static_cast<int64_t>(block.size()) == size) block.clear();
      Row row = draw();
      for (int pass = 0; pass < 2; ++pass) {  // Gram-Schmidt, twice for its rounding
        for (const Row& other : block) {
          const double along = dot(row, other);
          for (int64_t i = 0; i < size; ++i) row[i] -= along * other[i];
        }
      }
      const double norm = std::sqrt(dot(row, row));
      for (double& number : row) number /= norm;
      block.push_back(row);
      const Row other = draw();
      const double length = std::sqrt(dot(other, other));
      for (double number : row) out.push_back(static_cast<float>(number * length));
    }
  }
  return out;
}

std::vector<ParameterSpec> projection_parameters(const AttentionConfig& config, const AttentionShape& shape) {
  const int chosen = config.option(kProjectionRows.key);
  const int64_t features = chosen > 0 ? chosen : 2 * shape.head_size;
  return {{"projection", {shape.kv_heads, features, shape.head_size}, {}, false}};
}

std::vector<float> projection_initial(const ParameterSpec& spec, const AttentionConfig&, uint64_t seed,
                                      int layer) {
  if (spec.name != "projection") return {};
  return orthogonal_rows(spec.shape[0], spec.shape[1], spec.shape[2], seed, layer);
}

}  // namespace linnet

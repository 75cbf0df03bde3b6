#include "base/random.h"

#include <cmath>
#include <numbers>

namespace linnet {

std::array<uint32_t, 4> philox(uint64_t seed, uint64_t stream, uint64_t position) {
  constexpr uint32_t kMul0 = 0xD2511F53, kMul1 = 0xCD9E8D57, kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  std::array<uint32_t, 4> x = {static_cast<uint32_t>(position), static_cast<uint32_t>(position >> 32),
                               static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)};
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{kMul0} * x[0], p1 = uint64_t{kMul1} * x[2];
    x = {static_cast<uint32_t>(p1 >> 32) ^ x[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ x[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += kWeyl0;
    k1 += kWeyl1;
  }
  return x;
}

double uniform(uint64_t seed, uint64_t stream, uint64_t position) {
  const auto x = philox(seed, stream, position);
  return static_cast<double>(((uint64_t{x[0]} << 32) | x[1]) >> 11) * 0x1p-53;
}

double normal(uint64_t seed, uint64_t stream, uint64_t position) {
  const auto x = philox(seed, stream, position);
  const double u = (static_cast<double>(((uint64_t{x[0]} << 32) | x[1]) >> 11) + 0.5) * 0x1p-53;
  const double v = static_cast<double>(((uint64_t{x[2]} << 32) | x[3]) >> 11) * 0x1p-53;
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

uint64_t uniform_integer(uint64_t seed, uint64_t stream, uint64_t position, uint64_t bound) {
  const auto x = philox(seed, stream, position);
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>((Wide{(uint64_t{x[0]} << 32) | x[1]} * bound) >> 64);
}

}  // namespace linnet

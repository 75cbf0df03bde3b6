// Counter-based random numbers: Philox-4x32-10 (Salmon et al., SC 2011). A number is a function of
// (seed, stream, position) alone, so resuming, batching and speculating never change what is drawn.
#pragma once

#include <array>
#include <cstdint>

namespace linnet {

/// Four independent 32-bit numbers for one counter.
std::array<uint32_t, 4> philox(uint64_t seed, uint64_t stream, uint64_t position);

/// Uniform in [0, 1), 53 bits.
double uniform(uint64_t seed, uint64_t stream, uint64_t position);

/// Standard normal (Box-Muller on one counter's numbers).
double normal(uint64_t seed, uint64_t stream, uint64_t position);

/// Uniform in [0, bound) without a modulo's bias worth speaking of (128-bit multiply). bound > 0.
uint64_t uniform_integer(uint64_t seed, uint64_t stream, uint64_t position, uint64_t bound);

}  // namespace linnet

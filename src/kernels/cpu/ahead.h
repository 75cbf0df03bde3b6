// What the products of a few rows by an instruction set of their own share: memory that is asked for ahead of
// time. For x86-64 alone.
#pragma once

#include <immintrin.h>

#include <hwy/base.h>

#include <cstdint>

/// Before loops over a tile's numbers: unrolled at once, or the compiler keeps them in memory.
#ifdef __clang__
#define LINNET_UNROLL _Pragma("unroll")
#else
#define LINNET_UNROLL _Pragma("GCC unroll 34")
#endif

namespace linnet::kernels {

inline constexpr int64_t kLine = 64;  // bytes

/// Memory to be asked for while tiles are summed, some lines with each step. In the order in which it lies:
/// asked for by turns from several rows it arrives a quarter slower.
struct Ahead {
  const char* at;
  int64_t pace;                 // lines with each step
  int64_t left = INT64_MAX;     // lines up to the end of a segment
  int64_t lines = 0, jump = 0;  // of the next one; bytes to it

  /// Few instructions: they compete with the loads for what the processor keeps in flight.
  template <int kMost>
  HWY_INLINE void ask() {
    if (pace == kMost) {
      LINNET_UNROLL
      for (int k = 0; k < kMost; ++k) _mm_prefetch(at + k * kLine, _MM_HINT_T0);
    } else {
      for (int64_t k = 0; k < pace; ++k) _mm_prefetch(at + k * kLine, _MM_HINT_T0);
    }
    at += pace * kLine;
    left -= pace;
    if (left <= 0) at += jump, left += lines;
  }
};

}  // namespace linnet::kernels

// Soft caps, as Gemma 2 has them on scores and logits.
#pragma once

#include <cmath>
#include <cstdint>

namespace linnet::kernels {

/// x[i] = c·tanh(x[i] / c); c = 0: nothing is capped.
template <class T>
void cap(T* x, int64_t count, T c) {
  if (c == 0) return;
  for (int64_t i = 0; i < count; ++i) x[i] = c * std::tanh(x[i] / c);
}

}  // namespace linnet::kernels

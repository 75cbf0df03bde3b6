// The recurrence over groups: one thread walks two neighbouring numbers through a row's groups, so that each
// number is read and written once. Loads of the next groups run ahead of the sums.
#include "kernels/cuda/warp.cuh"

namespace linnet::cuda {
namespace {

constexpr int kThreads = 128, kAhead = 8;

/// Where a thread's numbers stand: its first group's pair, or none.
struct Place {
  bool inside;
  int64_t first, stride;  // in pairs
  const int64_t* number;
};

__device__ Place place_of(const Groups& groups, int64_t width) {
  const int64_t pairs = width / 2, pair = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  const int row = blockIdx.y, head = blockIdx.z;
  const int64_t first = (static_cast<int64_t>(head) * groups.rows + row) * groups.groups * pairs + pair;
  return {pair < pairs, first, pairs, groups.number + (groups.per_row ? row * groups.groups : 0)};
}

__global__ void scan_kernel(Groups groups, int lag, int64_t width, const float* log_decay, const uint32_t* x,
                            uint32_t* y) {
  const Place place = place_of(groups, width);
  if (!place.inside) return;
  const float decay = expf(log_decay[blockIdx.z]);
  const uint32_t* in = x + place.first;
  uint32_t* out = y + place.first;
  const int count = groups.groups - lag;
  for (int g = 0; g < lag && g < groups.groups; ++g) out[g * place.stride] = 0;
  float a = 0, b = 0;
  for (int begin = 0; begin < count; begin += kAhead) {
    uint32_t pairs[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) pairs[i] = begin + i < count ? in[(begin + i) * place.stride] : 0;
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int j = begin + i;
      if (j >= count) break;
      const float kept = place.number[j] > 0 ? decay : 0.0f;
      a = a * kept + low(pairs[i]);
      b = b * kept + high(pairs[i]);
      out[(j + lag) * place.stride] = place.number[j + lag] >= lag ? pack(a, b) : 0;
    }
  }
}

/// r[j] = dy[j + lag] + λ r[j + 1] is x's gradient, and Σ_j r[j] λ y[j + lag − 1] that of log λ.
__global__ void scan_backward_kernel(Groups groups, int lag, int64_t width, const float* log_decay,
                                     const uint32_t* y, const uint32_t* dy, uint32_t* dx, float* dlog_decay) {
  __shared__ float scratch[32];
  const Place place = place_of(groups, width);
  float sum = 0;
  if (place.inside) {
    const float decay = expf(log_decay[blockIdx.z]);
    const int count = groups.groups - lag;
    for (int j = count > 0 ? count : 0; j < groups.groups; ++j) dx[place.first + j * place.stride] = 0;
    float a = 0, b = 0;
    for (int begin = count - 1; begin >= 0; begin -= kAhead) {
      uint32_t gradients[kAhead], sums[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int64_t at = place.first + (begin - i + lag) * place.stride;
        gradients[i] = begin - i >= 0 ? dy[at] : 0;
        sums[i] = begin - i > 0 ? y[at - place.stride] : 0;
      }
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int j = begin - i;
        if (j < 0) break;
        const float later = j + 1 < groups.groups && place.number[j + 1] > 0 ? decay : 0.0f;
        const bool read = place.number[j + lag] >= lag;
        a = a * later + (read ? low(gradients[i]) : 0.0f);
        b = b * later + (read ? high(gradients[i]) : 0.0f);
        dx[place.first + j * place.stride] = pack(a, b);
        if (place.number[j] > 0) sum += decay * (a * low(sums[i]) + b * high(sums[i]));
      }
    }
  }
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0)
    dlog_decay[(static_cast<int64_t>(blockIdx.z) * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x] = sum;
}

dim3 grid_of(const Groups& groups, int64_t width) {
  return dim3(static_cast<unsigned>((width / 2 + kThreads - 1) / kThreads), groups.rows, groups.heads);
}

}  // namespace

void scan(const Groups& groups, int lag, int64_t width, const float* log_decay, const Bf16* x, Bf16* y) {
  launch(scan_kernel, grid_of(groups, width), kThreads, groups, lag, width, log_decay,
         reinterpret_cast<const uint32_t*>(x), reinterpret_cast<uint32_t*>(y));
}

int scan_partials(const Groups& groups, int64_t width) {
  const dim3 grid = grid_of(groups, width);
  return static_cast<int>(grid.x * grid.y);
}

void scan_backward(const Groups& groups, int lag, int64_t width, const float* log_decay, const Bf16* y,
                   const Bf16* dy, Bf16* dx, float* dlog_decay) {
  launch(scan_backward_kernel, grid_of(groups, width), kThreads, groups, lag, width, log_decay,
         reinterpret_cast<const uint32_t*>(y), reinterpret_cast<const uint32_t*>(dy),
         reinterpret_cast<uint32_t*>(dx), dlog_decay);
}

}  // namespace linnet::cuda

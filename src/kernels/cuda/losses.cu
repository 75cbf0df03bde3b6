// Losses of logits with their gradients: one block per row, whose logits it reads three times, once from
// memory: the largest, the sums of exponentials, the gradient.
#include "kernels/cuda/warp.cuh"

namespace linnet::cuda {
namespace {

constexpr int kThreads = 256;

/// f(place, eight numbers) for each eight of a row.
template <class F>
__device__ void each_eight(const Bf16* row, int count, F f) {
  for (int i = threadIdx.x * 8; i < count; i += kThreads * 8) {
    const int4 all = *reinterpret_cast<const int4*>(row + i);
    const uint32_t pairs[4] = {static_cast<uint32_t>(all.x), static_cast<uint32_t>(all.y),
                               static_cast<uint32_t>(all.z), static_cast<uint32_t>(all.w)};
    float x[8];
#pragma unroll
    for (int j = 0; j < 4; ++j) x[2 * j] = low(pairs[j]), x[2 * j + 1] = high(pairs[j]);
    f(i, x);
  }
}

__device__ void write_eight(Bf16* to, const float (&x)[8]) {
  int4 all;
  all.x = static_cast<int>(pack(x[0], x[1]));
  all.y = static_cast<int>(pack(x[2], x[3]));
  all.z = static_cast<int>(pack(x[4], x[5]));
  all.w = static_cast<int>(pack(x[6], x[7]));
  *reinterpret_cast<int4*>(to) = all;
}

__device__ float largest(const Bf16* row, int count, float* scratch) {
  float most = -INFINITY;
  each_eight(row, count, [&](int, const float(&x)[8]) {
    for (int j = 0; j < 8; ++j) most = fmaxf(most, x[j]);
  });
  return block_most(most, scratch);
}

__global__ void divergence_kernel(int vocabulary, Bf16* logits, const Bf16* teacher, const float* weight,
                                  float* loss, bool gradient) {
  __shared__ float scratch[5][32];
  const int64_t row = blockIdx.x;
  Bf16* own = logits + row * vocabulary;
  const Bf16* other = teacher + row * vocabulary;
  const float most = largest(own, vocabulary, scratch[0]),
              most_other = largest(other, vocabulary, scratch[1]);
  float sum = 0, sum_other = 0, apart = 0;  // Σ eᶻ, Σ eᵗ, Σ eᵗ (t − z), each to its largest
  each_eight(other, vocabulary, [&](int i, const float(&t)[8]) {
    const int4 all = *reinterpret_cast<const int4*>(own + i);
    const uint32_t pairs[4] = {static_cast<uint32_t>(all.x), static_cast<uint32_t>(all.y),
                               static_cast<uint32_t>(all.z), static_cast<uint32_t>(all.w)};
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float z = j % 2 == 0 ? low(pairs[j / 2]) : high(pairs[j / 2]);
      const float mass = expf(t[j] - most_other);
      sum += expf(z - most);
      sum_other += mass;
      apart += mass * ((t[j] - most_other) - (z - most));
    }
  });
  sum = block_sum(sum, scratch[2]);
  sum_other = block_sum(sum_other, scratch[3]);
  apart = block_sum(apart, scratch[4]);
  if (threadIdx.x == 0) loss[row] = weight[row] * (apart / sum_other + logf(sum) - logf(sum_other));
  if (!gradient) return;
  const float scale = weight[row] / sum, scale_other = weight[row] / sum_other;
  each_eight(other, vocabulary, [&](int i, const float(&t)[8]) {
    const int4 all = *reinterpret_cast<const int4*>(own + i);
    const uint32_t pairs[4] = {static_cast<uint32_t>(all.x), static_cast<uint32_t>(all.y),
                               static_cast<uint32_t>(all.z), static_cast<uint32_t>(all.w)};
    float d[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const float z = j % 2 == 0 ? low(pairs[j / 2]) : high(pairs[j / 2]);
      d[j] = scale * expf(z - most) - scale_other * expf(t[j] - most_other);
    }
    write_eight(own + i, d);
  });
}

__global__ void cross_entropy_kernel(int vocabulary, Bf16* logits, const int64_t* target, const float* weight,
                                     float* loss, bool gradient) {
  __shared__ float scratch[2][32];
  const int64_t row = blockIdx.x;
  Bf16* own = logits + row * vocabulary;
  const int wanted = static_cast<int>(target[row]);
  const float score = to_float(own[wanted]), most = largest(own, vocabulary, scratch[0]);
  float sum = 0;
  each_eight(own, vocabulary, [&](int, const float(&x)[8]) {
    for (int j = 0; j < 8; ++j) sum += expf(x[j] - most);
  });
  sum = block_sum(sum, scratch[1]);
  if (threadIdx.x == 0) loss[row] = weight[row] * (logf(sum) + most - score);
  if (!gradient) return;
  const float scale = weight[row] / sum;
  each_eight(own, vocabulary, [&](int i, const float(&x)[8]) {
    float d[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) d[j] = scale * expf(x[j] - most) - (i + j == wanted ? weight[row] : 0.0f);
    write_eight(own + i, d);
  });
}

}  // namespace

void divergence(int rows, int vocabulary, Bf16* logits, const Bf16* teacher, const float* weight, float* loss,
                bool gradient) {
  launch(divergence_kernel, dim3(rows), kThreads, vocabulary, logits, teacher, weight, loss, gradient);
}

void cross_entropy(int rows, int vocabulary, Bf16* logits, const int64_t* target, const float* weight,
                   float* loss, bool gradient) {
  launch(cross_entropy_kernel, dim3(rows), kThreads, vocabulary, logits, target, weight, loss, gradient);
}

}  // namespace linnet::cuda

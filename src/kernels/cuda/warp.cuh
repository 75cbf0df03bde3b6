// Sums of a warp and of a block.
#pragma once

#include "kernels/cuda/device.cuh"

namespace linnet::cuda {

__device__ inline float warp_sum(float x) {
  for (int lanes = 16; lanes > 0; lanes /= 2) x += exchanged(x, lanes);
  return x;
}
__device__ inline float warp_most(float x) {
  for (int lanes = 16; lanes > 0; lanes /= 2) x = fmaxf(x, exchanged(x, lanes));
  return x;
}

/// The sum over a block of at most 32 warps, in every thread. `scratch` [32] is shared, and free again after
/// the next __syncthreads().
__device__ inline float block_sum(float x, float* scratch) {
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
  for (unsigned i = 0; i < blockDim.x / 32; ++i) sum += scratch[i];
  return sum;
}
__device__ inline float block_most(float x, float* scratch) {
  x = warp_most(x);
  if (threadIdx.x % 32 == 0) scratch[threadIdx.x / 32] = x;
  __syncthreads();
  float most = scratch[0];
  for (unsigned i = 1; i < blockDim.x / 32; ++i) most = fmaxf(most, scratch[i]);
  return most;
}

}  // namespace linnet::cuda

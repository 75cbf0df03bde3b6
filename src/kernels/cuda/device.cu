#include "kernels/cuda/device.cuh"

namespace linnet::cuda {

bool training_kernels() {
  static const bool there = [] {
    int device = 0, major = 0;
    return cudaGetDevice(&device) == cudaSuccess &&
           cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
           major >= 8;
  }();
  return there;
}

}  // namespace linnet::cuda

#include "train/tensor_memory.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

namespace linnet::train {
namespace {

#ifdef __linux__

at::Tensor tensor_of(int64_t megabytes) { return at::empty({megabytes << 20}, at::kByte); }

TEST(TensorMemory, KeepsLargeFreedBlocksForTheNextTensor) {
  keep_tensor_memory();
  const void* first;
  {
    at::Tensor x = tensor_of(40);
    first = x.data_ptr();
    x.fill_(7);
  }
  EXPECT_GE(kept_tensor_memory(), int64_t{40} << 20);
  const at::Tensor next = tensor_of(39), other = tensor_of(39);
  EXPECT_EQ(next.data_ptr(), first);
  EXPECT_NE(other.data_ptr(), first);
  EXPECT_EQ(next[5].item<int>(), 7);  // nothing cleared its pages
}

TEST(TensorMemory, NeighboursThatAreFreeServeOneTensorAsLargeAsBoth) {
  keep_tensor_memory();
  at::Tensor whole = tensor_of(700);  // pages that nobody writes cost nothing
  whole[0].fill_(7);
  whole.reset();
  at::Tensor first = tensor_of(300), second = tensor_of(400);
  first.reset();
  second.reset();
  EXPECT_EQ(tensor_of(700)[0].item<int>(), 7);
}

TEST(TensorMemory, GivesNothingBackAsTensorsAreFreed) {
  keep_tensor_memory();
  at::Tensor first = tensor_of(300), second = tensor_of(300);
  first.reset();
  at::Tensor third = tensor_of(400);  // fits into no gap
  const int64_t kept = kept_tensor_memory();
  second.reset();
  third.reset();
  EXPECT_EQ(kept_tensor_memory(), kept + (int64_t{700} << 20));
}

TEST(TensorMemory, NeverKeepsMoreThanItsLimitBeyondWhatTensorsHeldAtMost) {
  keep_tensor_memory();
  for (int64_t size = 40; size < 1200; size += 40) {  // pages that nobody writes cost nothing
    const at::Tensor held = tensor_of(size), more = tensor_of(64);
    EXPECT_LE(kept_tensor_memory(), kMostKept + (std::max<int64_t>(size, 700) << 20)) << size;
  }
  EXPECT_LE(kept_tensor_memory(), kMostKept + (int64_t{1160 + 64} << 20));
}

TEST(TensorMemory, LeavesSmallTensorsToMalloc) {
  keep_tensor_memory();
  const int64_t before = kept_tensor_memory();
  at::empty({1000}, at::kByte);
  EXPECT_EQ(kept_tensor_memory(), before);
  c10::Allocator* const memory = c10::GetAllocator(at::kCPU);
  for (const size_t bytes : {size_t{0}, size_t{1000}, size_t{5} << 20})
    memory->raw_deallocate(memory->raw_allocate(bytes));
}

#endif

}  // namespace
}  // namespace linnet::train

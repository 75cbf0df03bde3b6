// A program of its own, because it counts every allocation.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "model/decoder.h"
#include "tests/model/random_model.h"

namespace {
std::atomic<int64_t> allocations{0};
}

// None of these inline: g++ would see one half, malloc or free, beside the other's operator, and warn.
[[gnu::noinline]] void* operator new(size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(size_t size, std::align_val_t alignment) {
  ++allocations;
  const auto align = static_cast<size_t>(alignment);
  if (void* memory = std::aligned_alloc(align, (size + align - 1) / align * align)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t, std::align_val_t) noexcept { std::free(memory); }

namespace linnet {
namespace {

constexpr int kRound = 40;  // steps: five groups of the attention below

/// Allocations of a round of steps and commits, after `warm_up` others: no more of them than it takes until a
/// round makes none.
int64_t allocations_when_warm(int threads, int warm_up) {
  RandomModel spec{.positions = 50, .type = DType::kBF16};  // steps go past them, and warn once
  spec.attention = {{"method", "grouped"},
                    {"group", 8},
                    {"local_groups", 2},
                    {"sinks", 3},
                    {"layers", {{"1", {{"kept", {9, 0}}}}}}};
  const TemporaryModel model(spec);
  ThreadPool pool(threads);
  const auto decoder = Decoder::make(model.get(), {.slots = 2}, pool);
  for (int slot : {0, 1}) decoder->prefill(slot, random_tokens(30, spec.vocabulary, slot), 30, {});
  const TokenTree one = TokenTree::single(5), tree({1, 2, 3, 4}, {-1, 0, 0, 1});
  const std::vector<Decoder::Branch> branches = {{0, &one}, {1, &tree}};
  const std::vector<int32_t> root = {0}, path = {0, 1, 3};
  const auto go = [&] {
    decoder->step(branches);
    decoder->commit(0, root);
    decoder->commit(1, path);
  };
  int64_t made = 1;
  for (int round = 0; round <= warm_up && made > 0; ++round) {
    const int64_t before = allocations;
    for (int i = 0; i < kRound; ++i) go();
    made = allocations - before;
  }
  return made;
}

TEST(DecoderAllocations, AStepAndACommitAllocateNothingOnceWarm) {
  EXPECT_EQ(allocations_when_warm(1, 1), 0);
}

// A worker may take its first piece of a kind late, and then makes its scratch: how late is chance, but there
// are only so many kinds.
TEST(DecoderAllocations, WithWorkersTooNoStepAllocatesOnceWarm) {
  EXPECT_EQ(allocations_when_warm(2, 50), 0);
}

}  // namespace
}  // namespace linnet

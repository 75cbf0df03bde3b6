#include "train/tensor_memory.h"

#ifdef __linux__

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <mutex>
#include <unordered_map>
#include <utility>
#include <vector>

#include "train/compat.h"

namespace linnet::train {
namespace {

constexpr size_t kLarge = size_t{1} << 20;  // what is smaller is malloc's

/// Sizes in steps of a quarter of a power of two: tensors of about one size share blocks, and pages that none
/// of them writes cost nothing.
size_t block_size(size_t bytes) {
  const size_t step = std::bit_floor(bytes) / 4;
  return (bytes + step - 1) / step * step;
}

struct Block {
  void* start;
  size_t size;
};

/// Hands out and takes back blocks, from any thread.
class Blocks {
 public:
  /// nullptr where there is no memory.
  void* take(size_t bytes) {
    const size_t size = block_size(bytes);
    const std::lock_guard lock(mutex_);
    const auto fits =
        std::find_if(kept_.rbegin(), kept_.rend(), [&](const Block& b) { return b.size == size; });
    void* start = nullptr;
    if (fits != kept_.rend()) {
      start = fits->start;
      kept_bytes_ -= static_cast<int64_t>(size);
      kept_.erase(std::next(fits).base());
    } else if (start = map(size); start == nullptr) {
      release(0);
      start = map(size);
    }
    if (start == nullptr) return nullptr;
    taken_.emplace(start, size);
    taken_bytes_ += static_cast<int64_t>(size);
    most_taken_ = std::max(most_taken_, taken_bytes_);
    return start;
  }

  /// Whether the block was taken here.
  bool give_back(void* start) {
    const std::lock_guard lock(mutex_);
    const auto found = taken_.find(start);
    if (found == taken_.end()) return false;
    const size_t size = found->second;
    taken_.erase(found);
    taken_bytes_ -= static_cast<int64_t>(size);
    kept_.push_back({start, size});
    kept_bytes_ += static_cast<int64_t>(size);
    release(std::max(kMostKept, most_taken_ - taken_bytes_));
    return true;
  }

  int64_t kept_bytes() {
    const std::lock_guard lock(mutex_);
    return kept_bytes_;
  }

 private:
  /// nullptr where the system has none.
  static void* map(size_t size) {
    void* const start = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return start == MAP_FAILED ? nullptr : start;
  }

  /// Gives back to the system what has lain longest, until no more than `most` bytes are kept.
  void release(int64_t most) {
    size_t count = 0;
    for (; kept_bytes_ > most; ++count) {
      munmap(kept_[count].start, kept_[count].size);
      kept_bytes_ -= static_cast<int64_t>(kept_[count].size);
    }
    kept_.erase(kept_.begin(), kept_.begin() + static_cast<std::ptrdiff_t>(count));
  }

  std::mutex mutex_;
  std::unordered_map<void*, size_t> taken_;
  std::vector<Block> kept_;  // the oldest first
  int64_t kept_bytes_ = 0, taken_bytes_ = 0, most_taken_ = 0;
};

/// Lives as long as the process: tensors may be freed at its very end.
Blocks& blocks() {
  static auto* const all = new Blocks;
  return *all;
}

void free_tensor(void* start) {
  if (start != nullptr && !blocks().give_back(start)) c10::free_cpu(start);
}

class TensorMemory final : public compat::TensorAllocator {
 public:
  c10::DataPtr take(size_t bytes) override {
    void* const start = bytes < kLarge ? nullptr : blocks().take(bytes);
    if (start == nullptr) return c10::GetDefaultCPUAllocator()->allocate(bytes);  // or its error
    return {start, start, free_tensor, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return free_tensor; }
};

}  // namespace

void keep_tensor_memory() {
  static TensorMemory memory;
  c10::SetCPUAllocator(&memory, 1);
}

int64_t kept_tensor_memory() { return blocks().kept_bytes(); }

}  // namespace linnet::train

#else

namespace linnet::train {
void keep_tensor_memory() {}
int64_t kept_tensor_memory() { return 0; }
}  // namespace linnet::train

#endif

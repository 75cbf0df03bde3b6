#include "train/tensor_memory.h"

#ifdef __linux__

#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <unordered_map>
#include <utility>

#include "train/compat.h"

namespace linnet::train {
namespace {

constexpr size_t kLarge = size_t{1} << 20;  // what is smaller is malloc's

size_t whole_pages(size_t bytes) {
  static const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

struct Block {
  char* start;
  size_t size;
};

/// Free memory by address: neighbours are one range, whatever blocks they were.
class Ranges {
 public:
  void add(char* start, size_t size) {
    bytes_ += static_cast<int64_t>(size);
    const auto next = sizes_.lower_bound(start);
    if (next != sizes_.end() && start + size == next->first) size += erase(next);
    const auto after = sizes_.lower_bound(start);
    if (after != sizes_.begin()) {
      const auto before = std::prev(after);
      if (before->first + before->second == start) start = before->first, size += erase(before);
    }
    insert(start, size);
  }

  /// The beginning of the smallest range that holds `size` bytes; nullptr where none does.
  char* take(size_t size) {
    const auto fits = by_size_.lower_bound({size, nullptr});
    if (fits == by_size_.end()) return nullptr;
    const auto [all, start] = *fits;
    erase(sizes_.find(start));
    if (all > size) insert(start + size, all - size);
    bytes_ -= static_cast<int64_t>(size);
    return start;
  }

  /// The smallest range, or its end, of at most `most` bytes.
  Block take_smallest(size_t most) {
    const auto [size, start] = *by_size_.begin();
    const size_t taken = std::min(size, most);
    erase(sizes_.find(start));
    if (size > taken) insert(start, size - taken);
    bytes_ -= static_cast<int64_t>(taken);
    return {start + size - taken, taken};
  }

  int64_t bytes() const { return bytes_; }

 private:
  using Sizes = std::map<char*, size_t>;

  void insert(char* start, size_t size) {
    sizes_.emplace(start, size);
    by_size_.emplace(size, start);
  }
  size_t erase(Sizes::const_iterator range) {
    const size_t size = range->second;
    by_size_.erase({size, range->first});
    sizes_.erase(range);
    return size;
  }

  Sizes sizes_;
  std::set<std::pair<size_t, char*>> by_size_;
  int64_t bytes_ = 0;
};

/// Hands out and takes back blocks, from any thread.
class Blocks {
 public:
  /// nullptr where there is no memory.
  void* take(size_t bytes) {
    const size_t size = whole_pages(bytes);
    const std::lock_guard lock(mutex_);
    char* start = kept_.take(size);
    if (start == nullptr) start = map(size);
    if (start == nullptr) {
      release(0);
      start = map(size);
    }
    if (start == nullptr) return nullptr;
    taken_.emplace(start, size);
    taken_bytes_ += static_cast<int64_t>(size);
    most_taken_ = std::max(most_taken_, taken_bytes_);
    release(most_kept());
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
    kept_.add(static_cast<char*>(start), size);
    release(most_kept());
    return true;
  }

  int64_t kept_bytes() {
    const std::lock_guard lock(mutex_);
    return kept_.bytes();
  }

 private:
  /// nullptr where the system has none.
  static char* map(size_t size) {
    void* const start = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return start == MAP_FAILED ? nullptr : static_cast<char*>(start);
  }

  /// Nothing goes back as tensors are freed: a step that comes again finds what the last one had, gaps
  /// between its tensors included.
  int64_t most_kept() const { return kMostKept + most_taken_ - taken_bytes_; }

  /// Gives the smallest ranges back to the system, which fit least, until no more than `most` bytes are kept.
  void release(int64_t most) {
    while (kept_.bytes() > most) {
      const Block block = kept_.take_smallest(static_cast<size_t>(kept_.bytes() - most));
      munmap(block.start, block.size);
    }
  }

  std::mutex mutex_;
  std::unordered_map<void*, size_t> taken_;
  Ranges kept_;
  int64_t taken_bytes_ = 0, most_taken_ = 0;
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

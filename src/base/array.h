// Large arrays: aligned for vectors, zero, and not touched until used (the system's fresh pages are zero
// already), so that room planned and not needed costs neither time nor memory.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace linnet {

constexpr size_t kAlignment = 64;

struct FreeAligned {
  void operator()(void* memory) const { std::free(static_cast<void**>(memory)[-1]); }
};
template <class T>
using AlignedArray = std::unique_ptr<T[], FreeAligned>;

/// `count` numbers, 64-byte aligned, all zero.
template <class T>
AlignedArray<T> zeroed(int64_t count) {
  // What calloc gave stands just before the array, for free.
  const size_t bytes = std::max<size_t>(static_cast<size_t>(count), 1) * sizeof(T);
  auto* raw = static_cast<std::byte*>(std::calloc(1, bytes + kAlignment + sizeof(void*)));
  if (raw == nullptr) throw std::bad_alloc();
  const auto place = reinterpret_cast<uintptr_t>(raw) + sizeof(void*);
  std::byte* aligned = raw + sizeof(void*) + (kAlignment - place % kAlignment) % kAlignment;
  reinterpret_cast<void**>(aligned)[-1] = raw;
  return AlignedArray<T>(reinterpret_cast<T*>(aligned));
}

/// Room that grows to the largest size asked for and stays; growing loses what stood in it.
template <class T>
class Room {
 public:
  void plan(int64_t count) {
    if (count <= size_) return;
    numbers_.reset();
    numbers_ = zeroed<T>(count);
    size_ = count;
  }
  T* data() { return numbers_.get(); }
  const T* data() const { return numbers_.get(); }
  int64_t size() const { return size_; }

 private:
  AlignedArray<T> numbers_;
  int64_t size_ = 0;
};

}  // namespace linnet

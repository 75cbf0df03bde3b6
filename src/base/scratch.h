// Scratch that a thread keeps between calls, so that after the first calls nothing is allocated.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/array.h"

namespace linnet {

/// What one thread computes in. take() hands out memory that lives until the scope it was taken in ends.
class Scratch {
 public:
  static Scratch& of_thread() {
    thread_local Scratch scratch;
    return scratch;
  }

  class Scope {
   public:
    explicit Scope(Scratch& scratch) : scratch_(scratch), chunk_(scratch.chunk_), used_(scratch.used_) {}
    ~Scope() { scratch_.release(chunk_, used_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Scratch& scratch_;
    size_t chunk_, used_;
  };

  /// `count` numbers, 64-byte aligned, with whatever stands in them. Allocates only when it needs more than
  /// ever before.
  template <class T>
  T* take(int64_t count) {
    const size_t bytes = (static_cast<size_t>(count) * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
    while (chunk_ < chunks_.size() && used_ + bytes > chunks_[chunk_].size) {
      ++chunk_;
      used_ = 0;
    }
    if (chunk_ == chunks_.size()) {
      const size_t size = std::max(bytes, kChunk);
      chunks_.push_back({zeroed<std::byte>(size), size});
    }
    std::byte* memory = chunks_[chunk_].memory.get() + used_;
    used_ += bytes;
    return reinterpret_cast<T*>(memory);
  }

 private:
  static constexpr size_t kChunk = size_t{1} << 18;
  struct Chunk {
    AlignedArray<std::byte> memory;
    size_t size;
  };

  void release(size_t chunk, size_t used) {
    chunk_ = chunk;
    used_ = used;
    if (chunk_ == 0 && used_ == 0 && chunks_.size() > 1) {  // one chunk next time
      size_t size = 0;
      for (const Chunk& each : chunks_) size += each.size;
      chunks_.clear();
      chunks_.push_back({zeroed<std::byte>(size), size});
    }
  }

  std::vector<Chunk> chunks_;
  size_t chunk_ = 0, used_ = 0;
};

}  // namespace linnet

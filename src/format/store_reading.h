// One reading of all of a model's weights: whether every number is sound, and their hash, in one pass at the
// speed of the disk or of memory. What was found is remembered for files that have not changed since.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "format/safetensors.h"

namespace linnet {

struct StoreReading {
  /// `xxh3-128:` and 32 hexadecimal digits over all tensors sorted by name, each as name, NUL, dtype, NUL,
  /// shape in decimals joined by commas, NUL, bytes: the same however sharded.
  std::string hash;
  std::vector<std::string> broken;  // tensors whose numbers are not sound, by name
};

struct ReadingOptions {
  int threads = 0;          // < 1: one for each processor
  bool verify = false;      // read, whatever is remembered
  int64_t least = 1 << 26;  // bytes from which on a store's reading is remembered: less is read in no time
  std::filesystem::path cache;                            // the folder that remembers; empty: none
  std::function<void(double done, double total)> report;  // bytes; while they are read
};

/// $XDG_CACHE_HOME/linnet, else ~/.cache/linnet; empty where neither is set.
std::filesystem::path cache_folder();

/// Reads every tensor once, or recalls what such a reading found of the same files: same path, device, inode,
/// size and time of modification. A cache that cannot be read or written is none. Throws Error upon Ctrl-C.
StoreReading read_store(const TensorStore& store, const ReadingOptions& options);

}  // namespace linnet

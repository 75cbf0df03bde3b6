// The memory that this process has held, and that this machine has.
#pragma once

#include <cstdint>

namespace linnet {

/// Bytes resident at the highest point so far, mapped files included.
int64_t peak_memory();

/// Bytes of memory in this machine.
int64_t machine_memory();

}  // namespace linnet

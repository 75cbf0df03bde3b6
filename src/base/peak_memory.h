// How much memory this process has held at once.
#pragma once

#include <cstdint>

namespace linnet {

/// Bytes resident at the highest point so far, mapped files included.
int64_t peak_memory();

}  // namespace linnet

// Memory of tensors on the CPU. glibc gives a freed block of over 32 MB back to the system and takes the next
// one anew, and the system clears its pages one by one as they are first written: for long rows that costs
// more than the arithmetic. The workshop therefore keeps the memory of large freed tensors for the next ones:
// ranges by their address, neighbours joined, of which a tensor takes the smallest that holds it.
#pragma once

#include <cstdint>

namespace linnet::train {

/// Freed memory that is kept beside what tensors held at most, in bytes.
constexpr int64_t kMostKept = int64_t{256} << 20;

/// From here on libtorch's large tensors on the CPU are of kept memory. Called before other threads make
/// tensors; tensors made before are unaffected. Does nothing elsewhere than on Linux.
void keep_tensor_memory();

/// Bytes of freed tensors that are kept now: never more than kMostKept and what large tensors hold now falls
/// short of what they held at most.
int64_t kept_tensor_memory();

}  // namespace linnet::train

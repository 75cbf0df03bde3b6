#include "base/peak_memory.h"

#include <sys/resource.h>

namespace linnet {

int64_t peak_memory() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return int64_t{usage.ru_maxrss} * 1024;
}

}  // namespace linnet

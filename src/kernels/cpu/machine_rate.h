// What this machine can do, measured: the limits that `linnet bench` holds its own numbers against. Each
// takes well under a second; on a shared machine numbers wander, so compare within one run.
#pragma once

#include "base/thread_pool.h"
#include "kernels/cpu/few_rows.h"

namespace linnet::kernels {

/// Bytes a second that all the pool's threads together read from memory (a buffer far larger than the caches;
/// median of several passes).
double read_bandwidth(ThreadPool& pool);

/// Floating-point operations a second of large products [1024, 2048] × [2048, 2048] (median of several).
/// bf16 where the machine has no instructions for it: 0.
double matrix_rate(WeightType type, ThreadPool& pool);

}  // namespace linnet::kernels

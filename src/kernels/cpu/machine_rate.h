// How fast this machine multiplies, measured: what `linnet bench` holds its own numbers against. Each
// takes well under a second; on a shared machine numbers wander, so compare within one run.
#pragma once

#include "base/thread_pool.h"
#include "kernels/cpu/few_rows.h"

namespace linnet::kernels {

/// Operations a second of large products [1024, 2048] × [2048, 2048] (the best of several).
/// bf16 and integers where the machine has no instructions for them: 0.
double matrix_rate(WeightType type, ThreadPool& pool);

}  // namespace linnet::kernels

// How fast this machine multiplies, measured: what `linnet bench` holds its own numbers against. Each
// takes well under a second; on a shared machine numbers wander, so compare within one run.
#pragma once

#include "base/thread_pool.h"
#include "kernels/cpu/few_rows.h"

namespace linnet::kernels {

/// Operations a second of products of many rows with W [2048, 2048], the best of several by each kernel that
/// prefill may run them on: a ruler that knew one of them would be beaten by another.
/// bf16 and integers where the machine has no instructions for them: 0.
double matrix_rate(WeightType type, ThreadPool& pool);

}  // namespace linnet::kernels

// The drafter that asks trained heads (model/draft_heads.h): the likeliest tokens after the last one, the
// likeliest after those, and so on. One product for all sequences' nodes of a depth.
#pragma once

#include <memory>

#include "base/thread_pool.h"
#include "generate/drafter.h"
#include "model/decoder.h"
#include "model/draft_heads.h"

namespace linnet {

/// `heads` are the model's; weights are read as `compute` says, float64 counting as float32. Guesses change
/// with the machine, texts do not.
std::unique_ptr<Drafter> make_heads_drafter(std::shared_ptr<const Model> model, DraftHeads heads,
                                            ComputeType compute, ThreadPool& pool);

}  // namespace linnet

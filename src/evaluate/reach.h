// Which layers of a softmax model look far: what the model loses when one layer at a time sees its last few
// tokens alone. Linear attention is for the others; those that look far can keep an exact window
// (`linnet linearize --exact-layers`).
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "evaluate/perplexity.h"
#include "model/decoder.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace linnet {

struct ReachOptions {
  int64_t context = 1024;  // tokens of a window, from the empty state
  int64_t near = 256;      // last tokens that the limited layer sees, itself included
  ComputeType compute = ComputeType::kAuto;
};

struct Reach {
  PerplexityTotals whole;                // no layer limited
  std::vector<PerplexityTotals> layers;  // that layer limited, the others not
};

/// Scores `documents` once whole and once a layer. `progress` (tokens more) false: stops; the result holds
/// what was complete. Throws Error if a layer isn't the teacher's softmax.
Reach measure_reach(const std::shared_ptr<const Model>& model, const Tokenizer& tokenizer,
                    const std::vector<std::string>& documents, const ReachOptions& options, ThreadPool& pool,
                    const std::function<bool(int64_t)>& progress = {});

/// The fewest layers that hold at least `share` of what all layers lose one by one; ascending.
std::vector<int> far_layers(const Reach& reach, double share);

}  // namespace linnet

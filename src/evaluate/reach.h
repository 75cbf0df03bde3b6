// Which key-value heads of a softmax model look far (docs/training.md): what tokens that far ones help lose
// when one head alone sees its last few tokens. A summary is for the others; a budget of exact tokens for
// these.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "base/statistics.h"
#include "base/thread_pool.h"
#include "evaluate/recall.h"
#include "model/decoder.h"
#include "model/model.h"

namespace linnet {

struct ReachOptions {
  int64_t near = 256;  // last tokens that the limited head sees, itself included
  int64_t tail = 512;  // last inputs of a row, in which the head is limited and tokens are scored
  ComputeType compute = ComputeType::kAuto;
};

/// Text whose last tokens are a passage that stood `distance` tokens before too.
struct ReachRow {
  std::vector<int32_t> tokens;  // [inputs + 1]
  int64_t passage = 0;          // tokens
};
/// Rows of recall as that: each passage once more, at distances that double from twice `near` on, in turn.
std::vector<ReachRow> make_reach_rows(const std::vector<RecallRow>& rows, int64_t near);

/// Sums over one row's scored tokens.
struct ReachScores {
  double far_nats = 0;  // of tokens before the passage whose pair stood last more than `near` tokens before
  double passage_nats = 0;  // of the last three quarters of the passage's second time
};

struct Reach {
  int layers = 0, heads = 0;                        // key-value heads
  std::vector<int64_t> far_tokens, passage_tokens;  // of each row
  std::vector<ReachScores> whole;                   // of each row: no head limited
  /// Of each row with one head limited, and with all heads of a layer (head = heads).
  const std::vector<ReachScores>& limited(int layer, int head) const {
    return limited_[static_cast<size_t>(layer * (heads + 1) + head)];
  }
  /// Nats per token that the limit costs.
  Mean far_loss(int layer, int head) const;
  Mean passage_loss(int layer, int head) const;
  /// Both together: what heads and layers are ranked by; noise below zero counts as none.
  double loss(int layer, int head) const;

  std::vector<std::vector<ReachScores>> limited_;
};

/// Reads every row up to its tail exactly, then the tail once for each head. `progress` (passes of a tail
/// through a layer more) false: stops; the result holds the rows that were complete. Throws Error if a layer
/// isn't the teacher's softmax.
Reach measure_reach(const std::shared_ptr<const Model>& model, const std::vector<ReachRow>& rows,
                    const ReachOptions& options, ThreadPool& pool,
                    const std::function<bool(double)>& progress = {});
/// What `progress` hears of in all.
double reach_passes(const Model& model, const std::vector<ReachRow>& rows, const ReachOptions& options);

struct HeadPlace {
  int layer = 0, head = 0;
  bool operator==(const HeadPlace&) const = default;
};
/// All heads, those that lose most first.
std::vector<HeadPlace> ranked_heads(const Reach& reach);
/// The fewest layers that hold at least `share` of what all layers lose one by one; ascending.
std::vector<int> far_layers(const Reach& reach, double share);

}  // namespace linnet

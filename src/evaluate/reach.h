// Which key-value heads of a softmax model look far (docs/budgets.md): what is lost when one head alone sees
// the first and its last few tokens, by how many those are. Heads that lose little leave the rest to a
// summary; a budget of exact tokens is for the others.
#pragma once

#include <array>
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

/// What a nat of a far pair or of a passage counts beside one of ordinary text. Training a summary wins back
/// most of what text loses by a window alone, and little of the others' losses.
constexpr double kRecallWeight = 0.5;

struct ReachOptions {
  std::vector<int64_t> windows = {256};  // last tokens that a limited head sees, itself included; ascending
  int64_t sinks = 4;                     // first tokens that it sees too, at most 64
  int64_t near = 256;                    // a far pair stood last more than so many tokens before
  int64_t tail = 512;  // last inputs of a row, in which the head is limited and tokens are scored
  /// A head that loses no more at a window, in a row, is not tried at wider ones there: they lose nothing.
  double negligible = 0;
  ComputeType compute = ComputeType::kAuto;
};

/// Text whose last tokens are a passage that stood `distance` tokens before too.
struct ReachRow {
  std::vector<int32_t> tokens;  // [inputs + 1]
  int64_t passage = 0;          // tokens
};
/// Rows of recall as that: each passage once more, at distances more than `near` that are spread evenly on a
/// logarithmic scale.
std::vector<ReachRow> make_reach_rows(const std::vector<RecallRow>& rows, int64_t near);

/// What of a row's tail is scored, by its divergence KL(whole ‖ limited): all tokens before the passage,
/// those of them that are far pairs, and the last three quarters of the passage's second time. It is what
/// they lose where the whole model is right, without the noise of what they are. Of all tokens before the
/// passage also what they lost in fact: −ln p.
enum ReachPart : size_t { kText, kFarPairs, kPassage, kTextInFact, kReachParts };
using ReachSums = std::array<double, kReachParts>;

struct Reach {
  int layers = 0, heads = 0;  // key-value heads
  std::vector<int64_t> windows;
  std::vector<ReachSums> tokens, nats;  // of each row: how many are scored; −ln p of them, nothing limited
  /// Of each row with one head limited to a window: what is lost, summed over the tokens.
  const std::vector<ReachSums>& limited(int layer, int head, size_t window) const {
    return limited_[(static_cast<size_t>(layer * heads + head)) * windows.size() + window];
  }
  /// Nats per token of a part that the limit costs.
  Mean loss_of(ReachPart part, int layer, int head, size_t window) const;
  /// The parts together, by which heads are ranked and budgets spent: that of ordinary tokens, and of those
  /// that need what is far, far pairs and passages, so many times theirs.
  double loss(int layer, int head, size_t window, double recall_weight = kRecallWeight) const;

  std::vector<std::vector<ReachSums>> limited_;
};
/// Reads every row up to its tail exactly, then the tail once for each head and window. `progress` (passes of
/// a tail through a layer more) false: stops; the result holds the rows that were complete. Throws Error if a
/// layer isn't the teacher's softmax.
Reach measure_reach(const std::shared_ptr<const Model>& model, const std::vector<ReachRow>& rows,
                    const ReachOptions& options, ThreadPool& pool,
                    const std::function<bool(double)>& progress = {});
/// What `progress` hears of in all.
double reach_passes(const Model& model, const std::vector<ReachRow>& rows, const ReachOptions& options);

struct HeadPlace {
  int layer = 0, head = 0;
  bool operator==(const HeadPlace&) const = default;
};
/// All heads, those that lose most at the narrowest window first.
std::vector<HeadPlace> ranked_heads(const Reach& reach);

}  // namespace linnet

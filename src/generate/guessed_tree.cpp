#include "generate/guessed_tree.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "generate/hit_record.h"
#include "kernels/cpu/elementwise.h"

namespace linnet {
namespace {

constexpr size_t kSiblings = 8;         // guesses below one node
constexpr size_t kWidth = 6;            // nodes of a depth that are guessed below
constexpr double kLeastReached = 0.02;  // guesses less likely to be reached are not worth a node
constexpr double kWorthGuessing = 0.1;  // below nodes less likely to be reached nothing is guessed

/// What a guess is judged by: how sure the guesser is, and whether there is a likelier one.
constexpr int kSureness = 12, kKinds = 2 * kSureness;
int sureness_of(double probability, bool first) {
  constexpr double kEdges[kSureness - 1] = {0.04, 0.08, 0.15, 0.25, 0.35, 0.5, 0.65, 0.8, 0.9, 0.95, 0.98};
  const auto* edge = std::upper_bound(std::begin(kEdges), std::end(kEdges), probability);
  return static_cast<int>(edge - kEdges) * 2 + first;
}

class GuessedTreeDrafter final : public Drafter {
 public:
  explicit GuessedTreeDrafter(std::unique_ptr<Guesser> guesser) : guesser_(std::move(guesser)) {}

  void begin(int slot) override {
    kinds_[slot].clear();
    guesser_->begin_slot(slot);
  }
  void end(int slot) override { kinds_.erase(slot); }
  int64_t read(int slot, std::span<const int32_t> tokens, int64_t most) override {
    return guesser_->read(slot, tokens, most);
  }

  void propose(std::span<const Context> contexts, std::span<Draft> drafts) override {
    if (candidates_.size() < contexts.size()) candidates_.resize(contexts.size());
    frontier_.clear();
    for (size_t i = 0; i < contexts.size(); ++i) {
      candidates_[i].clear();
      const auto row = static_cast<int32_t>(i);
      if (contexts[i].max_depth > 0 && contexts[i].max_nodes > 1)
        frontier_.push_back({row, -1, row, contexts[i].tokens.back(), 1});
    }
    guesser_->begin(contexts);
    for (int depth = 0; depth < guesser_->depth() && !frontier_.empty(); ++depth) {
      if (guesses_.size() < frontier_.size()) guesses_.resize(frontier_.size());
      guesser_->guess(depth, frontier_, guesses_);
      advance(contexts, depth + 1);
    }
    for (size_t i = 0; i < contexts.size(); ++i) plant(contexts[i], candidates_[i], drafts[i]);
  }

  int deepest() const override { return guesser_->depth(); }
  size_t bytes() const override { return guesser_->bytes(); }
  void followed(int slot, const Draft& draft, std::span<const int32_t> tokens) override {
    record_.add(draft.tree, tokens, kinds_[slot]);
  }

 private:
  struct Candidate {
    int32_t token, parent;  // parent: −1: the root
    double reached;
    int kind;
  };

  /// Takes the guesses below the frontier, and makes the likeliest of each sequence the next frontier.
  void advance(std::span<const Context> contexts, int depth) {
    next_.clear();
    for (size_t r = 0; r < frontier_.size();) {
      const int32_t context = frontier_[r].context;
      std::vector<Candidate>& candidates = candidates_[static_cast<size_t>(context)];
      const auto begin = static_cast<std::ptrdiff_t>(next_.size());
      for (; r < frontier_.size() && frontier_[r].context == context; ++r) {
        const Frontier& node = frontier_[r];
        bool first = true;
        for (const Guess& guess : guesses_[r]) {
          const int kind = sureness_of(guess.probability, std::exchange(first, false));
          const double reached = node.reached * record_.probability(kind, guess.probability);
          if (reached < kLeastReached) continue;
          next_.push_back({context, static_cast<int32_t>(candidates.size()), static_cast<int32_t>(r),
                           guess.token, reached});
          candidates.push_back({guess.token, node.candidate, reached, kind});
        }
      }
      std::stable_sort(next_.begin() + begin, next_.end(),
                       [](const Frontier& a, const Frontier& b) { return a.reached > b.reached; });
      const bool deeper = depth < contexts[static_cast<size_t>(context)].max_depth;
      size_t kept = 0;
      while (deeper && kept < kWidth && begin + kept < next_.size() &&
             next_[static_cast<size_t>(begin) + kept].reached >= kWorthGuessing)
        ++kept;
      next_.resize(static_cast<size_t>(begin) + kept);
    }
    std::swap(frontier_, next_);
  }

  /// The likeliest candidates as a draft; a parent is at least as likely, and stands before its children.
  void plant(const Context& context, const std::vector<Candidate>& candidates, Draft& draft) {
    order_.resize(candidates.size());
    for (size_t i = 0; i < order_.size(); ++i) order_[i] = static_cast<int32_t>(i);
    std::stable_sort(order_.begin(), order_.end(), [&](int32_t a, int32_t b) {
      return candidates[static_cast<size_t>(a)].reached > candidates[static_cast<size_t>(b)].reached;
    });
    node_of_.assign(candidates.size(), -1);
    std::vector<int>& kinds = kinds_[context.slot];
    kinds.assign(1, 0);
    draft.clear();
    draft.add(context.tokens.back(), -1, 1);
    for (const int32_t i : order_) {
      if (draft.tree.size() >= context.max_nodes) break;
      const Candidate& candidate = candidates[static_cast<size_t>(i)];
      const int32_t parent = candidate.parent < 0 ? 0 : node_of_[static_cast<size_t>(candidate.parent)];
      node_of_[static_cast<size_t>(i)] = draft.add(candidate.token, parent, candidate.reached);
      kinds.push_back(candidate.kind);
    }
  }

  std::unique_ptr<Guesser> guesser_;
  HitRecord record_{kKinds};
  std::map<int, std::vector<int>> kinds_;           // by slot: [nodes] of the last draft
  std::vector<std::vector<Candidate>> candidates_;  // [contexts]
  std::vector<Frontier> frontier_, next_;
  std::vector<std::vector<Guess>> guesses_;  // [frontier]
  std::vector<int32_t> order_, node_of_;
};

}  // namespace

void likeliest_guesses(std::span<const float> logits, std::vector<Guess>& guesses) {
  guesses.clear();
  const double sum = kernels::log_sum_exp(logits.data(), std::ssize(logits));
  if (!std::isfinite(sum)) return;
  const auto least = static_cast<float>(sum + std::log(kLeastReached));
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] < least) continue;
    const Guess guess{static_cast<int32_t>(i), std::exp(logits[i] - sum)};
    const auto place =
        std::upper_bound(guesses.begin(), guesses.end(), guess,
                         [](const Guess& a, const Guess& b) { return a.probability > b.probability; });
    guesses.insert(place, guess);
    if (guesses.size() > kSiblings) guesses.pop_back();
  }
}

std::unique_ptr<Drafter> make_guessed_tree_drafter(std::unique_ptr<Guesser> guesser) {
  return std::make_unique<GuessedTreeDrafter>(std::move(guesser));
}

}  // namespace linnet

#include "generate/lookup.h"

#include <algorithm>
#include <bit>
#include <map>
#include <queue>
#include <vector>

#include "generate/hit_record.h"
#include "generate/suffix_automaton.h"

namespace linnet {
namespace {

constexpr size_t kFollowers = 16;         // of a match that are looked at, the newest
constexpr int64_t kMostTokens = 1 << 18;  // of a sequence's own text; past it the older half is forgotten
constexpr double kUnlikely = 0.01;        // guesses less likely to be reached are not worth a node
constexpr int kLengths = 6, kShares = 5;  // kinds of guesses

/// What a guess is judged by: how long the match is, and which share of what followed it the token has.
int kind_of(int length, int count, int total) {
  const int longest =
      std::min(kLengths - 1, static_cast<int>(std::bit_width(static_cast<unsigned>(length))) - 1);
  const double share = static_cast<double>(count) / total;
  const int rank = total == 1 ? 0 : share > 0.9 ? 1 : share > 0.5 ? 2 : share > 0.2 ? 3 : 4;
  return std::max(0, longest) * kShares + rank;
}

/// How likely a guess of a kind is right before any was tried.
double prior_of(int kind) {
  constexpr double kOfLength[kLengths] = {0.1, 0.25, 0.5, 0.7, 0.8, 0.9};
  constexpr double kOfShare[kShares] = {0.9, 1, 0.7, 0.35, 0.1};
  return kOfLength[kind / kShares] * kOfShare[kind % kShares];
}

/// What is known of one sequence.
struct Own {
  SuffixAutomaton text;
  int64_t begin = 0, read = 0;  // tokens of the sequence that `text` holds: [begin, read)
  SuffixAutomaton::Match in_texts;
  std::vector<int> kinds;  // [nodes] of the last draft
};

class LookupDrafter final : public Drafter {
 public:
  explicit LookupDrafter(std::span<const int32_t> texts) {
    for (const int32_t token : texts) texts_.append(token);
  }

  void begin(int slot) override { own_[slot] = {}; }
  void end(int slot) override { own_.erase(slot); }
  int64_t read(int slot, std::span<const int32_t> tokens, int64_t most) override {
    return read(tokens, most, own_[slot]);
  }

  void propose(std::span<const Context> contexts, std::span<Draft> drafts) override {
    for (size_t i = 0; i < contexts.size(); ++i) {
      Own& own = own_[contexts[i].slot];
      read(contexts[i].tokens, INT64_MAX, own);
      grow(contexts[i], own, drafts[i]);
    }
  }

  void followed(int slot, const Draft& draft, std::span<const int32_t> tokens) override {
    record_.add(draft.tree, tokens, own_[slot].kinds);
  }

 private:
  /// A token that may follow a node.
  struct Guess {
    double reached;
    int order;  // of making: what is as likely is taken in this order
    int32_t parent, token;
    const SuffixAutomaton* text;
    SuffixAutomaton::Match match;  // of the token and those before
    int kind;

    bool operator<(const Guess& other) const {
      return reached < other.reached || (reached == other.reached && order > other.order);
    }
  };
  using Guesses = std::priority_queue<Guess>;

  int64_t read(std::span<const int32_t> tokens, int64_t most, Own& own) const {
    const auto length = static_cast<int64_t>(tokens.size());
    if (length - own.begin > kMostTokens) {
      own.begin = own.read = length - kMostTokens / 2;
      own.text = {};
    }
    for (; own.read < length && most > 0; ++own.read, --most) {
      const int32_t token = tokens[static_cast<size_t>(own.read)];
      own.text.append(token);
      if (texts_.size() > 0) own.in_texts = texts_.follow(own.in_texts, token);
    }
    return length - own.read;
  }

  /// The likeliest tree, node by node.
  void grow(const Context& context, Own& own, Draft& draft) {
    draft.clear();
    made_ = 0;
    draft.add(context.tokens.back(), -1, 1);
    own.kinds.assign(1, 0);
    Guesses guesses;
    const auto expand = [&](int32_t node, const SuffixAutomaton& text, SuffixAutomaton::Match match) {
      if (draft.tree.depth(node) < context.max_depth) guess(node, draft.reached[node], text, match, guesses);
    };
    expand(0, own.text, own.text.repeated());
    expand(0, texts_, own.in_texts);
    while (!guesses.empty() && draft.tree.size() < context.max_nodes) {
      const Guess best = guesses.top();
      guesses.pop();
      if (child_of(draft.tree, best.parent, best.token) >= 0) continue;
      const int32_t node = draft.add(best.token, best.parent, best.reached);
      own.kinds.push_back(best.kind);
      expand(node, *best.text, best.match);
    }
  }

  /// What followed `match`; where nothing did, the end of a text, what followed its suffixes.
  void guess(int32_t node, double reached, const SuffixAutomaton& text, SuffixAutomaton::Match match,
             Guesses& guesses) {
    for (; match.length > 0; match = text.shorter(match)) {
      followers_.clear();
      text.followers(match, kFollowers, followers_);
      std::erase_if(followers_, [](const auto& follower) { return follower.token < 0; });  // a text's end
      if (!followers_.empty()) break;
    }
    if (match.length == 0) return;
    int total = 0;
    for (const auto& follower : followers_) total += follower.count;
    for (const auto& follower : followers_) {
      const int kind = kind_of(match.length, follower.count, total);
      const double there = reached * record_.probability(kind, prior_of(kind));
      if (there < kUnlikely) continue;
      guesses.push({there, made_++, node, follower.token, &text, {follower.state, match.length + 1}, kind});
    }
  }

  SuffixAutomaton texts_;
  std::map<int, Own> own_;  // by slot
  HitRecord record_{kLengths * kShares};
  int made_ = 0;  // guesses of the draft
  std::vector<SuffixAutomaton::Follower> followers_;
};

}  // namespace

std::unique_ptr<Drafter> make_lookup_drafter(std::span<const int32_t> texts) {
  return std::make_unique<LookupDrafter>(texts);
}

}  // namespace linnet

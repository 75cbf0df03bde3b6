#include "generate/suffix_automaton.h"

#include <algorithm>

namespace linnet {
namespace {

/// Suffixes that a token counts for. More would make the time quadratic in a text of one token repeated; what
/// is not counted are the shortest of a long chain, which are asked for last.
constexpr int kCounted = 32;

}  // namespace

SuffixAutomaton::SuffixAutomaton() : states_(1), table_(64, -1) {}

size_t SuffixAutomaton::bytes() const {
  return states_.capacity() * sizeof(State) + edges_.capacity() * sizeof(Edge) +
         table_.capacity() * sizeof(int32_t);
}

size_t SuffixAutomaton::slot_of(int32_t state, int32_t token) const {
  uint64_t hash = (static_cast<uint64_t>(static_cast<uint32_t>(state)) << 32) | static_cast<uint32_t>(token);
  hash *= 0x9E3779B97F4A7C15u;
  hash ^= hash >> 32;
  size_t slot = hash & (table_.size() - 1);
  while (table_[slot] >= 0) {
    const Edge& found = edges_[static_cast<size_t>(table_[slot])];
    if (found.state == state && found.token == token) break;
    slot = (slot + 1) & (table_.size() - 1);
  }
  return slot;
}

int32_t SuffixAutomaton::edge(int32_t state, int32_t token) const { return table_[slot_of(state, token)]; }

void SuffixAutomaton::grow_table() {
  table_.assign(table_.size() * 2, -1);
  for (size_t i = 0; i < edges_.size(); ++i)
    table_[slot_of(edges_[i].state, edges_[i].token)] = static_cast<int32_t>(i);
}

void SuffixAutomaton::add_edge(int32_t state, int32_t token, int32_t target) {
  if (2 * (edges_.size() + 1) > table_.size()) grow_table();
  State& from = states_[static_cast<size_t>(state)];
  table_[slot_of(state, token)] = static_cast<int32_t>(edges_.size());
  edges_.push_back({state, token, target, from.edges});
  from.edges = static_cast<int32_t>(edges_.size()) - 1;
}

/// A state for the substrings of `state` that are at most so long, and end at more places from now on.
int32_t SuffixAutomaton::clone(int32_t state, int32_t length) {
  const auto copy = static_cast<int32_t>(states_.size());
  const State from = states_[static_cast<size_t>(state)];
  states_.push_back({length, from.link, -1, from.count});
  std::vector<int32_t> order;  // oldest first, as they were added
  for (int32_t e = from.edges; e >= 0; e = edges_[static_cast<size_t>(e)].next) order.push_back(e);
  for (auto e = order.rbegin(); e != order.rend(); ++e) {
    const Edge one = edges_[static_cast<size_t>(*e)];
    add_edge(copy, one.token, one.target);
  }
  states_[static_cast<size_t>(state)].link = copy;
  return copy;
}

void SuffixAutomaton::append(int32_t token) {
  const auto added = static_cast<int32_t>(states_.size());
  states_.push_back({states_[static_cast<size_t>(last_)].length + 1, 0, -1, 0});
  int32_t p = last_;
  for (; p >= 0 && edge(p, token) < 0; p = states_[static_cast<size_t>(p)].link) add_edge(p, token, added);
  if (p >= 0) {
    const int32_t target = edges_[static_cast<size_t>(edge(p, token))].target;
    const int32_t length = states_[static_cast<size_t>(p)].length + 1;
    if (states_[static_cast<size_t>(target)].length == length) {
      states_[static_cast<size_t>(added)].link = target;
    } else {
      const int32_t copy = clone(target, length);
      states_[static_cast<size_t>(added)].link = copy;
      for (; p >= 0; p = states_[static_cast<size_t>(p)].link) {
        const int32_t e = edge(p, token);
        if (e < 0 || edges_[static_cast<size_t>(e)].target != target) break;
        edges_[static_cast<size_t>(e)].target = copy;
      }
    }
  }
  last_ = added;
  ++size_;
  int32_t state = added;
  for (int i = 0; i < kCounted && state > 0; ++i, state = states_[static_cast<size_t>(state)].link)
    ++states_[static_cast<size_t>(state)].count;
}

SuffixAutomaton::Match SuffixAutomaton::repeated() const {
  const int32_t link = states_[static_cast<size_t>(last_)].link;
  if (link <= 0) return {};
  return {link, states_[static_cast<size_t>(link)].length};
}

SuffixAutomaton::Match SuffixAutomaton::shorter(Match match) const {
  const int32_t link = states_[static_cast<size_t>(match.state)].link;
  if (link <= 0) return {};
  return {link, states_[static_cast<size_t>(link)].length};
}

SuffixAutomaton::Match SuffixAutomaton::follow(Match match, int32_t token) const {
  for (;;) {
    const int32_t e = edge(match.state, token);
    if (e >= 0) return {edges_[static_cast<size_t>(e)].target, match.length + 1};
    if (match.state == 0) return {};
    match = shorter(match);
  }
}

void SuffixAutomaton::followers(Match match, size_t most, std::vector<Follower>& out) const {
  int32_t e = states_[static_cast<size_t>(match.state)].edges;
  for (size_t i = 0; i < most && e >= 0; ++i) {
    const Edge& one = edges_[static_cast<size_t>(e)];
    out.push_back({one.token, std::max(1, states_[static_cast<size_t>(one.target)].count), one.target});
    e = one.next;
  }
}

}  // namespace linnet

// A suffix automaton: all substrings of a text of tokens, each with how often it stands there and what
// follows it, in time and memory linear in the text (Blumer et al. 1985). Substrings that end at the same
// places share a state; a state's link leads to the longest suffix that ends at more places.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace linnet {

class SuffixAutomaton {
 public:
  /// A substring of the text, known by its state and its length.
  struct Match {
    int32_t state = 0;
    int32_t length = 0;
  };
  /// A token that follows a substring, and how often.
  struct Follower {
    int32_t token;
    int32_t count;
    int32_t state;  // of the substring and the token
  };

  SuffixAutomaton();

  void append(int32_t token);
  int64_t size() const { return size_; }  // tokens
  size_t bytes() const;

  /// The longest suffix of the text that stands in it elsewhere too; length 0: none.
  Match repeated() const;
  /// The longest suffix of `match` and `token` that stands in the text.
  Match follow(Match match, int32_t token) const;
  /// The longest suffix of `match` that ends at more places.
  Match shorter(Match match) const;
  /// Appends the tokens that follow `match`, the newest first, at most `most`.
  void followers(Match match, size_t most, std::vector<Follower>& out) const;

 private:
  struct State {
    int32_t length = 0;  // of its longest substring
    int32_t link = -1;
    int32_t edges = -1;  // the first of its transitions
    int32_t count = 0;   // places where its substrings end
  };
  struct Edge {
    int32_t state, token, target, next;
  };

  int32_t edge(int32_t state, int32_t token) const;  // −1: none
  void add_edge(int32_t state, int32_t token, int32_t target);
  void grow_table();
  size_t slot_of(int32_t state, int32_t token) const;
  int32_t clone(int32_t state, int32_t length);

  std::vector<State> states_;
  std::vector<Edge> edges_;
  std::vector<int32_t> table_;  // of edges_, by state and token, open addressing; −1: free
  int32_t last_ = 0;
  int64_t size_ = 0;
};

}  // namespace linnet

#include "generate/lookup.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "base/random.h"
#include "generate/suffix_automaton.h"

namespace linnet {
namespace {

std::vector<int32_t> random_text(uint64_t seed, size_t length, uint64_t letters) {
  std::vector<int32_t> text;
  for (uint64_t i = 0; i < length; ++i)
    text.push_back(static_cast<int32_t>(uniform_integer(seed, 1, i, letters)));
  return text;
}

/// How often `part` stands in `text`.
int places(const std::vector<int32_t>& text, const std::vector<int32_t>& part) {
  int count = 0;
  for (size_t at = 0; at + part.size() <= text.size(); ++at) {
    count += std::equal(part.begin(), part.end(), text.begin() + static_cast<int64_t>(at));
  }
  return count;
}

std::vector<int32_t> last_of(const std::vector<int32_t>& text, int length) {
  return {text.end() - length, text.end()};
}

TEST(SuffixAutomaton, FindsTheLongestSuffixThatStandsElsewhereAndCountsWhatFollowsIt) {
  for (uint64_t seed = 0; seed < 12; ++seed) {
    const auto whole = random_text(seed, 40, 2 + seed % 3);
    SuffixAutomaton automaton;
    std::vector<int32_t> text;
    for (const int32_t token : whole) {
      automaton.append(token);
      text.push_back(token);
      int longest = 0;
      while (longest + 1 < std::ssize(text) && places(text, last_of(text, longest + 1)) > 1) ++longest;
      auto match = automaton.repeated();
      ASSERT_EQ(match.length, longest);
      for (; match.length > 0; match = automaton.shorter(match)) {
        std::vector<SuffixAutomaton::Follower> found;
        automaton.followers(match, 100, found);
        auto part = last_of(text, match.length);
        part.push_back(0);
        int all = 0;
        for (const auto& follower : found) {
          part.back() = follower.token;
          EXPECT_EQ(follower.count, places(text, part));
          all += follower.count;
        }
        part.pop_back();
        EXPECT_EQ(all, places(text, part) - 1) << "all but the end of the text has a follower";
      }
    }
  }
}

TEST(SuffixAutomaton, FollowsAnotherTextByItsLongestSuffix) {
  const auto text = random_text(1, 60, 3), other = random_text(2, 60, 3);
  SuffixAutomaton automaton;
  for (const int32_t token : text) automaton.append(token);
  SuffixAutomaton::Match match;
  std::vector<int32_t> read;
  for (const int32_t token : other) {
    match = automaton.follow(match, token);
    read.push_back(token);
    int longest = 0;
    while (longest < std::ssize(read) && places(text, last_of(read, longest + 1)) > 0) ++longest;
    EXPECT_EQ(match.length, longest);
  }
}

TEST(SuffixAutomaton, TakesMemoryLinearInAnyText) {
  const size_t kTokens = 20000;
  for (const auto& text :
       {std::vector<int32_t>(kTokens, 7), random_text(3, kTokens, 2), random_text(4, kTokens, 5000)}) {
    SuffixAutomaton automaton;
    for (const int32_t token : text) automaton.append(token);
    EXPECT_LT(automaton.bytes(), 256 * kTokens);
  }
}

Draft draft_of(Drafter& drafter, const std::vector<int32_t>& tokens, int max_nodes, int max_depth) {
  const Drafter::Context context{0, tokens, {}, max_nodes, max_depth};
  std::vector<Draft> drafts(1);
  drafter.propose({&context, 1}, drafts);
  return drafts[0];
}

TEST(LookupDrafter, GuessesWhatFollowedTheLastTokensBeforeAsATree) {
  const auto drafter = make_lookup_drafter();
  drafter->begin(0);
  // "1 2 3" was followed by 4 twice, by 5 once.
  const Draft draft = draft_of(*drafter, {1, 2, 3, 4, 9, 1, 2, 3, 5, 9, 1, 2, 3, 4, 8, 1, 2, 3}, 8, 3);
  const TokenTree& tree = draft.tree;
  ASSERT_GE(tree.size(), 4);
  EXPECT_LE(tree.size(), 8);
  EXPECT_EQ(tree.token(0), 3);
  EXPECT_EQ(tree.token(1), 4);
  EXPECT_EQ(tree.parent(1), 0);
  std::map<int32_t, int> at_root;
  for (int32_t i = 1; i < tree.size(); ++i) {
    EXPECT_LE(draft.reached[static_cast<size_t>(i)], draft.reached[static_cast<size_t>(i) - 1]);
    EXPECT_LE(tree.depth(i), 3);
    at_root[tree.token(i)] += tree.parent(i) == 0;
  }
  EXPECT_EQ(at_root[4], 1);
  EXPECT_EQ(at_root[5], 1);
}

TEST(LookupDrafter, LooksIntoTheTextsThatItIsGiven) {
  const std::vector<int32_t> texts = {5, 6, 7, 8, 9, 10};
  const auto drafter = make_lookup_drafter(texts);
  drafter->begin(0);
  const Draft draft = draft_of(*drafter, {1, 6, 7}, 4, 8);
  ASSERT_EQ(draft.tree.size(), 4);
  for (int32_t i = 1; i < 4; ++i) {
    EXPECT_EQ(draft.tree.token(i), 7 + i);
    EXPECT_EQ(draft.tree.parent(i), i - 1);
  }
}

TEST(LookupDrafter, GuessesNothingWhereATextEnds) {
  const std::vector<int32_t> texts = {5, 6, 7, -1, 7, 8, -1};
  const auto drafter = make_lookup_drafter(texts);
  drafter->begin(0);
  const Draft draft = draft_of(*drafter, {1, 6, 7}, 8, 8);
  ASSERT_EQ(draft.tree.size(), 2) << "what followed 7 alone, and nothing past the end";
  EXPECT_EQ(draft.tree.token(1), 8);
}

TEST(LookupDrafter, LearnsWhichGuessesAreRight) {
  const std::vector<int32_t> tokens = {1, 2, 3, 4, 9, 1, 2, 3};
  const auto reached = [&](bool right) {
    const auto drafter = make_lookup_drafter();
    drafter->begin(0);
    for (int i = 0; i < 50; ++i) {
      const Draft draft = draft_of(*drafter, tokens, 2, 1);
      const int32_t next = right && draft.tree.size() > 1 ? draft.tree.token(1) : 0;
      drafter->followed(0, draft, {&next, 1});
    }
    const Draft draft = draft_of(*drafter, tokens, 2, 1);
    return draft.tree.size() > 1 ? draft.reached[1] : 0.0;
  };
  EXPECT_GT(reached(true), 0.9);
  EXPECT_LT(reached(false), 0.1);
}

}  // namespace
}  // namespace linnet

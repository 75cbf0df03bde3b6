#include "generate/tree_shape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "base/error.h"
#include "generate/tree_tuning.h"

namespace linnet {
namespace {

TEST(TreeShape, IsReadFromPathsFromParentsAndFromNames) {
  const auto paths = TreeShape::from_json("[[1], [0, 0], [0], [0, 1]]", "tree");
  EXPECT_EQ(paths.to_json(), "[[1],[0],[0,0],[0,1]]") << "parents first, else as given";
  EXPECT_EQ(paths.depth(), 2);
  const auto parents = TreeShape::from_json(R"({"parents": [0, 4, 4, 0], "ranks": [1, 0, 1, 0]})", "tree");
  EXPECT_EQ(parents.to_json(), "[[1],[0],[0,0],[0,1]]");
  EXPECT_EQ(TreeShape::open("2x1").to_json(), "[[0],[1],[0,0],[1,0]]");
  const TreeShape medusa = TreeShape::open("mc_sim_7b_63");
  EXPECT_EQ(medusa.size(), 64) << "with its root";
  EXPECT_EQ(medusa.depth(), 4);
  for (const std::vector<int32_t>& path : {std::vector<int32_t>{9},
                                           {9, 0},
                                           {1, 6},
                                           {2, 2},
                                           {0, 7, 0},
                                           {1, 0, 1},
                                           {2, 0, 0},
                                           {0, 0, 9},
                                           {0, 0, 0, 1}}) {
    int32_t node = 0;
    for (const int32_t rank : path) node = node < 0 ? -1 : medusa.child(node, rank);
    EXPECT_GE(node, 0) << testing::PrintToString(path);
  }
  EXPECT_EQ(TreeShape::from_json("[]", "tree"), TreeShape());
  for (const auto& shape : {paths, parents, TreeShape::open("3x2x1")})
    EXPECT_EQ(TreeShape::from_json(shape.to_json(), "tree").size(), shape.size());
}

TEST(TreeShape, RefusesWhatIsNoTree) {
  const std::pair<const char*, const char*> rows[] = {
      {"[[0], [0, 1, 2]]", "tree: path [0, 1, 2] without [0, 1], expected the parent of every node"},
      {"[[0, 0]]", "tree: path [0, 0] without [0]"},
      {"[[0], [1], [0]]", "tree: path [0] twice, expected every node once"},
      {"[[]]", "tree: path 0 is []"},
      {"[0]", "tree: path 0 is 0"},
      {"[[-1]]", "tree: a rank of path 0 is -1"},
      {"[[1e3]]", "tree: a rank of path 0 is 1000.0"},
      {"[[5000000000]]", "tree: a rank of path 0 is 5000000000"},
      {"3", "tree: neither a list nor an object"},
      {"{}", "tree: \"parents\" and \"ranks\" of different length"},
      {R"({"parents": [0], "ranks": [0], "x": []})", "tree: unknown key \"x\""},
      {R"({"parents": 0, "ranks": [0]})", "tree: \"parents\" is no list"},
      {R"({"parents": [0, 3], "ranks": [0, 0]})", "tree: parent of node 2 is 3"},
      {R"({"parents": [2, 1], "ranks": [0, 0]})", "tree: node 1 has no path from the root: a cycle"},
      {R"({"parents": [0, 2], "ranks": [0, 0]})", "tree: node 2 has no path from the root: a cycle"},
      {R"({"parents": [0, 0], "ranks": [0, 0]})", "tree: node 2 has the parent and rank of another"},
      {"[[0]", "tree: "},
  };
  for (const auto& [text, message] : rows) {
    try {
      TreeShape::from_json(text, "tree");
      ADD_FAILURE() << text;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::StartsWith(message));
      EXPECT_EQ(error.status(), ExitStatus::kBadInput);
    }
  }
  const std::pair<const char*, const char*> names[] = {
      {"0", "0: a width of 0, expected at least one node at every depth"},
      {"2x0", "2x0: a width of 0"},
      {"64x64", "64x64: a tree of 4160 nodes, expected at most 1023"},
      {"1025", "1025: a tree of 1025 nodes, expected at most 1023"},
      {"2x99999999999", "2x99999999999: a tree of 4294967296 nodes, expected at most 1023"},
      {"2x", "2x: "},
      {"x2", "x2: "},
      {"2x-1", "2x-1: "},
      {"2,1", "2,1: "},
      {"none.json", "none.json: "},
      {"", ""}};
  for (const auto& [name, message] : names) {
    try {
      TreeShape::open(name);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::StartsWith(message));
    }
  }
}

TEST(TreeShape, HoldsADraftByTheRanksOfItsNodes) {
  Draft draft;
  draft.add(7, -1, 1);
  draft.add(1, 0, 0.2);   // rank 1
  draft.add(2, 0, 0.5);   // rank 0
  draft.add(3, 1, 0.1);   // below rank 1
  draft.add(4, 2, 0.2);   // below rank 0, second
  draft.add(5, 2, 0.25);  // and first
  const auto shape = TreeShape::from_json("[[0], [0, 0], [0, 2], [1]]", "tree");
  EXPECT_EQ(shape.places_of(draft), (std::vector<int32_t>{0, 2, 1, -1, -1, 3}));
  draft.reached.clear();  // as they stand
  EXPECT_EQ(shape.places_of(draft), (std::vector<int32_t>{0, 1, 2, 3, -1, -1}));
}

TEST(TreeTuning, FindsTheTreeThatPaysMost) {
  RankAcceptance acceptance;
  Draft draft;
  draft.add(9, -1, 1);
  for (int32_t rank = 0; rank < 3; ++rank) draft.add(rank, 0, 0.5 - 0.1 * rank);
  for (int32_t rank = 0; rank < 2; ++rank) draft.add(rank, 1, 0.25 - 0.05 * rank);
  const auto follow = [&](int times, std::vector<int32_t> tokens) {
    for (int i = 0; i < times; ++i) acceptance.followed(draft, tokens);
  };
  follow(40, {0, 0, 5});
  follow(20, {0, 1, 5});
  follow(20, {1, 5});
  follow(20, {5});
  EXPECT_DOUBLE_EQ(acceptance.probability(1, 0), 0.6);
  EXPECT_DOUBLE_EQ(acceptance.probability(1, 1), 0.2);
  EXPECT_DOUBLE_EQ(acceptance.probability(1, 2), 0);
  EXPECT_DOUBLE_EQ(acceptance.probability(2, 0), 2.0 / 3);
  EXPECT_DOUBLE_EQ(acceptance.probability(2, 1), 1.0 / 3);
  EXPECT_EQ(acceptance.probability(3, 0), 0);

  const NodesCost free[] = {{1, 1}, {8, 1.01}}, dear[] = {{1, 1}, {8, 4.5}}, never[] = {{1, 1}, {8, 8}};
  const auto all = best_tree(acceptance, free, 8, 0);
  EXPECT_EQ(all.shape.to_json(), "[[0],[0,0],[1],[0,1],[1,0],[1,1]]");
  EXPECT_NEAR(all.tokens, 1 + 0.6 + 0.4 + 0.2 + 0.2 + 0.2 * 2 / 3 + 0.2 / 3, 1e-12);
  EXPECT_EQ(best_tree(acceptance, free, 1, 0).shape.depth(), 1) << "no deeper than it may be";
  const auto some = best_tree(acceptance, dear, 8, 0);  // a node half a step: the first two pay
  EXPECT_EQ(some.shape.to_json(), "[[0]]");
  EXPECT_NEAR(some.takes, 1.5, 1e-12);
  EXPECT_EQ(best_tree(acceptance, never, 8, 0).shape, TreeShape());
  EXPECT_EQ(best_tree(acceptance, dear, 8, 1.0).shape, TreeShape()) << "where drafting costs a step";
}

}  // namespace
}  // namespace linnet

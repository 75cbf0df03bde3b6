// Section E of the mathematics' tests: a tree's nodes and commits, over every row of the registry.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/attention/harness.h"
#include "tests/attention/options.h"

namespace linnet {
namespace {

const AttentionShape kShape{4, 2, 12, 6};
constexpr int kGroup = 8;

template <class T>
class AttentionTrees : public testing::Test {
 protected:
  ThreadPool pool_{1};
};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(AttentionTrees, Types);

std::vector<int32_t> path_to(const TokenTree& tree, int32_t node) {
  std::vector<int32_t> path;
  for (int32_t i = node; i >= 0; i = tree.parent(i)) path.insert(path.begin(), i);
  return path;
}

/// Outputs of `path` decoded alone, token by token, from `state`, which moves on.
template <class T>
std::vector<T> decode_path(const Instance<T>& instance, State<T>& state, const Tokens<T>& nodes,
                           const std::vector<int32_t>& path, ThreadPool& pool) {
  Outputs<T> out(instance.shape, 1);
  const int32_t root[] = {0};
  for (int32_t i : path) {
    instance.attention->attend(state, TokenTree::single(0), nodes.rows(i, 1), out.rows(), pool);
    instance.attention->commit(state, root, nodes.rows(i, 1), pool);
  }
  return out.numbers;
}

template <class T>
std::vector<T> node_outputs(const Outputs<T>& out, const AttentionShape& shape, int32_t node) {
  std::vector<T> all;
  for (int h = 0; h < shape.heads; ++h) {
    for (T number : out.row(h, node)) all.push_back(number);
  }
  return all;
}

TYPED_TEST(AttentionTrees, EachNodeGetsTheBitsOfDecodingItsPathAlone) {
  using T = TypeParam;
  constexpr int32_t kNodes = 14;
  for (const auto& [name, config, rotate] : all_configs(kGroup)) {
    const Instance<T> instance(config, kShape, 3, rotate);
    const Tokens<T> tokens(kShape, 5 * kGroup, 5), nodes(kShape, kNodes, 9);
    const auto state = instance.attention->make_state();
    Outputs<T> ignored(kShape, 1), out(kShape, kNodes);
    const int32_t root[] = {0};
    for (int64_t n = 0; n <= 5 * kGroup; ++n) {  // every offset of the root to a group's edge
      if (n > 0) instance.attention->commit(*state, root, tokens.rows(n - 1, 1), this->pool_);
      if (n > kGroup && n % 3 != 0 && n % kGroup != 0) continue;
      const TokenTree tree = random_tree(kNodes, kGroup, 100 + n);
      instance.attention->attend(*state, tree, nodes.rows(), out.rows(), this->pool_);
      for (int32_t i = 0; i < kNodes; ++i) {
        const auto alone = decode_path(instance, *state->clone(), nodes, path_to(tree, i), this->pool_);
        ASSERT_EQ(node_outputs(out, kShape, i), alone) << name << " root at " << n << " node " << i;
      }
    }
  }
}

TYPED_TEST(AttentionTrees, NodesDeeperThanAGroupGetTheSameNumbers) {
  using T = TypeParam;
  constexpr int32_t kNodes = 30;
  for (int group : {1, 3}) {
    for (const auto& [name, config, rotate] : all_configs(group)) {
      const Instance<T> instance(config, kShape, 3, rotate);
      const Tokens<T> tokens(kShape, 20, 5), nodes(kShape, kNodes, 9);
      Outputs<T> ignored(kShape, 20), out(kShape, kNodes);
      for (int64_t n : {0, 1, 2, 5, 12, 17, 20}) {
        const auto state = instance.attention->make_state();
        instance.attention->prefill(*state, tokens.rows(0, n), ignored.rows(), this->pool_);
        for (const TokenTree& tree :
             {random_tree(kNodes, 11, 40 + n), TokenTree::chain(std::vector<int32_t>(kNodes, 0))}) {
          instance.attention->attend(*state, tree, nodes.rows(), out.rows(), this->pool_);
          for (int32_t i = 0; i < kNodes; ++i) {
            const auto alone = decode_path(instance, *state->clone(), nodes, path_to(tree, i), this->pool_);
            ASSERT_LT(relative_error(node_outputs(out, kShape, i), alone), kTolerance<T>)
                << name << " root at " << n << " node " << i;
          }
        }
      }
    }
  }
}

TYPED_TEST(AttentionTrees, ACommittedPathLeavesTheStateOfPlainDecoding) {
  using T = TypeParam;
  constexpr int32_t kNodes = 20;
  for (const auto& [name, config, rotate] : all_configs(kGroup)) {
    const Instance<T> instance(config, kShape, 3, rotate);
    const Tokens<T> tokens(kShape, 4 * kGroup, 5), nodes(kShape, kNodes, 9);
    Outputs<T> ignored(kShape, tokens.count);
    for (int64_t n = 2 * kGroup; n < 3 * kGroup; ++n) {
      const auto state = instance.attention->make_state();
      instance.attention->prefill(*state, tokens.rows(0, n), ignored.rows(), this->pool_);
      const TokenTree tree = random_tree(kNodes, 2 * kGroup, 7 + n);
      const auto path = path_to(tree, kNodes - 1);
      for (size_t accepted : {size_t{0}, size_t{1}, path.size()}) {
        const std::vector<int32_t> taken(path.begin(), path.begin() + accepted);
        const auto plain = state->clone(), committed = state->clone();
        decode_path(instance, *plain, nodes, taken, this->pool_);
        instance.attention->commit(*committed, taken, nodes.rows(), this->pool_);
        std::vector<std::byte> left, right;
        plain->save(left);
        committed->save(right);
        ASSERT_EQ(left, right) << name << " at " << n << ", " << accepted << " accepted";
      }
    }
  }
}

TYPED_TEST(AttentionTrees, ANodeSeesNothingOfItsSiblings) {
  using T = TypeParam;
  const TokenTree tree({0, 0, 0, 0, 0, 0}, {-1, 0, 0, 1, 2, -1});
  for (const auto& [name, config, rotate] : all_configs(kGroup)) {
    const Instance<T> instance(config, kShape, 3, rotate);
    const Tokens<T> tokens(kShape, 3 * kGroup, 5);
    Tokens<T> nodes(kShape, 6, 9);
    const auto state = instance.attention->make_state();
    Outputs<T> ignored(kShape, tokens.count), out(kShape, 6), poisoned(kShape, 6);
    for (int64_t n : {0, kGroup - 1, 3 * kGroup - 2}) {
      state->reset();
      instance.attention->prefill(*state, tokens.rows(0, n), ignored.rows(), this->pool_);
      instance.attention->attend(*state, tree, nodes.rows(), out.rows(), this->pool_);
      Tokens<T> bad = nodes;  // nodes 2, 4, 5 are no ancestors of 3
      for (int32_t i : {2, 4, 5}) {
        for (int g = 0; g < kShape.kv_heads; ++g) {
          std::fill_n(bad.k.begin() + (g * 6 + i) * kShape.head_size, kShape.head_size, T(NAN));
          std::fill_n(bad.summary_k.begin() + (g * 6 + i) * kShape.head_size, kShape.head_size, T(NAN));
          std::fill_n(bad.v.begin() + (g * 6 + i) * kShape.value_size, kShape.value_size, T(NAN));
        }
      }
      instance.attention->attend(*state, tree, bad.rows(), poisoned.rows(), this->pool_);
      for (int32_t i : {0, 1, 3}) {
        EXPECT_EQ(node_outputs(poisoned, kShape, i), node_outputs(out, kShape, i)) << name << " node " << i;
      }
    }
  }
}

TEST(TokenTree, AParentThatIsNotBeforeItsNodeIsRefused) {
  const struct {
    std::vector<int32_t> parents;
    const char* message;
  } rows[] = {
      {{0, 0}, "tree: node 0 has parent 0, expected an earlier node, or -1"},
      {{-1, 1}, "node 1 has parent 1"},
      {{-1, 7}, "node 1 has parent 7"},
      {{-1, -2}, "node 1 has parent -2"},
      {{-1, 0, 0}, "2 tokens and 3 parents"},
  };
  for (const auto& row : rows) {
    try {
      TokenTree({5, 6}, row.parents);
      ADD_FAILURE() << "made, but " << row.message;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(row.message));
    }
  }
}

}  // namespace
}  // namespace linnet

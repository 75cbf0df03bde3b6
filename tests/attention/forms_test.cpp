// Sections A, B, C and E of the mathematics' tests, over every row of the registry and a table of options.
#include <gtest/gtest.h>

#include "tests/attention/harness.h"

namespace linnet {
namespace {

const AttentionShape kShape{6, 2, 40, 24};

template <class T>
class Forms : public testing::Test {};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(Forms, Types);

TYPED_TEST(Forms, SoftmaxAgrees) {
  using T = TypeParam;
  ThreadPool pool(2);
  for (int window : {0, 1, 7, 64, 100}) {
    AttentionConfig config;
    config.window = window;
    const Instance<T> instance(config, kShape, 3);
    const Tokens<T> tokens(kShape, 150, 5);
    const auto expected = by_reference(instance, tokens);
    const auto state = instance.attention->make_state();
    const auto decoded = by_decoding(instance, tokens, *state, pool);
    EXPECT_LT(relative_error(decoded.numbers, expected.numbers), kTolerance<T>) << window;
    for (int64_t chunk : {1, 13, 150}) {
      state->reset();
      const auto out = by_prefill(instance, tokens, chunk, *state, pool);
      EXPECT_LT(relative_error(out.numbers, expected.numbers), kTolerance<T>) << window << " " << chunk;
      EXPECT_EQ(out.numbers, decoded.numbers);
    }
    const Tokens<T> nodes(kShape, 20, 9);
    const TokenTree tree = random_tree(20, 9, 4);
    Outputs<T> out(kShape, 20);
    instance.attention->attend(*state, tree, nodes.rows(), out.rows(), pool);
    for (int32_t i = 0; i < 20; ++i) {
      std::vector<int32_t> path, all(150);
      for (int32_t j = i; j >= 0; j = tree.parent(j)) path.insert(path.begin(), j);
      std::iota(all.begin(), all.end(), 0);
      const auto continued = state->clone();
      Outputs<T> alone(kShape, 1);
      for (int32_t j : path) {
        const int32_t node[] = {0};
        instance.attention->attend(*continued, TokenTree::single(0), nodes.rows(j, 1), alone.rows(), pool);
        instance.attention->commit(*continued, node, nodes.rows(j, 1), pool);
      }
      for (int h = 0; h < 6; ++h) {
        HeadSequence sequence;
        tokens.append(h, all, sequence);
        nodes.append(h, path, sequence);
        EXPECT_LT(relative_error(out.row(h, i), instance.reference_last(h, sequence)), kTolerance<T>);
        EXPECT_EQ(out.row(h, i), alone.row(h, 0));
      }
    }
  }
}

}  // namespace
}  // namespace linnet

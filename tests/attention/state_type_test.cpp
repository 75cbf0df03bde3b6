// States that hold keys and values in bf16: rounded where they enter, held exactly, the same bits in every
// form.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/bfloat16.h"
#include "base/error.h"
#include "tests/attention/harness.h"
#include "tests/attention/options.h"

namespace linnet {
namespace {

constexpr int kGroup = 8, kNodes = 14;
const AttentionShape kWide{4, 2, 12, 6}, kNarrow{4, 2, 12, 6, StateType::kBFloat16};

template <class T>
class StateInBFloat16 : public testing::Test {
 protected:
  /// Everything that an instance computes of a sequence, in a line: decoding, and a tree after it.
  std::vector<T> decoded(const Instance<T>& instance, const Tokens<T>& tokens, const Tokens<T>& nodes,
                         State<T>& state) {
    std::vector<T> numbers = by_decoding(instance, tokens, state, pool_).numbers;
    const Outputs<T> out = attended(instance, nodes, state);
    numbers.insert(numbers.end(), out.numbers.begin(), out.numbers.end());
    return numbers;
  }
  Outputs<T> attended(const Instance<T>& instance, const Tokens<T>& nodes, const State<T>& state) {
    Outputs<T> out(instance.shape, nodes.count);
    instance.attention->attend(state, tree_, nodes.rows(), out.rows(), pool_);
    return out;
  }

  const TokenTree tree_ = random_tree(kNodes, kGroup, 100);
  ThreadPool pool_{1};
};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(StateInBFloat16, Types);

template <class T>
std::vector<std::byte> saved(const State<T>& state) {
  std::vector<std::byte> bytes;
  state.save(bytes);
  return bytes;
}

/// Keys and values as bf16 holds them.
template <class T>
Tokens<T> rounded(Tokens<T> tokens) {
  for (std::vector<T>* numbers : {&tokens.k, &tokens.v, &tokens.summary_k})
    for (T& x : *numbers) x = T(BFloat16(x));
  return tokens;
}

// The rows whose keys get unit length are rounded after that, and kept tokens that are turned on once more.
TYPED_TEST(StateInBFloat16, GivesTheBitsOfAWiderOneWhereRowsAreRoundedBefore) {
  using T = TypeParam;
  for (const auto& [name, config, rotate] : all_configs(kGroup)) {
    if (config.method->unit_rows || (rotate && config.kept.most() > 0)) continue;
    const Instance<T> wide(config, kWide, 3, rotate), narrow(config, kNarrow, 3, rotate);
    const Tokens<T> tokens = rounded(wide.tokens(5 * kGroup + 5, 5)), nodes = rounded(wide.tokens(kNodes, 9));
    const auto a = wide.attention->make_state(), b = narrow.attention->make_state();
    EXPECT_EQ(this->decoded(narrow, tokens, nodes, *b), this->decoded(wide, tokens, nodes, *a)) << name;
    EXPECT_LT(b->bytes(), a->bytes()) << name;
  }
}

TYPED_TEST(StateInBFloat16, IsTheSameInEveryFormToTheBit) {
  using T = TypeParam;
  for (const auto& [name, config, rotate] : all_configs(kGroup)) {
    const Instance<T> instance(config, kNarrow, 3, rotate);
    const Tokens<T> tokens = instance.tokens(5 * kGroup + 7, 5), nodes = instance.tokens(kNodes, 9);
    const auto state = instance.attention->make_state(), other = instance.attention->make_state();
    const auto out = by_decoding(instance, tokens, *state, this->pool_);
    for (const int64_t chunk : {int64_t{5}, int64_t{8}, tokens.count}) {
      other->reset();
      EXPECT_EQ(by_prefill(instance, tokens, chunk, *other, this->pool_).numbers, out.numbers)
          << name << " " << chunk;
      EXPECT_EQ(saved(*other), saved(*state)) << name << " in chunks of " << chunk;
    }
    const Outputs<T> of_tree = this->attended(instance, nodes, *state);
    for (int32_t node = 0; node < kNodes; ++node) {
      const auto alone = state->clone();
      std::vector<int32_t> path;
      for (int32_t i = node; i >= 0; i = this->tree_.parent(i)) path.insert(path.begin(), i);
      Outputs<T> one(kNarrow, 1);
      const int32_t root[] = {0};
      for (const int32_t i : path) {
        instance.attention->attend(*alone, TokenTree::single(0), nodes.rows(i, 1), one.rows(), this->pool_);
        instance.attention->commit(*alone, root, nodes.rows(i, 1), this->pool_);
      }
      for (int h = 0; h < kNarrow.heads; ++h)
        ASSERT_EQ(of_tree.row(h, node), one.row(h, 0)) << name << " node " << node;
      const auto whole = state->clone();
      instance.attention->commit(*whole, path, nodes.rows(), this->pool_);
      ASSERT_EQ(saved(*whole), saved(*alone)) << name << " node " << node;
    }
  }
}

TYPED_TEST(StateInBFloat16, IsNearAWiderOne) {
  using T = TypeParam;
  for (const auto& [name, config, rotate] : all_configs(kGroup)) {
    if (config.jumps()) continue;
    const Instance<T> wide(config, kWide, 3, rotate), narrow(config, kNarrow, 3, rotate);
    const Tokens<T> tokens = wide.tokens(3 * kGroup + 5, 5);
    const auto a = wide.attention->make_state(), b = narrow.attention->make_state();
    const double away = relative_error(by_decoding(narrow, tokens, *b, this->pool_).numbers,
                                       by_decoding(wide, tokens, *a, this->pool_).numbers);
    EXPECT_LT(away, 3e-2) << name;
    EXPECT_GT(away, 1e-4) << name;  // it is rounded
  }
}

TYPED_TEST(StateInBFloat16, IsSavedLoadedAndOfItsSize) {
  using T = TypeParam;
  for (const auto& [name, config, rotate] : all_configs(kGroup)) {
    const Instance<T> wide(config, kWide, 3, rotate), narrow(config, kNarrow, 3, rotate);
    const Tokens<T> tokens = wide.tokens(3 * kGroup + 5, 5);
    const auto state = narrow.attention->make_state(), loaded = narrow.attention->make_state();
    by_decoding(narrow, tokens, *state, this->pool_);
    const auto bytes = saved(*state);
    std::span<const std::byte> in = bytes;
    loaded->load(in);
    EXPECT_EQ(saved(*loaded), bytes) << name;
    in = bytes;
    try {
      wide.attention->make_state()->load(in);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_EQ(error.what(), "state: size of keys and values 2, expected size of keys and values " +
                                  std::to_string(sizeof(T)));
    }
    if (config.grows()) continue;
    const StateLayout a = wide.attention->layout(), b = narrow.attention->layout();
    EXPECT_EQ(b.numbers, a.numbers);
    EXPECT_EQ(saved(*wide.attention->make_state()).size() - saved(*narrow.attention->make_state()).size(),
              static_cast<size_t>(b.token_numbers) * (sizeof(T) - 2))
        << name;
    EXPECT_EQ(state->bytes(), static_cast<size_t>(b.bytes)) << name;
    EXPECT_EQ(state_layout(config, kNarrow).bytes < state_layout(config, kWide).bytes, true) << name;
  }
}

}  // namespace
}  // namespace linnet

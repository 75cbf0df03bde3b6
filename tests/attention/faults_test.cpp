// Each fault that the tests of forms and trees exist to catch, planted, and caught by the comparison that
// they make: a check that cannot fail proves nothing.
#include <gtest/gtest.h>

#include "tests/attention/harness.h"

namespace linnet {
namespace {

const AttentionShape kShape{2, 1, 8, 6};

AttentionConfig config_of(int group) {
  auto object =
      nlohmann::json::parse(R"({"method": "relu", "local": "softmax", "local_groups": 1, "taps": 3})");
  object["group"] = group;
  return parse_layer_attention(object, "test");
}

enum class Fault { kNone, kFutureTap, kGroupOffByOne, kRootsGroup };

/// The attention over the tokens and then the tree, with a fault.
class Faulty {
 public:
  explicit Faulty(Fault fault)
      : fault_(fault), sound_(config_of(8), kShape, 3), off_(config_of(9), kShape, 3) {}

  Outputs<double> prefill(const Tokens<double>& tokens) {
    const auto& used = fault_ == Fault::kGroupOffByOne ? off_ : sound_;
    const auto state = used.attention->make_state();
    auto out = by_prefill(used, tokens, tokens.count, *state, pool_);
    for (int64_t t = 0; fault_ == Fault::kFutureTap && t + 1 < tokens.count; ++t) {
      for (int64_t i = 0; i < kShape.value_size; ++i) {
        out.numbers[t * out.size + i] += 0.01 * tokens.v[(t + 1) * out.size + i];
      }
    }
    return out;
  }

  /// Outputs of a chain after the tokens; a faulty one treats every node as if it stood in the root's group.
  Outputs<double> chain(const Tokens<double>& tokens, const Tokens<double>& nodes) {
    const auto state = sound_.attention->make_state();
    Outputs<double> ignored(kShape, tokens.count), out(kShape, nodes.count);
    sound_.attention->prefill(*state, tokens.rows(), ignored.rows(), pool_);
    const TokenTree tree = TokenTree::chain(std::vector<int32_t>(nodes.count));
    sound_.attention->attend(*state, tree, nodes.rows(), out.rows(), pool_);
    if (fault_ != Fault::kRootsGroup) return out;
    for (int h = 0; h < kShape.heads; ++h) {
      HeadSequence sequence = head_of(tokens, h);
      for (int32_t i = 0; i < nodes.count; ++i) {
        nodes.append(h, {i}, sequence);
        ReferenceHead reference(sound_.config, kShape, sound_.numbers, nullptr, h);
        reference.latest_group = tokens.count / sound_.config.group;
        const Vec last = reference.last(sequence);
        std::copy(last.begin(), last.end(), out.numbers.begin() + (h * out.count + i) * out.size);
      }
    }
    return out;
  }

  static HeadSequence head_of(const Tokens<double>& tokens, int head) {
    std::vector<int32_t> all(tokens.count);
    std::iota(all.begin(), all.end(), 0);
    HeadSequence sequence;
    tokens.append(head, all, sequence);
    return sequence;
  }

  const Instance<double>& sound() const { return sound_; }

 private:
  Fault fault_;
  Instance<double> sound_, off_;
  ThreadPool pool_{1};
};

bool is_causal(Faulty& x) {
  Tokens<double> tokens(kShape, 30, 5);
  const auto before = x.prefill(tokens);
  for (int64_t i = 0; i < kShape.value_size; ++i) tokens.v[20 * kShape.value_size + i] += 1;
  const auto after = x.prefill(tokens);
  return std::equal(before.numbers.begin(), before.numbers.begin() + 20 * before.size, after.numbers.begin());
}

bool agrees_with_definition(Faulty& x) {
  const Tokens<double> tokens(kShape, 30, 5);
  return relative_error(x.prefill(tokens).numbers, by_reference(x.sound(), tokens).numbers) < 1e-10;
}

bool nodes_agree(Faulty& x) {
  const Tokens<double> tokens(kShape, 21, 5), nodes(kShape, 6, 6);  // the chain crosses 24
  const auto out = x.chain(tokens, nodes);
  for (int h = 0; h < kShape.heads; ++h) {
    HeadSequence sequence = Faulty::head_of(tokens, h);
    for (int32_t i = 0; i < nodes.count; ++i) {
      nodes.append(h, {i}, sequence);
      if (!(relative_error(out.row(h, i), x.sound().reference_last(h, sequence)) < 1e-10)) return false;
    }
  }
  return true;
}

TEST(PlantedFaults, TheChecksPassWithoutAFault) {
  Faulty x(Fault::kNone);
  EXPECT_TRUE(is_causal(x));
  EXPECT_TRUE(agrees_with_definition(x));
  EXPECT_TRUE(nodes_agree(x));
}

TEST(PlantedFaults, AFutureTapIsCaught) {
  Faulty x(Fault::kFutureTap);
  EXPECT_FALSE(is_causal(x));
  EXPECT_FALSE(agrees_with_definition(x));
}

TEST(PlantedFaults, AGroupBoundaryOffByOneIsCaught) {
  Faulty x(Fault::kGroupOffByOne);
  EXPECT_TRUE(is_causal(x));  // a wrong boundary leaks nothing: only the definition catches it
  EXPECT_FALSE(agrees_with_definition(x));
}

TEST(PlantedFaults, TheRootsGroupUsedForEveryNodeIsCaught) {
  Faulty x(Fault::kRootsGroup);
  EXPECT_FALSE(nodes_agree(x));
}

TEST(PlantedFaults, AStateThatGrowsIsCaught) {
  // softmax is such a state: what the test of constant size measures does grow with it.
  const Instance<float> growing(AttentionConfig{}, kShape, 3);
  const Tokens<float> tokens(kShape, 100, 5);
  Outputs<float> out(kShape, 100);
  ThreadPool pool(1);
  const auto state = growing.attention->make_state();
  std::vector<std::byte> first, last;
  state->save(first);
  growing.attention->prefill(*state, tokens.rows(), out.rows(), pool);
  state->save(last);
  EXPECT_NE(static_cast<int64_t>(state->bytes()), growing.attention->layout().bytes);
  EXPECT_NE(first.size(), last.size());
}

}  // namespace
}  // namespace linnet

// Each fault that the tests of forms and trees exist to catch, planted in the computation, and caught by the
// comparison that they make: a check that cannot fail proves nothing.
#include <gtest/gtest.h>

#include "attention/linear.h"
#include "tests/attention/faults.h"
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

/// `config` with a fault in its row's summary.
template <class Fault>
AttentionConfig with_fault(AttentionConfig config) {
  static Method method = find_method("relu", "test");
  method.make_double = [](const AttentionConfig& config, const AttentionShape& shape,
                          const Parameters<double>& parameters) -> std::unique_ptr<Summary<double>> {
    return std::make_unique<Fault>(find_method("relu", "test").make_double(config, shape, parameters));
  };
  config.method = &method;
  return config;
}

AttentionConfig linformer_config() {
  return parse_layer_attention({{"method", "linformer"}, {"group", 8}, {"slots", 5}}, "test");
}

Parameters<double> parameters_of(const Instance<double>& instance) {
  return {instance.numbers.begin(), instance.numbers.end()};
}

std::unique_ptr<Attention<double>> with_group(int group, const Instance<double>& like) {
  return make_linear<double>(config_of(group), kShape, parameters_of(like), nullptr);
}

/// The attention that the definition is of, and the comparisons of an attention with it.
class PlantedFaults : public testing::Test {
 protected:
  std::unique_ptr<Attention<double>> sound() const { return with_group(8, instance_); }

  std::vector<double> prefill(const Attention<double>& attention, const Tokens<double>& tokens) {
    Outputs<double> out(tokens.shape, tokens.count);
    const auto state = attention.make_state();
    attention.prefill(*state, tokens.rows(), out.rows(), pool_);
    return out.numbers;
  }

  bool is_causal(const Attention<double>& attention) {
    Tokens<double> tokens(kShape, 30, 5);
    const auto before = prefill(attention, tokens);
    for (int64_t i = 0; i < kShape.value_size; ++i) tokens.v[20 * kShape.value_size + i] += 1;
    const auto after = prefill(attention, tokens);
    return std::equal(before.begin(), before.begin() + 20 * kShape.value_size, after.begin());
  }

  bool agrees_with_definition(const Attention<double>& attention) {
    return agrees_with_definition(attention, instance_);
  }
  bool agrees_with_definition(const Attention<double>& attention, const Instance<double>& instance) {
    const Tokens<double> tokens(instance.shape, 45, 5);
    return relative_error(prefill(attention, tokens), by_reference(instance, tokens).numbers) < 1e-10;
  }

  bool nodes_agree(const Attention<double>& attention) { return nodes_agree(attention, instance_); }
  bool nodes_agree(const Attention<double>& attention, const Instance<double>& instance) {
    const Tokens<double> tokens(kShape, 21, 5), nodes(kShape, 6, 6);  // the chain crosses 24
    const auto state = attention.make_state();
    Outputs<double> ignored(kShape, tokens.count), out(kShape, nodes.count);
    attention.prefill(*state, tokens.rows(), ignored.rows(), pool_);
    const TokenTree tree = TokenTree::chain(std::vector<int32_t>(nodes.count));
    attention.attend(*state, tree, nodes.rows(), out.rows(), pool_);
    std::vector<int32_t> all(tokens.count);
    std::iota(all.begin(), all.end(), 0);
    for (int h = 0; h < kShape.heads; ++h) {
      HeadSequence sequence;
      tokens.append(h, all, sequence);
      for (int32_t i = 0; i < nodes.count; ++i) {
        nodes.append(h, {i}, sequence);
        if (!(relative_error(out.row(h, i), instance.reference_last(h, sequence)) < 1e-10)) return false;
      }
    }
    return true;
  }

  const Instance<double> instance_{config_of(8), kShape, 3};
  ThreadPool pool_{1};
};

TEST_F(PlantedFaults, TheChecksPassWithoutAFault) {
  const PassedOn<double> x(sound());
  EXPECT_TRUE(is_causal(x));
  EXPECT_TRUE(agrees_with_definition(x));
  EXPECT_TRUE(nodes_agree(x));
  EXPECT_EQ(growth(x, Tokens<double>(kShape, 30, 5), pool_), "");
}

TEST_F(PlantedFaults, AValueOfTheNextTokenIsCaught) {
  const NextValue<double> x(sound());
  EXPECT_FALSE(is_causal(x));
  EXPECT_FALSE(agrees_with_definition(x));
}

TEST_F(PlantedFaults, AGroupBoundaryOffByOneIsCaught) {
  const auto x = with_group(9, instance_);
  EXPECT_TRUE(is_causal(*x));  // a wrong boundary leaks nothing: only the definition catches it
  EXPECT_FALSE(agrees_with_definition(*x));
}

TEST_F(PlantedFaults, AFoldThatLosesATokenIsCaught) {
  const auto x =
      make_linear<double>(with_fault<LosesAToken>(config_of(8)), kShape, parameters_of(instance_), nullptr);
  EXPECT_TRUE(is_causal(*x));
  EXPECT_FALSE(agrees_with_definition(*x));
}

TEST_F(PlantedFaults, SlotsOfTheWholeSequenceWithMaskedScoresAreCaught) {
  const Instance<double> instance(linformer_config(), kShape, 3);
  const auto sound = [&] {
    return make_linear<double>(linformer_config(), kShape, parameters_of(instance), nullptr);
  };
  EXPECT_TRUE(is_causal(*sound()));
  EXPECT_TRUE(agrees_with_definition(*sound(), instance));
  const MaskedSlots<double> x(sound(), instance.config, kShape, instance.numbers.at("E"),
                              instance.numbers.at("F"));
  EXPECT_FALSE(is_causal(x));
  EXPECT_FALSE(agrees_with_definition(x, instance));
}

TEST_F(PlantedFaults, TheRootsGroupUsedForEveryNodeIsCaught) {
  const LinearLayer<double> layer(config_of(8), kShape, parameters_of(instance_), nullptr);
  const RootsGroup<double> x(sound(), layer);
  EXPECT_TRUE(agrees_with_definition(x));
  EXPECT_FALSE(nodes_agree(x));
}

/// Kept tokens and what can go wrong with them.
class PlantedFaultsOfBudgets : public PlantedFaults {
 protected:
  static AttentionConfig budgets(const char* changes) {
    auto object = nlohmann::json::parse(R"({"method": "relu", "local": "softmax", "group": 8, "taps": 3})");
    object.update(nlohmann::json::parse(changes));
    return parse_layer_attention(object, "test");
  }
  std::unique_ptr<Attention<double>> sound_kept() const {
    return make_linear<double>(kept_.config, kShape, parameters_of(kept_), nullptr);
  }
  template <class Fault>
  std::unique_ptr<Attention<double>> faulty() const {
    return make_linear<double>(with_fault<Fault>(kept_.config), kShape, parameters_of(kept_), nullptr);
  }

  const Instance<double> kept_{budgets(R"({"local_groups": 2, "kept": 6})"), kShape, 3};
};

TEST_F(PlantedFaultsOfBudgets, TheChecksPassWithoutAFault) {
  EXPECT_TRUE(is_causal(*sound_kept()));
  EXPECT_TRUE(agrees_with_definition(*sound_kept(), kept_));
  EXPECT_TRUE(nodes_agree(*sound_kept(), kept_));
}

TEST_F(PlantedFaultsOfBudgets, ATokenKeptBeforeItsBlockIsFoldedIsCaught) {
  const LinearLayer<double> layer(kept_.config, kShape, parameters_of(kept_), nullptr);
  const KeptTooEarly<double> x(sound_kept(), layer);
  EXPECT_TRUE(is_causal(x));
  EXPECT_FALSE(agrees_with_definition(x, kept_));
}

TEST_F(PlantedFaultsOfBudgets, ASurpriseOfASummaryThatHoldsTheBlockItselfIsCaught) {
  const auto x = faulty<NotSurprised>();
  EXPECT_TRUE(is_causal(*x));
  EXPECT_FALSE(agrees_with_definition(*x, kept_));
}

TEST_F(PlantedFaultsOfBudgets, TheRootsKeptTokensUsedForEveryNodeAreCaught) {
  const AttendsWithRootsKept x(faulty<RootsKept>());
  EXPECT_TRUE(agrees_with_definition(x, kept_));
  EXPECT_FALSE(nodes_agree(x, kept_));
}

TEST_F(PlantedFaultsOfBudgets, TheBudgetOfAnotherHeadIsCaught) {
  const AttentionShape shape{4, 2, 8, 6};
  for (const auto& [own, other] :
       {std::pair{R"({"local_groups": [2, 3]})", R"({"local_groups": [3, 2]})"},
        {R"({"local_groups": 2, "kept": [5, 0]})", R"({"local_groups": 2, "kept": [0, 5]})"}}) {
    const Instance<double> instance(budgets(own), shape, 3);
    EXPECT_TRUE(agrees_with_definition(*instance.attention, instance)) << own;
    const auto x = make_linear<double>(budgets(other), shape, parameters_of(instance), nullptr);
    EXPECT_FALSE(agrees_with_definition(*x, instance)) << own;
  }
}

TEST_F(PlantedFaults, AStateThatGrowsIsCaught) {
  const Tokens<double> tokens(kShape, 30, 5);
  const Growing<double> in_memory(sound(), false), when_saved(sound(), true);
  EXPECT_TRUE(growth(in_memory, tokens, pool_).ends_with(" bytes after 1 tokens"));
  EXPECT_TRUE(growth(when_saved, tokens, pool_).ends_with(" saved bytes after 1 tokens"));
}

}  // namespace
}  // namespace linnet

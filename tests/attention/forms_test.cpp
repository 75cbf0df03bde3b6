// Sections A, B and C of the mathematics' tests, over every row of the registry and a table of options.
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/attention/harness.h"
#include "tests/attention/options.h"

namespace linnet {
namespace {

const AttentionShape kShape{6, 2, 40, 24};
constexpr int kGroup = 8;

template <class T>
class AttentionForms : public testing::Test {
 protected:
  ThreadPool pool_{1};
};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(AttentionForms, Types);

TYPED_TEST(AttentionForms, AgreeWithTheDefinitionAndToTheBitWithEachOther) {
  using T = TypeParam;
  for (const auto& [name, config, rotate] : all_configs(kGroup)) {
    const Instance<T> instance(config, kShape, 3, rotate);
    const Tokens<T> tokens(kShape, 5 * kGroup + 7, 5);
    const auto expected = by_reference(instance, tokens);
    const auto state = instance.attention->make_state();
    const auto decoded = by_decoding(instance, tokens, *state, this->pool_);
    EXPECT_LT(relative_error(decoded.numbers, expected.numbers), kTolerance<T>) << name;
    std::vector<std::byte> decoded_state, prefilled_state;
    state->save(decoded_state);
    for (int64_t chunk : {1, 5, 8, 13, 47}) {
      state->reset();
      const auto out = by_prefill(instance, tokens, chunk, *state, this->pool_);
      EXPECT_EQ(out.numbers, decoded.numbers) << name << " in chunks of " << chunk;
      prefilled_state.clear();
      state->save(prefilled_state);
      EXPECT_EQ(prefilled_state, decoded_state) << name << " in chunks of " << chunk;
    }
  }
}

TYPED_TEST(AttentionForms, AgreeAtEveryLengthNearAGroupsEdge) {
  using T = TypeParam;
  for (int group : {1, 5, 16}) {
    for (const auto& [name, config, rotate] : all_configs(group)) {
      const AttentionShape shape{2, 1, 10, 6};
      const Instance<T> instance(config, shape, 3, rotate);
      for (int64_t n : {1, group - 1, group, group + 1, 3 * group + 7}) {
        if (n < 1) continue;
        const Tokens<T> tokens(shape, n, 11);
        const auto expected = by_reference(instance, tokens);
        const auto state = instance.attention->make_state();
        const auto out = by_prefill(instance, tokens, n, *state, this->pool_);
        EXPECT_LT(relative_error(out.numbers, expected.numbers), kTolerance<T>) << name << " of " << n;
        EXPECT_EQ(state->length(), n);
      }
    }
  }
}

// softmax's cache has blocks of 64 tokens and prefills 512 at a time, linear layers prefill 64: texts that
// are longer than those, in groups that are, and windows that begin anywhere.
TYPED_TEST(AttentionForms, AgreePastTheBlocksAndPiecesTheyComputeIn) {
  using T = TypeParam;
  const char* const rows[] = {
      R"({"method": "softmax"})",
      R"({"method": "softmax", "window": 5})",
      R"({"method": "softmax", "window": 64})",
      R"({"method": "softmax", "window": 130})",
      R"({"method": "relu", "group": 150, "taps": 3})",
      R"({"method": "relu", "group": 70, "local": "softmax", "sinks": 66, "taps": 3, "decay": 0.5})",
      R"({"method": "grouped", "group": 100, "local_groups": 1})",
  };
  const AttentionShape shape{2, 1, 10, 6};
  const Tokens<T> tokens(shape, 600, 5);
  for (const char* text : rows) {
    const Instance<T> instance(parse_layer_attention(nlohmann::json::parse(text), "test"), shape, 3);
    const auto state = instance.attention->make_state(), prefilled = instance.attention->make_state();
    const auto decoded = by_decoding(instance, tokens, *state, this->pool_);
    for (int64_t chunk : {int64_t{77}, tokens.count}) {
      prefilled->reset();
      const auto out = by_prefill(instance, tokens, chunk, *prefilled, this->pool_);
      EXPECT_EQ(out.numbers, decoded.numbers) << text << " in chunks of " << chunk;
    }
    HeadSequence sequence;
    for (int32_t t = 0; t < tokens.count; ++t) {
      tokens.append(1, {t}, sequence);
      if (t % 64 > 1 && t % 64 < 63 && t % 29 != 0) continue;
      EXPECT_LT(relative_error(decoded.row(1, t), instance.reference_last(1, sequence)), kTolerance<T>)
          << text << " at " << t;
    }
  }
}

TYPED_TEST(AttentionForms, ThreadsChangeNothing) {
  using T = TypeParam;
  ThreadPool three(3);
  for (const auto& [name, config, rotate] : all_configs(kGroup)) {
    const Instance<T> instance(config, kShape, 3, rotate);
    const Tokens<T> tokens(kShape, 3 * kGroup + 7, 5);
    const auto state = instance.attention->make_state();
    const auto alone = by_prefill(instance, tokens, 13, *state, this->pool_);
    state->reset();
    EXPECT_EQ(by_prefill(instance, tokens, 13, *state, three).numbers, alone.numbers) << name;
    state->reset();
    EXPECT_EQ(by_decoding(instance, tokens, *state, three).numbers, alone.numbers) << name;
  }
}

TYPED_TEST(AttentionForms, NoOutputDependsOnWhatComesLater) {
  using T = TypeParam;
  for (const auto& [name, config, rotate] : all_configs(kGroup)) {
    const Instance<T> instance(config, kShape, 3, rotate);
    const int64_t n = 3 * kGroup + 7;
    const Tokens<T> tokens(kShape, n, 5), others(kShape, n, 6);
    const auto state = instance.attention->make_state();
    const auto whole = by_prefill(instance, tokens, n, *state, this->pool_);
    for (int64_t t : {0, 3, kGroup - 1, kGroup, 2 * kGroup + 3}) {
      Tokens<T> changed = tokens;  // from t + 1 on another sequence
      const auto change = [&](std::vector<T>& to, const std::vector<T>& from, int64_t size) {
        for (size_t i = 0; i < to.size(); ++i) {
          if (static_cast<int64_t>(i) / size % n > t) to[i] = from[i];
        }
      };
      change(changed.q, others.q, kShape.head_size);
      change(changed.k, others.k, kShape.head_size);
      change(changed.v, others.v, kShape.value_size);
      change(changed.q_plain, others.q_plain, kShape.head_size);
      change(changed.k_plain, others.k_plain, kShape.head_size);
      state->reset();
      const auto out = by_prefill(instance, changed, n, *state, this->pool_);
      for (int64_t h = 0; h < kShape.heads; ++h) {
        for (int64_t s = 0; s <= t; ++s) EXPECT_EQ(out.row(h, s), whole.row(h, s)) << name << " at " << s;
        EXPECT_NE(out.row(h, t + 1), whole.row(h, t + 1)) << name;  // the change did reach it
      }
    }
  }
}

TYPED_TEST(AttentionForms, TheStateIsOfConstantSize) {
  using T = TypeParam;
  const AttentionShape shape{2, 1, 10, 6};
  for (const auto& [name, config, rotate] : all_configs(4)) {
    if (config.method == "softmax") continue;
    const Instance<T> instance(config, shape, 3, rotate);
    const StateLayout layout = instance.attention->layout();
    EXPECT_LE(layout.waiting, std::max(config.local_groups, 2) * 4) << name;
    const Tokens<T> tokens(shape, 64 * 4, 5);
    const auto state = instance.attention->make_state();
    const int32_t root[] = {0};
    std::vector<std::byte> first, saved;
    state->save(first);
    for (int64_t t = 0; t < tokens.count; ++t) {
      instance.attention->commit(*state, root, tokens.rows(t, 1), this->pool_);
      EXPECT_EQ(state->bytes(), static_cast<size_t>(layout.bytes)) << name;
      saved.clear();
      state->save(saved);
      ASSERT_EQ(saved.size(), first.size()) << name;
    }
    state->reset();
    saved.clear();
    state->save(saved);
    EXPECT_EQ(saved, first) << name;  // nothing of the sequence is left
  }
}

TYPED_TEST(AttentionForms, ASavedStateContinuesToTheBit) {
  using T = TypeParam;
  for (const auto& [name, config, rotate] : all_configs(kGroup)) {
    const Instance<T> instance(config, kShape, 3, rotate);
    for (int64_t n : {0, 5, 2 * kGroup, 3 * kGroup + 3}) {
      const Tokens<T> tokens(kShape, n + 2 * kGroup + 1, 5);
      const auto state = instance.attention->make_state(), loaded = instance.attention->make_state();
      Outputs<T> ignored(kShape, tokens.count), out = ignored, again = ignored;
      instance.attention->prefill(*state, tokens.rows(0, n), ignored.rows(), this->pool_);
      instance.attention->prefill(*loaded, tokens.rows(3, 7), ignored.rows(), this->pool_);
      std::vector<std::byte> saved;
      state->save(saved);
      saved.push_back(std::byte{7});
      std::span<const std::byte> in = saved;
      loaded->load(in);
      EXPECT_EQ(in.size(), 1u);
      EXPECT_EQ(loaded->length(), n);
      const auto clone = state->clone();
      instance.attention->prefill(*state, tokens.rows(n, 2 * kGroup + 1), out.rows(), this->pool_);
      instance.attention->prefill(*loaded, tokens.rows(n, 2 * kGroup + 1), again.rows(), this->pool_);
      for (int64_t h = 0; h < kShape.heads; ++h) {
        for (int64_t t = 0; t <= 2 * kGroup; ++t) EXPECT_EQ(out.row(h, t), again.row(h, t)) << name;
      }
      instance.attention->prefill(*clone, tokens.rows(n, 2 * kGroup + 1), again.rows(), this->pool_);
      EXPECT_EQ(again.row(5, 2 * kGroup), out.row(5, 2 * kGroup)) << name;
    }
  }
}

TYPED_TEST(AttentionForms, AStateOfAnotherLayerIsRefusedAndTheRunningOneUntouched) {
  using T = TypeParam;
  AttentionConfig config, window, linear, wider;
  window.window = 5;
  linear = parse_layer_attention({{"method", "grouped"}, {"group", 8}}, "test");
  wider = parse_layer_attention({{"method", "grouped"}, {"group", 16}}, "test");
  std::vector<std::vector<std::byte>> saved;
  const Tokens<T> tokens(kShape, 20, 5);
  Outputs<T> out(kShape, 20);
  for (const auto& each : {config, window, linear, wider}) {
    const Instance<T> instance(each, kShape, 3);
    const auto state = instance.attention->make_state();
    instance.attention->prefill(*state, tokens.rows(), out.rows(), this->pool_);
    saved.emplace_back();
    state->save(saved.back());
  }
  const Instance<T> instance(linear, kShape, 3);
  const auto state = instance.attention->make_state();
  instance.attention->prefill(*state, tokens.rows(0, 9), out.rows(), this->pool_);
  std::vector<std::byte> before, after;
  state->save(before);
  saved[2].pop_back();  // truncated
  saved.push_back({});
  for (const auto& bytes : saved) {
    std::span<const std::byte> in = bytes;
    EXPECT_THROW(state->load(in), Error);
    EXPECT_EQ(in.size(), bytes.size());
    after.clear();
    state->save(after);
    EXPECT_EQ(after, before);
  }
}

}  // namespace
}  // namespace linnet

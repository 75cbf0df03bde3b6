// Sections A, B and C of the mathematics' tests, over every row of the registry and a table of options.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "attention/features.h"
#include "attention/linear.h"
#include "attention/softmax.h"
#include "base/error.h"
#include "kernels/cpu/attention_kernels.h"
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
    const Tokens<T> tokens = instance.tokens(5 * kGroup + 7, 5);
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
      const AttentionShape shape{2, 2, 10, 6};
      const Instance<T> instance(config, shape, 3, rotate);
      for (int64_t n : {1, group - 1, group, group + 1, 3 * group + 7}) {
        if (n < 1) continue;
        const Tokens<T> tokens = instance.tokens(n, 11);
        const auto expected = by_reference(instance, tokens);
        const auto state = instance.attention->make_state();
        const auto out = by_prefill(instance, tokens, n, *state, this->pool_);
        EXPECT_LT(relative_error(out.numbers, expected.numbers), kTolerance<T>) << name << " of " << n;
        EXPECT_EQ(state->length(), n);
      }
    }
  }
}

TYPED_TEST(AttentionForms, AreFiniteWhateverTheSizeOfQueriesAndKeys) {
  using T = TypeParam;
  for (const auto& [name, config, rotate] : all_configs(kGroup)) {
    const Instance<T> instance(config, kShape, 3, rotate);
    for (const T size : {T(100), T(1e6)}) {
      Tokens<T> tokens(kShape, 3 * kGroup + 7, 5);
      for (std::vector<T>* x : {&tokens.q, &tokens.k, &tokens.summary_q, &tokens.summary_k}) {
        for (T& number : *x) number *= size;
      }
      const auto state = instance.attention->make_state();
      const auto decoded = by_decoding(instance, tokens, *state, this->pool_);
      EXPECT_TRUE(std::all_of(decoded.numbers.begin(), decoded.numbers.end(),
                              [](auto x) { return std::isfinite(x); }))
          << name << " of size " << size;
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
      change(changed.summary_q, others.summary_q, kShape.head_size);
      change(changed.summary_k, others.summary_k, kShape.head_size);
      state->reset();
      const auto out = by_prefill(instance, changed, n, *state, this->pool_);
      for (int64_t h = 0; h < kShape.heads; ++h) {
        for (int64_t s = 0; s <= t; ++s) EXPECT_EQ(out.row(h, s), whole.row(h, s)) << name << " at " << s;
        bool reached = false;  // the change did, where it may (a relu may well be 0 before and after)
        for (int64_t s = t + 1; s < n; ++s) reached |= out.row(h, s) != whole.row(h, s);
        EXPECT_TRUE(reached) << name;
      }
    }
  }
}

TYPED_TEST(AttentionForms, TheStateIsOfConstantSize) {
  using T = TypeParam;
  const AttentionShape shape{2, 2, 10, 6};
  for (const auto& [name, config, rotate] : all_configs(4)) {
    if (config.grows()) continue;
    const Instance<T> instance(config, shape, 3, rotate);
    const StateLayout layout = instance.attention->layout();
    EXPECT_LE(layout.waiting, std::max(config.local_groups.most(), 2) * 4) << name;
    const Tokens<T> tokens(shape, 64 * 4, 5);
    EXPECT_EQ(growth(*instance.attention, tokens, this->pool_), "") << name;
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

TYPED_TEST(AttentionForms, ASavedStateHoldsWhatItsLayoutSaysAndNoPadding) {
  using T = TypeParam;
  for (const auto& [name, config, rotate] : all_configs(kGroup)) {
    if (config.grows()) continue;
    const AttentionShape shape{4, 2, 5, 3};
    const Instance<T> instance(config, shape, 3, rotate);
    const StateLayout layout = instance.attention->layout();
    const bool two_keys = config.local != LocalWeight::kNone && layout.summary > 0 &&
                          config.feature_position == FeaturePosition::kNone &&
                          (!rotate || config.method->unit_rows);
    const int64_t token = shape.head_size + shape.value_size;
    const int64_t alike = layout.sinks * token + layout.recent * shape.value_size;
    int64_t heads = shape.kv_heads * alike, waits = 0;
    for (int g = 0; g < shape.kv_heads; ++g) {
      const int blocks = std::max(config.local_groups.of(g), layout.summary > 0 ? 2 : 1);
      waits = std::max(waits, int64_t{blocks} * kGroup);
      heads += blocks * kGroup * (token + (two_keys ? shape.head_size : 0));
      heads += config.kept.of(g) * (token + 3);  // surprise, and a position in two numbers
    }
    EXPECT_EQ(layout.waiting, waits) << name;
    EXPECT_EQ(layout.kept, config.kept.most()) << name;
    std::vector<std::byte> saved;
    instance.attention->make_state()->save(saved);
    EXPECT_EQ(layout.numbers, layout.summary + heads) << name;
    int64_t name_size = 0;
    std::memcpy(&name_size, saved.data() + sizeof(name_size), sizeof(name_size));
    const size_t signature = 14 * sizeof(int64_t) + static_cast<size_t>(name_size);
    EXPECT_EQ(saved.size(), signature + layout.numbers * sizeof(T)) << name;
  }
}

TYPED_TEST(AttentionForms, WhereNothingIsSeenTheOutputIs0) {
  using T = TypeParam;
  const Instance<T> instance(parse_layer_attention({{"method", "flash_global"}, {"group", kGroup}}, "test"),
                             kShape, 3);
  const Tokens<T> tokens(kShape, kGroup + 1, 5);
  const auto state = instance.attention->make_state();
  const auto out = by_prefill(instance, tokens, tokens.count, *state, this->pool_);
  for (int h = 0; h < kShape.heads; ++h) {
    for (int64_t t = 0; t < kGroup; ++t) EXPECT_THAT(out.row(h, t), testing::Each(T(0))) << t;
    EXPECT_THAT(out.row(h, kGroup), testing::Each(testing::Ne(T(0))));
  }
}

TEST(PointwiseFeatures, AreZeroInTheirPadding) {
  const PointwiseMap<float> map(kernels::elu1<float>, 10);
  std::vector<float> x(32, 0.0f), phi(32, NAN);
  map.queries(0, 2, x.data(), 16, phi.data(), nullptr);
  for (int i = 0; i < 32; ++i) EXPECT_EQ(phi[i], i % 16 < 10 ? 1.0f : 0.0f) << i;
}

TYPED_TEST(AttentionForms, AWindowsStateReachesItsSizeAndNoMore) {
  using T = TypeParam;
  for (const int size : {1, 5, 64, 130}) {
    AttentionConfig config;
    config.window = size;
    const Instance<T> instance(config, kShape, 3);
    const auto state = instance.attention->make_state();
    const int64_t count = size + 200;
    const Tokens<T> tokens(kShape, count, 5);
    Outputs<T> out(kShape, 1);
    size_t most = 0;
    for (int64_t t = 0; t < count; ++t) {
      instance.attention->prefill(*state, tokens.rows(t, 1), out.rows(), this->pool_);
      most = std::max(most, state->bytes());
    }
    EXPECT_EQ(most, windowed_state_bytes(kShape, size, sizeof(T))) << size;
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

template <class T>
std::vector<std::byte> saved(const AttentionConfig& config, const AttentionShape& shape) {
  std::vector<std::byte> bytes;
  Instance<T>(config, shape, 3).attention->make_state()->save(bytes);
  return bytes;
}

template <class T>
std::string load_error(const AttentionConfig& config, const AttentionShape& shape,
                       std::span<const std::byte> bytes) {
  try {
    Instance<T>(config, shape, 3).attention->make_state()->load(bytes);
  } catch (const Error& error) {
    return error.what();
  }
  return "loaded";
}

TYPED_TEST(AttentionForms, AStateOfALayerThatDiffersInOneThingIsRefusedByItsName) {
  using T = TypeParam;
  const char* const grouped =
      R"({"method": "grouped", "group": 8, "local_groups": 4, "sinks": 3, "taps": 4})";
  const struct {
    const char *own, *change, *message;
  } rows[] = {
      {grouped, R"({"group": 16, "local_groups": 2})",
       "group 16, expected group 8"},  // as many waiting tokens
      {grouped, R"({"local_groups": 5})", "waiting tokens 40, expected waiting tokens 32"},
      {grouped, R"({"kept": 6})", "of method grouped, kept tokens 6 6, expected of method grouped"},
      {grouped, R"({"kept": [6, 0]})", "of method grouped, waiting tokens 32 32, kept tokens 6 0, expected"},
      {grouped, R"({"local_groups": [4, 2]})", "of method grouped, waiting tokens 32 16, expected"},
      {grouped, R"({"sinks": 4})", "sinks 4, expected sinks 3"},
      {grouped, R"({"taps": 5})", "recent values 4, expected recent values 3"},
      {grouped, R"({"method": "relu", "local": "softmax"})", "of method relu, expected of method grouped"},
      {grouped, R"({"alpha": 1})", "summary numbers 0, expected summary numbers"},
      {R"({"method": "elu1"})", R"({"method": "t2r"})",  // as many numbers of each kind
       "of method t2r, expected of method elu1"},
      {R"({"method": "softmax"})", R"({"method": "relu"})", "of method relu, expected of method softmax"},
      {grouped, R"({"feature_position": "rotary"})", "unrotated keys 0, expected unrotated keys 1"},
      {R"({"method": "softmax", "window": 5})", R"({"window": 6})", "window 6, expected window 5"},
  };
  for (const auto& row : rows) {
    auto own = nlohmann::json::parse(row.own), other = own;
    other.update(nlohmann::json::parse(row.change));
    const AttentionConfig config = parse_layer_attention(own, "test");
    EXPECT_EQ(load_error<T>(config, kShape, saved<T>(config, kShape)), "loaded");
    EXPECT_THAT(load_error<T>(config, kShape, saved<T>(parse_layer_attention(other, "test"), kShape)),
                testing::HasSubstr(row.message));
  }
  const AttentionConfig config = parse_layer_attention(nlohmann::json::parse(grouped), "test");
  const std::pair<AttentionShape, const char*> shapes[] = {{{6, 1, 40, 24}, "key-value heads 1"},
                                                           {{6, 2, 39, 24}, "head size 39"},
                                                           {{6, 2, 40, 23}, "value size 23"}};
  for (const auto& [shape, message] : shapes) {
    for (const AttentionConfig& each : {config, AttentionConfig{}}) {
      EXPECT_THAT(load_error<T>(each, kShape, saved<T>(each, shape)), testing::HasSubstr(message));
    }
  }
  using Other = std::conditional_t<sizeof(T) == 8, float, double>;
  EXPECT_THAT(load_error<T>(config, kShape, saved<Other>(config, kShape)), testing::HasSubstr("number size"));
}

TYPED_TEST(AttentionForms, ALengthThatNoSequenceHasIsRefusedBeforeAnythingIsAllocated) {
  using T = TypeParam;
  const AttentionConfig rows[] = {
      {}, {.window = 1 << 30}, parse_layer_attention({{"method", "relu"}}, "test")};
  for (const AttentionConfig& config : rows) {
    const auto good = saved<T>(config, kShape);
    const size_t place =
        (config.grows() ? 7 : 13) * sizeof(int64_t) + config.name().size();  // past the signature
    for (const int64_t length : {int64_t{-1}, INT64_MIN, (int64_t{1} << 48) + 1, INT64_MAX}) {
      auto bytes = good;
      std::memcpy(bytes.data() + place, &length, sizeof(length));
      EXPECT_EQ(load_error<T>(config, kShape, bytes),
                "state: " + std::to_string(length) + " tokens, expected a length");
    }
    if (!config.grows()) continue;
    const int64_t length = int64_t{1} << 40;  // of which the bytes hold nothing
    auto bytes = good;
    std::memcpy(bytes.data() + bytes.size() - sizeof(length), &length, sizeof(length));
    EXPECT_THAT(load_error<T>(config, kShape, bytes), testing::HasSubstr("0 bytes left"));
  }
}

TYPED_TEST(AttentionForms, ASmallDenominatorDividesAndOnlyBelowAMillionthNoMore) {
  using T = TypeParam;
  for (const char* method : {"relu", "hedgehog"}) {
    const Instance<T> instance(parse_layer_attention({{"method", method}}, "test"), kShape, 3);
    for (const double scale : {1e-6, 1e-8, 0.0}) {  // of the queries, so of relu's φ(q)·z
      Tokens<T> tokens(kShape, 20, 5);
      for (T& number : tokens.q) number *= T(scale);
      const auto state = instance.attention->make_state();
      const auto out = by_prefill(instance, tokens, 20, *state, this->pool_);
      EXPECT_LT(relative_error(out.numbers, by_reference(instance, tokens).numbers), kTolerance<T>)
          << method << " " << scale;
    }
  }
}

// The sizes of the mathematics' section 2, a key-value head's times the heads.
TEST(AttentionLayout, HoldsWhatTheTableOfMethodsSays) {
  const struct {
    nlohmann::json config;
    int64_t summary, waiting, sinks, recent;
  } rows[] = {
      {{{"method", "relu"}}, 40 * 25, 128, 0, 0},
      {{{"method", "elu1"}, {"group", 8}, {"taps", 3}}, 40 * 25, 16, 0, 2},
      {{{"method", "hedgehog"}, {"group", 8}, {"local", "softmax"}}, 80 * 25, 16, 0, 0},
      {{{"method", "grouped"}}, 80 * 25, 256, 4, 3},
      {{{"method", "grouped"}, {"alpha", 1}, {"local_groups", 1}}, 0, 64, 4, 3},
  };
  for (const auto& row : rows) {
    const Instance<float> instance(parse_layer_attention(row.config, "test"), kShape, 3);
    const StateLayout layout = instance.attention->layout();
    EXPECT_EQ(layout.summary, row.summary * kShape.kv_heads) << row.config;
    EXPECT_EQ(layout.waiting, row.waiting) << row.config;
    EXPECT_EQ(layout.sinks, row.sinks) << row.config;
    EXPECT_EQ(layout.recent, row.recent) << row.config;
  }
}

}  // namespace
}  // namespace linnet

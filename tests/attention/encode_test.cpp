// The bidirectional and the cross form (docs/attention.md), over every row of the registry and a table of
// options.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "tests/attention/harness.h"
#include "tests/attention/options.h"

namespace linnet {
namespace {

const AttentionShape kShape{4, 2, 10, 6};

template <class T>
class AttentionEncodes : public testing::Test {
 protected:
  Outputs<T> encoded(const Instance<T>& instance, const Tokens<T>& tokens, int64_t count, int threads = 1) {
    ThreadPool pool(threads);
    Outputs<T> out(instance.shape, count);
    instance.attention->encode(tokens.rows(0, count), out.rows(), pool);
    return out;
  }
  Outputs<T> encoded(const Instance<T>& instance, const Tokens<T>& tokens) {
    return encoded(instance, tokens, tokens.count);
  }
  /// What queries read of a memory of the first `count` of `tokens`.
  Outputs<T> crossed(const Instance<T>& instance, const Tokens<T>& tokens, int64_t count,
                     const Rows<T>& queries, int threads = 1) {
    ThreadPool pool(threads);
    Rows<T> encoder = tokens.rows(0, count), decoder = queries;
    encoder.q = encoder.summary_q = {};  // a form takes no rows that it does not read
    decoder.k = decoder.v = decoder.summary_k = {};
    const auto memory = instance.attention->summarize(encoder, pool);
    EXPECT_EQ(memory->length(), count);
    Outputs<T> out(instance.shape, queries.count);
    instance.attention->read_memory(*memory, decoder, out.rows(), pool);
    return out;
  }
};
using Types = testing::Types<float, double>;
TYPED_TEST_SUITE(AttentionEncodes, Types);

bool has_cross(const AttentionConfig& config) { return config.grows() || config.has_summary(); }

/// Every row × every option once: sinks do not turn here.
std::vector<NamedConfig> configs_of(int group) {
  std::vector<NamedConfig> configs = all_configs(group);
  std::erase_if(configs, [](const NamedConfig& x) { return x.rotate; });
  return configs;
}

template <class T>
HeadSequence sequence_of(const Tokens<T>& tokens, int head, int64_t count) {
  std::vector<int32_t> all(count);
  std::iota(all.begin(), all.end(), 0);
  HeadSequence sequence;
  tokens.append(head, all, sequence);
  return sequence;
}

TYPED_TEST(AttentionEncodes, BothDirectionsByTheDefinitionAtOddLengths) {
  using T = TypeParam;
  for (int group : {1, 5, 16}) {
    for (const auto& [name, config, rotate] : configs_of(group)) {
      if (!ReferenceHead::knows(*config.method)) continue;
      const Instance<T> instance(config, kShape, 3);
      const int64_t c = config.group;
      for (int64_t n : {int64_t{1}, c - 1, c, c + 1, 3 * c + 7}) {
        if (n < 1) continue;
        const Tokens<T> tokens(kShape, n, 11);
        Outputs<T> expected(kShape, n);
        for (int h = 0; h < kShape.heads; ++h) {
          const HeadSequence x = sequence_of(tokens, h, n);
          const ReferenceHead head(config, kShape, instance.numbers, nullptr, h,
                                   ReferenceForm::kBidirectional);
          for (int64_t t = 0; t < n; ++t) {
            const Vec out = head.output(x, t);
            std::copy(out.begin(), out.end(), expected.rows().row(h, t));
          }
        }
        EXPECT_LT(relative_error(this->encoded(instance, tokens).numbers, expected.numbers), kTolerance<T>)
            << name << " of " << n;
      }
    }
  }
}

TYPED_TEST(AttentionEncodes, WhatADecoderReadsByTheDefinitionAtOddLengths) {
  using T = TypeParam;
  const Tokens<T> queries(kShape, 3, 12);
  for (int group : {1, 5, 16}) {
    for (const auto& [name, config, rotate] : configs_of(group)) {
      if (!ReferenceHead::knows(*config.method) || !has_cross(config)) continue;
      const Instance<T> instance(config, kShape, 3);
      const int64_t c = config.group;
      for (int64_t n : {int64_t{1}, c - 1, c, c + 1, 3 * c + 7}) {
        if (n < 1) continue;
        const Tokens<T> tokens(kShape, n, 11);
        Outputs<T> expected(kShape, queries.count);
        for (int h = 0; h < kShape.heads; ++h) {
          for (int32_t t = 0; t < queries.count; ++t) {
            HeadSequence x = sequence_of(tokens, h, n);
            queries.append(h, {t}, x);
            const Vec out =
                ReferenceHead(config, kShape, instance.numbers, nullptr, h, ReferenceForm::kCross).last(x);
            std::copy(out.begin(), out.end(), expected.rows().row(h, t));
          }
        }
        const auto out = this->crossed(instance, tokens, n, queries.rows());
        EXPECT_LT(relative_error(out.numbers, expected.numbers), kTolerance<T>) << name << " of " << n;
      }
    }
  }
}

/// The sequence with group g behind all others, which keep their order.
template <class T>
Tokens<T> with_group_last(const Tokens<T>& tokens, int64_t group, int64_t g) {
  Tokens<T> moved = tokens;
  const int64_t n = tokens.count;
  const auto move = [&](const std::vector<T>& from, std::vector<T>& to, int64_t size) {
    const int64_t heads = static_cast<int64_t>(from.size()) / (n * size);
    for (int64_t h = 0; h < heads; ++h) {
      const auto begin = to.begin() + h * n * size;
      std::rotate(begin + g * group * size, begin + (g + 1) * group * size, begin + n * size);
    }
  };
  move(tokens.q, moved.q, tokens.shape.head_size);
  move(tokens.k, moved.k, tokens.shape.head_size);
  move(tokens.v, moved.v, tokens.shape.value_size);
  move(tokens.summary_q, moved.summary_q, tokens.shape.head_size);
  move(tokens.summary_k, moved.summary_k, tokens.shape.head_size);
  return moved;
}

// The last token of a sequence sees all of it, so whole groups may trade places: a row needs no definition
// in the tests for this. It holds where nothing depends on distance.
TYPED_TEST(AttentionEncodes, AGroupsLastTokenAsTheCausalFormDoesOnceItsGroupComesLast) {
  using T = TypeParam;
  constexpr int64_t kGroup = 5, kGroups = 4;
  const Tokens<T> tokens(kShape, kGroup * kGroups, 5);
  ThreadPool pool(1);
  for (const auto& [name, given, rotate] : configs_of(kGroup)) {
    AttentionConfig config = given;
    if (config.group != kGroup || config.window > 0) continue;
    config.taps = config.sinks = 0;
    config.local_groups = 1;
    config.kept = 0;
    config.decay = 1;
    config.decay_learned = false;
    const Instance<T> instance(config, kShape, 3);
    const auto out = this->encoded(instance, tokens);
    for (int64_t g = 0; g < kGroups; ++g) {
      const auto state = instance.attention->make_state();
      const auto causal = by_prefill(instance, with_group_last(tokens, kGroup, g), 9, *state, pool);
      for (int64_t h = 0; h < kShape.heads; ++h) {
        EXPECT_LT(relative_error(out.row(h, (g + 1) * kGroup - 1), causal.row(h, tokens.count - 1)),
                  10 * kTolerance<T>)
            << name << ", group " << g;
      }
    }
  }
}

// Without a local branch a causal query reads what a decoder's does: all tokens up to itself, or those of the
// groups before its own.
TYPED_TEST(AttentionEncodes, ADecodersQueryAsThePrefillOfThoseTokens) {
  using T = TypeParam;
  constexpr int64_t kGroup = 5;
  const Tokens<T> tokens(kShape, 3 * kGroup + 2, 5);
  ThreadPool pool(1);
  for (const auto& [name, given, rotate] : configs_of(kGroup)) {
    AttentionConfig config = given;
    if (config.has_local() || config.window > 0) continue;
    config.taps = 0;
    const Instance<T> instance(config, kShape, 3);
    const auto state = instance.attention->make_state();
    const auto causal = by_prefill(instance, tokens, 7, *state, pool);
    const int64_t last = tokens.count - 1;
    const int64_t seen = config.method->inclusive ? tokens.count : 3 * kGroup;
    const auto out = this->crossed(instance, tokens, seen, tokens.rows(last, 1));
    for (int64_t h = 0; h < kShape.heads; ++h) {
      EXPECT_LT(relative_error(out.row(h, 0), causal.row(h, last)), kTolerance<T>) << name;
    }
  }
}

TYPED_TEST(AttentionEncodes, NothingOfWhatStandsBehindTheSequence) {
  using T = TypeParam;
  for (const auto& [name, config, rotate] : configs_of(5)) {
    const Instance<T> instance(config, kShape, 3);
    const int64_t n = 13;
    const Tokens<T> tokens(kShape, n + 6, 5);
    Tokens<T> spoilt = tokens;
    const auto spoil = [&](std::vector<T>& x, int64_t size) {
      for (size_t i = 0; i < x.size(); ++i) {
        if (static_cast<int64_t>(i) / size % tokens.count >= n) x[i] = T(NAN);
      }
    };
    for (auto* x : {&spoilt.q, &spoilt.k, &spoilt.summary_q, &spoilt.summary_k}) spoil(*x, kShape.head_size);
    spoil(spoilt.v, kShape.value_size);
    EXPECT_EQ(this->encoded(instance, spoilt, n).numbers, this->encoded(instance, tokens, n).numbers) << name;
    if (!has_cross(config)) continue;
    EXPECT_EQ(this->crossed(instance, spoilt, n, tokens.rows(0, 4)).numbers,
              this->crossed(instance, tokens, n, tokens.rows(0, 4)).numbers)
        << name;
  }
}

TYPED_TEST(AttentionEncodes, TheSameBitsOnAnyNumberOfThreadsAndAmongAnyOtherQueries) {
  using T = TypeParam;
  const Tokens<T> tokens(kShape, 43, 5);
  for (const auto& [name, config, rotate] : configs_of(5)) {
    const Instance<T> instance(config, kShape, 3);
    EXPECT_EQ(this->encoded(instance, tokens, 43, 3).numbers, this->encoded(instance, tokens, 43).numbers)
        << name;
    if (!has_cross(config)) continue;
    const auto all = this->crossed(instance, tokens, 20, tokens.rows(), 3);
    const auto one = this->crossed(instance, tokens, 20, tokens.rows(37, 1));
    for (int64_t h = 0; h < kShape.heads; ++h) EXPECT_EQ(one.row(h, 0), all.row(h, 37)) << name;
  }
}

TYPED_TEST(AttentionEncodes, AMemoryOfTheSameSizeWhateverItsLength) {
  using T = TypeParam;
  ThreadPool pool(1);
  const Tokens<T> tokens(kShape, 200, 5);
  for (const auto& [name, config, rotate] : configs_of(5)) {
    if (!config.has_summary()) continue;
    const Instance<T> instance(config, kShape, 3);
    EXPECT_EQ(instance.attention->summarize(tokens.rows(), pool)->bytes(),
              instance.attention->summarize(tokens.rows(0, 1), pool)->bytes())
        << name;
  }
}

TYPED_TEST(AttentionEncodes, NothingAs0) {
  using T = TypeParam;
  const Tokens<T> tokens(kShape, 3, 5);
  for (const auto& [name, config, rotate] : configs_of(5)) {
    const Instance<T> instance(config, kShape, 3);
    EXPECT_TRUE(this->encoded(instance, tokens, 0).numbers.empty()) << name;
    if (!has_cross(config)) continue;
    EXPECT_THAT(this->crossed(instance, tokens, 0, tokens.rows()).numbers, testing::Each(T(0))) << name;
  }
}

TYPED_TEST(AttentionEncodes, NoCrossFormWithoutASummary) {
  using T = TypeParam;
  ThreadPool pool(1);
  const Tokens<T> tokens(kShape, 3, 5);
  for (const auto& [name, config, rotate] : configs_of(5)) {
    if (has_cross(config)) continue;
    const Instance<T> instance(config, kShape, 3);
    try {
      instance.attention->summarize(tokens.rows(), pool);
      ADD_FAILURE() << name;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(std::string(config.name()) + " without a summary"));
    }
  }
}

// Exponents that no float holds: each is kept apart in the sums before, the sums after, and both together.
TYPED_TEST(AttentionEncodes, ScaledFeaturesWhereKeysGrowAndShrinkAlongTheSequence) {
  using T = TypeParam;
  const AttentionConfig config = parse_layer_attention(
      {{"method", "performer"}, {"group", 4}, {"local", "softmax"}, {"alpha", 0.3}}, "test");
  for (const bool grows : {true, false}) {
    const Instance<T> instance(config, kShape, 3);
    Tokens<T> tokens(kShape, 17, 5);
    for (size_t i = 0; i < tokens.k.size(); ++i) {
      const auto s = static_cast<int64_t>(i) / kShape.head_size % tokens.count;
      tokens.k[i] *= T(grows ? s + 1 : tokens.count - s);
    }
    const HeadSequence x = sequence_of(tokens, 1, tokens.count);
    const ReferenceHead head(config, kShape, instance.numbers, nullptr, 1, ReferenceForm::kBidirectional);
    const auto out = this->encoded(instance, tokens);
    for (int64_t t = 0; t < tokens.count; ++t) {
      EXPECT_LT(relative_error(out.row(1, t), head.output(x, t)), 30 * kTolerance<T>) << t;
    }
  }
}

}  // namespace
}  // namespace linnet

#include "model/decoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <climits>
#include <utility>

#include "base/error.h"
#include "tests/kernels/numbers.h"
#include "tests/model/random_model.h"

namespace linnet {
namespace {

struct Case {
  const char* name;
  RandomModel spec;
};
void PrintTo(const Case& row, std::ostream* out) { *out << row.name; }

std::vector<Case> cases() {
  return {{"llama", {}},
          {"llama_untied_biased", {.tied = false, .biased = true}},
          {"llama_bf16", {.type = DType::kBF16}},
          {"llama_grouped", {.attention = kGrouped}},
          {"llama_grouped_past_its_positions", {.positions = 24, .attention = kGrouped}},
          {"llama_hybrid_bf16", {.type = DType::kBF16, .attention = kHybrid}},
          {"gpt2", {.gpt2 = true}},
          {"gpt2_untied_grouped", {.gpt2 = true, .tied = false, .attention = kGrouped}}};
}

class DecoderForms : public testing::TestWithParam<Case> {
 protected:
  std::unique_ptr<Decoder> decoder(ComputeType compute, int slots = 1, int chunk = 512) {
    return Decoder::make(model_.get(), {.compute = compute, .slots = slots, .chunk = chunk}, pool_);
  }
  size_t vocabulary() const { return static_cast<size_t>(model_.get()->config().vocabulary); }

  /// Logits [tokens, vocabulary] of a sequence by prefill.
  std::vector<float> by_prefill(Decoder& decoder, std::span<const int32_t> tokens, int slot = 0) {
    auto logits = poison(tokens.size() * vocabulary());
    decoder.reset(slot);
    decoder.prefill(slot, tokens, 0, logits);
    return logits;
  }
  /// The same token by token: a step on a tree of one node, then its commit.
  std::vector<float> by_steps(Decoder& decoder, std::span<const int32_t> tokens, int slot = 0) {
    std::vector<float> logits;
    for (int32_t token : tokens) {
      const TokenTree tree = TokenTree::single(token);
      const Decoder::Branch branch{slot, &tree};
      decoder.step({&branch, 1});
      const auto row = decoder.logits(0);
      logits.insert(logits.end(), row.begin(), row.end());
      decoder.commit(0, std::vector<int32_t>{0});
    }
    return logits;
  }

  /// Logits [nodes, vocabulary] of a step.
  static std::vector<float> stepped(Decoder& decoder, std::span<const Decoder::Branch> branches) {
    decoder.step(branches);
    std::vector<float> logits;
    int node = 0;
    for (const Decoder::Branch& branch : branches) {
      for (int i = 0; i < branch.tree->size(); ++i, ++node) {
        const auto row = decoder.logits(node);
        EXPECT_EQ(decoder.likeliest(node), argmax(row));
        logits.insert(logits.end(), row.begin(), row.end());
      }
    }
    return logits;
  }

  TemporaryModel model_{GetParam().spec};
  ThreadPool pool_{2};
};

INSTANTIATE_TEST_SUITE_P(All, DecoderForms, testing::ValuesIn(cases()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(DecoderForms, PrefillInOneInChunksAndTokenByTokenAgree) {
  const auto tokens = random_tokens(75, vocabulary(), 3);
  const struct {
    ComputeType compute;
    double tolerance;
  } kTypes[] = {{ComputeType::kFloat64, 1e-6}, {ComputeType::kFloat32, 1e-5}};  // logits leave as float32
  for (const auto& type : kTypes) {
    const auto whole = decoder(type.compute);
    const auto expected = by_prefill(*whole, tokens);
    EXPECT_EQ(whole->length(0), 75);
    whole->reset(0);
    EXPECT_LT(relative_rms(by_steps(*whole, tokens), expected), type.tolerance);
    for (int chunk : {1, 7, 16, 64}) {
      EXPECT_LT(relative_rms(by_prefill(*decoder(type.compute, 1, chunk), tokens), expected), type.tolerance)
          << chunk;
    }
  }
}

TEST_P(DecoderForms, ComputeTypesAgreeToTheirPrecision) {
  const auto tokens = random_tokens(40, vocabulary(), 4);
  const auto exact = by_prefill(*decoder(ComputeType::kFloat64), tokens);
  EXPECT_LT(relative_rms(by_prefill(*decoder(ComputeType::kFloat32), tokens), exact), 1e-5);
  EXPECT_LT(relative_rms(by_prefill(*decoder(ComputeType::kBFloat16), tokens), exact), 4e-2);
  const auto decoded = [&](ComputeType compute) { return by_steps(*decoder(compute), tokens); };
  EXPECT_LT(relative_rms(decoded(ComputeType::kFloat32), exact), 1e-5) << "decode multiplies weights exactly";
  // Rows are rounded where weights are bf16, as a prefill's are.
  const bool narrow = GetParam().spec.type == DType::kBF16;
  EXPECT_LT(relative_rms(decoded(ComputeType::kAuto), exact), narrow ? 4e-2 : 1e-5);
}

TEST_P(DecoderForms, OnlyTheRowsAskedForGetLogits) {
  const auto tokens = random_tokens(50, vocabulary(), 5);
  const auto one = decoder(ComputeType::kFloat32, 1, 16);
  const auto all = by_prefill(*one, tokens);
  for (size_t first : {size_t{0}, size_t{13}, size_t{16}, size_t{49}, size_t{50}}) {
    auto logits = poison((50 - first) * vocabulary());
    one->reset(0);
    one->prefill(0, tokens, first, logits);
    if (first == 50) continue;
    const std::vector<float> expected(all.begin() + static_cast<int64_t>(first * vocabulary()), all.end());
    EXPECT_LT(relative_rms(logits, expected), 1e-6) << first;
  }
}

/// A random tree: each node hangs from a random earlier one.
TokenTree random_tree(int32_t nodes, int64_t vocabulary, uint64_t seed) {
  TokenTree tree;
  const auto tokens = random_tokens(static_cast<size_t>(nodes), vocabulary, seed);
  for (int32_t i = 0; i < nodes; ++i)
    tree.add(tokens[i], i == 0 ? -1 : static_cast<int32_t>(uniform_integer(seed, 5, i, i)));
  return tree;
}

std::vector<int32_t> path_to(const TokenTree& tree, int32_t node) {
  std::vector<int32_t> path;
  for (; node >= 0; node = tree.parent(node)) path.insert(path.begin(), node);
  return path;
}

TEST_P(DecoderForms, ANodeOfATreeHasTheBitsOfItsPathDecodedAlone) {
  for (size_t length : {0u, 1u, 7u, 13u, 30u}) {  // at several offsets to the ends of groups
    const auto tokens = random_tokens(length, vocabulary(), 6);
    const auto one = decoder(ComputeType::kAuto, 2);
    one->prefill(0, tokens, length, {});
    const auto state = one->save(0);
    const TokenTree tree = random_tree(20, static_cast<int64_t>(vocabulary()), 100 + length);
    const Decoder::Branch branch{0, &tree};
    const auto together = stepped(*one, {&branch, 1});
    for (int32_t node = 0; node < tree.size(); ++node) {
      if (tree.depth(node) >= 5) continue;  // bits are promised to a depth of a group
      std::vector<int32_t> path;
      for (int32_t at : path_to(tree, node)) path.push_back(tree.token(at));
      one->load(1, state);
      const auto alone = by_steps(*one, path, 1);
      EXPECT_EQ(bits(std::span(alone).last(vocabulary())),
                bits(std::span(together).subspan(static_cast<size_t>(node) * vocabulary(), vocabulary())))
          << "node " << node << " after " << length;
    }
  }
}

TEST_P(DecoderForms, CommittingAPathGivesTheStateOfDecodingIt) {
  const auto tokens = random_tokens(11, vocabulary(), 7);
  const auto one = decoder(ComputeType::kAuto, 2);
  for (int slot : {0, 1}) one->prefill(slot, tokens, tokens.size(), {});
  const TokenTree tree = random_tree(12, static_cast<int64_t>(vocabulary()), 8);
  const Decoder::Branch branch{0, &tree};
  one->step({&branch, 1});
  const auto path = path_to(tree, 11);
  one->commit(0, path);
  std::vector<int32_t> taken;
  for (int32_t node : path) taken.push_back(tree.token(node));
  by_steps(*one, taken, 1);
  EXPECT_EQ(one->save(0), one->save(1));
}

TEST_P(DecoderForms, ASequenceHasTheSameBitsAloneAndBesideNeighbours) {
  const auto batch = decoder(ComputeType::kAuto, 3), alone = decoder(ComputeType::kAuto);
  const TokenTree trees[] = {random_tree(4, static_cast<int64_t>(vocabulary()), 1),
                             random_tree(1, static_cast<int64_t>(vocabulary()), 2),
                             random_tree(9, static_cast<int64_t>(vocabulary()), 3)};
  std::vector<Decoder::Branch> branches;
  for (int slot = 0; slot < 3; ++slot) {
    const auto tokens = random_tokens(10 + 7 * slot, vocabulary(), 20 + slot);
    batch->prefill(slot, tokens, tokens.size(), {});
    branches.push_back({slot, &trees[slot]});
  }
  const auto logits = stepped(*batch, branches);
  size_t at = 0;
  for (int slot = 0; slot < 3; ++slot) {
    const auto tokens = random_tokens(10 + 7 * slot, vocabulary(), 20 + slot);
    alone->reset(0);
    alone->prefill(0, tokens, tokens.size(), {});
    const Decoder::Branch branch{0, &trees[slot]};
    const auto expected = stepped(*alone, {&branch, 1});
    EXPECT_EQ(bits(std::span(logits).subspan(at, expected.size())), bits(expected)) << slot;
    at += expected.size();
    batch->commit(slot, std::vector<int32_t>{0});
    alone->commit(0, std::vector<int32_t>{0});
    EXPECT_EQ(batch->save(slot), alone->save(0)) << slot;
  }
}

TEST_P(DecoderForms, ASavedStateContinuesBitForBit) {
  for (size_t length : {0u, 3u, 16u, 29u}) {  // also in the middle of a group
    const auto tokens = random_tokens(length, vocabulary(), 9), more = random_tokens(20, vocabulary(), 10);
    for (ComputeType compute : {ComputeType::kAuto, ComputeType::kFloat64}) {
      const auto first = decoder(compute), second = decoder(compute);
      first->prefill(0, tokens, length, {});
      second->prefill(0, more, more.size(), {});  // what load must replace
      second->load(0, first->save(0));
      EXPECT_EQ(second->length(0), static_cast<int64_t>(length));
      EXPECT_EQ(second->state_bytes(0), first->state_bytes(0));
      EXPECT_EQ(bits(by_steps(*second, more)), bits(by_steps(*first, more)));
      EXPECT_EQ(second->save(0), first->save(0));
    }
  }
}

TEST(DecoderHidden, IsTheRowThatTheHeadTurnsIntoLogits) {
  const RandomModel spec;
  const TemporaryModel model(spec);
  ThreadPool pool(1);
  const auto decoder = Decoder::make(model.get(), {.compute = ComputeType::kFloat32}, pool);
  std::vector<float> logits(61);
  decoder->prefill(0, random_tokens(5, spec.vocabulary, 1), 4, logits);
  const auto head = to_float(*model.get()->tensor(model.get()->family().embedding, "weight"), "head");
  const auto hidden = decoder->hidden(0);
  ASSERT_EQ(hidden.size(), 48u);
  for (size_t v = 0; v < 61; ++v) {
    double sum = 0;
    for (size_t i = 0; i < 48; ++i) sum += double{head[v * 48 + i]} * double{hidden[i]};
    EXPECT_NEAR(logits[v], sum, 1e-4) << v;
  }
}

TEST(DecoderSinks, KeepTheirDistanceOnceTheTextIsLongerThanWhatWasTrained) {
  ThreadPool pool(1);
  const auto logits = [&](int64_t positions) {
    const RandomModel spec{.positions = positions, .attention = kGrouped};
    const TemporaryModel model(spec);
    const auto decoder = Decoder::make(model.get(), {.compute = ComputeType::kFloat64}, pool);
    std::vector<float> out(40 * 61);
    decoder->prefill(0, random_tokens(40, spec.vocabulary, 1), 0, out);
    return out;
  };
  const auto trained = logits(512), past = logits(24);
  for (size_t t = 0; t < 40; ++t) {
    EXPECT_EQ(std::equal(trained.begin() + t * 61, trained.begin() + (t + 1) * 61, past.begin() + t * 61),
              t < 24)
        << t;
  }
}

TEST(DecoderErrors, NameTheLimit) {
  const RandomModel spec{.gpt2 = true, .positions = 12};
  const TemporaryModel model(spec);
  ThreadPool pool(1);
  const auto decoder = Decoder::make(model.get(), {.max_nodes = 4}, pool);
  const auto message = [](const auto& work) -> std::string {
    try {
      work();
    } catch (const Error& error) {
      return error.what();
    }
    return "nothing thrown";
  };
  const auto tokens = random_tokens(10, spec.vocabulary, 1);
  const std::vector<int32_t> bad = {3, static_cast<int32_t>(spec.vocabulary)}, negative = {-1};
  EXPECT_EQ(message([&] { decoder->prefill(0, bad, 2, {}); }), "token: 61, expected an id from 0 to 60");
  EXPECT_EQ(message([&] { decoder->prefill(0, negative, 1, {}); }), "token: -1, expected an id from 0 to 60");
  EXPECT_EQ(decoder->length(0), 0);
  decoder->prefill(0, tokens, 10, {});
  EXPECT_EQ(message([&] { decoder->prefill(0, std::span(tokens).first(3), 3, {}); }),
            "position: 13 tokens, expected at most 12, where the model's learned positions end");
  const auto step = [&](const TokenTree& tree) {
    const Decoder::Branch branch{0, &tree};
    decoder->step({&branch, 1});
  };
  EXPECT_EQ(message([&] { step(TokenTree::chain(std::span(tokens).first(3))); }),
            "position: 13 tokens, expected at most 12, where the model's learned positions end");
  EXPECT_EQ(message([&] {
              step(TokenTree({1, 2, 3, 4, 5}, {-1, 0, 0, 0, 0}));
            }),
            "step: 5 nodes, expected at most 4");
  EXPECT_EQ(message([&] { step(TokenTree()); }), "step: an empty tree, expected a root at least");
  decoder->step({});
  EXPECT_EQ(message([&] { step(TokenTree::single(61)); }), "token: 61, expected an id from 0 to 60");
  EXPECT_EQ(message([&] { decoder->commit(0, std::vector<int32_t>{0}); }),
            "commit: branch 0, expected one of the last step");
  step(TokenTree({1, 2, 3}, {-1, 0, 0}));
  EXPECT_EQ(message([&] {
              decoder->commit(0, std::vector<int32_t>{0, 1, 2});
            }),
            "commit: node 2 after 1, expected a path from the tree's root");
  decoder->commit(0, std::vector<int32_t>{0, 2});
  EXPECT_EQ(decoder->length(0), 12);
  EXPECT_EQ(message([&] { decoder->commit(0, std::vector<int32_t>{0}); }),
            "commit: the sequence went on after the step, expected one commit a step");
  EXPECT_EQ(message([] { compute_type("fp8"); }),
            "--dtype: \"fp8\", expected auto, float32, bfloat16 or float64");
}

TEST(DecoderInfo, IsTheModels) {
  RandomModel linear, learned{.gpt2 = true, .positions = 40};
  linear.attention = {{"method", "elu1"}, {"group", 5}, {"layers", {{"1", {{"group", 3}}}}}};
  const TemporaryModel one(linear), other(learned);
  ThreadPool pool(1);
  const auto of = [&](const TemporaryModel& model) {
    return Decoder::make(model.get(), {.chunk = 16}, pool)->info();
  };
  EXPECT_EQ(of(one).vocabulary, linear.vocabulary);
  EXPECT_EQ(of(one).tree_depth, 3);  // the smallest group
  EXPECT_EQ(of(one).positions, 0);   // rotary ones have no end
  EXPECT_EQ(of(one).memory, INT64_MAX);
  EXPECT_EQ(of(one).chunk, 16);
  EXPECT_EQ(of(other).tree_depth, INT_MAX);
  EXPECT_EQ(of(other).positions, 40);
  EXPECT_LT(of(other).memory, INT64_MAX);
}

TEST(DecoderDevices, ThatAreNotThereAreRefused) {
  const TemporaryModel model(RandomModel{});
  ThreadPool pool(1);
  const std::pair<const char*, const char*> rows[] = {
      {"cuda", "--device: device unavailable: cuda, expected cpu (a GPU is for training alone)"},
      {"cuda:1", "--device: device unavailable: cuda:1, expected cpu (a GPU is for training alone)"},
      {"cuda:", "--device: unknown device \"cuda:\", expected cpu, cuda or cuda:N"},
      {"tpu", "--device: unknown device \"tpu\", expected cpu, cuda or cuda:N"}};
  for (const auto& [device, message] : rows) {
    try {
      Decoder::make(model.get(), {.device = device}, pool);
      ADD_FAILURE() << device;
    } catch (const Error& error) {
      EXPECT_STREQ(error.what(), message);
    }
  }
}
}  // namespace
}  // namespace linnet

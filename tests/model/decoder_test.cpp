#include "model/decoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "model/linear.h"
#include "model/slot_file.h"
#include "tests/format/files.h"
#include "tests/kernels/numbers.h"
#include "tests/model/random_model.h"

namespace linnet {
namespace {

using Json = nlohmann::json;

// Small groups, so that a short sequence crosses many of their ends.
const Json kGrouped = {{"method", "grouped"}, {"group", 8}, {"local_groups", 2}, {"sinks", 3}};
const Json kHybrid = {{"method", "elu1"},
                      {"group", 5},
                      {"local", "softmax"},
                      {"taps", 3},
                      {"layers", {{"1", {{"method", "softmax"}}}}}};

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

TEST(Linear, BiasesFollowTheirOutputsThroughEveryPieceAndMatrix) {
  constexpr int64_t kIn = 64, kOut = 600, kRows = 3;  // enough bytes for several pieces
  const auto weights = normals(2 * kOut * kIn, 1), bias = normals(2 * kOut, 2), x = normals(kRows * kIn, 3);
  std::vector<Matrix> matrices;
  for (int64_t m : {0, 1}) {
    const auto* data = reinterpret_cast<const std::byte*>(weights.data() + m * kOut * kIn);
    matrices.push_back({{kernels::WeightType::kFloat32, kOut, kIn, data, nullptr}, nullptr});
  }
  const Linear linear(matrices, bias, false);
  ThreadPool pool(3);
  ProductScratch scratch;
  auto y = poison(kRows * 2 * kOut);
  linear.step(x.data(), kIn, kRows, y.data(), scratch, pool);
  std::vector<double> expected(y.size());
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t o = 0; o < 2 * kOut; ++o) {
      double& sum = expected[r * 2 * kOut + o] = bias[o];
      for (int64_t i = 0; i < kIn; ++i) sum += double{weights[o * kIn + i]} * double{x[r * kIn + i]};
    }
  }
  EXPECT_LT(relative_rms(y, expected), 1e-6);
}

TEST(DecoderWeights, IntegersDecodeAlikeInATreeAndAsTheNumbersThatTheyStandFor) {
  ThreadPool pool(2);
  const RandomModel spec{.hidden = 64, .heads = 4, .head_size = 16, .intermediate = 96, .type = DType::kBF16};
  const TemporaryModel model(spec);
  const auto tokens = random_tokens(9, spec.vocabulary, 1);
  const auto logits = [&](ComputeType compute, std::optional<kernels::WeightType> weights, bool as_tree) {
    const auto decoder = Decoder::make(model.get(), {.compute = compute, .weights = weights}, pool);
    std::vector<float> all;
    TokenTree tree;
    for (const int32_t token : tokens) {
      if (!as_tree) tree.clear();
      tree.add(token, tree.size() - 1);
      if (as_tree && tree.size() < std::ssize(tokens)) continue;
      const Decoder::Branch branch{0, &tree};
      decoder->step({&branch, 1});
      for (int node = 0; node < tree.size(); ++node) {
        const auto now = decoder->logits(node);
        all.insert(all.end(), now.begin(), now.end());
      }
      if (!as_tree) decoder->commit(0, std::vector<int32_t>{0});
    }
    return all;
  };
  const auto stored = logits(ComputeType::kFloat64, {}, false);
  for (const auto& [type, tolerance] :
       {std::pair(kernels::WeightType::kInt8, 0.06), std::pair(kernels::WeightType::kInt4, 0.7)}) {
    const auto exact = logits(ComputeType::kFloat64, type, false);
    EXPECT_LT(relative_rms(exact, stored), tolerance);
    EXPECT_LT(relative_rms(logits(ComputeType::kFloat32, type, false), exact), 1e-5);
    const auto rounded = logits(ComputeType::kAuto, type, false);
    EXPECT_LT(relative_rms(rounded, exact), 0.03);
    EXPECT_EQ(bits(rounded), bits(logits(ComputeType::kAuto, type, true)));
  }
}

TEST(DecoderProfile, NamesEveryWeightThatAStepReads) {
  ThreadPool pool(2);
  for (const bool gpt2 : {false, true}) {
    const RandomModel spec{.gpt2 = gpt2, .attention = kGrouped};
    const TemporaryModel model(spec);
    Profile profile;
    const auto decoder = Decoder::make(model.get(), {.profile = &profile}, pool);
    const TokenTree tree = TokenTree::single(1);
    const Decoder::Branch branch{0, &tree};
    decoder->step({&branch, 1});
    size_t bytes = profile.outside()[static_cast<size_t>(Operation::kHead)].weight_bytes;
    ASSERT_EQ(profile.layers().size(), static_cast<size_t>(spec.layers));
    for (const Profile::Operations& layer : profile.layers()) {
      for (const Profile::Entry& entry : layer) bytes += entry.weight_bytes;
      for (const Operation operation : {Operation::kNorm, Operation::kAttention, Operation::kAdd})
        EXPECT_GT(layer[static_cast<size_t>(operation)].seconds, 0);
    }
    const size_t embedded = static_cast<size_t>(spec.hidden) * sizeof(float) * (gpt2 ? 2 : 1);
    EXPECT_EQ(bytes + embedded, decoder->cost().step_weight_bytes);
    profile.clear();
    EXPECT_TRUE(profile.layers().empty());
  }
}

TEST(DecoderRandom, AConfigAloneMakesAModelOfItsShape) {
  ThreadPool pool(2);
  for (const bool gpt2 : {false, true}) {
    for (const char* dtype : {"bfloat16", "float32"}) {
      const TemporaryModel written({.gpt2 = gpt2, .tied = gpt2, .biased = true, .attention = kHybrid});
      const auto file = written.folder() / "config.json";
      Json config = Json::parse(MappedFile(file).text());
      config["torch_dtype"] = dtype;
      write_file(file, config.dump());
      const auto model = Model::random(file, 3);
      for (const auto& [name, tensor] : written.get()->base_tensors().tensors()) {
        const TensorView* drawn = model->base_tensors().find(name);
        ASSERT_NE(drawn, nullptr) << name;
        EXPECT_EQ(drawn->shape, tensor.shape) << name;
        EXPECT_TRUE(is_sound(*drawn)) << name;
      }
      EXPECT_EQ(model->base_tensors().find(gpt2 ? "transformer.wte.weight" : "lm_head.weight")->type,
                std::string_view(dtype) == "float32" ? DType::kF32 : DType::kBF16);
      std::vector<float> logits(61);
      Decoder::make(model, {}, pool)->prefill(0, random_tokens(20, 61, 1), 19, logits);
      for (const float logit : logits) EXPECT_TRUE(std::isfinite(logit));
      EXPECT_NE(*std::ranges::min_element(logits), *std::ranges::max_element(logits));
    }
  }
}

TEST(DecoderRandom, RefusesAShapeThatMemoryCannotHold) {
  const TemporaryModel written({});
  const auto file = written.folder() / "config.json";
  Json config = Json::parse(MappedFile(file).text());
  config["vocab_size"] = 2'000'000'000;
  config["hidden_size"] = 48'000;
  write_file(file, config.dump());
  try {
    Model::random(file, 1);
    ADD_FAILURE() << "made";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("GB of weights, expected a shape that fits"), std::string::npos)
        << error.what();
  }
}

/// Moves every tensor of a file one byte on, behind a tensor of one byte.
void shift_tensors(const std::filesystem::path& file) {
  const std::string old(MappedFile(file).text());
  uint64_t length = 0;
  std::memcpy(&length, old.data(), sizeof(length));
  Json header = Json::parse(old.substr(8, length));
  for (auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    for (Json& offset : entry["data_offsets"]) offset = offset.get<int64_t>() + 1;
  }
  header["odd"] = {{"dtype", "U8"}, {"shape", {1}}, {"data_offsets", {0, 1}}};
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');
  write_file(file, safetensors(text, old.substr(8 + length).insert(0, 1, 'x')));
}

TEST(DecoderWeights, TensorsThatStandAtOddBytesComputeTheSame) {
  ThreadPool pool(1);
  for (const DType type : {DType::kF32, DType::kBF16}) {
    const TemporaryModel model({.type = type, .attention = kGrouped});
    const auto odd = model.folder() / "odd";
    std::filesystem::create_directory(odd);
    for (const char* name : {"config.json", "model.safetensors"})
      std::filesystem::copy(model.folder() / name, odd / name);
    shift_tensors(odd / "model.safetensors");
    const auto shifted = Model::open(odd);
    EXPECT_EQ(shifted->unused_tensors(), std::vector<std::string>{"odd"});
    const auto logits = [&](const std::shared_ptr<const Model>& of) {
      std::vector<float> out(20 * 61);
      Decoder::make(of, {}, pool)->prefill(0, random_tokens(20, 61, 1), 0, out);
      return out;
    };
    EXPECT_EQ(bits(logits(shifted)), bits(logits(model.get())));
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

TEST(DecoderStates, OneOfAnotherModelOrDamagedIsRejectedAndTheRunningOneStays) {
  const RandomModel spec{.attention = kGrouped};
  const TemporaryModel model(spec);
  ThreadPool pool(1);
  const auto decoder = Decoder::make(model.get(), {}, pool);
  const auto tokens = random_tokens(21, spec.vocabulary, 1);
  decoder->prefill(0, tokens, tokens.size(), {});
  const auto good = decoder->save(0);
  const auto rejected = [&](std::span<const std::byte> bytes, const char* saying) {
    try {
      decoder->load(0, bytes);
      ADD_FAILURE() << "loaded, but " << saying;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(saying), std::string::npos) << error.what();
    }
    EXPECT_EQ(decoder->save(0), good);
  };
  const size_t version = 12, attention = to_json(model.get()->attention()).dump().size();
  uint32_t arithmetic = 0;  // the length of its text
  std::memcpy(&arithmetic, good.data() + version + 8, sizeof(arithmetic));
  const size_t weights = version + 12 + arithmetic, length = weights + 20 + attention, body = length + 12;
  for (size_t cut = 0; cut < good.size(); cut += 97)
    rejected(std::span(good).first(cut), cut < body + sizeof(uint64_t) ? "ends too early" : "checksum");
  rejected(std::span(good).first(good.size() - 1), "checksum");
  const auto saying = [&](size_t flipped) {  // of the field that a bit of this byte belongs to
    if (flipped < version) return "is no saved state";
    if (flipped < version + 4) return "version";
    if (flipped < version + 8) return "numbers of";
    const auto counted = [&](size_t begin, size_t count, const char* text) {  // a size and what follows
      const size_t size = flipped < begin + 4 ? count ^ (size_t{0x10} << 8 * (flipped - begin)) : count;
      return begin + 4 + size > good.size() ? "ends too early" : text;
    };
    if (flipped < weights) return counted(version + 8, arithmetic, "saved with");
    if (flipped < weights + 16) return "belongs to other weights";
    if (flipped < weights + 20) return counted(weights + 16, attention, "attention");
    if (flipped < length) return "attention";
    return flipped >= length + 8 && flipped < body ? "layers" : "checksum";
  };
  for (size_t at = 0; at < good.size(); at += at < body ? 1 : 131) {
    auto flipped = good;
    flipped[at] ^= std::byte{0x10};
    rejected(flipped, saying(at));
  }
  const auto changed = [&](const auto& change) {  // and sealed anew
    auto bytes = good;
    bytes.resize(good.size() - sizeof(uint64_t));
    change(bytes);
    seal(bytes);
    return bytes;
  };
  rejected(changed([](auto& bytes) { bytes.push_back(std::byte{0}); }), "1 bytes too many");
  rejected(changed([&](auto& bytes) { bytes[version] = std::byte{1}; }), "version 1, expected version 2");
  rejected(changed([&](auto& bytes) { bytes[length] = std::byte{22}; }),
           "layers of different lengths, expected 22 tokens in each");
  const auto of = [&](RandomModel other, ComputeType compute = ComputeType::kAuto) {
    const TemporaryModel other_model(other);
    const auto other_decoder = Decoder::make(other_model.get(), {.compute = compute}, pool);
    other_decoder->prefill(0, tokens, tokens.size(), {});
    return other_decoder->save(0);
  };
  RandomModel other = spec;
  other.seed = 2;
  rejected(of(other), "other weights");
  other = spec;
  other.state = StateType::kBFloat16;
  rejected(of(other), "--state-type bf16, expected one saved with");
  other = spec;
  other.theta = 500000.0;  // the same tensors, other keys
  rejected(of(other), "other weights");
  other = spec;
  other.attention["group"] = 16;
  rejected(of(other), "\"group\":16");
  other = spec;
  other.attention = {{"method", "elu1"}};
  rejected(of(other), "elu1");
  rejected(of(spec, ComputeType::kFloat64), "8 bytes");
  rejected(of(spec, ComputeType::kBFloat16),
           "saved with --dtype bfloat16 --weights stored --state-type float32, expected one saved");
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
      {"cuda", "--device: device unavailable: cuda, expected cpu, which this build computes on"},
      {"cuda:1", "--device: device unavailable: cuda:1, expected cpu, which this build computes on"},
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

TEST(DecoderMemory, AStateOfAGroupedModelDoesNotGrow) {
  const RandomModel spec{.attention = kGrouped};
  const TemporaryModel model(spec);
  ThreadPool pool(1);
  const auto decoder = Decoder::make(model.get(), {}, pool);
  std::set<size_t> sizes;
  for (int i = 0; i < 40; ++i) {
    sizes.insert(decoder->state_bytes(0));
    decoder->prefill(0, random_tokens(13, spec.vocabulary, i), 13, {});
  }
  EXPECT_EQ(sizes.size(), 1u);
  EXPECT_GT(*sizes.begin(), 0u);
}

}  // namespace
}  // namespace linnet

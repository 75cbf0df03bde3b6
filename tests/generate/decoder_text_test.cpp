// The engine on real decoders: speculation and neighbours change nothing, whatever the attention.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/json.h"
#include "base/random.h"
#include "base/thread_pool.h"
#include "generate/engine.h"
#include "tests/model/random_model.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;

Tokenizer letters(int64_t vocabulary) {
  nlohmann::json vocab;
  for (int64_t i = 0; i < vocabulary; ++i) vocab[fmt::format("t{}", i)] = i;
  return Tokenizer::from_json(
      nlohmann::json{{"version", "1.0"},
                     {"added_tokens", nlohmann::json::array()},
                     {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
                     {"decoder", {{"type", "ByteLevel"}}},
                     {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", nlohmann::json::array()}}}}
          .dump(),
      "letters");
}

/// Knows the texts; guesses right for a random number of tokens, with wrong siblings before and after.
struct Guesser : Drafter {
  TokenTree propose(const Context& context, int max_nodes, int max_depth) override {
    TokenTree tree = TokenTree::single(context.tokens.back());
    const size_t length = context.tokens.size();
    const auto right = uniform_integer(5, length, calls++, 7);
    for (const auto& text : texts) {
      if (text.size() <= length || !std::equal(context.tokens.begin(), context.tokens.end(), text.begin()))
        continue;
      int32_t node = 0;
      for (size_t i = 0; i < right && length + i < text.size(); ++i) {
        if (tree.depth(node) >= max_depth || tree.size() + 3 > max_nodes) break;
        tree.add((text[length + i] + 1) % 50, node);
        const int32_t next = tree.add(text[length + i], node);
        tree.add((text[length + i] + 2) % 50, node);
        node = next;
      }
      break;
    }
    return tree;
  }
  std::vector<std::vector<int32_t>> texts;
  uint64_t calls = 0;
};

void expect_same_text(std::shared_ptr<const Model> model, const Tokenizer& tokenizer,
                      const std::vector<Request>& requests, const std::string& what) {
  ThreadPool pool(2);
  const auto plain_drafter = make_no_drafter();
  std::vector<Generation> plain;
  Guesser guesser;
  for (const Request& request : requests) {
    const auto alone = Decoder::make(model, {.compute = ComputeType::kFloat32, .max_nodes = 1}, pool);
    Engine engine(*alone, limits_of(*model), tokenizer, *plain_drafter, {1, 1});
    plain.push_back(engine.run(std::span(&request, 1)).front());
    guesser.texts.push_back(request.prompt);
    guesser.texts.back().insert(guesser.texts.back().end(), plain.back().tokens.begin(),
                                plain.back().tokens.end());
  }
  for (const int slots : {1, 3}) {
    const auto decoder =
        Decoder::make(model, {.compute = ComputeType::kFloat32, .slots = slots, .max_nodes = 66}, pool);
    Engine engine(*decoder, limits_of(*model), tokenizer, guesser, {slots, 66});
    const auto results = engine.run(requests);
    int64_t steps = 0, tokens = 0;
    for (size_t i = 0; i < requests.size(); ++i) {
      EXPECT_EQ(results[i].tokens, plain[i].tokens) << what << ", request " << i << ", slots " << slots;
      EXPECT_EQ(results[i].text, plain[i].text) << what << ", request " << i;
      steps += results[i].steps;
      tokens += static_cast<int64_t>(results[i].tokens.size());
    }
    EXPECT_LT(steps, tokens * 2 / 3) << what << ": guesses were not accepted";
  }
}

TEST(EngineOnDecoders, SpeculationAndNeighboursChangeNoToken) {
  const nlohmann::json attentions[] = {
      nullptr,
      {{"method", "grouped"}, {"group", 4}},
      {{"method", "grouped"}, {"group", 8}, {"local_groups", 1}},
      {{"method", "elu1"}, {"group", 5}},
      {{"method", "relu"}, {"group", 8}, {"local", "softmax"}, {"taps", 3}},
  };
  for (const auto& attention : attentions) {
    RandomModel spec;
    spec.attention = attention;
    const TemporaryModel model(spec);
    std::vector<Request> requests;
    for (uint64_t i = 0; i < 6; ++i) {
      Request request;
      request.prompt = random_tokens(3 + 5 * i, spec.vocabulary, i);
      if (i % 2 == 1) request.sampling = {.temperature = 0.8, .top_p = 0.95};
      request.seed = i;
      request.max_new_tokens = 50;
      requests.push_back(request);
    }
    expect_same_text(model.get(), letters(spec.vocabulary), requests, attention.dump());
  }
}

TEST(EngineLimits, AreTheModels) {
  RandomModel linear, learned{.gpt2 = true, .positions = 40};
  linear.attention = {{"method", "elu1"}, {"group", 5}, {"layers", {{"1", {{"group", 3}}}}}};
  const TemporaryModel one(linear), other(learned);
  EXPECT_EQ(limits_of(*one.get(), 8).max_depth, 3);  // of the smallest group
  EXPECT_EQ(limits_of(*one.get(), 2).max_depth, 2);
  EXPECT_EQ(limits_of(*one.get(), 8).positions, 0);  // rotary ones have no end
  EXPECT_EQ(limits_of(*other.get(), 8).max_depth, 8);
  EXPECT_EQ(limits_of(*other.get(), 8).positions, 40);
}

TEST(EngineOnDecoders, TellTheStoriesThatARealModelIsKnownFor) {
  const fs::path folder = fs::path(LINNET_SHARED) / "data/models/stories260k";
  if (!fs::exists(folder)) GTEST_SKIP() << folder << " is not here";
  const auto model = Model::open(folder);
  const Tokenizer tokenizer = Tokenizer::load(folder);
  const nlohmann::json reference = read_json(folder / "reference.json");
  std::vector<Request> requests;
  for (const auto& story : reference["greedy"]) {
    Request request;
    request.prompt = tokenizer.encode(story["prompt"].get<std::string>(), true);
    EXPECT_EQ(request.prompt, story["prompt_ids"].get<std::vector<int32_t>>());
    request.max_new_tokens = static_cast<int64_t>(story["ids"].size());
    requests.push_back(request);
  }
  ThreadPool pool(2);
  const auto drafter = make_no_drafter();
  const auto decoder = Decoder::make(model, {.compute = ComputeType::kFloat32, .slots = 2}, pool);
  Engine engine(*decoder, limits_of(*model), tokenizer, *drafter, {.slots = 2});
  const auto results = engine.run(requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    const auto& story = reference["greedy"][i];
    EXPECT_EQ(results[i].tokens, story["ids"].get<std::vector<int32_t>>());
    EXPECT_EQ(story["prompt"].get<std::string>() + results[i].text, story["text"].get<std::string>());
  }
  expect_same_text(model, tokenizer, requests, "stories260k");
}

}  // namespace
}  // namespace linnet

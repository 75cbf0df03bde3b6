// The engine on real decoders: speculation and neighbours change nothing, whatever the attention.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "attention/method.h"
#include "base/json.h"
#include "base/random.h"
#include "base/thread_pool.h"
#include "generate/engine.h"
#include "generate/lookup.h"
#include "tests/attention/options.h"
#include "tests/generate/garbage.h"
#include "tests/generate/letters.h"
#include "tests/model/random_model.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;

/// Knows the texts; guesses right for a random number of tokens, with wrong siblings before and after.
struct Guesser : Drafter {
  void propose(std::span<const Context> contexts, std::span<Draft> drafts) override {
    for (size_t i = 0; i < contexts.size(); ++i) {
      drafts[i].clear();
      drafts[i].tree = guess(contexts[i], contexts[i].max_nodes, contexts[i].max_depth);
    }
  }
  TokenTree guess(const Context& context, int max_nodes, int max_depth) {
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
    Engine engine(*alone, tokenizer, *plain_drafter, {1, 1});
    plain.push_back(engine.run(std::span(&request, 1)).front());
    guesser.texts.push_back(request.prompt);
    guesser.texts.back().insert(guesser.texts.back().end(), plain.back().tokens.begin(),
                                plain.back().tokens.end());
  }
  for (const int slots : {1, 3}) {
    const auto decoder =
        Decoder::make(model, {.compute = ComputeType::kFloat32, .slots = slots, .max_nodes = 66}, pool);
    Engine engine(*decoder, tokenizer, guesser, {slots, 66});
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

TEST(EngineOnDecoders, SpeculationAndNeighboursChangeNoTokenOfGatedUnits) {
  for (const std::string name : {"softmax", "quadratic", "mixed", "augmented"}) {
    std::vector<Request> requests;
    for (uint64_t i = 0; i < 4; ++i) {
      Request request{.prompt = random_tokens(1 + 4 * i, 160, i), .seed = i, .max_new_tokens = 40};
      if (i % 2 == 1) request.sampling = {.temperature = 0.7};
      requests.push_back(request);
    }
    expect_same_text(Model::open(LINNET_TEST_DATA "/hf/flash-" + name), letters(160), requests, name);
  }
}

// The reference implementation drops the group at a boundary, sees nothing of its own group at every 64th
// token, keeps a convolution matrix by depth alone, and fails where a prompt is shorter than the taps: here
// every row of the registry, with taps, budgets of heads and kept tokens, writes across many boundaries from
// prompts of one token on, with trees of changing shape.
TEST(EngineOnDecoders, LookupAndGarbageChangeNoTokenWhateverTheMethod) {
  const char* options[] = {
      R"({"taps": 6})",
      R"({"local": "softmax", "local_groups": [1, 3], "taps": 2, "sinks": 1})",
      R"({"local": "softmax", "local_groups": 2, "kept": 7, "sinks": 2, "gate": true, "decay": 0.8})",
      R"({"local": "softmax", "local_groups": [2, 3], "kept": [0, 9], "taps": 6, "feature_position": "none"})",
  };
  std::vector<nlohmann::json> attentions;
  for (const Method* method : methods()) {
    if (method->grows) attentions.push_back({{"method", method->name}});
    for (const char* option : options) {
      const auto object = nlohmann::json::parse(option);
      if (goes_with(*method, object)) attentions.push_back(with_options(*method, object, 4));
    }
  }
  ThreadPool pool(2);
  int64_t steps = 0, tokens = 0;
  for (const auto& attention : attentions) {
    RandomModel spec{.layers = 2};
    spec.attention = attention;
    const TemporaryModel model(spec);
    std::vector<Request> requests;
    for (uint64_t i = 0; i < 3; ++i) {
      Request request{.prompt = random_tokens(1 + 5 * i, spec.vocabulary, i), .max_new_tokens = 40};
      if (i == 1) request.sampling = {.temperature = 0.5};
      requests.push_back(request);
    }
    const auto texts = [&](Drafter& drafter, int slots, int nodes) {
      const auto decoder = Decoder::make(
          model.get(),
          {.compute = ComputeType::kFloat32, .slots = slots, .max_nodes = slots * nodes, .chunk = 4}, pool);
      Engine engine(*decoder, letters(spec.vocabulary), drafter, {slots, slots * nodes});
      std::vector<std::vector<int32_t>> all;
      for (const Generation& result : engine.run(requests)) all.push_back(result.tokens);
      if (nodes == 12) steps += engine.report().steps, tokens += engine.report().tokens;
      return all;
    };
    const auto expected = texts(*make_no_drafter(), 1, 1);
    Garbage garbage;
    for (const int slots : {1, 3}) {
      EXPECT_EQ(texts(*make_lookup_drafter(), slots, 12), expected) << attention.dump() << slots;
      EXPECT_EQ(texts(garbage, slots, 9), expected) << attention.dump() << slots;
    }
  }
  EXPECT_LT(steps, tokens * 4 / 5) << "guesses were not accepted";
}

// A sampled tree walks the sampler's own draws: the tokens are distributed as the sampler draws them.
TEST(EngineOnDecoders, SampledSpeculationHasTheExactDistribution) {
  const RandomModel spec{.layers = 1, .vocabulary = 6, .attention = {{"method", "elu1"}, {"group", 2}}};
  const TemporaryModel model(spec);
  ThreadPool pool(1);
  const auto decoder =
      Decoder::make(model.get(), {.compute = ComputeType::kFloat32, .slots = 16, .max_nodes = 96}, pool);
  const std::vector<int32_t> prompt = {1, 2, 1, 3, 1, 2};
  constexpr double kTemperature = 6;  // no text is rare
  const auto probabilities = [&](const std::vector<int32_t>& tokens) {
    std::vector<float> logits(6);
    decoder->reset(0);
    decoder->prefill(0, tokens, tokens.size() - 1, logits);
    std::vector<double> p;
    double sum = 0;
    for (const float x : logits) sum += p.emplace_back(std::exp(double{x} / kTemperature));
    for (double& x : p) x /= sum;
    return p;
  };
  constexpr int kTexts = 6000;
  std::vector<double> expected(216, kTexts);
  for (int32_t a = 0; a < 6; ++a) {
    const auto first = probabilities(prompt);
    auto tokens = prompt;
    tokens.push_back(a);
    const auto second = probabilities(tokens);
    for (int32_t b = 0; b < 6; ++b) {
      tokens.push_back(b);
      const auto third = probabilities(tokens);
      tokens.pop_back();
      for (int32_t c = 0; c < 6; ++c) expected[a * 36 + b * 6 + c] *= first[a] * second[b] * third[c];
    }
  }
  std::vector<Request> requests(
      kTexts, {.prompt = prompt, .sampling = {.temperature = kTemperature}, .max_new_tokens = 3});
  for (size_t i = 0; i < requests.size(); ++i) requests[i].seed = i;
  const auto drafter = make_lookup_drafter();
  Engine engine(*decoder, letters(6), *drafter, {.slots = 16, .max_nodes = 96});
  std::vector<double> found(216);
  for (const Generation& result : engine.run(requests))
    ++found[result.tokens[0] * 36 + result.tokens[1] * 6 + result.tokens[2]];
  double statistic = 0, rare_found = 0, rare_expected = 0;
  int cells = 0;
  const auto add = [&](double there, double awaited) {
    statistic += (there - awaited) * (there - awaited) / awaited;
    ++cells;
  };
  for (size_t i = 0; i < found.size(); ++i) {
    if (expected[i] >= 5) {
      add(found[i], expected[i]);
    } else {
      rare_found += found[i];
      rare_expected += expected[i];
    }
  }
  if (rare_expected >= 5) add(rare_found, rare_expected);
  ASSERT_GT(cells, 50);
  // χ² of cells − 1 degrees of freedom: four deviations above its mean.
  EXPECT_LT(statistic, cells - 1 + 4 * std::sqrt(2.0 * (cells - 1)));
  ASSERT_FALSE(engine.report().depths.empty());
  EXPECT_GT(engine.report().depths[0].accepted, kTexts / 10) << "nothing was speculated on";
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
  Engine engine(*decoder, tokenizer, *drafter, {.slots = 2});
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

// The engine on a model of an encoder and a decoder: prompts go to the encoder, and neither guesses nor
// neighbours change a token.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/thread_pool.h"
#include "format/safetensors.h"
#include "generate/engine.h"
#include "generate/lookup.h"
#include "model/teacher.h"
#include "tests/generate/letters.h"
#include "tests/model/random_model.h"

namespace linnet {
namespace {

std::shared_ptr<const Model> t5(const char* name = "t5") {
  return Model::open(std::filesystem::path(LINNET_TEST_DATA "/t5") / name);
}

std::vector<int32_t> golden(const char* folder, const char* name) {
  const auto file =
      SafetensorsFile::open(std::filesystem::path(LINNET_TEST_DATA "/t5") / folder / "golden.safetensors");
  const TensorView& tensor = file.tensors().find(name)->second;
  std::vector<int64_t> wide(static_cast<size_t>(tensor.numbers()));
  std::memcpy(wide.data(), tensor.bytes.data(), tensor.bytes.size());
  return {wide.begin(), wide.end()};
}

std::vector<Generation> run(const std::shared_ptr<const Model>& model, const std::vector<Request>& requests,
                            Drafter& drafter, int slots, const Engine::Options& how = {}) {
  ThreadPool pool(2);
  const auto decoder =
      Decoder::make(model, {.compute = ComputeType::kFloat32, .slots = slots, .max_nodes = 48}, pool);
  Engine::Options options = how;
  options.slots = slots, options.max_nodes = 48;
  Engine engine(*decoder, letters(model->config().vocabulary), drafter, options);
  return engine.run(requests);
}

TEST(EngineOnT5, WritesTransformersGreedyText) {
  for (const char* folder : {"t5", "t5-gated"}) {
    Request request;
    request.prompt = golden(folder, "source");
    const auto expected = golden(folder, "greedy");
    request.max_new_tokens = std::ssize(expected);
    for (const auto& drafter : {make_no_drafter(), make_lookup_drafter()})
      EXPECT_EQ(run(t5(folder), {request}, *drafter, 1).front().tokens, expected) << folder;
  }
}

TEST(EngineOnT5, SpeculationAndNeighboursChangeNoToken) {
  const auto base = t5("t5-gated");
  const nlohmann::json local = {
      {"method", "elu1"}, {"local", "softmax"}, {"group", 4}, {"local_groups", 2}, {"alpha", 0.5}};
  const nlohmann::json kinds[] = {nlohmann::json::object(),
                                  {{"decoder", local}, {"cross", {{"method", "elu1"}}}, {"encoder", local}}};
  for (const nlohmann::json& kind : kinds) {
    const auto model = base->with_attention(attention_over(base->config(), kind, "test"));
    std::vector<Request> requests;
    for (uint64_t i = 0; i < 5; ++i) {
      Request request;
      request.prompt = random_tokens(3 + 9 * i, model->config().vocabulary, i);
      if (i % 2 == 1) request.sampling = {.temperature = 0.6};
      request.seed = i;
      request.max_new_tokens = 40;
      requests.push_back(request);
    }
    std::vector<std::vector<int32_t>> plain;
    const auto none = make_no_drafter(), lookup = make_lookup_drafter();
    for (const Request& request : requests) plain.push_back(run(model, {request}, *none, 1).front().tokens);
    int64_t steps = 0, tokens = 0;
    for (const int slots : {1, 3}) {
      const auto results = run(model, requests, *lookup, slots);
      for (size_t i = 0; i < requests.size(); ++i) {
        EXPECT_EQ(results[i].tokens, plain[i]) << kind << ", request " << i << ", slots " << slots;
        steps += results[i].steps;
        tokens += std::ssize(results[i].tokens);
      }
    }
    EXPECT_LT(steps, tokens * 9 / 10) << "guesses were not accepted";
  }
}

TEST(EngineOnT5, ASourceOutOfTheCacheWritesTheSameText) {
  Request request;
  request.prompt = {5, 6, 7};
  request.max_new_tokens = 8;
  const auto none = make_no_drafter();
  const auto plain = run(t5(), {request}, *none, 1).front().tokens;
  for (const Engine::Options& how : {Engine::Options{.prefix_cache = 1 << 20}, {.continue_slots = true}})
    for (const Generation& result : run(t5(), {request, request}, *none, 1, how))
      EXPECT_EQ(result.tokens, plain);
}

TEST(EngineOnT5, RefusesLogProbabilitiesOfAPromptThatTheDecoderDoesNotRead) {
  Request request;
  request.prompt = {5, 6, 7};
  request.prompt_logprobs = true;
  EXPECT_THROW(run(t5(), {request}, *make_no_drafter(), 1), Error);
}

}  // namespace
}  // namespace linnet

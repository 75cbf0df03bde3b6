#include "evaluate/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "base/error.h"
#include "base/json.h"
#include "base/random.h"
#include "tests/model/random_model.h"
#include "text/corpus.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;

TEST(Perplexity, RefusesImpossibleRanges) {
  EXPECT_THROW((PerplexityOptions{.score_from = -1}.check()), Error);
  EXPECT_THROW((PerplexityOptions{.score_from = 5, .score_to = 5}.check()), Error);
  EXPECT_THROW((PerplexityOptions{.far_pairs = -1}.check()), Error);
  EXPECT_THROW((PerplexityOptions{.window = 4, .stride = 5}.check()), Error);
}

/// A tokenizer of one token a character, `<s>` (0) before them.
Tokenizer characters(bool with_bos, const nlohmann::json& normalizer = nullptr) {
  nlohmann::json vocab = {{"<s>", 0}, {"Ġ", 1}}, added = nlohmann::json::array();
  for (char c = 'a'; c <= 'z'; ++c) vocab[std::string(1, c)] = vocab.size();
  if (with_bos) added.push_back({{"id", 0}, {"content", "<s>"}, {"special", true}});
  const nlohmann::json json = {
      {"added_tokens", added},
      {"normalizer", normalizer},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
      {"decoder", {{"type", "ByteLevel"}}},
      {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", nlohmann::json::array()}}}};
  return Tokenizer::from_json(json.dump(), "characters");
}

/// The rule of docs/perplexity.md, token by token: each from a prefill of its own.
PerplexityTotals by_definition(Decoder& decoder, const Tokenizer& tokenizer, const std::string& text,
                               const PerplexityOptions& how) {
  std::vector<int32_t> inputs = tokenizer.encode(text);
  inputs.insert(inputs.begin(), 0);
  const auto tokens = static_cast<int64_t>(text.size());
  PerplexityTotals totals;
  std::vector<float> logits(static_cast<size_t>(decoder.vocabulary()));
  for (int64_t t = how.score_from; t < std::min(how.score_to.value_or(tokens), tokens); ++t) {
    const int64_t stride = how.stride > 0 ? how.stride : how.window;
    int64_t first = 0;  // input of the window
    if (how.window > 0 && t >= how.window) {
      first = std::min(how.window + ((t - how.window) / stride + 1) * stride, tokens) - how.window;
    }
    const auto read =
        std::span(inputs).subspan(static_cast<size_t>(first), static_cast<size_t>(t + 1 - first));
    decoder.reset(0);
    decoder.prefill(0, read, read.size() - 1, logits);
    double sum = 0;
    for (float x : logits) sum += std::exp(static_cast<double>(x));
    const double nats = std::log(sum) - static_cast<double>(logits[inputs[t + 1]]);
    totals.nats += nats;
    ++totals.tokens;
    ++totals.bytes;
    totals.words += text[t] != ' ' && (t == 0 || text[t - 1] == ' ');
    if (!how.far_pairs || t - first < how.window / 2) continue;
    int64_t before = t - 1;
    while (before >= first && (inputs[before] != inputs[t] || inputs[before + 1] != inputs[t + 1])) --before;
    const bool far = before >= first && t - before > *how.far_pairs;
    (far ? totals.far_nats : totals.other_nats) += nats;
    ++(far ? totals.far_tokens : totals.other_tokens);
  }
  return totals;
}

TEST(Perplexity, IsTheDefinitionsInEveryWindowAndPart) {
  const RandomModel spec{.layers = 1, .positions = 100};
  const TemporaryModel model(spec);
  ThreadPool pool(2);
  const auto decoder = Decoder::make(model.get(), {.compute = ComputeType::kFloat32}, pool);
  const Tokenizer tokenizer = characters(true);
  std::string text;
  for (uint64_t i = 0; i < 90; ++i) text += " aab c"[uniform_integer(3, 0, i, 6)];
  for (const PerplexityOptions& how : {PerplexityOptions{},
                                       {.window = 16},
                                       {.window = 16, .stride = 5},
                                       {.window = 24, .stride = 24, .score_from = 7, .score_to = 61},
                                       {.score_from = 20},
                                       {.far_pairs = 6},
                                       {.window = 32, .stride = 9, .far_pairs = 6}}) {
    PerplexityMeter meter(*decoder, *model.get(), tokenizer, how, pool);
    EXPECT_TRUE(meter.add(text, "text"));
    const PerplexityTotals &found = meter.totals(), expected = by_definition(*decoder, tokenizer, text, how);
    EXPECT_NEAR(found.nats, expected.nats, 1e-4 * expected.nats);
    EXPECT_EQ(found.tokens, expected.tokens);
    EXPECT_EQ(found.bytes, expected.bytes);
    EXPECT_EQ(found.words, expected.words);
    EXPECT_EQ(found.far_tokens, expected.far_tokens);
    EXPECT_EQ(found.other_tokens, expected.other_tokens);
    EXPECT_NEAR(found.far_nats, expected.far_nats, 1e-4 * expected.nats);
    EXPECT_NEAR(found.other_nats, expected.other_nats, 1e-4 * expected.nats);
    EXPECT_NEAR(found.bits_per_byte(), found.nats / std::log(2.0) / static_cast<double>(found.bytes), 1e-9);
    EXPECT_NEAR(found.word_perplexity(), std::exp(found.nats / static_cast<double>(found.words)),
                1e-9 * found.word_perplexity());
  }
}

TEST(Perplexity, WordsOfAPartAreCountedInTheTextThatTheTokensSpell) {
  const Tokenizer tokenizer =
      characters(false, {{"type", "Replace"}, {"pattern", {{"String", "bb"}}}, {"content", "b"}});
  const std::string text = "abb cd";  // read as "ab cd"
  const auto ids = tokenizer.encode(text);
  ASSERT_EQ(ids.size(), 5u);
  const TextPart part = measure(text, tokenizer, ids, 3, 4);
  EXPECT_EQ(part.bytes, 1);
  EXPECT_EQ(part.words, 1);  // "cd" begins with the fourth token
}

TEST(Perplexity, FeedsTheTokenizersFirstTokenElseTheConfigs) {
  const TemporaryModel model(RandomModel{.layers = 1});  // bos_token_id 1
  EXPECT_EQ(first_input(*model.get(), characters(true)), 0);
  EXPECT_EQ(first_input(*model.get(), characters(false)), 1);
}

TEST(Perplexity, RefusesATextPastLearnedPositionsToTheToken) {
  const TemporaryModel model(RandomModel{.gpt2 = true, .layers = 1, .positions = 20});
  ThreadPool pool(1);
  const auto decoder = Decoder::make(model.get(), {.compute = ComputeType::kFloat32}, pool);
  const Tokenizer tokenizer = characters(true);
  PerplexityMeter meter(*decoder, *model.get(), tokenizer, {}, pool);
  EXPECT_TRUE(meter.add(std::string(20, 'a'), "text"));
  try {
    meter.add(std::string(21, 'a'), "text");
    ADD_FAILURE() << "21 tokens of 20 positions";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "text: 21 tokens in one stream or window, past the model's learned positions, "
                 "expected at most 20 (--window 20)");
  }
  EXPECT_EQ(meter.totals().tokens, 20);
}

/// A real model trained by others, and what an independent implementation measured with it.
class Stories : public testing::Test {
 protected:
  void SetUp() override {
    const fs::path folder = fs::path(LINNET_SHARED) / "data/models/stories260k";
    if (!fs::exists(folder)) GTEST_SKIP() << folder << " is not here";
    model = Model::open(folder);
    tokenizer = Tokenizer::load(model->tokenizer_folder());
    decoder = Decoder::make(model, {.compute = ComputeType::kFloat32}, pool);
    reference = read_json(folder / "reference.json");
  }
  static std::vector<std::string> stories(const char* name) {
    std::vector<std::string> texts;
    for_each_document(fs::path(LINNET_SHARED) / "data/text" / name, {}, [&](Document&& document) {
      const size_t first = document.text.find_first_not_of(" \n"),
                   last = document.text.find_last_not_of(" \n");
      texts.push_back(document.text.substr(first, last - first + 1));
      return true;
    });
    return texts;
  }
  PerplexityTotals score(const std::vector<std::string>& texts, const PerplexityOptions& how) {
    PerplexityMeter meter(*decoder, *model, *tokenizer, how, pool);
    for (const std::string& text : texts) EXPECT_TRUE(meter.add(text, "story"));
    return meter.totals();
  }

  ThreadPool pool{2};
  std::shared_ptr<const Model> model;
  std::optional<Tokenizer> tokenizer;
  std::unique_ptr<Decoder> decoder;
  nlohmann::json reference;
};

TEST_F(Stories, LossIsWhatAnIndependentImplementationMeasured) {
  const std::pair<const char*, const char*> rows[] = {{"tinystories-valid.jsonl.xz", "nll_tinystories_valid"},
                                                      {"tinystories-test.jsonl.xz", "nll_tinystories_test"}};
  for (const auto& [file, key] : rows) {
    // 512 tokens with BOS: 511 are scored.
    const PerplexityTotals totals = score(stories(file), {.score_to = 511});
    EXPECT_EQ(totals.tokens, reference[key]["tokens"].get<int64_t>());
    EXPECT_NEAR(std::log(totals.token_perplexity()), reference[key]["mean_nll_nats_per_token"].get<double>(),
                2e-5);
  }
}

TEST_F(Stories, PartsOfADocumentAddUpToIt) {
  const auto texts = stories("tinystories-valid.jsonl.xz");
  for (const PerplexityOptions& how : {PerplexityOptions{},
                                       {.window = 64},
                                       {.window = 64, .stride = 17},
                                       {.window = 50, .stride = 50, .far_pairs = 8}}) {
    const PerplexityTotals whole = score(texts, how);
    PerplexityTotals sum;
    for (int64_t from = 0; from < 2000; from += 100) {
      PerplexityOptions part = how;
      part.score_from = from;
      part.score_to = from + 100;
      const PerplexityTotals one = score(texts, part);
      sum.nats += one.nats;
      sum.tokens += one.tokens;
      sum.words += one.words;
      sum.bytes += one.bytes;
      sum.far_tokens += one.far_tokens;
      sum.other_tokens += one.other_tokens;
    }
    EXPECT_NEAR(sum.nats, whole.nats, 1e-3 * whole.nats);
    EXPECT_EQ(sum.tokens, whole.tokens);
    EXPECT_EQ(sum.words, whole.words);
    EXPECT_EQ(sum.bytes, whole.bytes);
    EXPECT_EQ(sum.far_tokens, whole.far_tokens);
    EXPECT_EQ(sum.other_tokens, whole.other_tokens);
    if (how.far_pairs) {
      EXPECT_GT(whole.far_tokens, 10);
    }
  }
}

TEST_F(Stories, ShortStridesShowASoftmaxModelAtItsBest) {
  const auto texts = stories("tinystories-test.jsonl.xz");
  const double disjoint = score(texts, {.window = 48}).bits_per_byte();
  const double sliding = score(texts, {.window = 48, .stride = 8}).bits_per_byte();
  EXPECT_LT(sliding, disjoint);
}

TEST_F(Stories, WordsAndBytesOfARangeBeginWhereItsTokensBegin) {
  const std::string text = "Once upon a café, Lily ran.";
  const auto ids = tokenizer->encode(text);
  const auto tokens = static_cast<int64_t>(ids.size());
  int64_t words = 0, bytes = 0;
  for (int64_t t = 0; t < tokens; ++t) {
    const TextPart part = measure(text, *tokenizer, ids, t, t + 1);
    words += part.words;
    bytes += part.bytes;
  }
  EXPECT_EQ(words, 6);
  EXPECT_EQ(bytes, static_cast<int64_t>(text.size()));
  const TextPart whole = measure(text, *tokenizer, ids, 0, tokens);
  EXPECT_EQ(whole.words, 6);
  EXPECT_EQ(whole.bytes, static_cast<int64_t>(text.size()));
}

}  // namespace
}  // namespace linnet

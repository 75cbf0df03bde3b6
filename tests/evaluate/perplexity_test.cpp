#include "evaluate/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "base/error.h"
#include "base/json.h"
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
    for_each_document(fs::path(LINNET_SHARED) / "data/text" / name, [&](Document&& document) {
      const size_t first = document.text.find_first_not_of(" \n"),
                   last = document.text.find_last_not_of(" \n");
      texts.push_back(document.text.substr(first, last - first + 1));
      return true;
    });
    return texts;
  }
  PerplexityTotals score(const std::vector<std::string>& texts, const PerplexityOptions& how) {
    PerplexityMeter meter(*decoder, *tokenizer, how, pool);
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

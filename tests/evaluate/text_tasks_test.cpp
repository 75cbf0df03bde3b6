#include "evaluate/text_tasks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class TextTaskFiles : public testing::Test {
 protected:
  fs::path file(const std::string& name, const std::string& text) const {
    const fs::path path = fs::path(testing::TempDir()) / name;
    write_file(path, text);
    return path;
  }
  static std::string error_of(const std::function<void()>& work) {
    try {
      work();
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
};

TEST_F(TextTaskFiles, KnowsFieldsAndLabelsByTheBeginningOfAName) {
  const auto agnews = read_labeled(file("agnews-some.jsonl", R"({"text": "a", "label": "Sports"}
{"class": 4, "title": "t", "description": "b"}
)"),
                                   {}, true);
  ASSERT_EQ(agnews.size(), 2u);
  EXPECT_EQ(agnews[0].label, "Sports");
  EXPECT_EQ(agnews[1].label, "Sci/Tech");
  EXPECT_EQ(agnews[1].texts, std::vector<std::string>{"b"});
  const auto rte =
      read_labeled(file("rte.jsonl", R"({"sentence1": "a", "sentence2": "b", "label": 1})"), {}, true);
  EXPECT_EQ(rte[0].label, "not_entailment");
  EXPECT_EQ(rte[0].texts, (std::vector<std::string>{"a", "b"}));
  const auto labels = labels_of(text_task_of("rte.jsonl"), rte, "rte");
  EXPECT_EQ(label_id(rte[0], labels), 1u);
}

TEST_F(TextTaskFiles, TakesLabelsFromTheDataWhereFieldsAreNamed) {
  const TextFields fields{{"t"}, "l"};
  const auto texts = read_labeled(file("own.jsonl", R"({"t": "a", "l": 10}
{"t": "b", "l": 9}
{"t": "c", "l": "x"}
{"t": "d", "l": 1}
)"),
                                  fields, true);
  EXPECT_EQ(labels_of(nullptr, texts, "own"), (std::vector<std::string>{"1", "9", "10", "x"}));
  // A number that is no name is the id.
  EXPECT_EQ(label_id({.texts = {"a"}, .label = "1", .where = "w"}, std::vector<std::string>{"no", "yes"}),
            1u);
}

TEST_F(TextTaskFiles, RefusesWhatIsNoLabelledTextInOneLine) {
  const struct {
    const char *name, *text, *message;
  } rows[] = {
      {"sst2-a.jsonl", R"({"sentence": "a", "label": 2})",
       "sst2-a.jsonl:1: the label is \"2\", expected one of negative, positive"},
      {"sst2-b.jsonl", R"({"sentence": "a"})", "no field `label`"},
      {"mrpc-c.jsonl", R"({"sentence1": "a", "label": 1})",
       "no record of MRPC, expected one with `sentence1` and `sentence2`"},
      {"sst2-d.jsonl", "", "no record"},
      {"sst2-e.jsonl", "[1]", "no JSON object"},
      {"sst2-f.jsonl", R"({"sentence": ["a"], "label": 1})", "the field `sentence` is array"},
      {"films.jsonl", R"({"sentence": "a", "label": 1})", "its name begins with no known task's"},
  };
  for (const auto& row : rows)
    EXPECT_THAT(error_of([&] { read_labeled(file(row.name, row.text), {}, true); }), HasSubstr(row.message));
  EXPECT_THAT(error_of([] {
                labels_of(nullptr, std::vector<LabeledText>{{{"a"}, "x", "w"}}, "own");
              }),
              HasSubstr("1 label, expected 2 to"));
  EXPECT_THAT(error_of([] { text_metric("f1", 3, "--metric"); }), HasSubstr("f1 of 3 labels"));
}

// What tokenizers 0.22 keeps of 7 and 3, 3 and 7, 4 and 4, 1 and 9 words, by enable_truncation(N).
TEST_F(TextTaskFiles, CutsThePairAsTransformersDoes) {
  const auto tokenizer = Tokenizer::from_json(
      R"({"model": {"type": "BPE", "vocab": {"b": 0, "c": 1}, "merges": []}, "added_tokens": [],
          "pre_tokenizer": null, "normalizer": null, "decoder": null, "post_processor": null})",
      "t");
  const size_t words[][2] = {{7, 3}, {3, 7}, {4, 4}, {1, 9}};
  const size_t kept[][4][2] = {{{2, 1}, {1, 2}, {1, 2}, {1, 2}},
                               {{2, 2}, {2, 2}, {2, 2}, {1, 3}},
                               {{3, 2}, {2, 3}, {2, 3}, {1, 4}},
                               {{3, 3}, {3, 3}, {3, 3}, {1, 5}},
                               {{4, 3}, {3, 4}, {3, 4}, {1, 6}}};
  for (size_t length = 3; length <= 7; ++length) {
    const TextEncoder encoder(tokenizer, static_cast<int64_t>(length), 0);
    for (size_t i = 0; i < 4; ++i) {
      const LabeledText text{
          .texts = {std::string(words[i][0], 'b'), std::string(words[i][1], 'c')}, .label = {}, .where = "w"};
      const auto ids = encoder.encode(text).tokens;
      EXPECT_EQ(std::ranges::count(ids, 0), static_cast<ptrdiff_t>(kept[length - 3][i][0]))
          << length << " " << i;
      EXPECT_EQ(std::ranges::count(ids, 1), static_cast<ptrdiff_t>(kept[length - 3][i][1]))
          << length << " " << i;
    }
  }
  EXPECT_THAT(error_of([&] {
                TextEncoder(tokenizer, 0, 4).encode({.texts = {"bbbbb"}, .label = {}, .where = "f:3"});
              }),
              HasSubstr("f:3: a text of 5 tokens, expected at most 4, the model's positions"));
  EXPECT_THAT(
      error_of([&] { TextEncoder(tokenizer, 0, 4).encode({.texts = {""}, .label = {}, .where = "f:3"}); }),
      HasSubstr("a text without a token"));
}

// tests/data/tasks/metrics.json: scripts/golden/make_metrics.py.
TEST(TextMetrics, AreScikitLearns) {
  const nlohmann::json golden = read_json(LINNET_TEST_DATA "/tasks/metrics.json");
  ThreadPool pool(1);
  ASSERT_GT(golden["sets"].size(), 5u);
  for (const auto& set : golden["sets"]) {
    const auto right = set["right"].get<std::string>(), chosen = set["chosen"].get<std::string>();
    std::vector<TaskAnswer> answers;
    for (size_t i = 0; i < right.size(); ++i) {
      const auto one = static_cast<size_t>(chosen[i] - '0');
      answers.push_back({static_cast<size_t>(right[i] - '0'), one, one});
    }
    for (const char* name : {"acc", "f1", "mcc"})
      EXPECT_NEAR(value_of(text_metric(name, 2, "test"), answers, 0, pool).value, set[name].get<double>(),
                  1e-12)
          << name << " " << right << " " << chosen;
  }
}

}  // namespace
}  // namespace linnet

// Tasks: prompts and scores held to lm-eval's own code, likelihoods to reading each request by itself.
#include "evaluate/tasks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "evaluate/likelihood.h"
#include "evaluate/task_prompts.h"
#include "evaluate/task_scores.h"
#include "tests/cli/run.h"
#include "tests/model/random_model.h"
#include "text/chat_template.h"

namespace linnet {
namespace {

using testing::HasSubstr;

const nlohmann::json& golden() {
  static const nlohmann::json json =
      read_json(LINNET_TEST_DATA "/tasks/prompts.json");  // its script beside it
  return json;
}

const Task& task_of(const std::string& name) {
  return *choose_tasks(std::vector<std::string>{name}).front().task;
}

void write_lines(const std::filesystem::path& file, const nlohmann::json& records) {
  std::string lines;
  for (const auto& record : records) lines += record.dump() + "\n";
  write_file(file, lines);
}

/// The files of a golden case in a folder of their own.
TaskSet read_case(const nlohmann::json& one, const std::filesystem::path& folder) {
  const Task& task = task_of(one["task"]);
  for (const std::string_view name : task.files)
    write_lines(folder / (std::string(name) + ".jsonl"),
                name == task.files.front() ? one["records"] : nlohmann::json::array());
  if (!one["pool"].is_null()) write_lines(folder / (std::string(task.shots_file) + ".jsonl"), one["pool"]);
  return read_task({&task, {}}, {.data = folder, .shots = one["shots"].get<int>()}).front();
}

TEST(Tasks, AskWhatTheHarnessAsksOfEveryForm) {
  std::set<std::string> seen;
  for (const auto& one : golden()["cases"]) {
    const TemporaryFolder folder;
    const TaskSet set = read_case(one, folder.path());
    const auto& expected = one["expected"];
    ASSERT_EQ(set.examples.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      nlohmann::json asked = nlohmann::json::array();
      for (const TaskPrompt& prompt : prompts_of(set, i))
        asked.push_back({prompt.context, prompt.continuation});
      EXPECT_EQ(asked, expected[i]["requests"]) << one["task"];
      if (const auto& writing = set.task->writing) {
        EXPECT_EQ(set.examples[i].target, expected[i]["gold"]);
        EXPECT_EQ(writing->tokens, expected[i]["generation"]["max_gen_toks"]);
        EXPECT_EQ(nlohmann::json(writing->stops), expected[i]["generation"]["until"]);
      } else {
        EXPECT_EQ(set.examples[i].gold, expected[i]["gold"]) << one["task"];
      }
    }
    std::vector<std::string> metrics;
    for (const Metric metric : set.task->metrics) metrics.emplace_back(name_of(metric));
    EXPECT_EQ(nlohmann::json(metrics), one["metrics"]) << one["task"];
    seen.insert(std::string(set.task->name));
  }
  EXPECT_EQ(seen.size(), all_tasks().size());
}

TEST(Tasks, AskInConversationsAsTheHarnessDoesWithAChatTemplate) {
  const auto& cases = golden()["chats"];
  EXPECT_GT(cases.size(), 10u);
  for (const auto& one : cases) {
    const TemporaryFolder folder;
    TaskSet set = read_case(one, folder.path());
    const ChatTemplate chat(
        std::string(one["system"].get<bool>() ? ""
                                              : "{% if messages[0].role == 'system' %}"
                                                "{{ raise_exception('none') }}{% endif %}") +
            "<s>{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}[assistant]",
        "test");
    set.chat = &chat;
    for (size_t i = 0; i < set.examples.size(); ++i) {
      nlohmann::json asked = nlohmann::json::array();
      for (const TaskPrompt& prompt : prompts_of(set, i))
        asked.push_back({prompt.context, prompt.continuation});
      EXPECT_EQ(asked, one["expected"][i]["requests"]) << one["task"];
    }
  }
}

TEST(Tasks, ReadWhatTheHarnessReadsOutOfWrittenAnswers) {
  const Writing& writing = *task_of("bbh").writing;
  for (const auto& one : golden()["written"]) {
    const std::string text = one["text"];
    EXPECT_EQ(answer_in(text, writing), one["answer"]) << text;
    const TaskAnswer answer = answer_of(TaskExample{.target = "True"}, text, writing);
    EXPECT_EQ(answer.chosen == answer.gold, one["right"]) << text;
  }
}

TEST(Tasks, WorkedExamplesWithoutReasoningAreNone) {
  for (const char* text :
       {"", "Words.\n\nQ: x", "Words.\n\nQ: x\nA: Let's think step by step.", "x\n-----\n"})
    EXPECT_THROW(worked_examples(text, "here"), Error) << text;
}

TEST(Tasks, HaveTheHarnessesScoresAndErrors) {
  const auto& scores = golden()["scores"];
  ThreadPool pool(2);
  std::vector<TaskAnswer> answers;
  for (const auto& pair : scores["pairs"]) answers.push_back({pair[0], pair[1], pair[1]});
  for (const Metric metric : {Metric::kAccuracy, Metric::kF1, Metric::kMatthews}) {
    const MetricValue value = value_of(metric, answers, scores["bootstrap"], pool);
    const auto& expected = scores[std::string(name_of(metric))];
    EXPECT_NEAR(value.value, expected[0].get<double>(), 1e-14) << name_of(metric);
    ASSERT_TRUE(value.error) << name_of(metric);
    EXPECT_NEAR(*value.error, expected[1].get<double>(), 1e-14) << name_of(metric);
  }
  EXPECT_FALSE(value_of(Metric::kAccuracy, std::span(answers).first(1), 0, pool).error);
  std::vector<MetricValue> parts;
  for (const auto& error : scores["pooled"]["errors"]) parts.push_back({0.5, error.get<double>()});
  const auto sizes = scores["pooled"]["sizes"].get<std::vector<int64_t>>();
  EXPECT_NEAR(*pooled(parts, sizes).error, scores["pooled"]["error"].get<double>(), 1e-14);
}

TEST(Tasks, NormalizeByCodePoints) {
  const TaskExample example{.choices = {"ÄÖÜÄ", "abcde"}, .gold = 0};
  const std::vector<Likelihood> choices = {{-4.2, false}, {-5.1, false}};  // 8 bytes would win
  EXPECT_EQ(answer_of(example, choices).chosen, 0u);
  EXPECT_EQ(answer_of(example, choices).chosen_normalized, 1u);
}

/// Whether `work` throws an Error that says `message`.
template <class Work>
void expect_error(Work work, const char* message) {
  try {
    work();
    ADD_FAILURE() << "no error: " << message;
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr(message));
  }
}

TEST(Tasks, RefuseRecordsThatAreNotTheirs) {
  const struct {
    const char *task, *record, *message;
  } rows[] = {
      {"piqa", "[]", "here: no JSON object, expected a record of PIQA"},
      {"piqa", "{}", "here: no record of PIQA, expected one with the field `goal`"},
      {"piqa", R"({"goal": "a", "sol1": "b", "label": 0})", "here: no field `sol2`"},
      {"piqa", R"({"goal": "a", "sol1": "b", "sol2": "c", "label": 2})",
       "here: the label is \"2\", expected one of 0, 1"},
      {"piqa", R"({"goal": "a", "sol1": "b", "sol2": ["c"], "label": 1})",
       "here: the field `sol2` is array, expected a string"},
      {"piqa", R"({"goal": "a", "sol1": "b", "sol2": "c", "label": 0.5})",
       "here: the field `label` is number"},
      {"copa", R"({"p": "a.", "asks-for": "why"})",
       "here: the field `asks-for` is \"why\", expected cause or effect"},
      {"winogrande", R"({"sentence": "a", "option1": "b", "option2": "c", "answer": "1"})",
       "here: no blank in the field `sentence`"},
      {"hellaswag", R"({"query": "a", "endings": [], "label": 0})",
       "here: the field `endings` is no list of choices"},
      {"hellaswag", R"({"query": "a", "endings": "bc", "label": 0})",
       "here: the field `endings` is no list of choices"},
      {"arc_easy", R"({"question": {"stem": "a", "choices": [{"text": "b"}]}, "answerKey": "A"})",
       "here: no field `question.choices.*.label`"},
      {"arc_easy",
       R"({"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B", "C", "D"]}, "answerKey": "C"})",
       "here: 4 labels of 2 choices, expected as many of both"},
      {"arc_easy",
       R"({"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "A"]}, "answerKey": "A"})",
       "here: two choices have the label \"A\", expected one"},
      {"mmlu", R"({"question": "a", "A": "b", "B": "c", "C": "d", "D": "e", "answer": "E"})",
       "here: the label is \"E\""},
      {"mmlu", R"({"question": "a", "A": "b", "B": "c", "C": "d", "D": "e", "answer": "A"})",
       "here: no field `subject`"},
  };
  for (const auto& row : rows)
    expect_error([&] { example_of(task_of(row.task), parse_json(row.record, "record"), "here"); },
                 row.message);
}

TEST(Tasks, SayWhatIsKnownAndWhereFilesAreExpected) {
  using Names = std::vector<std::string>;
  expect_error([] { choose_tasks(Names{"piqua"}); },
               "--tasks: unknown task \"piqua\", expected one of piqa, copa");
  for (const char* none : {"", "mmlu_"})
    expect_error([&] { choose_tasks(Names{none}); }, "--tasks: unknown task");
  expect_error([] { choose_tasks(Names{"piqua"}); }, "did you mean piqa?");
  expect_error([] { choose_tasks(Names{"rte", "glue"}); }, "--tasks: rte twice");
  expect_error([] { choose_tasks(Names{"mmlu_anatomy", "mmlu"}); }, "--tasks: mmlu_anatomy twice");
  expect_error([] { choose_tasks(Names{"mmlu", "mmlu_anatomy"}); }, "--tasks: mmlu_anatomy twice");
  expect_error([] { choose_tasks(Names{"mmlu", "mmlu"}); }, "--tasks: mmlu twice");
  EXPECT_EQ(choose_tasks(Names{"glue"}).size(), 5u);
  EXPECT_EQ(choose_tasks(Names{"mmlu_anatomy"}).front().subject, "anatomy");

  const TemporaryFolder folder;
  const TaskChoice piqa{&task_of("piqa"), {}}, mmlu{&task_of("mmlu"), {}};
  const auto file = (folder.path() / "piqa-validation.jsonl.xz").string();
  expect_error([&] { read_task(piqa, {.data = folder.path()}); },
               (file + ": not there, expected the records of PIQA").c_str());
  write_lines(folder.path() / "piqa-validation.jsonl",
              {{{"goal", "a"}, {"sol1", "b"}, {"sol2", "c"}, {"label", 0}}});
  EXPECT_EQ(read_task(piqa, {.data = folder.path()}).front().examples.size(), 1u);
  expect_error([&] { read_task(piqa, {.data = folder.path(), .shots = 1}); },
               "--shots: 1 examples before each prompt of piqa, expected at most 0");
  const nlohmann::json record = {{"question", "q"}, {"A", "a"},      {"B", "b"},      {"C", "c"},
                                 {"D", "d"},        {"answer", "A"}, {"subject", "x"}};
  write_lines(folder.path() / "mmlu-test.jsonl", nlohmann::json::array({record}));
  expect_error([&] { read_task(mmlu, {.data = folder.path()}); },
               "mmlu-dev.jsonl.xz: not there, expected the few-shot examples of MMLU");
  expect_error(
      [&] {
        read_task({mmlu.task, "y"}, {.data = folder.path(), .shots = 0});
      },
      "--tasks: no record of mmlu_y");
}

/// ln p of a request's continuation, read anew from the empty state.
Likelihood alone(Decoder& decoder, const LikelihoodRequest& request) {
  const auto width = static_cast<size_t>(decoder.vocabulary());
  const size_t inputs = request.tokens.size() - 1, first = request.first - 1;
  std::vector<float> logits((inputs - first) * width);
  decoder.reset(0);
  decoder.prefill(0, std::span(request.tokens).first(inputs), first, logits);
  Likelihood answer;
  for (size_t i = first; i < inputs; ++i) {
    const auto row = std::span<const float>(logits).subspan((i - first) * width, width);
    answer.nats -= negative_log_likelihood(row, request.tokens[i + 1]);
    answer.greedy = answer.greedy && argmax(row) == request.tokens[i + 1];
  }
  return answer;
}

TEST(LikelihoodReader, SharesBeginningsAndAnswersAsForEachAlone) {
  const nlohmann::json attentions[] = {
      nullptr, {{"method", "relu"}, {"group", 8}, {"local", "softmax"}, {"alpha", 0.5}}};
  ThreadPool pool(2);
  for (const auto& attention : attentions) {
    const TemporaryModel model({.layers = 2, .attention = attention});
    const auto decoder = Decoder::make(
        model.get(), {.compute = ComputeType::kFloat32, .slots = LikelihoodReader::kSlots}, pool);
    // A long beginning, questions that share parts of it and of each other to any depth, choices of one token
    // and more, one that another begins with, the same twice, and one whose answer begins early.
    const auto text = random_tokens(160, decoder->vocabulary(), 1);
    std::vector<LikelihoodRequest> requests;
    for (const size_t shared : {10u, 30u, 50u, 70u, 90u, 110u, 130u, 140u, 141u}) {
      for (uint64_t choice = 0; choice < 4; ++choice) {
        std::vector<int32_t> tokens(text.begin(), text.begin() + static_cast<ptrdiff_t>(shared));
        const auto end = random_tokens(choice == 3 ? 12 : 1 + choice, decoder->vocabulary(), shared + choice);
        tokens.insert(tokens.end(), end.begin(), end.end());
        requests.push_back({tokens, choice == 1 ? shared / 2 : shared});
      }
    }
    requests.push_back({text, 140});
    requests.push_back({text, 150});
    requests.push_back({{text[0], text[1]}, 1});
    LikelihoodReader sharing(*decoder, pool), reading_alone(*decoder, pool, /*share=*/false);
    int64_t answered = 0;
    const auto answers = sharing.read(requests, [&](int64_t more) { return answered += more, true; });
    const auto others = reading_alone.read(requests);
    EXPECT_EQ(answered, std::ssize(requests));
    ASSERT_EQ(answers.size(), requests.size());
    for (size_t i = 0; i < requests.size(); ++i) {
      const Likelihood expected = alone(*decoder, requests[i]);
      EXPECT_NEAR(answers[i].nats, expected.nats, 1e-4) << i;
      EXPECT_NEAR(others[i].nats, expected.nats, 1e-4) << i;
      EXPECT_EQ(answers[i].greedy, expected.greedy) << i;
    }
    EXPECT_EQ(reading_alone.counts().tokens, reading_alone.counts().all_tokens);
    EXPECT_EQ(sharing.counts().all_tokens, reading_alone.counts().tokens);
    EXPECT_LT(2 * sharing.counts().tokens, sharing.counts().all_tokens);
    EXPECT_TRUE(sharing.read(requests, [](int64_t) { return false; }).empty());
  }
}

/// A tokenizer of one token a printable character; `bos`: the post-processor adds it.
Tokenizer characters(bool bos) {
  nlohmann::json vocab = {{"<s>", 0}, {"Ġ", 1}, {"Ċ", 2}};
  for (char c = '!'; c <= '~'; ++c) vocab[std::string(1, c)] = vocab.size();
  vocab["Ġb"] = vocab.size();
  nlohmann::json json = {{"added_tokens",
                          {{{"id", 0},
                            {"content", "<s>"},
                            {"special", true},
                            {"single_word", false},
                            {"lstrip", false},
                            {"rstrip", false},
                            {"normalized", false}}}},
                         {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
                         {"decoder", {{"type", "ByteLevel"}}},
                         {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", {"Ġ b"}}}}};
  if (bos)
    json["post_processor"] = {
        {"type", "TemplateProcessing"},
        {"single",
         {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}},
          {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
        {"pair", nlohmann::json::array()},
        {"special_tokens", {{"<s>", {{"id", "<s>"}, {"ids", {0}}, {"tokens", {"<s>"}}}}}}};
  return Tokenizer::from_json(json.dump(), "characters");
}

TEST(PromptEncoder, GivesTheContextsSpacesToTheContinuation) {
  const Tokenizer plain = characters(false), with_bos = characters(true);
  const auto ids = [&](std::string_view text) { return plain.encode(text); };
  const PromptEncoder encoder(plain, 0, 100), bos_encoder(with_bos, 0, 100);
  const auto spaced = encoder.encode({"a ", "b"}, "here");
  EXPECT_EQ(spaced.tokens, ids("a b"));  // a and " b"
  EXPECT_EQ(spaced.first, 1u);
  EXPECT_EQ(encoder.encode({"", "ab"}, "here").tokens, (std::vector<int32_t>{0, ids("a")[0], ids("b")[0]}));
  EXPECT_EQ(encoder.encode({"", "<s>b"}, "here").tokens.size(), 2u);
  const auto begun = bos_encoder.encode({"a", " b"}, "here");
  EXPECT_EQ(begun.tokens.front(), 0);
  EXPECT_EQ(begun.first, 2u);
  EXPECT_EQ(bos_encoder.encode({"<s>a", " b"}, "here").tokens, begun.tokens);
  const PromptEncoder narrow(plain, 0, 4);
  const auto cut = narrow.encode({"abcdefg", "xy"}, "here");  // 5 tokens are 4 inputs
  EXPECT_EQ(cut.tokens, ids("efgxy"));
  EXPECT_EQ(cut.first, 3u);
  expect_error([&] { narrow.encode({"a", "vwxyz"}, "here"); }, "here: 5 tokens after 1 of context");
  expect_error([&] { encoder.encode({"a", ""}, "here"); }, "here: 0 tokens after 1 of context");
}

}  // namespace
}  // namespace linnet

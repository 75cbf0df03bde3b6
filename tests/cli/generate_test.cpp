// generate and chat, as a user runs them.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/file.h"
#include "base/json.h"
#include "tests/cli/program.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

TEST_F(Program, GeneratesTheSameTextForTheSameSeed) {
  const std::vector<std::string> sampled = {"generate",         "{m}", "--prompt",      "a story",
                                            "--max-new-tokens", "20",  "--temperature", "1",
                                            "--seed",           "5",   "--json",        "out.json"};
  const Outcome first = run(sampled), second = run(sampled);
  EXPECT_EQ(first.status, 0) << first.err;
  EXPECT_EQ(first.out, second.out);
  auto other = sampled;
  other[9] = "6";
  EXPECT_NE(run(other).out, first.out);
  const nlohmann::json json = parse_json(first.files.at("out.json"), "out.json");
  EXPECT_EQ(json["text"].get<std::string>(), first.out);
  EXPECT_EQ(json["prompt_tokens"], 7);
  EXPECT_LE(json["generated_tokens"].get<int>(), 20);
  EXPECT_GT(json["prefill_tokens_per_second"].get<double>(), 0);
  EXPECT_GT(json["state_bytes"].get<int64_t>(), 0);
  EXPECT_THAT(first.err, HasSubstr("tokens/s"));
}

TEST_F(Program, ReadsThePromptFromAFileOrStandardInput) {
  const std::vector<std::string> common = {"generate", "{m}", "--max-new-tokens", "9", "--ignore-eos"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), common.begin(), common.end());
    return more;
  };
  const std::string text = std::string(MappedFile(input("text.txt")).text());
  const Outcome expected = run(with({"--prompt", text}));
  EXPECT_EQ(expected.status, 0) << expected.err;
  EXPECT_EQ(run(with({"--prompt-file", "{i}/text.txt"})).out, expected.out);
  EXPECT_EQ(run(with({"--prompt-file", "-"}), {.input = text}).out, expected.out);
  EXPECT_EQ(run(common, {.input = text}).out, expected.out);
}

TEST_F(Program, GoesOnFromBosWhereThePromptIsEmpty) {
  write_file(input("bos.txt"), "<s>");
  const Outcome expected =
      run({"generate", "{m}", "--prompt-file", "{i}/bos.txt", "-n", "9", "--ignore-eos"});
  EXPECT_EQ(expected.status, 0) << expected.err;
  const std::vector<std::string> common = {"generate", "{i}/bos", "-n", "9", "--ignore-eos"};
  for (const std::vector<std::string>& prompt :
       {std::vector<std::string>{"-p", ""}, {"--prompt-file", "{i}/empty.txt"}, {}}) {
    auto arguments = common;
    arguments.insert(arguments.end(), prompt.begin(), prompt.end());
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.out, expected.out);
    EXPECT_THAT(outcome.err, HasSubstr("prefill 1 token"));
  }
  EXPECT_THAT(run({"generate", "{i}/bos", "--raw", "-p", "a", "-n", "1"}).err, HasSubstr("prefill 1 token"));
}

TEST_F(Program, SpeculationWritesThePlainTextAndSaysWhatItWasWorth) {
  const std::string prompt = "one two three. one two three. one two three. one two";
  for (const char* temperature : {"0", "0.7"}) {
    const auto with = [&](std::vector<std::string> more) {
      std::vector<std::string> arguments = {"generate",  "{i}/sidecar", "-p",           prompt,
                                            "-n",        "80",          "--ignore-eos", "--temperature",
                                            temperature, "--json",      "out.json"};
      arguments.insert(arguments.end(), more.begin(), more.end());
      return run(arguments);
    };
    const Outcome plain = with({}), looked = with({"--speculative", "lookup", "--report", "--verify",
                                                   "--lookup-file", "{i}/text.txt"});
    EXPECT_EQ(looked.status, 0) << looked.err;
    EXPECT_EQ(looked.out, plain.out);
    EXPECT_THAT(looked.err, HasSubstr("lookup: "));
    EXPECT_THAT(looked.err, HasSubstr("the same text"));
    const nlohmann::json json = parse_json(looked.files.at("out.json"), "out.json")["speculation"];
    EXPECT_EQ(json["tokens"], 79);
    EXPECT_LE(json["steps"].get<int>(), 79);
    EXPECT_GE(json["nodes"].get<int>(), json["steps"].get<int>());
    EXPECT_EQ(json["same_text"], true);
    EXPECT_GT(json["plain_tokens_per_second"].get<double>(), 0);
  }
  const std::pair<std::vector<std::string>, const char*> refused[] = {
      {{"--report"}, "--report: given without --speculative, expected"},
      {{"--verify"}, "--verify: given without --speculative, expected"},
      {{"--every-guess"}, "--every-guess: given without --speculative, expected"},
      {{"--lookup-file=x"}, "--lookup-file: given without --speculative lookup, expected"},
      {{"--heads=x", "--speculative", "lookup"},
       "--heads: given with --speculative lookup, expected --speculative heads"},
      {{"--draft-model=x"}, "--draft-model: given without --speculative draft, expected"},
      {{"--speculative", "draft"}, "--draft-model: not given, expected the folder of a smaller model"},
      {{"--speculative", "heads"}, "heads: holds no config.json, expected a folder of draft heads"}};
  for (const auto& [more, expected] : refused) {
    std::vector<std::string> arguments = {"generate", "{m}", "-p", "a"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = run(arguments);
    EXPECT_EQ(outcome.status, 2);
    EXPECT_THAT(outcome.err, HasSubstr(expected));
  }
  // A draft model that is the model itself guesses right, and changes nothing.
  const Outcome draft = run({"generate", "{m}", "-p", "a story", "-n", "60", "--ignore-eos", "--speculative",
                             "draft", "--draft-model", "{m}", "--report", "--verify"});
  EXPECT_EQ(draft.status, 0) << draft.err;
  EXPECT_THAT(draft.err, HasSubstr("the same text"));
}

TEST_F(Program, ATextGoesOnFromItsSavedStateAsIfItHadNeverStopped) {
  const std::string state = input("text.state");
  const auto part = [&](const char* model, const char* tokens, std::vector<std::string> more) {
    std::vector<std::string> arguments = {"generate",     model,           "-n", tokens,
                                          "--ignore-eos", "--temperature", "0.9"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  };
  for (const char* model : {"{m}", "{i}/sidecar"}) {
    const Outcome whole = part(model, "40", {"-p", "a story of"});
    const Outcome first = part(model, "17", {"-p", "a story of", "--save-state", state});
    EXPECT_EQ(first.status, 0) << first.err;
    const Outcome second = part(model, "23", {"--load-state", state, "--save-state", state});
    EXPECT_EQ(second.status, 0) << second.err;
    EXPECT_EQ(first.out + second.out, whole.out) << model;
    EXPECT_THAT(second.err, HasSubstr("prefill 1 token,")) << "what is committed is not read again";
    EXPECT_EQ(part(model, "3", {"--load-state", state, "-p", " and"}).status, 0);
  }
}

TEST_F(Program, ContinuesEachPromptOfAFileAsAlone) {
  write_file(input("prompts.txt"), "a story\r\n\nanother one of them\n\r\nabc");
  const std::vector<std::string> how = {"-n", "12", "--ignore-eos"};
  const auto with = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), how.begin(), how.end());
    return run(arguments);
  };
  std::string expected;
  int number = 0;
  for (const char* prompt : {"a story", "another one of them", "abc"})
    expected +=
        fmt::format("==> prompt {} of 3 <==\n{}\n", ++number, with({"generate", "{m}", "-p", prompt}).out);
  for (const char* parallel : {"1", "2", "8"}) {
    const Outcome outcome = with({"generate", "{m}", "--prompts", "{i}/prompts.txt", "--parallel", parallel});
    EXPECT_EQ(outcome.out, expected) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("36 tokens of 3 texts in"));
  }
  EXPECT_THAT(with({"generate", "{m}", "-p", "a", "--parallel", "2"}).err,
              HasSubstr("--parallel: given for one text"));
  EXPECT_THAT(with({"generate", "{m}", "--prompts", "{i}/prompts.txt", "--samples", "2"}).err,
              HasSubstr("--samples: given together with --prompts"));
  EXPECT_THAT(with({"generate", "{m}", "--prompts", "{i}/empty.txt"}).err,
              HasSubstr("no prompts, expected one on each line"));
}

TEST_F(Program, TakesPromptsOfSeveralLinesFromRecords) {
  write_file(input("prompts.jsonl"), R"({"text": "a story\nof"})"
                                     "\n"
                                     R"({"text": "abc"})"
                                     "\n");
  const Outcome outcome =
      run({"generate", "{m}", "--prompts", "{i}/prompts.jsonl", "-n", "12", "--ignore-eos"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const Outcome alone = run({"generate", "{m}", "-p", "a story\nof", "-n", "12", "--ignore-eos"});
  EXPECT_THAT(outcome.out, HasSubstr(fmt::format("==> prompt 1 of 2 <==\n{}\n", alone.out)));
}

TEST_F(Program, GuessesWithinATree) {
  write_file(input("tree.json"), "[[0], [0, 0], [1]]");
  write_file(input("loop.json"), R"({"parents": [2, 1], "ranks": [0, 0]})");
  write_file(input("orphan.json"), "[[0, 1]]");
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"generate", "{i}/sidecar", "-p", "abcabcabc", "-n", "30"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  };
  const std::string plain = with({}).out;
  for (const char* tree : {"{i}/tree.json", "2x1"}) {
    const Outcome outcome = with({"--speculative", "lookup", "--tree", tree, "--verify", "--every-guess"});
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.out, plain);
  }
  const std::pair<const char*, const char*> bad[] = {
      {"{i}/loop.json", "loop.json: node 1 has no path from the root: a cycle, expected"},
      {"{i}/orphan.json", "orphan.json: path [0, 1] without [0], expected the parent of every node"},
      {"4x2xx", "4x2xx: no such tree, expected a file, widths such as 4x2x1"},
      {"1x1x1x1x1x1x1x1x1", "a tree of depth 9, expected at most 8, the tokens of a group"},
  };
  for (const auto& [tree, message] : bad) {
    const Outcome outcome = with({"--speculative", "lookup", "--tree", tree});
    EXPECT_EQ(outcome.status, 2);
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_EQ(outcome.out, "");
  }
  EXPECT_THAT(with({"--tree", "2x1"}).err, HasSubstr("--tree: given without --speculative"));
}

TEST_F(Program, SaysThatTypicalAcceptanceChangesTheDistribution) {
  const auto with = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"generate",     "{m}",           "-p",   "abcabcabc", "-n",
                                          "30",           "--speculative", "auto", "--accept",  "typical",
                                          "--temperature"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments);
  };
  const Outcome outcome = with({"1", "--report", "--json", "out.json"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("typical acceptance: the text is not distributed as the sampler draws"));
  EXPECT_EQ(parse_json(outcome.files.at("out.json"), "out.json")["speculation"]["accept"], "typical");
  EXPECT_THAT(with({"1", "--verify"}).err, HasSubstr("--verify: given with --accept typical"));
  EXPECT_THAT(with({"0"}).err, HasSubstr("--accept: given with --temperature 0"));
}

TEST_F(Program, RefusesAStateFileThatIsDamagedOrOfAnotherModel) {
  const std::string state = input("good.state"), bad = input("bad.state");
  ASSERT_EQ(run({"generate", "{i}/sidecar", "-p", "abc", "-n", "9", "--save-state", state}).status, 0);
  const std::string good(MappedFile(state).text());
  make_sidecar(input("wider"), {{"method", "relu"}, {"group", 16}});
  std::string flipped = good, version = good;
  flipped[good.size() / 2] ^= 4;
  version[11] = 9;
  struct Row {
    const char* model;
    std::string bytes, saying;
  };
  for (const Row& row : {Row{"{i}/sidecar", "", "is no saved text, expected a file of --save-state"},
                         {"{i}/sidecar", "something else", "is no saved text"},
                         {"{i}/sidecar", good.substr(0, 20), "ends too early, expected a whole file"},
                         {"{i}/sidecar", good.substr(0, good.size() - 1), "checksum differs"},
                         {"{i}/sidecar", flipped, "checksum differs: bytes are missing or changed, expected"},
                         {"{i}/sidecar", version, "version 9, expected version 1"},
                         {"{m}", good, "state: of attention by relu, expected one by softmax"},
                         {"{i}/wider", good, "attention …"},
                         {"{i}/gpt2", good, ", expected "}}) {
    write_file(bad, row.bytes);
    const Outcome outcome = run({"generate", row.model, "--load-state", bad, "-n", "2"});
    EXPECT_EQ(outcome.status, 2) << row.saying;
    EXPECT_THAT(outcome.err, StartsWith("linnet: error: " + bad + ": "));
    EXPECT_THAT(outcome.err, HasSubstr(row.saying));
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_THAT(outcome.out, IsEmpty());
  }
  const Outcome other =
      run({"generate", "{i}/sidecar", "--load-state", state, "--state-type", "bf16", "-n", "2"});
  EXPECT_EQ(other.status, 2);
  EXPECT_THAT(other.err, HasSubstr("--state-type float32, expected one saved with "));
}

TEST_F(Program, RefusesAStateThatWasComputedWithOtherWeightsOrArithmetic) {
  const std::string state = input("float.state");
  ASSERT_EQ(run({"generate", "{m}", "-p", "abc", "-n", "4", "--save-state", state}).status, 0);
  const auto go_on = [&](std::vector<std::string> how) {
    how.insert(how.begin(), {"generate", "{m}", "--load-state", state, "-n", "2"});
    return run(how);
  };
  EXPECT_EQ(go_on({"--dtype", "float32"}).status, 0) << "what auto is for float32 weights";
  EXPECT_THAT(go_on({"--dtype", "bfloat16"}).err,
              HasSubstr("state: saved with --dtype float32 --weights stored --state-type float32, expected "
                        "one saved with --dtype "
                        "bfloat16 --weights stored"));
  EXPECT_THAT(go_on({"--dtype", "float64"}).err, HasSubstr("numbers of 4 bytes, expected 8"));
}

TEST_F(Program, LaysAChatOutByTheTemplateAndItsSpecialTokensAreOneEach) {
  const std::string source =
      "{{ bos_token }}{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}</s>{% endfor %}"
      "{% if add_generation_prompt %}[answer]{% endif %}";
  const fs::path chat = inputs() / "chat";
  fs::copy(inputs() / "bos", chat);
  nlohmann::json config = {{"bos_token", "<s>"}, {"add_bos_token", true}, {"chat_template", source}};
  write_file(chat / "tokenizer_config.json", config.dump());
  write_file(inputs() / "messages.json",
             R"([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "b"},
                 {"role": "user", "content": "c", "name": null}])");
  write_file(inputs() / "chat.jinja", source);
  const std::vector<std::string> common = {"-n", "7", "--ignore-eos", "--echo", "--json", "out.json"};
  const auto with = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), common.begin(), common.end());
    return run(arguments);
  };
  const std::string one = "<s>[user]hi</s>[answer]";
  const Outcome raw = with({"generate", "{i}/chat", "--raw", "-p", one});
  ASSERT_EQ(raw.status, 0) << raw.err;
  EXPECT_THAT(raw.err, HasSubstr("prefill 18 tokens"));  // BOS once; <s> and </s> are a token each
  const std::vector<std::string> same[] = {
      {"generate", "{i}/chat", "--chat", "-p", "hi"},
      {"generate", "{i}/bos", "--chat", "-p", "hi\n", "--template", "{i}/chat.jinja"}};
  for (const auto& arguments : same) {
    const Outcome outcome = with(arguments);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_EQ(outcome.out, raw.out);
    EXPECT_THAT(outcome.err, HasSubstr("prefill 18 tokens"));
  }
  config["chat_template"] = {{{"name", "tool_use"}, {"template", "t"}},
                             {{"name", "default"}, {"template", source}}};
  write_file(chat / "tokenizer_config.json", config.dump());
  const Outcome turns = with({"generate", "{i}/chat", "--messages", "{i}/messages.json", "--system", "S"});
  EXPECT_THAT(turns.out, StartsWith("<s>[system]S</s>[user]hi</s>[assistant]b</s>[user]c</s>[answer]"));
  write_file(chat / "chat_template.jinja", "x{{ raise_exception('Not today.') }}");
  const BadRow rows[] = {
      {{"generate", "{i}/bos", "--chat", "-p", "a"},
       "bos: no chat template here, expected one in tokenizer_config.json or chat_template.jinja, or "
       "--template FILE"},
      {{"generate", "{i}/chat", "--chat", "-p", "a"}, "chat_template.jinja, line 1: Not today."},
      {{"generate", "{i}/chat", "--chat", "--messages", "{i}/messages.json", "-p", "a"},
       "--messages: given together with a prompt"},
      {{"generate", "{i}/chat", "--messages", "{i}/text.txt"}, "text.txt: not JSON"},
      {{"generate", "{i}/chat", "--system", "a", "-p", "a"}, "--system: given without a chat"},
      {{"generate", "{i}/chat", "--template", "a", "-p", "a"}, "--template: given without a chat"},
      {{"generate", "{i}/chat", "--chat", "--raw", "-p", "a"}, "--raw: given for a chat"},
      {{"generate", "{i}/chat", "--chat", "--template", "/nonexistent", "-p", "a"},
       "/nonexistent: cannot read"},
  };
  for (const BadRow& row : rows) expect_refused(row, run(row.arguments));
}

TEST_F(Program, ChatsAndReadsTheNewTokensOfATurnAlone) {
  const auto lay_out = [](const char* name, const std::string& content) {
    write_file(inputs() / name, "{{ bos_token }}{% for m in messages %}[{{ m.role[0] }}]{{ " + content +
                                    " }}</s>{% endfor %}[a]");
  };
  lay_out("plain.jinja", "m.content");
  lay_out("rewriting.jinja", "m.content if loop.revindex < 3 else m.content | upper ~ '!'");
  const auto chat = [](const char* file, const char* input) {
    return run({"chat", "{i}/bos", "--template", file, "-n", "5", "--ignore-eos"}, {.input = input});
  };
  const Outcome turns = chat("{i}/plain.jinja", "hi\n\n/what\nand\r\n/reset\nhi\n/system S\nhi\n/exit\nno\n");
  EXPECT_EQ(turns.status, 0) << turns.err;
  // <s> [u] hi </s> [a]; then the answer's last token, </s> [u] and </s> [a].
  EXPECT_THAT(turns.err, HasSubstr("linnet: read 10 of 10 tokens; answered 5"));
  EXPECT_THAT(turns.err, HasSubstr("linnet: read 12 of 26 tokens; answered 5"));
  EXPECT_THAT(turns.err, HasSubstr("unknown command /what, expected /exit, /reset or /system TEXT"));
  EXPECT_THAT(turns.err, HasSubstr("all anew: the history is no longer as it was read"));  // of /system
  const Outcome once = run({"generate", "{i}/bos", "--chat", "-p", "hi", "--template", "{i}/plain.jinja",
                            "-n", "5", "--ignore-eos"});
  EXPECT_THAT(turns.out, StartsWith(once.out + "\n"));
  const std::string without_end = chat("{i}/plain.jinja", "hi\n/reset\nhi").out;
  EXPECT_EQ(without_end, once.out + "\n" + once.out + "\n");
  const Outcome rewritten = chat("{i}/rewriting.jinja", "hi\nand\n");
  EXPECT_EQ(rewritten.status, 0) << rewritten.err;
  EXPECT_THAT(rewritten.err, HasSubstr("all anew: the history is no longer as it was read"));
  EXPECT_THAT(chat("{i}/plain.jinja", "").out, IsEmpty());
  expect_refused({{}, "bos: no chat template here"}, run({"chat", "{i}/bos"}));
}

TEST_F(Program, AChatSaysTheSameWhoeverGuesses) {
  write_file(inputs() / "spoken.jinja", "{% for m in messages %}{{ m.content }}</s>{% endfor %}");
  const auto chat = [](std::vector<std::string> more) {
    std::vector<std::string> arguments = {"chat", "{i}/bos", "--template",  "{i}/spoken.jinja",
                                          "-n",   "40",      "--ignore-eos"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run(arguments, {.input = "hi hi hi\nhi\n/reset\nhi\n"});
  };
  const Outcome plain = chat({});
  ASSERT_EQ(plain.status, 0) << plain.err;
  for (const std::vector<std::string>& who : {std::vector<std::string>{"--speculative", "lookup"},
                                              {"--speculative", "draft", "--draft-model", "{i}/bos"},
                                              {"--speculative", "auto", "--lookup-file", "{i}/text.txt"}}) {
    const Outcome guessed = chat(who);
    EXPECT_EQ(guessed.status, 0) << guessed.err;
    EXPECT_EQ(guessed.out, plain.out) << who[1];
  }
  expect_refused({{}, "--heads: given without --speculative heads"}, chat({"--heads", "x"}));
}

TEST_F(Program, EditsAChatsLinesAndRecallsThemAtATerminal) {
  write_file(inputs() / "typed.jinja", "{% for m in messages %}{{ m.content }}</s>{% endfor %}");
  const std::vector<std::string> chat = {"chat", "{i}/bos",      "--template", "{i}/typed.jinja", "-n",
                                         "2",    "--ignore-eos", "--json",     "out.json"};
  constexpr const char *kHome = "\x01", *kUp = "\x1b[A";
  const Outcome outcome =
      run(chat, {.typed = std::string("orl\u00e9") + kHome + "w\n" + kUp + "\n" + "/exit\n"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const nlohmann::json answers = parse_json(outcome.files.at("out.json"), "out.json");
  ASSERT_EQ(answers.size(), 2u) << outcome.err;
  EXPECT_EQ(answers[0]["user"], "worl\u00e9");
  EXPECT_EQ(answers[1]["user"], "worl\u00e9");
  EXPECT_EQ(outcome.out,
            answers[0]["text"].get<std::string>() + "\n" + answers[1]["text"].get<std::string>() + "\n");
  const Outcome stopped = run(chat, {.interrupt = true, .typed = "not said"});
  EXPECT_EQ(stopped.status, 130) << stopped.err;
}

TEST_F(Program, WritesAChatsAnswersAsJson) {
  write_file(inputs() / "said.jinja",
             "{{ bos_token }}{% for m in messages %}{{ m.content }}</s>{% endfor %}");
  const Outcome outcome = run(
      {"chat", "{i}/bos", "--template", "{i}/said.jinja", "-n", "4", "--ignore-eos", "--json", "out.json"},
      {.input = "hi\nand\n"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const nlohmann::json answers = parse_json(outcome.files.at("out.json"), "out.json");
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[1]["user"], "and");
  EXPECT_EQ(answers[0]["text"].get<std::string>() + "\n" + answers[1]["text"].get<std::string>() + "\n",
            outcome.out);
  EXPECT_EQ(answers[1]["generated_tokens"], 4);
  EXPECT_EQ(answers[1]["finished"], "length");
  // Standard output takes nothing back: one list, at the end.
  const std::vector<std::string> printing = {
      "chat", "{i}/bos", "--template", "{i}/said.jinja", "-n", "4", "--ignore-eos", "--json", "-"};
  const nlohmann::json printed = parse_json(run(printing, {.input = "hi\nand\n"}).out, "printed");
  ASSERT_EQ(printed.size(), 2u);
  EXPECT_EQ(printed[1]["text"], answers[1]["text"]);
  // What was answered before a turn that fails is there too.
  write_file(inputs() / "once.jinja",
             "{{ bos_token }}{{ raise_exception('once') if messages | length > 1 }}a</s>");
  std::vector<std::string> failing = printing;
  failing[3] = "{i}/once.jinja";
  const Outcome stopped = run(failing, {.input = "hi\nand\n"});
  EXPECT_EQ(stopped.status, 2) << stopped.err;
  EXPECT_EQ(parse_json(stopped.out, "stopped").size(), 1u);
}

TEST_F(Program, DoesNotWaitForAPromptAtATerminal) {
  const BadRow row = {{"generate", "{m}"},
                      "--prompt: absent, expected --prompt TEXT, --prompt-file FILE or piped"};
  expect_refused(row, run(row.arguments, {.terminal = true}));
}

TEST_F(Program, SaysWhyATextEnded) {
  const std::vector<std::string> common = {"generate",     "{i}/gpt2", "-p",      "Once upon a time",
                                           "--ignore-eos", "--json",   "out.json"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), common.begin(), common.end());
    return more;
  };
  const auto json_of = [&](const Outcome& outcome) {
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return parse_json(outcome.files.at("out.json"), "out.json");
  };
  const Outcome far = run(with({"-n", "200"}));  // 64 positions, 16 of them the prompt's
  EXPECT_EQ(json_of(far)["finished"], "positions");
  EXPECT_EQ(json_of(far)["generated_tokens"], 49);
  EXPECT_THAT(far.err, HasSubstr("ended by the end of the model's positions"));
  const nlohmann::json near = json_of(run(with({"-n", "3", "--seed", "7"})));
  EXPECT_EQ(near["finished"], "length");
  EXPECT_EQ(near["seed"], 7);
  EXPECT_EQ(near["token_ids"].size(), 3u);
  const std::string text = json_of(far)["text"];
  const nlohmann::json stopped = json_of(run(with({"-n", "200", "--stop", text.substr(text.size() - 3)})));
  EXPECT_EQ(stopped["finished"], "stop");
}

TEST_F(Program, GivesIndependentSamplesOfOnePrompt) {
  const std::vector<std::string> common = {
      "generate", "{m}", "-p", "a story", "-n", "12", "--seed", "5", "--temperature", "1", "--ignore-eos"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), common.begin(), common.end());
    return more;
  };
  const Outcome outcome = run(with({"--samples", "11", "--json", "out.json"}));  // more than go side by side
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  const nlohmann::json json = parse_json(outcome.files.at("out.json"), "out.json");
  EXPECT_EQ(json.size(), 11u);
  EXPECT_EQ(json[0]["text"], run(with({})).out);
  std::string expected;
  for (size_t i = 0; i < json.size(); ++i) {
    expected += fmt::format("==> sample {} of 11 <==\n{}\n", i + 1, json[i]["text"].get<std::string>());
  }
  EXPECT_EQ(outcome.out, expected);
  EXPECT_NE(json[0]["text"], json[1]["text"]);
}

TEST_F(Program, GivesLogProbabilitiesAsCompletionsDo) {
  const std::vector<std::string> arguments = {"generate",   "{m}", "-p",     "a story", "-n",    "5",
                                              "--logprobs", "2",   "--echo", "--json",  "o.json"};
  const Outcome outcome = run(arguments);
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, StartsWith("a story"));
  const nlohmann::json json = parse_json(outcome.files.at("o.json"), "o.json"), &logs = json["logprobs"];
  EXPECT_EQ(json["text"].get<std::string>(), outcome.out);
  const size_t tokens = 7 + json["token_ids"].size();
  for (const char* field : {"tokens", "token_logprobs", "top_logprobs", "text_offset"}) {
    EXPECT_EQ(logs[field].size(), tokens) << field;
  }
  EXPECT_EQ(logs["tokens"][2], "s");
  EXPECT_EQ(logs["text_offset"][2], 2);
  EXPECT_TRUE(logs["token_logprobs"][0].is_null() && logs["top_logprobs"][0].is_null());
  for (size_t i = 1; i < tokens; ++i) {
    double best = -1e9;
    for (const auto& item : logs["top_logprobs"][i]) best = std::max(best, item.get<double>());
    EXPECT_LE(logs["token_logprobs"][i].get<double>(), best + 1e-9);
    EXPECT_LE(best, 0);
    if (i >= 7) {
      EXPECT_EQ(logs["token_logprobs"][i], best) << "greedy takes the likeliest";
    }
  }
  EXPECT_THAT(outcome.err, HasSubstr("\"s\""));
}

TEST_F(Program, TellsTheStoryThatARealModelIsKnownFor) {
  const fs::path stories = fs::path(LINNET_SHARED) / "data/models/stories260k";
  if (!fs::exists(stories)) GTEST_SKIP() << stories << " is not here";
  const auto greedy = read_json(stories / "reference.json")["greedy"][0];
  const std::string prompt = greedy["prompt"];
  const std::vector<std::string> arguments = {
      "generate", stories, "--prompt", prompt, "--max-new-tokens", std::to_string(greedy["ids"].size())};
  EXPECT_EQ(prompt + run_linnet(arguments).out, greedy["text"].get<std::string>());
  auto stopped = arguments;
  stopped.insert(stopped.end(), {"--stop", "Lily", "--stop", "big, red"});
  EXPECT_EQ(run_linnet(stopped).out, ", there was a little girl named ");
}

}  // namespace
}  // namespace linnet

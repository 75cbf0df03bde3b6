// Every command on a T5 that `linnet pretrain` made: what it does, or the one line that says why not.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/file.h"
#include "base/json.h"
#include "format/safetensors.h"
#include "tests/cli/training_program.h"

namespace linnet {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr int kPieces = 559, kSentinels = 30, kVocabulary = 600;

class T5Program : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    std::string text;
    for (int i = 0; i < 60; ++i) text += "the quick brown fox jumps over the lazy dog and runs away. ";
    write_file(path("text.txt"), text);
    write_file(path("held.txt"), text + "The end of another day, and of a text that nothing learns.");
    nlohmann::json tokenizer = read_json(LINNET_TEST_DATA "/tokenizers/hf/unigram_t5.json");
    for (int i = 0; i < kSentinels; ++i) {
      tokenizer["added_tokens"].push_back({{"id", kPieces + kSentinels - 1 - i},
                                           {"content", "<extra_id_" + std::to_string(i) + ">"},
                                           {"single_word", false},
                                           {"lstrip", false},
                                           {"rstrip", false},
                                           {"normalized", false},
                                           {"special", true}});
    }
    write_file(path("tokenizer.json"), tokenizer.dump());
    const nlohmann::json config = {{"model_type", "t5"},
                                   {"architectures", {"T5ForConditionalGeneration"}},
                                   {"vocab_size", kVocabulary},
                                   {"d_model", 32},
                                   {"d_kv", 16},
                                   {"d_ff", 64},
                                   {"num_heads", 2},
                                   {"num_layers", 2},
                                   {"num_decoder_layers", 1},
                                   {"feed_forward_proj", "gated-gelu"},
                                   {"tie_word_embeddings", false},
                                   {"is_encoder_decoder", true},
                                   {"pad_token_id", 0},
                                   {"eos_token_id", 1},
                                   {"decoder_start_token_id", 0}};
    write_file(path("config.json"), config.dump());
    const Outcome made =
        train({"pretrain", "--config", path("config.json"), "--tokenizer", path("tokenizer.json"), "--data",
               path("text.txt"), "--tokens", "512", "--batch", "2", "--context", "32", "--threads", "1",
               "--dtype", "float32", "-o", path("model")});
    ASSERT_EQ(made.status, 0) << made.err;
  }
  static void TearDownTestSuite() { delete folder_; }

  static std::string path(const std::string& name) { return (folder_->path() / name).string(); }
  static Outcome train(const std::vector<std::string>& arguments) {
    return run_linnet(arguments, {.program = cli::run_train_commands});
  }
  /// Trains a linear form of the model into `out`.
  static Outcome linearize(const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> all = {"linearize", path("model"), "--data",    path("text.txt"),
                                    "--batch",   "2",           "--context", "32",
                                    "--threads", "1",           "-o",        path(out)};
    all.insert(all.end(), more.begin(), more.end());
    return train(all);
  }

 private:
  static TemporaryFolder* folder_;
};
TemporaryFolder* T5Program::folder_ = nullptr;

TEST_F(T5Program, GenerateWritesTheSameTextWithAndWithoutGuessesAndBesideOthers) {
  write_file(path("prompts.txt"), "the quick brown fox\nthe lazy dog\n");
  const auto generate = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = {"generate", path("model"), "--max-new-tokens", "20", "--threads", "1"};
    all.insert(all.end(), more.begin(), more.end());
    return run_linnet(all);
  };
  const Outcome plain = generate({"--prompt", "the quick brown fox", "--speculative", "none"});
  EXPECT_EQ(plain.status, 0) << plain.err;
  EXPECT_THAT(plain.err, HasSubstr("prefill"));
  const Outcome guessed = generate({"--prompt", "the quick brown fox", "--speculative", "lookup"});
  EXPECT_EQ(guessed.out, plain.out) << guessed.err;
  const Outcome both = generate({"--prompts", path("prompts.txt"), "--parallel", "2"});
  EXPECT_EQ(both.status, 0) << both.err;
  EXPECT_THAT(both.out, HasSubstr(plain.out));
}

TEST_F(T5Program, ASavedTextGoesOnAndASourceThatIsKeptIsNotReadAgain) {
  const auto generate = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = {"generate",  path("model"), "--temperature", "0",
                                    "--threads", "1",           "--speculative", "none"};
    all.insert(all.end(), more.begin(), more.end());
    return run_linnet(all);
  };
  const Outcome whole =
      generate({"--prompt", "the quick brown fox", "--max-new-tokens", "16", "--json", path("whole.json")});
  const Outcome first =
      generate({"--prompt", "the quick brown fox", "--max-new-tokens", "9", "--save-state", path("state")});
  ASSERT_EQ(first.status, 0) << first.err;
  const Outcome rest = generate({"--load-state", path("state"), "--prompt", "", "--max-new-tokens", "7"});
  ASSERT_EQ(rest.status, 0) << rest.err;
  EXPECT_EQ(first.out + rest.out, whole.out);
  write_file(path("prompts.txt"),
             "the quick brown fox\nthe lazy dog\nthe quick brown fox\nthe quick brown fox jumps\n");
  const Outcome plain = generate({"--prompts", path("prompts.txt"), "--max-new-tokens", "8"});
  const Outcome cached = generate({"--prompts", path("prompts.txt"), "--max-new-tokens", "8",
                                   "--prefix-cache", "100000000", "--parallel", "1"});
  EXPECT_EQ(cached.status, 0) << cached.err;
  EXPECT_EQ(cached.out, plain.out);
  const int source = read_json(path("whole.json"))["prompt_tokens"];
  EXPECT_THAT(cached.err, HasSubstr("1 hit, 3 misses, " + std::to_string(source) + " tokens not read again"));
}

TEST_F(T5Program, PerplexityIsTheLossOfSpansThatTrainingLowers) {
  const Outcome scored = run_linnet({"perplexity", path("model"), path("text.txt"), "--window", "32",
                                     "--json", path("score.json"), "--threads", "1"});
  ASSERT_EQ(scored.status, 0) << scored.err;
  const nlohmann::json before = read_json(path("score.json"));
  EXPECT_LT(before["span_nats"].get<double>(), std::log(kVocabulary));
  ASSERT_EQ(train({"finetune", path("model"), "--data", path("text.txt"), "--tokens", "2048", "--batch", "2",
                   "--context", "32", "--lr", "3e-3", "--threads", "1", "-o", path("tuned")})
                .status,
            0);
  ASSERT_EQ(run_linnet({"perplexity", path("tuned"), path("text.txt"), "--window", "32", "--json",
                        path("tuned.json"), "--threads", "1"})
                .status,
            0);
  EXPECT_LT(read_json(path("tuned.json"))["span_nats"], before["span_nats"]);
}

TEST_F(T5Program, ALinearFormIsASidecarThatEveryCommandReadsAndMergeMakesAFolderOf) {
  const Outcome made = linearize("linear", {"--set", "group=8", "--tokens", "512"});
  ASSERT_EQ(made.status, 0) << made.err;
  const nlohmann::json object = read_json(path("linear/config.json"))["linear_attention"];
  EXPECT_EQ(object["cross"]["method"], "hedgehog");
  EXPECT_EQ(object["decoder"]["method"], "grouped");
  EXPECT_EQ(object["encoder"]["method"], "grouped");
  ASSERT_EQ(run_linnet({"merge", path("linear"), "-o", path("merged")}).status, 0);
  std::string text;
  for (const char* name : {"linear", "merged"}) {
    const Outcome written = run_linnet(
        {"generate", path(name), "--prompt", "the lazy dog", "--max-new-tokens", "12", "--threads", "1"});
    EXPECT_EQ(written.status, 0) << written.err;
    if (text.empty()) text = written.out;
    EXPECT_EQ(written.out, text);
    const Outcome seen = run_linnet({"inspect", path(name), "--json", path("seen.json")});
    EXPECT_EQ(seen.status, 0) << seen.out << seen.err;
    const nlohmann::json what = read_json(path("seen.json"));
    EXPECT_GT(what["memory"]["bytes"], 0);
    EXPECT_EQ(what["memory"]["bytes_a_token"], 0);
    EXPECT_EQ(what["state"]["bytes_a_token"], 0);
    const Outcome checked = run_linnet({"check", path(name), "--threads", "1"});
    EXPECT_EQ(checked.status, 0) << checked.out << checked.err;
  }
}

TEST_F(T5Program, LearnsToWriteTargetsOfPairsAndIsScoredOnHeldOutOnes) {
  std::string lines;
  for (int i = 0; i < 12; ++i)
    lines += nlohmann::json{{"question", i % 2 == 0 ? "the quick brown fox" : "the lazy dog"},
                            {"answer", i % 2 == 0 ? "runs away" : "jumps over"}}
                 .dump() +
             "\n";
  write_file(path("pairs.jsonl"), lines);
  write_file(path("held-out.jsonl"), lines);
  const auto finetune = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = {"finetune",      path("model"),
                                    "--data",        path("pairs.jsonl"),
                                    "--text-fields", "question,answer",
                                    "--batch",       "4",
                                    "--lr",          "1e-2",
                                    "--threads",     "1",
                                    "--dtype",       "float32"};
    all.insert(all.end(), more.begin(), more.end());
    return train(all);
  };
  const Outcome trained = finetune({"--valid", path("held-out.jsonl"), "--epochs", "60", "--json",
                                    path("pairs.json"), "-o", path("answers")});
  ASSERT_EQ(trained.status, 0) << trained.err;
  const nlohmann::json result = read_json(path("pairs.json"));
  EXPECT_EQ(result["steps"], 180);
  EXPECT_LT(result["validation_nats_per_token"],
            0.01 * result["validation_nats_per_token_before"].get<double>());
  const Outcome written = run_linnet({"generate", path("answers"), "--prompt", "the lazy dog",
                                      "--temperature", "0", "--max-new-tokens", "12", "--threads", "1"});
  EXPECT_THAT(written.out, HasSubstr("jumps over")) << written.err;
  const BadRow refused[] = {
      {{"--epochs", "1", "--tokens", "64", "-o", path("x")}, "given with --text-fields"},
      {{"--limit", "2", "-o", path("x")}, "given without --task"},
      {{"--length", "1", "-o", path("x")}, "expected"},
      {{"--label-field", "answer", "-o", path("x")}, "given without --task"},
  };
  for (const BadRow& row : refused) expect_refused(row, finetune(row.arguments));
  const std::vector<std::string> three = {"finetune",      path("model"), "--data", path("pairs.jsonl"),
                                          "--text-fields", "a,b,c",       "-o",     path("x")};
  expect_refused({three, "3 fields"}, train(three));
  std::vector<std::string> other = three;
  other[5] = "question,answer";
  other.insert(other.end(), {"--train", "lora", "--lora-targets", "wrong"});
  expect_refused({other, "\"wrong\", expected one of q, k, v, o, wi_0, wi_1, wo\n"}, train(other));
  EXPECT_FALSE(fs::exists(path("x")));
}

nlohmann::json message(const char* role, const nlohmann::json& content) {
  return {{"role", role}, {"content", content}};
}

TEST_F(T5Program, LearnsTheAnswersOfChatsAsGenerateAsksThem) {
  const auto chat = [](const std::vector<nlohmann::json>& messages) {
    return nlohmann::json{{"messages", messages}}.dump() + "\n";
  };
  std::string lines;
  for (int i = 0; i < 6; ++i)
    lines +=
        chat({message("system", "the fox"), message("user", i % 2 == 0 ? "the quick brown" : "the lazy dog"),
              message("assistant", i % 2 == 0 ? "runs away" : "jumps over"), message("user", "and the dog"),
              message("assistant", "the lazy dog")});
  write_file(path("chats.jsonl"), lines);
  write_file(path("held-chats.jsonl"), lines);
  fs::copy(path("model"), path("chat-model"));
  const auto finetune = [&](const std::string& model, const std::string& data,
                            std::vector<std::string> more) {
    std::vector<std::string> all = {"finetune", path(model), "--data",    path(data), "--text-fields",
                                    "messages", "--batch",   "4",         "--lr",     "1e-2",
                                    "--dtype",  "float32",   "--threads", "1"};
    all.insert(all.end(), more.begin(), more.end());
    return train(all);
  };
  // Without a template a conversation is its messages, a line each; with one what the template makes of it.
  write_file(path("chat-model/chat_template.jinja"),
             "{% for message in messages %}{{ message.role }} {{ message.content }} {% endfor %}"
             "{% if add_generation_prompt %}over{% endif %}");
  for (const std::string model : {"model", "chat-model"}) {
    const Outcome trained = finetune(model, "chats.jsonl",
                                     {"--valid", path("held-chats.jsonl"), "--epochs", "60", "--json",
                                      path("chats.json"), "-o", path(model + "-answers")});
    ASSERT_EQ(trained.status, 0) << trained.err;
    EXPECT_THAT(trained.err, HasSubstr("12 pairs, "));
    const nlohmann::json result = read_json(path("chats.json"));
    EXPECT_LT(result["validation_nats_per_token"],
              0.01 * result["validation_nats_per_token_before"].get<double>());
    const auto answered = [&](std::vector<std::string> asked) {
      for (const char* one : {"--temperature", "0", "--max-new-tokens", "12", "--threads", "1"})
        asked.push_back(one);
      asked.insert(asked.begin(), {"generate", path(model + "-answers")});
      const Outcome written = run_linnet(asked);
      EXPECT_EQ(written.status, 0) << written.err;
      return written.out;
    };
    write_file(path("asked.json"),
               nlohmann::json{message("system", "the fox"), message("user", "the lazy dog")}.dump());
    EXPECT_THAT(model == "model" ? answered({"--prompt", "the fox\nthe lazy dog"})
                                 : answered({"--messages", path("asked.json")}),
                HasSubstr("jumps over"));
  }
  // Of a long conversation the end counts: two that end alike within --length are one.
  const std::string far = "the quick brown fox jumps over the lazy dog and runs away ";
  for (const char* begin : {"the fox ", "the dog "})
    write_file(path(std::string(begin, 7).substr(4) + ".jsonl"),
               chat({message("user", begin + far + far + far), message("assistant", "runs away")}));
  const auto nats = [&](const std::string& data, const char* length) {
    const Outcome scored = finetune("model-answers", "chats.jsonl",
                                    {"--valid", path(data), "--epochs", "1", "--length", length, "--json",
                                     path("scored.json"), "-o", path("scored")});
    EXPECT_EQ(scored.status, 0) << scored.err;
    fs::remove_all(path("scored"));
    return read_json(path("scored.json"))["validation_nats_per_token_before"].get<double>();
  };
  EXPECT_EQ(nats("fox.jsonl", "16"), nats("dog.jsonl", "16"));
  EXPECT_NE(nats("fox.jsonl", "256"), nats("dog.jsonl", "256"));
  const std::pair<std::string, const char*> refused[] = {
      {nlohmann::json{{"messages", "hello"}}.dump(), "no list of messages in `messages`"},
      {nlohmann::json{{"question", "a"}}.dump(), "no list of messages in `messages`"},
      {chat({}), "no message"},
      {chat({message("user", "a")}), "no answer, expected a message of the role assistant"},
      {chat({message("assistant", "a")}), "an answer that nothing stands before"},
      {chat({message("user", "a"), message("assistant", "")}), "nothing to write"},
      {chat({message("user", nlohmann::json::array({"a"})), message("assistant", "b")}),
       "a message whose content is no text"},
      {"[1]", "no list of messages"},
      {"", "no record"},
  };
  for (const auto& [line, error] : refused) {
    write_file(path("bad.jsonl"), line);
    const Outcome outcome = finetune("model", "bad.jsonl", {"-o", path("x")});
    expect_refused({{line}, error}, outcome);
  }
  // What a template refuses is one conversation of many.
  write_file(path("chat-model/chat_template.jinja"), "{{ messages[1].content.strip() }}");
  write_file(path("bad.jsonl"),
             chat({message("user", "a"), message("user", "b"), message("assistant", "c")}) +
                 chat({message("user", "a"), message("assistant", "b")}));
  const std::string which = "bad.jsonl:2: " + path("chat-model/chat_template.jinja") + ", line 1: ";
  expect_refused({{"a template"}, which.c_str()}, finetune("chat-model", "bad.jsonl", {"-o", path("x")}));
  EXPECT_FALSE(fs::exists(path("x")));
}

TEST_F(T5Program, HeldOutTextIsScoredAsPerplexityScoresIt) {
  ASSERT_EQ(
      train(
          {"finetune",  path("model"), "--data",  path("text.txt"), "--valid", path("held.txt"),   "--tokens",
           "256",       "--batch",     "2",       "--context",      "32",      "--valid-window",   "40",
           "--threads", "1",           "--dtype", "float32",        "--json",  path("valid.json"), "-o",
           path("held")})
          .status,
      0);
  const nlohmann::json result = read_json(path("valid.json"));
  const auto scored = [&](const char* folder) {
    EXPECT_EQ(run_linnet({"perplexity", path(folder), path("held.txt"), "--window", "40", "--dtype",
                          "float32", "--json", path("score.json"), "--threads", "1"})
                  .status,
              0);
    return read_json(path("score.json"))["span_nats"].get<double>();
  };
  EXPECT_NEAR(scored("model"), result["validation_nats_per_token_before"].get<double>(), 1e-5);
  EXPECT_NEAR(scored("held"), result["validation_nats_per_token"].get<double>(), 1e-3);  // written in bf16
}

TEST_F(T5Program, ALoraStandsBesideTheMatricesOfBothStacksAndMergesIntoThem) {
  const auto tune = [&](const std::string& model, const std::string& out, const std::string& what,
                        const std::string& rate = "1e-2") {
    const Outcome made =
        train({"finetune", path(model), "--data",  path("text.txt"), "--tokens", "1024",      "--batch",
               "2",        "--context", "32",      "--lr",           rate,       "--threads", "1",
               "--train",  what,        "--dtype", "float32",        "-o",       path(out)});
    EXPECT_EQ(made.status, 0) << made.err;
  };
  const auto nats = [&](const std::string& model) {
    const Outcome scored = run_linnet({"perplexity", path(model), path("text.txt"), "--window", "32",
                                       "--dtype", "float32", "--threads", "1", "--json", path("score.json")});
    EXPECT_EQ(scored.status, 0) << scored.err;
    return read_json(path("score.json"))["span_nats"].get<double>();
  };
  tune("model", "lora", "lora");
  EXPECT_EQ(read_json(path("lora/adapter_config.json"))["task_type"], "SEQ_2_SEQ_LM");
  const auto lora = SafetensorsFile::open(path("lora/adapter_model.safetensors"));
  for (const char* module :
       {"encoder.block.1.layer.0.SelfAttention.q", "decoder.block.0.layer.0.SelfAttention.o",
        "decoder.block.0.layer.1.EncDecAttention.k"})
    EXPECT_TRUE(lora.tensors().contains(std::string("base_model.model.") + module + ".lora_B.weight"));
  const double before = nats("model"), tuned = nats("lora");
  EXPECT_LT(tuned, before - 0.01);
  ASSERT_EQ(run_linnet({"merge", path("lora"), "-o", path("lora-merged")}).status, 0);
  EXPECT_NEAR(nats("lora-merged"), tuned, 2e-3);  // in bf16
  EXPECT_EQ(run_linnet({"inspect", path("lora")}).status, 0);
  tune("lora", "lora-on", "lora", "2e-3");  // goes on with it
  EXPECT_LT(nats("lora-on"), tuned);
  // Of a linear form the new tensors alone, or a LoRA beside them in a sidecar.
  ASSERT_EQ(linearize("lora-linear", {"--set", "group=8", "--tokens", "512", "--train", "lora"}).status, 0);
  EXPECT_TRUE(fs::exists(path("lora-linear/adapter_model.safetensors")));
  tune("lora-linear", "lora-new", "new");
  EXPECT_LT(nats("lora-new"), nats("lora-linear"));
}

TEST_F(T5Program, QuantizeTurnsTheMatricesOfBothStacks) {
  ASSERT_EQ(linearize("to-quantize", {"--set", "group=8", "--tokens", "512"}).status, 0);
  for (const std::string model : {"model", "to-quantize"}) {
    std::string text;
    for (const std::string type : {"int8", "int4"}) {
      const std::string out = path(model + "-" + type);
      const Outcome made = run_linnet({"quantize", path(model), "--weights", type, "-o", out, "--valid",
                                       path("text.txt"), "--window", "32", "--json", path("quantized.json")});
      ASSERT_EQ(made.status, 0) << made.err;
      std::string names = read_json(path("quantized.json"))["tensors"].dump();
      for (const char* part :
           {"encoder.block.1.layer.1", "decoder.block.0.layer.1.EncDecAttention.k", "shared"})
        EXPECT_THAT(names, HasSubstr(part));
      const Outcome written = run_linnet({"generate", out, "--prompt", "the lazy dog", "--temperature", "0",
                                          "--max-new-tokens", "8", "--threads", "1"});
      EXPECT_EQ(written.status, 0) << written.err;
      const auto nats = [&](const std::string& folder) {
        EXPECT_EQ(run_linnet({"perplexity", folder, path("text.txt"), "--window", "32", "--threads", "1",
                              "--json", path("score.json")})
                      .status,
                  0);
        return read_json(path("score.json"))["span_nats"].get<double>();
      };
      const nlohmann::json said = read_json(path("quantized.json"));
      EXPECT_EQ(said["span_nats"], nats(out));
      EXPECT_EQ(said["span_nats_before"], nats(path(model)));
      EXPECT_NEAR(nats(out), nats(path(model)), 0.05);
      // What is integers can be trained beside, and nothing merged into it.
      const std::vector<std::string> beside = {"finetune",  out,    "--data",    path("text.txt"),
                                               "--tokens",  "64",   "--batch",   "1",
                                               "--context", "32",   "--threads", "1",
                                               "--train",   "lora", "-o",        out + "-lora"};
      if (model == "model") {
        const Outcome tuned = train(beside);
        EXPECT_EQ(tuned.status, 0) << tuned.err;
      } else {
        expect_refused({beside, "which LoRA cannot be merged into"}, train(beside));
      }
      const std::vector<std::string> task = {"finetune",      out,    "--task",  path("few.jsonl"),
                                             "--text-fields", "text", "--train", "lora",
                                             "--threads",     "1",    "-o",      out + "-lora"};
      write_file(path("few.jsonl"), R"({"text": "the fox", "label": 0}
{"text": "the dog", "label": 1}
)");
      if (model != "model") expect_refused({task, "which LoRA cannot be merged into"}, train(task));
    }
  }
}

TEST_F(T5Program, AClassifierIsTrainedUnderEachAttentionAndAskedAsItTrained) {
  std::string lines;
  for (int i = 0; i < 12; ++i) {
    const bool good = i % 2 == 0;
    lines += nlohmann::json{{"sentence", (good ? "the quick fox " : "the lazy dog ") + std::to_string(i)},
                            {"label", good ? 1 : 0}}
                 .dump() +
             "\n";
  }
  fs::create_directories(path("tasks"));
  write_file(path("tasks/sst2-train.jsonl"), lines);
  write_file(path("tasks/sst2-validation.jsonl"), lines);
  const std::vector<std::vector<std::string>> kinds = {
      {}, {"--method", "relu", "--set", "group=4", "local=softmax", "taps=4"}, {"--method", "flash_local"}};
  for (const auto& kind : kinds) {
    fs::remove_all(path("sst2"));
    std::vector<std::string> all = {"finetune",  path("model"),
                                    "--task",    path("tasks/sst2-train.jsonl"),
                                    "--valid",   path("tasks/sst2-validation.jsonl"),
                                    "--batch",   "4",
                                    "--lr",      "1e-2",
                                    "--threads", "1",
                                    "--dtype",   "float32",
                                    "--json",    path("trained.json"),
                                    "-o",        path("sst2")};
    all.insert(all.end(), kind.begin(), kind.end());
    const Outcome trained = train(all);
    ASSERT_EQ(trained.status, 0) << trained.err;
    const nlohmann::json result = read_json(path("trained.json"))["validation"];
    EXPECT_EQ(result["acc"], 1);
    const Outcome scored = run_linnet({"classify", path("sst2"), "--task",
                                       path("tasks/sst2-validation.jsonl"), "--json", path("scores.json")});
    ASSERT_EQ(scored.status, 0) << scored.err;
    const nlohmann::json scores = read_json(path("scores.json"))["scores"];
    EXPECT_EQ(scores["acc"], result["acc"]);
    EXPECT_NEAR(scores["loss"], result["loss"], 1e-5);
    const Outcome evaluated = run_linnet({"evaluate", path("sst2"), "--tasks", "glue_sst2", "--data",
                                          path("tasks"), "--json", path("task.json")});
    ASSERT_EQ(evaluated.status, 0) << evaluated.err;
    EXPECT_EQ(read_json(path("task.json"))["results"]["glue_sst2"]["acc,none"], scores["acc"]);
    const Outcome checked = run_linnet({"check", path("sst2"), "--tokens", "40"});
    EXPECT_EQ(checked.status, 0) << checked.out << checked.err;
    EXPECT_THAT(checked.out, HasSubstr("sight"));
    const Outcome measured = run_linnet(
        {"bench", path("sst2"), "--prefill-tokens", "8", "--windows", "1", "--json", path("bench.json")});
    EXPECT_EQ(measured.status, 0) << measured.err;
    const nlohmann::json row = read_json(path("bench.json"))["encode"][0];
    EXPECT_GT(row["sequences_per_second"], 0);
    EXPECT_EQ(row.contains("speedup"), !kind.empty());
    // Its matrices turned, its head as it was.
    fs::remove_all(path("sst2-int8"));
    const Outcome turned = run_linnet({"quantize", path("sst2"), "-o", path("sst2-int8")});
    ASSERT_EQ(turned.status, 0) << turned.err;
    const auto loss = [&](const char* folder) {
      const Outcome outcome =
          run_linnet({"classify", path(folder), "--task", path("tasks/sst2-validation.jsonl"), "--json",
                      path("turned.json"), "--dtype", "float32"});
      EXPECT_EQ(outcome.status, 0) << outcome.err;
      return read_json(path("turned.json"))["scores"]["loss"].get<double>();
    };
    EXPECT_NEAR(loss("sst2-int8"), loss("sst2"), 0.05);
    EXPECT_NE(loss("sst2-int8"), loss("sst2"));
    EXPECT_EQ(read_json(path("sst2-int8/config.json"))["quantization_config"]["ignore"],
              nlohmann::json({"classification_head.dense", "classification_head.out_proj"}));
    // A LoRA of the language model, on the classifier as its base.
    if (!kind.empty()) continue;
    ASSERT_EQ(train({"finetune", path("model"), "--data", path("text.txt"), "--tokens", "512", "--batch", "2",
                     "--context", "32", "--lr", "1e-1", "--threads", "1", "--train", "lora", "-o",
                     path("sst2-lora")})
                  .status,
              0);
    const Outcome merged =
        run_linnet({"merge", path("sst2-lora"), "--base", path("sst2"), "-o", path("sst2-merged")});
    ASSERT_EQ(merged.status, 0) << merged.err;
    EXPECT_NE(loss("sst2-merged"), loss("sst2"));
  }
  EXPECT_EQ(read_json(path("sst2/config.json"))["architectures"][0], "T5ForSequenceClassification");
  const Outcome generated = run_linnet({"generate", path("sst2"), "--prompt", "a"});
  EXPECT_EQ(generated.status, 2);
  EXPECT_THAT(generated.err, HasSubstr("is a classifier"));
  const BadRow rows[] = {
      {{"quantize", path("sst2"), "--valid", path("text.txt"), "-o", path("x")},
       "--valid: given for a classifier"},
      {{"bench", path("sst2"), "--source", "8"}, "--source: given, and this is a classifier"},
  };
  for (const BadRow& row : rows) expect_refused(row, run_linnet(row.arguments));
  // The head reads the row of the end token that the tokenizer sets behind a text; this one sets none behind
  // a pair.
  write_file(path("two.jsonl"), R"({"a": "the fox", "b": "the dog", "label": "x"}
{"a": "the dog", "b": "the fox", "label": "y"}
)");
  const std::vector<std::string> pairs = {
      "finetune",  path("model"), "--task", path("two.jsonl"), "--text-fields", "a,b",
      "--threads", "1",           "-o",     path("x")};
  expect_refused({pairs, "two.jsonl:1: a pair, behind which the tokenizer sets no end token"}, train(pairs));
  nlohmann::json config = read_json(path("sst2/config.json"));
  config["eos_token_id"] = 2;
  write_file(path("sst2/config.json"), config.dump());
  const Outcome endless = run_linnet({"classify", path("sst2"), "-"}, {.input = "the lazy dog"});
  EXPECT_EQ(endless.status, 2);
  EXPECT_THAT(endless.err, HasSubstr("sets no end token of the model behind a text"));
}

TEST_F(T5Program, BenchMeasuresBothStacks) {
  const Outcome measured =
      run_linnet({"bench", path("model"), "--contexts", "0,16", "--prefill-tokens", "16", "--windows", "1",
                  "--window-tokens", "4", "--source", "40", "--threads", "1", "--json", path("bench.json")});
  ASSERT_EQ(measured.status, 0) << measured.err;
  const nlohmann::json result = read_json(path("bench.json"));
  EXPECT_EQ(result["encoder"]["tokens"], 40);
  EXPECT_GT(result["encoder"]["tokens_per_second"], 0);
  EXPECT_THAT(measured.out, HasSubstr("encoder"));
}

TEST_F(T5Program, WhatACommandDoesNotDoIsOneLine) {
  const std::string model = path("model"), text = path("text.txt");
  const std::vector<std::vector<std::string>> refused = {
      {"chat", model},
      {"serve", model, "--port", "0"},
      {"evaluate", model, "--tasks", "arc_easy", "--data", path("none")},
      {"reach", model, text},
      {"recall", model, text},
      {"bench", model, "--training"},
      {"tune-tree", model, text},
      {"quantize", model, "--weights", "int4", "--calibrate", text, "-o", path("x")},
      {"generate", model, "--prompt", "a", "--echo", "--logprobs", "1"},
      {"perplexity", model, text, "--stride", "4"},
      {"perplexity", model, text, "--window", "1"},
      {"perplexity", model, text, "--window", "5000"},
      {"linearize", model, "--method", "flash_local", "--attention", "{}", "-o", path("x")},
      {"linearize", model, "--attention", R"({"cross": {"method": "flash_local"}})", "-o", path("x")},
      {"linearize", model, "--attention", R"({"other": {}, "decoder": {}})", "-o", path("x")},
      {"linearize", model, "--state", "5%", "--data", text, "--tokens", "64", "-o", path("x")},
      {"finetune", model, "--data", text, "--valid", path("held.txt"), "--valid-window", "5000", "--tokens",
       "64", "-o", path("x")},
      {"finetune", model, "--data", text, "--packing", "documents", "--tokens", "64", "-o", path("x")},
      {"finetune", model, "--data", text, "--context", "5000", "--tokens", "5000", "-o", path("x")},
      {"train-heads", model, "--data", text, "--tokens", "64", "-o", path("x")},
      {"compare", model, "--grid", path("config.json"), "-o", path("x")},
  };
  for (const auto& arguments : refused) {
    const bool trains = arguments[0] == "linearize" || arguments[0] == "finetune" ||
                        arguments[0] == "train-heads" || arguments[0] == "compare";
    const Outcome outcome = trains ? train(arguments) : run_linnet(arguments);
    EXPECT_EQ(outcome.status, 2) << arguments[0] << outcome.out << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr("linnet: error: ")) << arguments[0];
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
    EXPECT_FALSE(fs::exists(path("x"))) << arguments[0];
  }
}

TEST_F(T5Program, AFolderThatLacksWhatT5NeedsIsOneLine) {
  const auto with = [&](const char* key, const nlohmann::json& value) {
    nlohmann::json config = read_json(path("model/config.json"));
    if (value.is_null()) {
      config.erase(key);
    } else {
      config[key] = value;
    }
    fs::remove_all(path("broken"));
    fs::copy(path("model"), path("broken"));
    write_file(path("broken/config.json"), config.dump());
    return run_linnet({"inspect", path("broken")});
  };
  const std::pair<const char*, nlohmann::json> faults[] = {{"decoder_start_token_id", nullptr},
                                                           {"decoder_start_token_id", kVocabulary},
                                                           {"is_encoder_decoder", false},
                                                           {"relative_attention_num_buckets", 16},
                                                           {"relative_attention_num_buckets", 1},
                                                           {"relative_attention_max_distance", 8},
                                                           {"feed_forward_proj", "gated-relu6"},
                                                           {"feed_forward_proj", "relu"},
                                                           {"num_decoder_layers", 2},
                                                           {"num_layers", 3},
                                                           {"d_kv", 9}};
  for (const auto& [key, value] : faults) {
    const Outcome outcome = with(key, value);
    EXPECT_EQ(outcome.status, 2) << key << value;
    EXPECT_EQ(std::ranges::count(outcome.err, '\n'), 1) << outcome.err;
  }
}

}  // namespace
}  // namespace linnet

#include "generate/heads.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>

#include "attention/method.h"
#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/remove_folder.h"
#include "generate/draft_model.h"
#include "generate/engine.h"
#include "generate/lookup.h"
#include "kernels/cpu/weights.h"
#include "tests/attention/options.h"
#include "tests/generate/garbage.h"
#include "tests/generate/letters.h"
#include "tests/generate/random_heads.h"
#include "tests/model/random_model.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// A model and a folder beside it for heads.
struct HeadsTest : testing::Test {
  HeadsTest() { spec.attention = {{"method", "grouped"}, {"group", 4}}; }
  ~HeadsTest() override {
    if (model) remove_folder(folder());
  }
  fs::path folder() const { return fs::path(model->folder().string() + "-heads"); }
  void make() { model = std::make_unique<TemporaryModel>(spec); }
  const Model& get() const { return *model->get(); }
  DraftHeads written(const RandomHeads& heads) {
    remove_folder(folder());
    write_random_heads(heads, get(), folder());
    return open_heads(folder(), get());
  }
  /// What opening the folder says; "" where it opens.
  std::string refusal() const {
    try {
      open_heads(folder(), get());
      return "";
    } catch (const Error& error) {
      EXPECT_EQ(error.status(), ExitStatus::kBadInput);
      return error.what();
    }
  }

  /// Prompts of 1, 1 + longer, 1 + 2 longer … tokens, every second sampled.
  std::vector<Request> requests_of(uint64_t count, int longer, int64_t new_tokens) const {
    std::vector<Request> requests;
    for (uint64_t i = 0; i < count; ++i) {
      Request request{.prompt = random_tokens(1 + longer * i, spec.vocabulary, i),
                      .max_new_tokens = new_tokens};
      if (i % 2 == 1) request.sampling = {.temperature = 0.4};
      requests.push_back(request);
    }
    return requests;
  }
  /// What each request becomes; its steps and tokens are counted.
  std::vector<std::vector<int32_t>> texts(const std::vector<Request>& requests, Drafter& drafter, int slots,
                                          int nodes) {
    const auto decoder = Decoder::make(
        model->get(), {.compute = ComputeType::kFloat32, .slots = slots, .max_nodes = slots * nodes}, pool);
    Engine engine(*decoder, letters(spec.vocabulary), drafter, {slots, slots * nodes});
    std::vector<std::vector<int32_t>> all;
    for (const Generation& result : engine.run(requests)) all.push_back(result.tokens);
    steps += engine.report().steps, tokens += engine.report().tokens;
    return all;
  }

  RandomModel spec;
  int64_t steps = 0, tokens = 0;
  std::unique_ptr<TemporaryModel> model;
  ThreadPool pool{2};
};

std::vector<RandomHeads> kinds_of_heads() {
  return {{},
          {.own_vocabulary = false, .scale = 0.05},
          {.tokens = {0, 3, 5, 17, 30, 31, 44, 60}},
          {.own_vocabulary = false, .tokens = {1, 2, 30, 31, 44}},
          {.scale = 1e4},
          {.kind = HeadKind::kMedusa, .blocks = 2},
          {.kind = HeadKind::kMedusa, .own_vocabulary = false, .scale = 0},
          {.kind = HeadKind::kMedusa, .count = 1, .own_vocabulary = false, .tokens = {7, 8, 9, 30}}};
}

TEST_F(HeadsTest, ChangeNoTokenWhateverTheyGuess) {
  const nlohmann::json attentions[] = {
      nullptr, {{"method", "grouped"}, {"group", 4}}, {{"method", "elu1"}, {"group", 5}, {"taps", 3}}};
  for (const auto& attention : attentions) {
    spec.attention = attention;
    make();
    const auto requests = requests_of(4, 5, 40);
    const auto expected = texts(requests, *make_no_drafter(), 1, 1);
    steps = tokens = 0;
    for (const RandomHeads& heads : kinds_of_heads()) {
      for (const int slots : {1, 3}) {
        const auto drafter = make_heads_drafter(model->get(), written(heads), ComputeType::kFloat32, pool);
        EXPECT_EQ(texts(requests, *drafter, slots, 12), expected) << attention.dump() << slots;
      }
    }
    remove_folder(folder());
  }
  EXPECT_LT(steps, tokens) << "guesses were not accepted";
}

// Every row of the registry, greedily and sampled, with kept tokens and budgets of heads where it can have
// them: whoever guesses, no token changes.
TEST_F(HeadsTest, NoDrafterChangesATokenWhateverTheMethod) {
  const char* options[] = {
      R"({"local": "softmax", "local_groups": [2, 3], "kept": [0, 9], "sinks": 1, "taps": 3, "gate": true})",
      R"({"taps": 5})"};
  int64_t with_heads = 0, plain = 0;
  for (const Method* method : methods()) {
    nlohmann::json attention = {{"method", method->name}};
    for (const char* option : options) {
      const auto object = nlohmann::json::parse(option);
      if (!method->grows && goes_with(*method, object)) {
        attention = with_options(*method, object, 4);
        break;
      }
    }
    spec.attention = attention;
    make();
    const auto requests = requests_of(3, 5, 40);
    const auto expected = texts(requests, *make_no_drafter(), 1, 1);
    RandomModel small = spec;
    small.layers = 1;
    const TemporaryModel draft(small);
    for (const int slots : {1, 3}) {
      Garbage garbage;
      EXPECT_EQ(texts(requests, garbage, slots, 9), expected) << attention.dump() << slots;
      const auto lookup = make_lookup_drafter();
      EXPECT_EQ(texts(requests, *lookup, slots, 12), expected) << attention.dump() << slots;
      steps = tokens = 0;
      const auto heads = make_heads_drafter(model->get(), written({}), ComputeType::kFloat32, pool);
      EXPECT_EQ(texts(requests, *heads, slots, 12), expected) << attention.dump() << slots;
      const auto smaller = make_model_drafter(draft.get(), ComputeType::kFloat32, slots, pool);
      EXPECT_EQ(texts(requests, *smaller, slots, 12), expected) << attention.dump() << slots;
      with_heads += steps, plain += tokens;
    }
    remove_folder(folder());
  }
  EXPECT_LT(with_heads, plain) << "guesses were not accepted";
}

/// A decoder whose steps take time by a clock of the test's own.
struct TimedDecoder final : Decoder {
  TimedDecoder(std::unique_ptr<Decoder> decoder, double& clock) : of(std::move(decoder)), seconds(clock) {}
  const Info& info() const override { return of->info(); }
  void reset(int slot) override { of->reset(slot); }
  int64_t length(int slot) const override { return of->length(slot); }
  void copy(int from, int to) override { of->copy(from, to); }
  size_t state_bytes(int slot) const override { return of->state_bytes(slot); }
  Cost cost() const override { return of->cost(); }
  void prefill(int slot, std::span<const int32_t> tokens, size_t first, std::span<float> logits) override {
    of->prefill(slot, tokens, first, logits);
  }
  void step(std::span<const Branch> branches) override {
    of->step(branches);
    seconds += 1 + uniform(3, 2, ++steps);
  }
  std::span<const float> logits(int node) const override { return of->logits(node); }
  int32_t likeliest(int node) const override { return of->likeliest(node); }
  std::span<const float> hidden(int row) const override { return of->hidden(row); }
  void commit(int branch, std::span<const int32_t> path) override { of->commit(branch, path); }
  std::vector<std::byte> save(int slot) const override { return of->save(slot); }
  void load(int slot, std::span<const std::byte> bytes) override { of->load(slot, bytes); }
  std::unique_ptr<Decoder> of;
  double& seconds;
  uint64_t steps = 0;
};

// All of them in one tree, asked and computed as a clock has it that tells anything: garbage trees, lookup,
// random heads and a smaller model, on sequences that keep tokens and whose heads have budgets of their own.
TEST_F(HeadsTest, AllDraftersTogetherChangeNoTokenWhateverTheirTimes) {
  const nlohmann::json attentions[] = {
      nullptr,
      {{"method", "grouped"}, {"group", 4}, {"local_groups", {1, 3}}, {"kept", {0, 9}}, {"sinks", 2}},
      {{"method", "relu"},
       {"group", 8},
       {"local", "softmax"},
       {"local_groups", 2},
       {"kept", 5},
       {"taps", 3}}};
  int64_t extra = 0;
  for (const auto& attention : attentions) {
    spec.attention = attention;
    make();
    const auto requests = requests_of(5, 6, 100);
    const auto expected = texts(requests, *make_no_drafter(), 1, 1);
    RandomModel small = spec;
    small.layers = 1;
    const TemporaryModel draft(small);
    for (const int slots : {1, 3}) {
      const auto lookup = make_lookup_drafter();
      const auto heads = make_heads_drafter(model->get(), written({}), ComputeType::kFloat32, pool);
      const auto smaller = make_model_drafter(draft.get(), ComputeType::kFloat32, slots, pool);
      Garbage garbage;
      double seconds = 0;
      uint64_t calls = 0;
      TimedDecoder decoder(
          Decoder::make(model->get(),
                        {.compute = ComputeType::kFloat32, .slots = slots, .max_nodes = 12 * slots}, pool),
          seconds);
      Engine engine(decoder, letters(spec.vocabulary), {&garbage, lookup.get(), heads.get(), smaller.get()},
                    {.slots = slots, .max_nodes = 12 * slots, .budget = true, .clock = [&] {
                       return seconds += 0.02 * uniform(3, 1, ++calls);
                     }});
      const auto results = engine.run(requests);
      for (size_t i = 0; i < requests.size(); ++i)
        EXPECT_EQ(results[i].tokens, expected[i]) << attention.dump() << slots << ", request " << i;
      extra += engine.report().nodes - engine.report().steps;
    }
    remove_folder(folder());
  }
  EXPECT_GT(extra, 100) << "nothing was guessed";
}

TEST_F(HeadsTest, ASmallerModelChangesNoTokenWhateverItsStateAndGroups) {
  spec.attention = {{"method", "grouped"}, {"group", 4}};
  make();
  RandomModel small = spec;
  small.layers = 1, small.vocabulary = 50;  // padded otherwise: tokens that it does not know
  small.attention = {{"method", "elu1"}, {"group", 2}};
  RandomModel few = spec;
  few.gpt2 = true, few.positions = 20;  // ends before the texts do
  few.attention = nullptr;
  RandomModel twin = spec;
  const auto requests = requests_of(5, 7, 30);
  const auto expected = texts(requests, *make_no_drafter(), 1, 1);
  for (const RandomModel& each : {small, few, twin}) {
    const TemporaryModel draft(each);
    for (const int slots : {1, 3}) {
      const auto drafter = make_model_drafter(draft.get(), ComputeType::kFloat32, slots, pool);
      steps = tokens = 0;
      EXPECT_EQ(texts(requests, *drafter, slots, 16), expected) << slots;
    }
  }
  EXPECT_LT(steps, tokens / 2) << "what the same model guesses is right";
}

TEST_F(HeadsTest, ASmallerModelReadsAPromptInPieces) {
  spec.attention = {{"method", "grouped"}, {"group", 4}};
  make();
  const auto text = random_tokens(50, spec.vocabulary, 3);
  const Drafter::Context context{0, text, {}, 12, 4};
  Draft at_once, in_pieces;
  const auto one = make_model_drafter(model->get(), ComputeType::kFloat32, 1, pool);
  one->begin(0);
  one->propose({&context, 1}, {&at_once, 1});
  const auto other = make_model_drafter(model->get(), ComputeType::kFloat32, 1, pool);
  other->begin(0);
  EXPECT_EQ(other->read(0, text, 0), 49) << "all but the last, which is guessed from";
  EXPECT_EQ(other->read(0, text, 20), 29);
  EXPECT_EQ(other->read(0, text, 16), 13);
  other->propose({&context, 1}, {&in_pieces, 1});
  EXPECT_EQ(other->read(0, text, 100), 0);
  EXPECT_TRUE(std::ranges::equal(at_once.tree.tokens(), in_pieces.tree.tokens()));
  EXPECT_GT(at_once.tree.size(), 1);

  RandomModel few = spec;
  few.gpt2 = true, few.positions = 20;
  few.attention = nullptr;
  const TemporaryModel short_one(few);
  const auto nothing = make_model_drafter(short_one.get(), ComputeType::kFloat32, 1, pool);
  nothing->begin(0);
  EXPECT_EQ(nothing->read(0, text, 0), 0) << "what it cannot read it does not begin to read";
}

TEST(DraftModel, IsRefusedWhereItsTokenizerDiffers) {
  const auto refusal = [](const Tokenizer& draft) -> std::string {
    try {
      check_same_tokenizer(draft, letters(20), "small");
      return "";
    } catch (const Error& error) {
      return error.what();
    }
  };
  EXPECT_EQ(refusal(letters(20)), "");
  EXPECT_EQ(refusal(letters(19)), "small: a tokenizer of 19 tokens, expected the model's own, of 20");
  nlohmann::json other = letters_json(20);
  other["model"]["vocab"] = {};
  for (int i = 0; i < 20; ++i) other["model"]["vocab"][fmt::format("t{}", (i + 7) % 20)] = i;
  EXPECT_THAT(refusal(Tokenizer::from_json(other.dump(), "other")), HasSubstr("small: token 0 is \"t7\""));
}

/// A row of weights as numbers.
std::vector<double> product(const TensorView& matrix, const std::vector<double>& x) {
  const auto numbers = to_double(matrix, "matrix");
  std::vector<double> y(static_cast<size_t>(matrix.shape[0]));
  for (size_t o = 0; o < y.size(); ++o)
    for (size_t i = 0; i < x.size(); ++i) y[o] += numbers[o * x.size() + i] * x[i];
  return y;
}

std::vector<double> by_rms(std::vector<double> x) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  for (double& v : x) v /= std::sqrt(sum / static_cast<double>(x.size()) + kRecursiveHeadEpsilon);
  return x;
}

double silu(double x) { return x / (1 + std::exp(-x)); }

std::vector<double> softmax(std::vector<double> x) {
  double sum = 0;
  for (const double v : x) sum += std::exp(v);
  for (double& v : x) v = std::exp(v) / sum;
  return x;
}

TEST_F(HeadsTest, ARecursiveHeadGuessesAlongEachBranchWhatItsFormulaSays) {
  make();
  const DraftHeads heads = written({.count = 4, .scale = 0.7});
  const auto drafter = make_heads_drafter(model->get(), heads, ComputeType::kFloat32, pool);
  const TensorView& embedding = *get().tensor(get().family().embedding, "weight");
  const auto hidden_size = static_cast<size_t>(get().config().hidden);
  std::vector<float> hidden(hidden_size);
  for (size_t i = 0; i < hidden_size; ++i) hidden[i] = static_cast<float>(normal(5, 1, i));
  const std::vector<int32_t> text = {4, 9, 33};
  Draft draft;
  drafter->begin(0);
  const Drafter::Context context{0, text, hidden, 40, 8};
  drafter->propose({&context, 1}, {&draft, 1});
  ASSERT_GT(draft.tree.size(), 4);

  // The state of a node and the probabilities of what follows it, by its ancestors.
  const auto bias = to_double(heads.tensor(head_names::kInputBias), "bias");
  const auto after = [&](std::vector<double> state, int32_t token) {
    std::vector<double> read = by_rms(state), e(hidden_size);
    const auto all = to_double(embedding, "embedding");
    std::copy_n(all.begin() + token * static_cast<int64_t>(hidden_size), hidden_size, e.begin());
    e = by_rms(e);
    read.insert(read.end(), e.begin(), e.end());
    auto inner = product(heads.tensor(head_names::kInput), read);
    for (size_t i = 0; i < inner.size(); ++i) inner[i] = silu(inner[i] + bias[i]);
    const auto added = product(heads.tensor(head_names::kOutput), inner);
    for (size_t i = 0; i < state.size(); ++i) state[i] += added[i];
    return state;
  };
  std::map<int32_t, std::vector<double>> states;
  states[0] = after({hidden.begin(), hidden.end()}, text.back());
  bool deep = false;
  for (int32_t node = 1; node < draft.tree.size(); ++node) {
    const int32_t parent = draft.tree.parent(node);
    const auto p = softmax(product(heads.tensor(head_names::kVocabulary), states.at(parent)));
    EXPECT_NEAR(draft.reached[node], draft.reached[parent] * p[static_cast<size_t>(draft.tree.token(node))],
                1e-4);
    states[node] = after(states.at(parent), draft.tree.token(node));
    EXPECT_LE(draft.reached[node], draft.reached[node - 1]);
    deep = deep || draft.tree.depth(node) > 1;
  }
  EXPECT_TRUE(deep);
}

TEST_F(HeadsTest, DraftsOfASequenceAreTheSameBesideOthersAndAlone) {
  make();
  for (const RandomHeads& spec_of_heads : kinds_of_heads()) {
    const DraftHeads heads = written(spec_of_heads);
    std::vector<std::vector<float>> rows;
    std::vector<std::vector<int32_t>> texts;
    std::vector<Drafter::Context> contexts;
    for (uint64_t i = 0; i < 5; ++i) {
      auto& row = rows.emplace_back();
      for (int64_t d = 0; d < get().config().hidden; ++d)
        row.push_back(static_cast<float>(normal(5, i, static_cast<uint64_t>(d))));
      texts.push_back(random_tokens(3, spec.vocabulary, i));
    }
    for (size_t i = 0; i < 5; ++i)
      contexts.push_back({static_cast<int>(i), texts[i], rows[i], 12, i == 3 ? 0 : 4});
    const auto make_drafter = [&] {
      return make_heads_drafter(model->get(), heads, ComputeType::kFloat32, pool);
    };
    std::vector<Draft> together(5), alone(5);
    make_drafter()->propose(contexts, together);
    for (size_t i = 0; i < 5; ++i) {
      make_drafter()->propose({&contexts[i], 1}, {&alone[i], 1});
      EXPECT_TRUE(std::ranges::equal(together[i].tree.tokens(), alone[i].tree.tokens()));
      EXPECT_TRUE(std::ranges::equal(together[i].tree.parents(), alone[i].tree.parents()));
      EXPECT_EQ(together[i].reached, alone[i].reached);
      EXPECT_TRUE(i != 3 || alone[i].tree.size() == 1) << "no room below the root";
    }
  }
}

TEST_F(HeadsTest, BothPublishedLayoutsAreWrittenAndRead) {
  make();
  for (const bool own : {true, false}) {
    const DraftHeads heads = written({.kind = HeadKind::kMedusa, .count = 2, .own_vocabulary = own});
    EXPECT_EQ(heads.count, 2);
    EXPECT_EQ(heads.own_vocabulary, own);
    nlohmann::json config = read_json(folder() / "config.json");
    EXPECT_EQ(config["medusa_num_heads"], 2);
    EXPECT_EQ(config.contains("version"), !own) << "version 2 has no matrices of its own";
    EXPECT_TRUE(fs::exists(folder() / "medusa_lm_head.safetensors"));
    // As others write it: no hash, and a number of heads that is not that of the file.
    write_file(folder() / "config.json",
               R"({"medusa_num_heads": 5, "medusa_num_layers": 1, "base_model_name_or_path": "x/y"})");
    EXPECT_EQ(open_heads(folder(), get()).count, 2);
    fs::rename(folder() / "medusa_lm_head.safetensors", folder() / "medusa_lm_head.pt");
    EXPECT_THAT(refusal(), HasSubstr("medusa_lm_head.pt: a pickle, and reading one can run any code"));
  }
}

TEST_F(HeadsTest, AreRefusedWhereTheyAreAnotherModelsOrNoHeads) {
  make();
  RandomModel other = spec;
  other.seed = 2;
  const TemporaryModel another(other);
  written({});
  const std::string config = std::string(MappedFile(folder() / "config.json").text());
  std::string message;
  try {
    open_heads(folder(), *another.get());
  } catch (const Error& error) {
    message = error.what();
  }
  EXPECT_THAT(message, HasSubstr("heads of " + get().folder().filename().string() + " (xxh3-128:"));
  EXPECT_THAT(message, HasSubstr("expected heads of " + another.folder().filename().string()));
  const std::pair<const char*, const char*> configs[] = {
      {R"({})", "not of draft heads"},
      {R"([])", "object"},
      {R"({"draft_heads": "eagle", "count": 1})", "expected recursive"},
      {R"({"draft_heads": "recursive"})", "count"},
      {R"({"draft_heads": "recursive", "count": 0})", "count"},
      {R"({"draft_heads": "recursive", "count": 1e9})", "count"},
      {R"({"medusa_num_heads": 1})", "medusa_lm_head.safetensors"},
      {R"({"draft_heads": "recursive", "count": 1, "hash": "x"})", "damaged"},
      {"", "config.json"}};
  for (const auto& [text, expected] : configs) {
    write_file(folder() / "config.json", text);
    EXPECT_THAT(refusal(), HasSubstr(expected)) << text;
  }
  fs::remove(folder() / "config.json");
  EXPECT_THAT(refusal(), HasSubstr("holds no config.json"));
  RandomModel narrow = spec;
  narrow.hidden = 24;
  const TemporaryModel small(narrow);
  write_random_heads({}, *small.get(), folder());
  nlohmann::json foreign = read_json(folder() / "config.json");
  for (const char* key : {"model_hash", "hash"}) foreign.erase(key);
  write_file(folder() / "config.json", foreign.dump());
  EXPECT_THAT(refusal(), HasSubstr("expected [24, 96]"));
  for (const std::vector<int32_t>& tokens :
       std::vector<std::vector<int32_t>>{{3, 2}, {3, 3}, {-1, 4}, {4, 61}}) {
    const TensorView list{DType::kI32, {2}, std::as_bytes(std::span(tokens))};
    write_safetensors(folder() / "heads.safetensors", std::vector<NamedTensor>{{"tokens", list}});
    EXPECT_THAT(refusal(), HasSubstr("ascending ids below 61"));
  }
}

TEST_F(HeadsTest, ATruncatedOrFlippedFileIsOneErrorOrTheSameHeads) {
  spec.hidden = 16, spec.heads = 2, spec.head_size = 8, spec.intermediate = 16, spec.layers = 1;
  make();
  for (const HeadKind kind : {HeadKind::kRecursive, HeadKind::kMedusa}) {
    written({.kind = kind, .count = 1, .tokens = {1, 5, 9}, .inner = 4});
    for (const char* name :
         {"config.json", kind == HeadKind::kRecursive ? "heads.safetensors" : "medusa_lm_head.safetensors"}) {
      const fs::path file = folder() / name;
      const std::string whole(MappedFile(file).text());
      int opened = 0;
      const auto check = [&](const std::string& bytes, size_t at) {
        write_file(file, bytes);
        const std::string message = refusal();
        EXPECT_EQ(message.find('\n'), std::string::npos) << message;
        if (!message.empty()) return;
        ++opened;  // white space of the config alone may change unseen
        EXPECT_EQ(file.extension(), ".json") << at;
      };
      const size_t stride = std::max<size_t>(1, whole.size() / 40);
      for (size_t at = 0; at < whole.size(); at += stride) {
        check(whole.substr(0, at), at);
        std::string flipped = whole;
        flipped[at] = static_cast<char>(flipped[at] ^ (1 << at % 8));
        check(flipped, at);
      }
      EXPECT_LT(opened, 8);
      write_file(file, whole);
      EXPECT_EQ(refusal(), "");
    }
  }
}

}  // namespace
}  // namespace linnet

// Whether guessing pays, by a clock of the test's own: what steps and drafts take is a function, noise and
// slow spells of a machine that others use are drawn, and what the same steps take without noise is summed
// beside.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "base/random.h"
#include "generate/engine.h"
#include "tests/generate/hash_decoder.h"
#include "tests/generate/small_tokenizer.h"

namespace linnet {
namespace {

constexpr int64_t kVocabulary = 24, kTokens = 600;
constexpr size_t kStepBytes = 1000;  // of weights

/// A machine: what steps take, and how much others disturb them.
struct Machine {
  enum Noise { kQuiet, kBusy } noise = kQuiet;
  double node = 0.1;       // of a plain step, that a node more costs
  int free = 0;            // nodes that cost as two do: a product's block of rows
  int block = 0;           // likewise, of rows that cost a step more than those before; 0: no blocks
  double evicts = 0;       // of a plain step, that one costs more whose weights a drafter drove out
  double growth = 0;       // of a plain step, that a node costs more with each step
  double prompt = 0;       // plain steps, that it takes to read
  double read = 0;         // of `undisturbed`, for prompts
  double seconds = 0;      // by the clock
  double undisturbed = 0;  // seconds
  uint64_t seed = 0, calls = 0;
  int64_t steps = 0, evicted = 0;  // evicted: steps that still find weights driven out

  void takes(double work) {
    undisturbed += work;
    seconds += noise == kQuiet ? work : work * disturbance();
  }
  void drafts(double work) {
    takes(work);
    evicted = 2;
  }
  static double plain(int sequences) { return 1 + 0.5 * (sequences - 1); }
  void step(int sequences, int extra) {
    const double each = node + growth * static_cast<double>(steps++);
    const double driven_out = evicted > 0 ? evicts * static_cast<double>(evicted--) / 2 : 0;
    const double more = block > 0 ? extra / block : extra > 0 && extra < free ? 0.3 : each * extra;
    takes(plain(sequences) + more + driven_out);
  }
  double disturbance() {
    ++calls;
    const double jitter = 1 + 0.2 * uniform(seed, 1, calls);
    const double spike = uniform(seed, 2, calls) < 0.03 ? 6 : 1;
    const double spell = (calls / 2 + 77 * seed) % 250 < 60 ? 2.5 : 1;
    return jitter * spike * spell;
  }
};

struct TimedDecoder : HashDecoder {
  explicit TimedDecoder(Machine& m, int slots = 1) : HashDecoder(kVocabulary, slots), machine(m) {}
  void prefill(int slot, std::span<const int32_t> tokens, size_t first, std::span<float> logits) override {
    HashDecoder::prefill(slot, tokens, first, logits);
    machine.takes(machine.prompt);
    machine.read += machine.prompt;
  }
  void step(std::span<const Branch> branches) override {
    HashDecoder::step(branches);
    int nodes = 0;
    for (const Branch& branch : branches) nodes += branch.tree->size();
    machine.step(static_cast<int>(branches.size()), nodes - static_cast<int>(branches.size()));
  }
  Cost cost() const override { return {kStepBytes, 0, kernels::WeightType::kFloat32}; }
  Machine& machine;
};

/// What the decoder writes after `prompt`.
std::vector<int32_t> text_after(std::vector<int32_t> tokens, int64_t more) {
  std::vector<float> logits(kVocabulary);
  for (; more > 0; --more) {
    HashDecoder::logits_after(tokens, logits);
    tokens.push_back(argmax(logits));
  }
  return tokens;
}

const std::vector<int32_t>& whole_text() {
  static const std::vector<int32_t> text = text_after({2, 3, 4}, kTokens + 20);
  return text;
}

/// Knows the text, which all requests have. A chain of guesses for each, right in slot 0 as often as `right`
/// says until the text has `turns` tokens and never after it, in others as often as `others` says, and saying
/// of itself `says`. To be told what followed takes as long as guessing.
struct Chain : Drafter {
  Chain(Machine& m, double cost, double truth, double claim)
      : machine(m), takes(cost), right(truth), says(claim) {}
  void propose(std::span<const Context> contexts, std::span<Draft> drafts) override {
    machine.drafts(takes / 2);
    for (size_t c = 0; c < contexts.size(); ++c) {
      const double truth = contexts[c].slot == 0 ? right : others;
      const size_t length = contexts[c].tokens.size();
      Draft& draft = drafts[c];
      draft.clear();
      draft.add(contexts[c].tokens.back(), -1, 1);
      bool still = true;
      for (int32_t i = 0; i + 1 < contexts[c].max_nodes && i < contexts[c].max_depth; ++i) {
        const int32_t token = text[length + static_cast<size_t>(i)];
        still = still && length < turns && uniform(6, length, static_cast<uint64_t>(i)) < truth;
        draft.add(still ? token : (token + 1) % kVocabulary, i, std::pow(says, i + 1));
      }
    }
    told = takes / 2 / static_cast<double>(contexts.size());
    ++calls;
  }
  void followed(int, const Draft&, std::span<const int32_t>) override { machine.takes(told); }
  size_t bytes() const override { return static_cast<size_t>(takes * kStepBytes); }
  Machine& machine;
  double takes, right, says, others = 0, told = 0;
  size_t turns = SIZE_MAX;
  const std::vector<int32_t>& text = whole_text();
  int calls = 0;
};

struct Outcome {
  double seconds;  // undisturbed, per token behind the prompt
  DecodeReport report;
};

Engine::Options guessing(Machine& machine) {
  return {.max_nodes = 16, .max_depth = 8, .budget = true, .clock = [&machine] { return machine.seconds; }};
}

/// Writes tokens with the drafters; a plain step takes a second.
Outcome write(Machine& machine, std::vector<Drafter*> drafters, int64_t tokens = kTokens) {
  TimedDecoder decoder(machine);
  Engine engine(decoder, small_tokenizer(), std::move(drafters), guessing(machine));
  const Request request{.prompt = {2, 3, 4}, .max_new_tokens = tokens};
  const auto result = engine.run(std::span(&request, 1)).front();
  EXPECT_EQ(result.tokens.size(), static_cast<size_t>(tokens));
  const auto steps = static_cast<double>(tokens - 1);
  return {(machine.undisturbed - machine.prompt) / steps, engine.report()};
}

/// The most that a request takes over plainly, its prompt included, may its text end after any token, and
/// where.
std::pair<double, int64_t> worst(Machine& machine, Engine& engine) {
  std::pair<double, int64_t> most;
  const double begin = machine.undisturbed;
  const int64_t others = engine.report().tokens;
  engine.add({.prompt = {2, 3, 4}, .max_new_tokens = 300});
  for (int64_t before = 0; engine.step(); before = engine.report().tokens - others) {
    if (engine.report().tokens - others == before) continue;  // the prompt was read
    const auto tokens = static_cast<double>(before + 1);      // the step's first may be the last
    most = std::max(most, std::pair((machine.undisturbed - begin) / (machine.prompt + tokens), before + 1));
  }
  return most;
}

TEST(Speculation, IsNeverMoreThanThreePerCentSlowerThanPlain) {
  uint64_t seed = 0;
  for (const auto noise : {Machine::kQuiet, Machine::kBusy}) {
    for (const double right : {0.0, 0.05, 0.1, 0.2, 0.3, 0.5}) {
      for (const double says : {0.02, 0.3, 0.6, 1.0}) {
        for (const double takes : {0.0, 0.02, 0.1, 0.5}) {
          for (const double node : {0.0, 0.08, 0.6}) {
            Machine machine{.noise = noise, .node = node, .seed = seed++};
            Chain drafter(machine, takes, right, says);
            EXPECT_LE(write(machine, {&drafter}).seconds, noise == Machine::kBusy ? 1.05 : 1.03)
                << (noise == Machine::kBusy ? "busy" : "quiet") << ", right " << right << ", says " << says
                << ", takes " << takes << ", node " << node;
          }
        }
      }
    }
  }
}

// Any token may be the last: after each step the request has taken 3% more than plainly at most, its prompt
// included, may all that the step's guesses won be cut off.
TEST(Speculation, IsNeverMoreThanThreePerCentSlowerWhereverTheTextEnds) {
  struct Truth {
    double right;
    size_t turns;
  };
  for (const double prompt : {0.0, 5.0, 40.0, 150.0}) {
    for (const Truth& truth :
         {Truth{0, 0}, Truth{0.3, SIZE_MAX}, Truth{1, SIZE_MAX}, Truth{1, 12}, Truth{1, 45}}) {
      for (const double says : {0.3, 1.0}) {
        for (const double takes : {0.0, 0.003, 0.1, 0.5, 3.0}) {
          for (const double node : {0.0, 0.08, 1.0}) {
            for (const double evicts : {0.0, std::min(takes, 0.3)}) {
              Machine machine{.node = node, .evicts = evicts, .prompt = prompt};
              Chain drafter(machine, takes, truth.right, says);
              drafter.turns = truth.turns;
              TimedDecoder decoder(machine);
              Engine engine(decoder, small_tokenizer(), {&drafter}, guessing(machine));
              const auto [most, where] = worst(machine, engine);
              EXPECT_LE(most, 1.03) << "after " << where << " tokens, prompt " << prompt << ", right "
                                    << truth.right << " until " << truth.turns << ", says " << says
                                    << ", takes " << takes << ", node " << node << ", evicts " << evicts;
            }
          }
        }
      }
    }
  }
}

/// It has to read a prompt before it guesses, as a lookup does behind one that came from a cache.
struct Reader final : Chain {
  Reader(Machine& machine, double takes, double tokens, double token)
      : Chain(machine, takes, 0, 1), unread(static_cast<int64_t>(tokens)), token(token) {}
  int64_t read(int, std::span<const int32_t>, int64_t most) override {
    const int64_t tokens = std::min(most, unread);
    if (tokens > 0) machine.takes(std::exchange(stumbles, 0));
    machine.takes(token * static_cast<double>(tokens));
    return unread -= tokens;
  }
  int64_t unread;
  double token, stumbles = 0;  // stumbles: plain steps more that the first piece takes
};

TEST(Speculation, ReadsAPromptAsFastAsTheTextBears) {
  for (const double prompt : {0.0, 150.0}) {
    for (const double token : {0.0, 0.0005, 0.004}) {  // plain steps
      for (const double tokens : {40.0, 500.0, 50000.0}) {
        Machine machine{.node = 0.05, .prompt = prompt};
        Reader drafter(machine, 0.003, tokens, token);
        TimedDecoder decoder(machine);
        Engine engine(decoder, small_tokenizer(), {&drafter}, guessing(machine));
        const auto [most, where] = worst(machine, engine);
        EXPECT_LE(most, 1.03) << "after " << where << " tokens, prompt " << prompt << ", " << tokens
                              << " tokens of " << token;
        EXPECT_EQ(drafter.calls > 0, drafter.unread <= 32);
        EXPECT_TRUE(drafter.unread <= 32 || token * tokens > 2) << prompt << " " << tokens << " " << token;
      }
    }
  }
}

// A smaller model takes so long for a token that it has read none of a prompt before it costs too much.
TEST(Speculation, ReadsAPromptNoFasterThanTheTextBearsWhereReadingIsDear) {
  for (const double prompt : {0.0, 20.0, 150.0}) {
    for (const double takes : {0.2, 1.0}) {
      Machine machine{.node = 0.05, .prompt = prompt};
      Reader drafter(machine, takes, 500, takes / 32);
      TimedDecoder decoder(machine);
      Engine engine(decoder, small_tokenizer(), {&drafter}, guessing(machine));
      const auto [most, where] = worst(machine, engine);
      EXPECT_LE(most, 1.03) << "after " << where << " tokens, prompt " << prompt << ", takes " << takes;
    }
  }
}

TEST(Speculation, OneSlowPieceOfAPromptIsNotBelievedForEver) {
  Machine machine;
  Reader drafter(machine, 0.003, 0, 0.0005);
  drafter.stumbles = 50;
  drafter.right = 0.95;
  TimedDecoder decoder(machine);
  Engine engine(decoder, small_tokenizer(), {&drafter}, guessing(machine));
  int calls = 0;
  for (int text = 0; text < 10; ++text) {
    const Request request{.prompt = {2, 3, 4}, .max_new_tokens = kTokens};
    drafter.unread = 500;
    calls = drafter.calls;
    engine.run(std::span(&request, 1));
  }
  EXPECT_GT(drafter.calls, calls);
}

// The first node may be nearly free and the next dear: what was not computed is not known.
TEST(Speculation, LosesNoMoreWhereNodesAreDearerThanThoseBefore) {
  for (const double prompt : {0.0, 5.0, 40.0, 150.0}) {
    for (const size_t turns : {size_t{0}, size_t{12}, size_t{45}, SIZE_MAX}) {
      for (const double takes : {0.0, 0.003, 0.1}) {
        for (const int block : {2, 4, 8}) {
          Machine machine{.block = block, .prompt = prompt};
          Chain drafter(machine, takes, 1, 1);
          drafter.turns = turns;
          TimedDecoder decoder(machine);
          Engine engine(decoder, small_tokenizer(), {&drafter}, guessing(machine));
          const auto [most, where] = worst(machine, engine);
          EXPECT_LE(most, 1.03) << "after " << where << " tokens, prompt " << prompt << ", right until "
                                << turns << ", takes " << takes << ", blocks of " << block;
        }
      }
    }
  }
}

/// A text that others are written beside.
struct Text {
  int turn;       // of the engine, at which it comes
  double prompt;  // plain steps of one, that it takes to read
  int64_t tokens;
};

/// The most that any of the texts takes over plainly in the steps that it shares, may it end after any token.
double worst_of(Machine& machine, Engine& engine, const std::vector<Text>& table, size_t slots) {
  struct Running {
    int64_t id;
    double took, plainly;
    int64_t steps = 0;
    size_t tokens = 1;
  };
  std::vector<Running> running;
  double most = 0;
  size_t next = 0;
  for (int turn = 0; next < table.size() || !running.empty(); ++turn) {
    if (next < table.size() && table[next].turn <= turn && running.size() < slots) {
      const Text& text = table[next++];
      machine.prompt = text.prompt;
      running.push_back(
          {engine.add({.prompt = {2, 3, 4}, .max_new_tokens = text.tokens}), text.prompt, text.prompt});
    }
    const double begin = machine.undisturbed - machine.read;
    engine.step();
    const double took = machine.undisturbed - machine.read - begin;
    std::vector<Running> rest;
    std::vector<std::pair<Running, size_t>> stepped;
    for (const Running& one : running) {
      const bool ended = engine.ended(one.id);
      const Generation now = ended ? engine.take(one.id) : engine.so_far(one.id);
      if (now.steps > one.steps) stepped.emplace_back(one, now.tokens.size());
      if (!ended) rest.push_back(one);
    }
    const double plain = Machine::plain(static_cast<int>(stepped.size()));
    for (auto& [one, tokens] : stepped) {
      most = std::max(most, (one.took + took) / (one.plainly + plain));
      for (Running& same : rest) {
        if (same.id != one.id) continue;
        same.took += took;
        same.plainly += plain * static_cast<double>(tokens - same.tokens);
        same.tokens = tokens;
        ++same.steps;
      }
    }
    running = std::move(rest);
  }
  return most;
}

TEST(Speculation, HoldsForEachOfTextsThatComeAndGo) {
  constexpr size_t kSlots = 4;
  for (uint64_t seed = 0; seed < 130; ++seed) {
    const auto one_of = [&](uint64_t what, std::initializer_list<double> all) {
      return *(all.begin() + uniform_integer(seed, what, 0, all.size()));
    };
    Machine machine{.node = one_of(1, {0.05, 0.3, 1})};
    Chain drafter(machine, one_of(3, {0, 0.05, 0.4}), one_of(4, {0, 0.5, 1}), 1);
    drafter.others = one_of(5, {0, 0, 0.5, 1});
    TimedDecoder decoder(machine, kSlots);
    Engine::Options options = guessing(machine);
    options.slots = kSlots, options.max_nodes = 32;
    Engine engine(decoder, small_tokenizer(), {&drafter}, options);
    std::vector<Text> table;
    int turn = 0;
    for (uint64_t i = 0; i < 40; ++i) {
      turn += static_cast<int>(uniform_integer(seed, 6, i, static_cast<uint64_t>(one_of(7, {2, 10, 60}))));
      const double prompts[] = {0, 1, 10, 100};
      table.push_back({turn, prompts[uniform_integer(seed, 8, i, 4)],
                       1 + static_cast<int64_t>(uniform_integer(
                               seed, 9, i, static_cast<uint64_t>(one_of(10, {3, 60, 400}))))});
    }
    EXPECT_LE(worst_of(machine, engine, table, kSlots), 1.03)
        << "seed " << seed << ", node " << machine.node << ", takes " << drafter.takes << ", right "
        << drafter.right << " and " << drafter.others;
  }
}

TEST(Speculation, OneSlowCallIsNotBelievedForEver) {
  struct Stumbler final : Chain {
    using Chain::Chain;
    void propose(std::span<const Context> contexts, std::span<Draft> drafts) override {
      if (calls == 0) machine.takes(50);
      Chain::propose(contexts, drafts);
    }
  };
  for (const double takes : {0.003, 0.1}) {
    Machine machine;
    Stumbler drafter(machine, takes, 0.95, 0.9);
    TimedDecoder decoder(machine);
    Engine engine(decoder, small_tokenizer(), {&drafter}, guessing(machine));
    double seconds = 0;
    for (int text = 0; text < 20; ++text) {
      const Request request{.prompt = {2, 3, 4}, .max_new_tokens = kTokens};
      seconds = machine.undisturbed;
      engine.run(std::span(&request, 1));
      seconds = machine.undisturbed - seconds;
    }
    EXPECT_LE(seconds, 0.7 * kTokens) << takes;
  }
}

// A text that gained much leaves the next one nothing to lose.
TEST(Speculation, WhatATextGainedNoOtherLoses) {
  for (const double takes : {0.0, 0.1, 0.5}) {
    for (const double node : {0.02, 0.3, 1.0}) {
      Machine machine{.node = node};
      Chain drafter(machine, takes, 1, 1);
      TimedDecoder decoder(machine);
      Engine engine(decoder, small_tokenizer(), {&drafter}, guessing(machine));
      for (const size_t turns : {SIZE_MAX, size_t{0}, size_t{30}}) {
        drafter.turns = turns;
        const auto [most, where] = worst(machine, engine);
        EXPECT_LE(most, 1.03) << "after " << where << " tokens, right until " << turns << ", takes " << takes
                              << ", node " << node;
      }
    }
  }
}

// What a drafter costs beside its own time: the weights that it drives out of the caches are read again by
// the step after it, and by the next.
TEST(Speculation, CountsWhatDraftingCostsTheStepsAfterIt) {
  uint64_t seed = 0;
  for (const auto noise : {Machine::kQuiet, Machine::kBusy}) {
    for (const double evicts : {0.04, 0.1, 0.3}) {
      for (const double right : {0.0, 0.1, 0.2, 0.3}) {
        for (const double takes : {0.002, 0.05}) {
          for (const double node : {0.08, 0.25}) {
            Machine machine{.noise = noise, .node = node, .evicts = evicts, .seed = seed++};
            Chain drafter(machine, takes, right, 0.5);
            EXPECT_LE(write(machine, {&drafter}).seconds, noise == Machine::kBusy ? 1.05 : 1.03)
                << (noise == Machine::kBusy ? "busy" : "quiet") << ", evicts " << evicts << ", right "
                << right << ", takes " << takes << ", node " << node;
          }
        }
      }
    }
  }
}

TEST(Speculation, StopsWhereGuessesAreRightNoMore) {
  for (const int64_t turns : {40, 100, 200, 400}) {
    for (const double takes : {0.02, 0.2}) {
      for (const double node : {0.08, 0.3}) {
        for (const double growth : {0.0, 0.001}) {
          const auto seconds = [&](int64_t tokens) {
            Machine machine{.node = node, .evicts = 0.05, .growth = growth};
            Chain drafter(machine, takes, 0.9, 0.9);
            drafter.turns = static_cast<size_t>(turns);
            return write(machine, {&drafter}, tokens).seconds * static_cast<double>(tokens);
          };
          const double until = seconds(turns), all = seconds(kTokens);
          EXPECT_LE(all, 1.03 * kTokens) << turns << " " << takes << " " << node << " " << growth;
          EXPECT_LE(all - until, 1.03 * static_cast<double>(kTokens - turns) + 20)
              << turns << " " << takes << " " << node << " " << growth;
        }
      }
    }
  }
}

// Behind a prompt that took its time, which pays for the first guesses.
TEST(Speculation, FindsTheTreesThatPayWhateverTheDrafterSaysOfItself) {
  uint64_t seed = 0;
  struct Row {
    double right, takes, node;
    int free;
    double most;  // seconds per token
  };
  for (const auto noise : {Machine::kQuiet, Machine::kBusy}) {
    for (const double says : {0.3, 0.6, 0.95}) {
      for (const Row& row : {Row{0.95, 0.02, 0.1, 0, 0.40}, Row{0.8, 0.05, 0.1, 0, 0.55},
                             Row{0.6, 0.05, 0.08, 0, 0.75}, Row{0.9, 0.02, 0.3, 8, 0.42}}) {
        Machine machine{.noise = noise, .node = row.node, .free = row.free, .prompt = 100, .seed = seed++};
        Chain drafter(machine, row.takes, row.right, says);
        EXPECT_LE(write(machine, {&drafter}).seconds, row.most)
            << (noise == Machine::kBusy ? "busy" : "quiet") << ", right " << row.right << ", says " << says
            << ", node " << row.node << ", free " << row.free;
      }
    }
  }
}

// Until the dear one has gained it is asked as seldom as what guessing may lose allows.
TEST(Speculation, AsksTheDrafterThatPaysWhereItDoes) {
  struct Row {
    double cheap, dear;  // how often each is right
    double least, most;  // times that the dear one is asked, per step
    double seconds;
  };
  for (const Row& row :
       {Row{0.05, 0.8, 0.35, 1, 0.65}, Row{0.95, 0.8, 0, 0.25, 0.42}, Row{0, 0, 0, 0.1, 1.03}}) {
    Machine machine;
    Chain cheap(machine, 0.003, row.cheap, 0.5), dear(machine, 0.15, row.dear, 0.5);
    const Outcome outcome = write(machine, {&cheap, &dear});
    const double asked =
        static_cast<double>(outcome.report.drafters[1].asked) / static_cast<double>(outcome.report.steps);
    EXPECT_GE(asked, row.least) << row.cheap << " " << row.dear;
    EXPECT_LE(asked, row.most) << row.cheap << " " << row.dear;
    EXPECT_LE(outcome.seconds, row.seconds) << row.cheap << " " << row.dear;
  }
}

}  // namespace
}  // namespace linnet

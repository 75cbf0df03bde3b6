#include "generate/engine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/error.h"
#include "base/random.h"
#include "tests/generate/hash_decoder.h"
#include "tests/generate/small_tokenizer.h"

namespace linnet {
namespace {

constexpr int64_t kVocabulary = 24;
constexpr int32_t kEnd = 1;

/// What a request generates in this world, token by token, written down without an engine.
Generation reference(const Request& request) {
  Sampler sampler(request.sampling, request.seed, request.sequence, kVocabulary);
  std::vector<int32_t> tokens = request.prompt;
  for (const int32_t token : tokens) sampler.observe(token);
  Generation result;
  const Tokenizer tokenizer = small_tokenizer();
  std::vector<float> logits(kVocabulary);
  for (;;) {
    HashDecoder::logits_after(tokens, logits);
    const int32_t token = sampler.choose(logits, tokens.size());
    sampler.observe(token);
    tokens.push_back(token);
    result.tokens.push_back(token);
    const bool end = std::find(request.end.begin(), request.end.end(), token) != request.end.end();
    const std::string text = tokenizer.decode(tokens).substr(tokenizer.decode(request.prompt).size());
    size_t first = std::string::npos;
    for (const std::string& stop : request.stop) {
      // Stop strings of these tests never end together or inside a half code point.
      const size_t at = text.find(stop);
      if (at != std::string::npos && (first == std::string::npos || at + stop.size() < first)) {
        first = at + stop.size();
        result.text = text.substr(0, at);
      }
    }
    if (!end && first != std::string::npos) {
      result.finish = Finish::kStop;
      return result;
    }
    if (end || static_cast<int64_t>(result.tokens.size()) == request.max_new_tokens) {
      result.finish = end ? Finish::kEnd : Finish::kLength;
      result.text = text;
      return result;
    }
  }
}

/// Proposes trees that hold the true continuation (known beforehand) down to `right` tokens, hidden among
/// wrong guesses, duplicates included, and checks what it is told.
struct Guesser : Drafter {
  Guesser(const std::vector<Request>& requests, int right_tokens, int wrong_nodes)
      : right(right_tokens), wrong(wrong_nodes) {
    for (const Request& request : requests) {
      std::vector<int32_t> text = request.prompt;
      Request longer = request;
      longer.stop.clear();
      longer.end.clear();
      longer.max_new_tokens += 10;
      const auto generated = reference(longer).tokens;
      text.insert(text.end(), generated.begin(), generated.end());
      texts.push_back(text);
    }
  }
  void propose(std::span<const Context> contexts, std::span<Draft> drafts) override {
    for (size_t i = 0; i < contexts.size(); ++i) {
      drafts[i].clear();
      drafts[i].tree = guess(contexts[i], contexts[i].max_nodes, contexts[i].max_depth);
    }
  }
  TokenTree guess(const Context& context, int max_nodes, int max_depth) {
    EXPECT_EQ(context.hidden.size(), 2u);
    EXPECT_EQ(context.hidden[0], HashDecoder::hidden_after(context.tokens.first(context.tokens.size() - 1)));
    EXPECT_LE(static_cast<int64_t>(context.tokens.size()) + max_depth, most);
    TokenTree tree = TokenTree::single(context.tokens.back());
    for (const auto& text : texts) {
      if (text.size() < context.tokens.size() ||
          !std::equal(context.tokens.begin(), context.tokens.end(), text.begin())) {
        continue;
      }
      int32_t node = 0;
      for (int i = 0; i < right && i < max_depth; ++i) {
        const size_t at = context.tokens.size() + static_cast<size_t>(i);
        if (at >= text.size()) break;
        for (int w = 0; w < wrong && tree.size() + 1 < max_nodes; ++w) {
          tree.add(static_cast<int32_t>((static_cast<size_t>(text[at]) + 1 + static_cast<size_t>(w)) %
                                        kVocabulary),
                   node);
        }
        if (tree.size() == max_nodes) break;
        node = tree.add(text[at], node);
        if (tree.size() + 1 < max_nodes && tree.depth(node) < max_depth) tree.add(text[at], node);
      }
      break;
    }
    return tree;
  }
  int right, wrong;
  int64_t most = INT64_MAX;  // tokens of the text and a path that may ever count
  std::vector<std::vector<int32_t>> texts;
};

std::vector<Request> requests() {
  std::vector<Request> table;
  const Sampling samplings[] = {{},
                                {.temperature = 1.0},
                                {.temperature = 0.7, .top_k = 6, .top_p = 0.9, .repetition_penalty = 1.3},
                                {.repetition_penalty = 1.2}};
  for (uint64_t i = 0; i < 24; ++i) {
    Request request;
    for (uint64_t t = 0; t <= i % 5; ++t) {
      request.prompt.push_back(2 + static_cast<int32_t>(uniform_integer(9, i, t, 4)));  // whole code points
    }
    request.sampling = samplings[i % 4];
    request.seed = i / 3;
    request.sequence = i;
    request.max_new_tokens = 1 + static_cast<int64_t>(i * 5 % 37);
    if (i % 2 == 0) request.end = {kEnd};
    if (i % 3 == 0) request.stop = {"ab a", "cc", "d e"};
    if (i % 3 == 1) request.stop = {"bab", "é"};
    table.push_back(request);
  }
  return table;
}

TEST(Engine, TextIsTheSameWithAnyDrafterAnySlotsAndWithout) {
  const auto table = requests();
  std::map<Finish, int> finishes;
  struct Row {
    int right, wrong, slots, max_depth;
  };
  for (const Row& row :
       {Row{0, 0, 1, 8}, {1, 0, 1, 8}, {4, 2, 1, 8}, {8, 0, 1, 3}, {8, 1, 3, 8}, {3, 5, 7, 8}}) {
    HashDecoder decoder(kVocabulary, row.slots, 48);
    Guesser guesser(table, row.right, row.wrong);
    Engine engine(decoder, small_tokenizer(), guesser, {row.slots, 48, row.max_depth});
    std::vector<std::string> streamed(table.size());
    const auto results =
        engine.run(table, [&](size_t request, std::string_view text) { streamed[request] += text; });
    int64_t steps = 0, tokens = 0;
    for (size_t i = 0; i < table.size(); ++i) {
      const Generation expected = reference(table[i]);
      EXPECT_EQ(results[i].tokens, expected.tokens) << "request " << i;
      EXPECT_EQ(results[i].text, expected.text) << "request " << i;
      EXPECT_EQ(results[i].finish, expected.finish) << "request " << i;
      EXPECT_EQ(streamed[i], results[i].text) << "request " << i;
      ++finishes[expected.finish];
      steps += results[i].steps;
      tokens += static_cast<int64_t>(results[i].tokens.size()) - 1;
    }
    if (row.right == 0) {
      EXPECT_EQ(steps, tokens);
    } else if (row.wrong == 0) {
      EXPECT_LT(steps, tokens * 2 / 3) << "right guesses were not accepted";
    }
  }
  EXPECT_THAT(finishes, testing::Contains(testing::Pair(Finish::kEnd, testing::Gt(5))));
  EXPECT_THAT(finishes, testing::Contains(testing::Pair(Finish::kStop, testing::Gt(5))));
  EXPECT_THAT(finishes, testing::Contains(testing::Pair(Finish::kLength, testing::Gt(5))));
}

TEST(Engine, LeavesEveryTokenButTheLastCommitted) {
  const auto table = requests();
  for (const Request& request : table) {
    HashDecoder decoder(kVocabulary, 1, 48);
    Guesser guesser(table, 5, 1);
    guesser.most = static_cast<int64_t>(request.prompt.size()) + request.max_new_tokens - 1;
    Engine engine(decoder, small_tokenizer(), guesser, {1, 48});
    const auto result = engine.run(std::span(&request, 1)).front();
    EXPECT_EQ(decoder.length(0), static_cast<int64_t>(request.prompt.size() + result.tokens.size()) - 1);
  }
}

TEST(Engine, StopsWhereLearnedPositionsEnd) {
  Request request{.prompt = {2, 3, 4}, .max_new_tokens = 100};
  for (int right : {0, 6}) {
    HashDecoder decoder(kVocabulary, 1);
    Guesser guesser({request}, right, 0);
    guesser.most = 20;
    decoder.told.positions = 20;
    Engine engine(decoder, small_tokenizer(), guesser, {});
    const auto result = engine.run(std::span(&request, 1)).front();
    EXPECT_EQ(result.tokens.size(), 18u);  // the last stands where no position is left to compute from
    EXPECT_EQ(decoder.length(0), 20);
    EXPECT_EQ(result.finish, Finish::kPositions);
  }
}

TEST(Engine, AStopStringThatIsASpecialTokenStopsAtThatToken) {
  Request request{.prompt = {2, 3}, .max_new_tokens = 200};
  const auto tokens = reference(request).tokens;
  const auto first = std::find(tokens.begin(), tokens.end(), 0);  // <s> ends nothing by itself
  ASSERT_NE(first, tokens.end());
  request.stop = {"no such text", "<s>"};
  HashDecoder decoder(kVocabulary, 1);
  const auto drafter = make_no_drafter();
  Engine engine(decoder, small_tokenizer(), *drafter, {});
  const auto result = engine.run(std::span(&request, 1)).front();
  EXPECT_EQ(result.tokens, std::vector<int32_t>(tokens.begin(), first + 1));
  EXPECT_EQ(result.finish, Finish::kStop);
}

/// A HashDecoder whose prefills and steps take time by a clock of its own.
struct TimedDecoder : HashDecoder {
  using HashDecoder::HashDecoder;
  void prefill(int slot, std::span<const int32_t> tokens, size_t first, std::span<float> logits) override {
    HashDecoder::prefill(slot, tokens, first, logits);
    seconds += 100 * static_cast<double>(tokens.size());
  }
  void step(std::span<const Branch> branches) override {
    seconds += 1;
    HashDecoder::step(branches);
  }
  double seconds = 0;
};

TEST(Engine, ASequencesClocksLeaveOutItsNeighboursPrefills) {
  std::vector<Request> table;
  for (int32_t i = 0; i < 6; ++i) {
    table.push_back(
        {.prompt = std::vector<int32_t>(static_cast<size_t>(1 + i), 2 + i), .max_new_tokens = 3 + 2 * i});
  }
  TimedDecoder decoder(kVocabulary, 2);
  const auto drafter = make_no_drafter();
  Engine engine(decoder, small_tokenizer(), *drafter, {.slots = 2, .clock = [&] { return decoder.seconds; }});
  const auto results = engine.run(table);
  for (size_t i = 0; i < table.size(); ++i) {
    EXPECT_EQ(results[i].prefill_seconds, 100 * static_cast<double>(table[i].prompt.size()));
    EXPECT_EQ(results[i].decode_seconds, static_cast<double>(results[i].tokens.size() - 1));
  }
}

/// A HashDecoder that says how its work was cut.
struct WatchedDecoder : HashDecoder {
  using HashDecoder::HashDecoder;
  void prefill(int slot, std::span<const int32_t> tokens, size_t first, std::span<float> logits) override {
    HashDecoder::prefill(slot, tokens, first, logits);
    pieces.emplace_back(slot, std::ssize(tokens));
  }
  std::vector<std::pair<int, int64_t>> pieces;  // slot and tokens of each prefill
};

TEST(Engine, NobodyWaitsBehindALongPrompt) {
  WatchedDecoder decoder(kVocabulary, 3);
  decoder.told.chunk = 8;
  const auto drafter = make_no_drafter();
  Engine engine(decoder, small_tokenizer(), *drafter, {.slots = 3});
  const Request writing{.prompt = {2, 3}, .max_new_tokens = 12};
  const Request large{.prompt = std::vector<int32_t>(64, 4), .max_new_tokens = 3};
  const Request small{.prompt = {5, 6, 7}, .max_new_tokens = 2};
  std::string text;
  const int64_t first = engine.add(writing, [&](std::string_view piece) { text += piece; });
  EXPECT_TRUE(engine.step());
  const int64_t second = engine.add(large), third = engine.add(small);
  for (int turn = 0; turn < 4; ++turn) {
    const size_t before = decoder.pieces.size();
    const int64_t length = decoder.length(0);
    EXPECT_TRUE(engine.step());
    int64_t read = 0;
    for (size_t i = before; i < decoder.pieces.size(); ++i) read += decoder.pieces[i].second;
    EXPECT_LT(read, 8 + 8) << "a turn reads a chunk, and what is left of a piece";
    EXPECT_EQ(decoder.length(0), length + 1) << "a prompt held a writing sequence up";
  }
  EXPECT_EQ(engine.take(third).tokens, reference(small).tokens) << "behind the long prompt";
  while (engine.step()) {
  }
  EXPECT_EQ(engine.take(second).tokens, reference(large).tokens);
  const Generation whole = engine.take(first);
  EXPECT_EQ(whole.tokens, reference(writing).tokens);
  EXPECT_EQ(whole.text, text);
  for (const auto& [slot, tokens] : decoder.pieces) EXPECT_TRUE(slot != 1 || tokens == 8);
  EXPECT_FALSE(engine.step());
  EXPECT_THROW(engine.take(first), Error) << "a result is taken once";
}

TEST(Engine, RequestsComeAndGoAtAnyTimeAndChangeNoOthersText) {
  const auto table = requests();
  HashDecoder decoder(kVocabulary, 3, 48);
  decoder.told.chunk = 4;
  Guesser guesser(table, 3, 1);
  Engine engine(decoder, small_tokenizer(), guesser, {3, 48});
  std::vector<int64_t> ids;
  for (size_t turn = 0; engine.step() || turn < 60; ++turn) {
    if (turn % 2 == 0 && ids.size() < table.size()) ids.push_back(engine.add(table[ids.size()]));
    if (turn % 9 == 8 && turn < 60) engine.cancel(ids.back());
  }
  std::map<Finish, int> finishes;
  for (size_t i = 0; i < table.size(); ++i) {
    const Generation result = engine.take(ids[i]);
    const auto whole = reference(table[i]).tokens;
    ++finishes[result.finish];
    ASSERT_LE(result.tokens.size(), whole.size());
    EXPECT_TRUE(std::equal(result.tokens.begin(), result.tokens.end(), whole.begin())) << i;
    if (result.finish != Finish::kInterrupted) {
      EXPECT_EQ(result.tokens.size(), whole.size()) << i;
    }
  }
  EXPECT_GT(finishes[Finish::kInterrupted], 0);
  EXPECT_LT(finishes[Finish::kInterrupted], 8);
}

/// A step takes a second, and a tenth more for each node but the first.
struct CostlyDecoder : HashDecoder {
  using HashDecoder::HashDecoder;
  void step(std::span<const Branch> branches) override {
    HashDecoder::step(branches);
    double nodes = 0;
    for (const Branch& branch : branches) nodes += branch.tree->size();
    seconds += 1 + 0.1 * (nodes - 1);
  }
  double seconds = 0;
};

/// Guesses that all say of themselves that they are right; for the first `truthful` tokens every second one
/// is.
struct Boaster : Guesser {
  using Guesser::Guesser;
  void propose(std::span<const Context> contexts, std::span<Draft> drafts) override {
    Guesser::propose(contexts, drafts);
    for (size_t i = 0; i < drafts.size(); ++i) {
      const auto generated = std::ssize(contexts[i].tokens) - 3;
      TokenTree& tree = drafts[i].tree;
      if (generated > truthful) {  // the same tree with other tokens
        std::vector<int32_t> tokens(tree.tokens().begin(), tree.tokens().end());
        for (size_t n = 1; n < tokens.size(); ++n) tokens[n] = (tokens[n] + 1) % kVocabulary;
        tree = TokenTree(tokens, {tree.parents().begin(), tree.parents().end()});
      }
      drafts[i].reached.assign(static_cast<size_t>(tree.size()), 1);
    }
  }
  int64_t truthful = INT64_MAX;
};

TEST(TreeBudget, GuessesThatDoNotPayCostAFiftiethAtMost) {
  const Request request{.prompt = {2, 3, 4}, .max_new_tokens = 400};
  struct Row {
    int64_t truthful;
    double least, most;  // seconds of the 399 steps' tokens
  };
  for (const Row& row : {Row{0, 399, 399 * 1.021}, Row{200, 100, 360}, Row{400, 60, 220}}) {
    CostlyDecoder decoder(kVocabulary, 1);
    Boaster drafter({request}, 8, 0);
    drafter.truthful = row.truthful;
    Engine engine(decoder, small_tokenizer(), drafter,
                  {.max_depth = 8, .budget = true, .clock = [&] { return decoder.seconds; }});
    const auto result = engine.run(std::span(&request, 1)).front();
    EXPECT_EQ(result.tokens, reference(request).tokens);
    EXPECT_GE(decoder.seconds, row.least) << row.truthful;
    EXPECT_LE(decoder.seconds, row.most) << row.truthful;
    EXPECT_EQ(engine.report().tokens, 399);
  }
}

TEST(Engine, LogprobsAreThoseOfTheModelItself) {
  Request request{.prompt = {2, 3, 4, 5}, .sampling = {.temperature = 2, .top_k = 3}, .max_new_tokens = 6};
  request.logprobs = 4;
  request.prompt_logprobs = true;
  HashDecoder decoder(kVocabulary, 1);
  const auto drafter = make_no_drafter();
  Engine engine(decoder, small_tokenizer(), *drafter, {});
  const auto result = engine.run(std::span(&request, 1)).front();
  ASSERT_EQ(result.prompt_logprobs.size(), 3u);
  ASSERT_EQ(result.logprobs.size(), result.tokens.size());
  EXPECT_EQ(result.tokens, reference(request).tokens);
  std::vector<int32_t> tokens = request.prompt;
  tokens.insert(tokens.end(), result.tokens.begin(), result.tokens.end());
  std::vector<float> logits(kVocabulary);
  for (size_t i = 1; i < tokens.size(); ++i) {
    const TokenLogprobs& row = i < 4 ? result.prompt_logprobs[i - 1] : result.logprobs[i - 4];
    HashDecoder::logits_after(std::span(tokens).first(i), logits);
    double sum = 0;
    for (const float x : logits) sum += std::exp(double{x});
    EXPECT_EQ(row.token, tokens[i]);
    EXPECT_NEAR(row.logprob, logits[static_cast<size_t>(tokens[i])] - std::log(sum), 1e-12);
    ASSERT_EQ(row.top.size(), 4u);
    EXPECT_EQ(row.top[0].first, argmax(logits));
    for (size_t k = 1; k < 4; ++k) EXPECT_LE(row.top[k].second, row.top[k - 1].second);
  }
}

TEST(Engine, APromptThatGoesOnFromItsSlotReadsItsNewTokensAlone) {
  HashDecoder decoder(kVocabulary, 1);
  const auto drafter = make_no_drafter();
  Engine engine(decoder, small_tokenizer(), *drafter, {.continue_slots = true});
  std::vector<int32_t> tokens = {2, 3, 4};
  const auto turn = [&](bool anew) {
    const Request request{.prompt = tokens, .max_new_tokens = 4};
    const auto result = engine.run(std::span(&request, 1)).front();
    EXPECT_EQ(result.tokens, reference(request).tokens);
    tokens.insert(tokens.end(), result.tokens.begin(), result.tokens.end());
    EXPECT_EQ(result.prompt_read == static_cast<int64_t>(request.prompt.size()), anew);
    return result.prompt_read;
  };
  EXPECT_EQ(turn(true), 3);
  tokens.insert(tokens.end(), {5, 6});
  EXPECT_EQ(turn(false), 3);  // the last token chosen, and two new ones
  tokens[1] = 7;
  turn(true);
  const Request again{.prompt = tokens, .max_new_tokens = 1};
  engine.run(std::span(&again, 1));
  EXPECT_EQ(engine.run(std::span(&again, 1)).front().prompt_read, std::ssize(tokens))
      << "a slot that holds the whole prompt has no logits left";
}

TEST(Engine, APrefixIsReadOnceWhereverPromptsPart) {
  HashDecoder decoder(kVocabulary, 1);
  const auto drafter = make_no_drafter();
  Engine engine(decoder, small_tokenizer(), *drafter, {.prefix_cache = 400});
  std::vector<int32_t> header;
  for (uint64_t i = 0; i < 21; ++i) header.push_back(2 + static_cast<int32_t>(uniform_integer(3, 0, i, 9)));
  const auto ask = [&](std::vector<int32_t> rest) {
    Request request{.prompt = header, .max_new_tokens = 5};
    request.prompt.insert(request.prompt.end(), rest.begin(), rest.end());
    const auto result = engine.run(std::span(&request, 1)).front();
    EXPECT_EQ(result.tokens, reference(request).tokens);
    return result.prompt_read;
  };
  EXPECT_EQ(ask({3, 4}), 23);
  EXPECT_EQ(ask({5, 6, 7}), 24) << "the first that shows where prompts part";
  EXPECT_EQ(ask({6, 7}), 2);
  EXPECT_EQ(ask({5, 6, 7, 8}), 1) << "a whole prompt is a beginning too";
  EXPECT_EQ(engine.prefix_counts().hits, 2);
  EXPECT_EQ(engine.prefix_counts().misses, 2);
  EXPECT_EQ(engine.prefix_counts().tokens, 21 + 24);
}

TEST(Engine, PromptsThatBeginSideBySideReadWhatTheyShareOnce) {
  HashDecoder decoder(kVocabulary, 4);
  decoder.told.chunk = 8;
  const auto drafter = make_no_drafter();
  Engine engine(decoder, small_tokenizer(), *drafter, {.slots = 4, .prefix_cache = 4000});
  std::vector<Request> requests;
  for (int32_t i = 0; i < 6; ++i) {
    Request request{.prompt = std::vector<int32_t>(40, 3), .max_new_tokens = 5};
    request.prompt.insert(request.prompt.end(), {2 + i % 2, 2 + i / 2, 5});
    requests.push_back(request);
  }
  requests.push_back(requests[2]);
  requests.push_back({.prompt = {9, 8, 7}, .max_new_tokens = 5});
  const auto results = engine.run(requests);
  int64_t read = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(results[i].tokens, reference(requests[i]).tokens) << i;
    read += results[i].prompt_read;
  }
  EXPECT_LE(read, 40 + 7 * 3 + 3);
  EXPECT_EQ(engine.prefix_counts().hits, 6);
}

TEST(PrefixCache, KeepsWithinItsBytesWhatWasUsedLast) {
  PrefixCache cache(100);
  const auto keep = [&](std::vector<int32_t> tokens) { cache.keep(tokens, std::vector<std::byte>(30)); };
  const auto found = [&](std::vector<int32_t> tokens) {
    const auto* entry = cache.find(tokens);
    return entry == nullptr ? 0 : static_cast<int>(entry->tokens.size());
  };
  keep({1, 2});     // 38 bytes
  keep({1, 2, 3});  // 42
  EXPECT_EQ(cache.bytes(), 80u);
  EXPECT_EQ(found({1, 2, 3, 4}), 3);
  EXPECT_EQ(found({1, 2, 3}), 2) << "a token is left to read";
  EXPECT_EQ(found({2, 3}), 0);
  EXPECT_EQ(cache.shared(std::vector<int32_t>{1, 2, 3, 9}), 3u);
  keep({7});  // 34: the longest unused one goes
  EXPECT_EQ(found({1, 2, 3, 4}), 2);
  EXPECT_EQ(found({7, 8}), 1);
  EXPECT_LE(cache.bytes(), 100u);
  cache.keep(std::vector<int32_t>{5}, std::vector<std::byte>(200));
  EXPECT_EQ(found({5, 6}), 0) << "larger than all room";
}

TEST(Engine, TokensPastTheTokenizersVocabularyHaveNoText) {
  constexpr int64_t kPadded = 60;
  const Request request{.prompt = {2, 3}, .max_new_tokens = 40};
  HashDecoder decoder(kPadded, 1);
  const auto drafter = make_no_drafter();
  const Tokenizer tokenizer = small_tokenizer();
  Engine engine(decoder, tokenizer, *drafter, {});
  const auto result = engine.run(std::span(&request, 1)).front();
  EXPECT_THAT(result.tokens, testing::Contains(testing::Ge(kVocabulary)));
  std::vector<int32_t> known = request.prompt;
  for (const int32_t token : result.tokens) {
    if (token < tokenizer.vocabulary()) known.push_back(token);
  }
  EXPECT_EQ(result.text, tokenizer.decode(known).substr(tokenizer.decode(request.prompt).size()));
}

TEST(Engine, AnInterruptBeforeThePromptComputesNothing) {
  const Request request{.prompt = {2, 3}};
  HashDecoder decoder(kVocabulary, 1);
  const auto drafter = make_no_drafter();
  Engine engine(decoder, small_tokenizer(), *drafter, {});
  EXPECT_EQ(engine.run(std::span(&request, 1), {}, [] { return true; }).front().finish, Finish::kInterrupted);
  EXPECT_EQ(decoder.prefilled(), 0);
}

TEST(Engine, ReturnsWhatThereIsOnceInterrupted) {
  const auto table = requests();
  HashDecoder decoder(kVocabulary, 2, 48);
  const auto drafter = make_no_drafter();
  Engine engine(decoder, small_tokenizer(), *drafter, {2, 48});
  int calls = 0;
  const auto results = engine.run(table, {}, [&] { return ++calls > 12; });
  EXPECT_EQ(results.back().finish, Finish::kInterrupted);
  EXPECT_TRUE(results.back().tokens.empty());
  for (size_t i = 0; i < table.size(); ++i) {
    const auto whole = reference(table[i]).tokens;
    ASSERT_LE(results[i].tokens.size(), whole.size());
    EXPECT_TRUE(std::equal(results[i].tokens.begin(), results[i].tokens.end(), whole.begin()));
  }
}

// What is held back at the end may complete a stop string; the reason why the text ends is still the first.
TEST(Engine, AnInterruptIsNoStopWhereTheEndHoldsAStopString) {
  constexpr int32_t kHalf = 6;  // of a code point: alone it is U+FFFD, once no other half can come
  Request request;
  std::vector<float> logits(kVocabulary);
  for (int32_t i = 0; std::max_element(logits.begin(), logits.end()) != logits.begin() + kHalf; ++i) {
    request.prompt = {2 + i % 4, 2 + i / 4 % 4, 2 + i / 16};
    HashDecoder::logits_after(request.prompt, logits);
  }
  for (const char* stop : {"none", "\uFFFD"}) {
    request.stop = {stop};
    HashDecoder decoder(kVocabulary, 1);
    const auto drafter = make_no_drafter();
    Engine engine(decoder, small_tokenizer(), *drafter, {});
    int calls = 0;
    const auto result = engine.run(std::span(&request, 1), {}, [&] { return ++calls > 1; }).front();
    EXPECT_EQ(result.tokens, std::vector<int32_t>{kHalf});
    EXPECT_EQ(result.text, request.stop[0] == "none" ? "\uFFFD" : "");
    EXPECT_EQ(result.finish, Finish::kInterrupted);
  }
}

TEST(Engine, RefusesAPromptWhoseStateDoesNotFitIntoMemory) {
  HashDecoder decoder(kVocabulary, 1);
  const auto drafter = make_no_drafter();
  decoder.told.memory = 3;
  Engine engine(decoder, small_tokenizer(), *drafter, {});
  const Request fits{.prompt = {2, 3, 4}, .max_new_tokens = 2}, too_long{.prompt = {2, 3, 4, 5}};
  EXPECT_EQ(engine.run(std::span(&fits, 1)).size(), 1u);
  EXPECT_THROW(engine.run(std::span(&too_long, 1)), Error);
}

TEST(Engine, WhereNoTokenIsWantedThePromptIsReadAndThatIsAll) {
  HashDecoder decoder(kVocabulary, 1);
  const auto drafter = make_no_drafter();
  Engine engine(decoder, small_tokenizer(), *drafter, {});
  Request request{.prompt = {2, 3, 4}, .max_new_tokens = 0, .logprobs = 1, .prompt_logprobs = true};
  const Generation nothing = engine.run({&request, 1}).front();
  EXPECT_TRUE(nothing.tokens.empty() && nothing.text.empty() && nothing.logprobs.empty());
  EXPECT_EQ(nothing.finish, Finish::kLength);
  EXPECT_EQ(nothing.prompt_logprobs.size(), 2u);
  request.max_new_tokens = 1;
  EXPECT_EQ(engine.run({&request, 1}).front().prompt_logprobs[1].logprob, nothing.prompt_logprobs[1].logprob);
}

TEST(Engine, RefusesABadRequestBeforeAnythingIsComputed) {
  const std::pair<Request, const char*> rows[] = {
      {{.prompt = {}}, "prompt: empty"},
      {{.prompt = {2, 24}}, "prompt: token 24 is not in the model's vocabulary"},
      {{.prompt = {-1}}, "prompt: token -1"},
      {{.prompt = {2}, .max_new_tokens = -1}, "--max-new-tokens: -1"},
      {{.prompt = {2}, .sampling = {.top_p = 3}}, "--top-p: 3"},
      {{.prompt = std::vector<int32_t>(33, 2)}, "prompt: 33 tokens, more than the model has positions"},
  };
  for (const auto& [bad, message] : rows) {
    HashDecoder decoder(kVocabulary, 1);
    const auto drafter = make_no_drafter();
    decoder.told.positions = 32;
    Engine engine(decoder, small_tokenizer(), *drafter, {});
    const Request both[] = {{.prompt = {2}}, bad};
    try {
      engine.run(both);
      ADD_FAILURE() << message;
    } catch (const Error& error) {
      EXPECT_THAT(error.what(), testing::HasSubstr(message));
    }
    EXPECT_EQ(decoder.prefilled(), 0);
  }
}

}  // namespace
}  // namespace linnet

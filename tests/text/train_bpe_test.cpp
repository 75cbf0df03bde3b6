#include "text/train_bpe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "text/tokenizer.h"

namespace linnet {
namespace {

const std::vector<std::string> kTexts = {
    "low low low low low lower lower newest newest newest newest newest newest widest widest widest",
    "the cat sat on the mat, and the cat's hat sat on the cat; 2023 2024 été ÉTÉ 河水 😀\n\n  "
    "indented\t\ttabs",
    "aaaaaaaaaaaaaaaa bbbb aaaa",
    // As "wx" merges, "xy" falls from 7 to 3, and still has its turn.
    "wxy\nwxy\nwxy\nwxy\naxy\nbxy\ncxy\nwx\nwx\nwx\nwx",
};

TrainedBpe trained(int32_t vocabulary, int threads = 1, std::vector<std::string> special = {"<s>"}) {
  ThreadPool pool(threads);
  WordCounts words;
  words.add(kTexts, pool);
  return train_bpe(words, vocabulary, special);
}

/// The same by brute force: all pairs counted anew before each merge.
std::vector<std::pair<std::string, std::string>> slow_merges(int32_t vocabulary) {
  ThreadPool pool(1);
  WordCounts counts;
  counts.add(kTexts, pool);
  const auto first = trained(257);
  std::vector<std::string> tokens = first.tokens;
  std::vector<std::pair<std::vector<int32_t>, uint64_t>> words;
  for (const auto& [word, count] : counts.sorted()) {
    words.push_back({{}, count});
    for (const char c : word) words.back().first.push_back(1 + static_cast<uint8_t>(c));
  }
  std::vector<std::pair<std::string, std::string>> merges;
  while (static_cast<int32_t>(tokens.size()) < vocabulary) {
    std::map<std::pair<int32_t, int32_t>, uint64_t> pairs;
    for (const auto& [word, count] : words) {
      for (size_t i = 0; i + 1 < word.size(); ++i) pairs[{word[i], word[i + 1]}] += count;
    }
    auto best = pairs.end();
    for (auto pair = pairs.begin(); pair != pairs.end(); ++pair) {
      if (pair->second >= 2 && (best == pairs.end() || pair->second > best->second)) best = pair;
    }
    if (best == pairs.end()) break;
    const auto [left, right] = best->first;
    merges.emplace_back(tokens[static_cast<size_t>(left)], tokens[static_cast<size_t>(right)]);
    const std::string token = merges.back().first + merges.back().second;
    const auto known = std::ranges::find(tokens, token);
    const auto id = static_cast<int32_t>(known - tokens.begin());
    if (known == tokens.end()) tokens.push_back(token);
    for (auto& [word, count] : words) {
      std::vector<int32_t> next;
      for (size_t i = 0; i < word.size(); ++i) {
        const bool here = i + 1 < word.size() && word[i] == left && word[i + 1] == right;
        next.push_back(here ? id : word[i]);
        i += here;
      }
      word = next;
    }
  }
  return merges;
}

TEST(TrainBpe, MergesAreThoseOfCountingAllPairsAnew) {
  EXPECT_EQ(trained(275).merges, slow_merges(275));
  EXPECT_EQ(trained(2000).merges, slow_merges(2000)) << "until no pair stands twice";
}

TEST(TrainBpe, ThreadsDoNotChangeTheResult) {
  EXPECT_EQ(trained(285, 1).merges, trained(285, 3).merges);
  ThreadPool pool(3);
  WordCounts words;
  words.add(std::vector<std::string>(1'000, "low"), pool);  // so many that each thread takes some
  EXPECT_EQ(words.sorted(), (std::vector<std::pair<std::string, uint64_t>>{{"low", 1'000}}));
}

TEST(TrainBpe, WhatItWritesLoadsAndDecodesWhatItEncodes) {
  const std::vector<std::string> special = {"<s>", "</s>"};
  const auto json = tokenizer_json(trained(280, 1, special), special);
  const Tokenizer tokenizer = Tokenizer::from_json(json, "trained");
  EXPECT_EQ(tokenizer.vocabulary(), 280);
  EXPECT_EQ(tokenizer.bos(), 0);
  EXPECT_EQ(tokenizer.eos(), 1);
  for (const std::string& text : kTexts) {
    const auto ids = tokenizer.encode(text, true);
    EXPECT_EQ(ids.front(), 0);
    EXPECT_LT(ids.size(), text.size());
    EXPECT_EQ(tokenizer.decode(ids), text);
  }
  EXPECT_EQ(tokenizer.encode("a<s>").back(), 0) << "a special token in the text is found";
}

TEST(TrainBpe, AVocabularyWithoutRoomForTheBytesIsAnError) {
  EXPECT_THROW(trained(256), Error);
  EXPECT_THROW(trained(300, 1, {"<s>", "<s>"}), Error);
  EXPECT_THROW(trained(300, 1, {"a"}), Error);
}

}  // namespace
}  // namespace linnet

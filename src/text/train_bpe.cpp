#include "text/train_bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <nlohmann/json.hpp>
#include <optional>
#include <queue>

#include "base/error.h"
#include "text/bpe_file.h"
#include "text/byte_level.h"
#include "text/regex.h"
#include "text/token_model.h"
#include "text/utf8.h"

namespace linnet {
namespace {

using Pair = uint64_t;  // left id, right id

Pair pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}
int32_t left_of(Pair pair) { return static_cast<int32_t>(pair >> 32); }
int32_t right_of(Pair pair) { return static_cast<int32_t>(pair & 0xFFFFFFFF); }

/// The words as symbols, and where each pair of neighbours stands.
class PairIndex {
 public:
  PairIndex(const std::vector<std::pair<std::string, uint64_t>>& words, int32_t first_byte) {
    words_.reserve(words.size());
    for (const auto& [text, count] : words) {
      Word word{{}, static_cast<int64_t>(count)};
      for (const char c : text) word.symbols.push_back(first_byte + static_cast<uint8_t>(c));
      words_.push_back(std::move(word));
    }
    for (uint32_t i = 0; i < words_.size(); ++i) {
      const auto& symbols = words_[i].symbols;
      for (size_t at = 0; at + 1 < symbols.size(); ++at)
        add(pair_of(symbols[at], symbols[at + 1]), i, words_[i].count);
    }
    for (const auto& [pair, uses] : pairs_) queue_.push({uses.count, pair});
    changed_.clear();
  }

  /// The commonest pair, or nothing if none stands twice.
  std::optional<Pair> commonest() {
    while (!queue_.empty()) {
      const Candidate top = queue_.top();
      const int64_t now = pairs_[top.pair].count;
      if (now == top.count) return now < 2 ? std::nullopt : std::optional(top.pair);
      queue_.pop();
      // A count that has fallen since takes its new place; one that has risen was queued when it rose.
      if (now > 0 && now < top.count) queue_.push({now, top.pair});
    }
    return std::nullopt;
  }

  void merge(Pair pair, int32_t merged) {
    const std::vector<uint32_t> places = std::move(pairs_[pair].words);
    for (const uint32_t place : places) merge_in(place, pair, merged);
    pairs_[pair] = {};
    std::ranges::sort(changed_);
    changed_.erase(std::unique(changed_.begin(), changed_.end()), changed_.end());
    for (const Pair fresh : changed_) queue_.push({pairs_[fresh].count, fresh});
    changed_.clear();
  }

 private:
  struct Word {
    std::vector<int32_t> symbols;
    int64_t count;
  };
  struct Uses {
    int64_t count = 0;
    std::vector<uint32_t> words;  // those that hold the pair, and some that no longer do
  };
  struct Candidate {
    int64_t count;
    Pair pair;
    bool operator<(const Candidate& other) const {
      return count != other.count ? count < other.count : pair > other.pair;
    }
  };

  void add(Pair pair, uint32_t word, int64_t count) {
    Uses& uses = pairs_[pair];
    uses.count += count;
    if (uses.words.empty() || uses.words.back() != word) uses.words.push_back(word);
    changed_.push_back(pair);
  }

  void merge_in(uint32_t index, Pair pair, int32_t merged) {
    Word& word = words_[index];
    auto& symbols = word.symbols;
    const auto remove = [&](int32_t left, int32_t right) {
      pairs_[pair_of(left, right)].count -= word.count;
    };
    size_t kept = 0;
    for (size_t at = 0; at < symbols.size(); ++at) {
      const bool here = at + 1 < symbols.size() && pair_of(symbols[at], symbols[at + 1]) == pair;
      if (!here) {
        symbols[kept++] = symbols[at];
        continue;
      }
      // What lies left is final, what lies right not yet: a neighbour there that merges too is counted then.
      if (kept > 0) {
        remove(symbols[kept - 1], symbols[at]);
        add(pair_of(symbols[kept - 1], merged), index, word.count);
      }
      if (at + 2 < symbols.size()) {
        remove(symbols[at + 1], symbols[at + 2]);
        add(pair_of(merged, symbols[at + 2]), index, word.count);
      }
      symbols[kept++] = merged;
      ++at;
    }
    symbols.resize(kept);
  }

  std::vector<Word> words_;
  std::unordered_map<Pair, Uses> pairs_;
  std::priority_queue<Candidate> queue_;
  std::vector<Pair> changed_;  // pairs whose count has risen in this merge
};

}  // namespace

void WordCounts::add(std::span<const std::string> texts, ThreadPool& pool) {
  static const Regex kWords(kByteLevelPattern, "GPT-2's pattern");
  const auto shares = static_cast<size_t>(pool.size());
  if (maps_.size() < shares) maps_.resize(shares);
  std::atomic<size_t> next = 0;
  pool.run(shares, [&](size_t share) {
    Map& map = maps_[share];
    for (size_t i = next++; i < texts.size(); i = next++) {
      const std::string text = valid_utf8(texts[i]);
      kWords.for_each_match(text, [&](size_t begin, size_t end) {
        const std::string_view word = std::string_view(text).substr(begin, end - begin);
        if (const auto found = map.find(word); found != map.end())
          ++found->second;
        else
          map.emplace(word, 1);
      });
    }
  });
}

std::vector<std::pair<std::string, uint64_t>> WordCounts::sorted() const {
  std::vector<std::pair<std::string, uint64_t>> all;
  for (const Map& map : maps_) all.insert(all.end(), map.begin(), map.end());
  std::ranges::sort(all);
  std::vector<std::pair<std::string, uint64_t>> merged;
  for (auto& [word, count] : all) {
    if (!merged.empty() && merged.back().first == word)
      merged.back().second += count;
    else
      merged.emplace_back(std::move(word), count);
  }
  return merged;
}

TrainedBpe train_bpe(const WordCounts& words, int32_t vocabulary, const std::vector<std::string>& special,
                     const std::function<void(size_t)>& progress) {
  const auto first_byte = static_cast<int32_t>(special.size());
  if (vocabulary < first_byte + 256 || vocabulary > kMaxVocabulary) {
    throw Error("--vocabulary", fmt::to_string(vocabulary),
                fmt::format("{} (the bytes and special tokens) to {}", first_byte + 256, kMaxVocabulary));
  }
  TrainedBpe trained;
  std::unordered_map<std::string, int32_t> ids;
  const auto id_of = [&](const std::string& token) {
    const auto [found, fresh] = ids.emplace(token, static_cast<int32_t>(trained.tokens.size()));
    if (fresh) trained.tokens.push_back(token);
    return found->second;
  };
  for (const std::string& token : special) {
    if (ids.contains(token))
      throw Error("--special", fmt::format("\"{}\" stands twice", token), "each token once");
    id_of(token);
  }
  for (const std::string& character : byte_characters()) id_of(character);
  if (trained.tokens.size() != special.size() + 256)
    throw Error("--special", "a single character", "a longer token");
  PairIndex index(words.sorted(), first_byte);
  while (static_cast<int32_t>(trained.tokens.size()) < vocabulary) {
    const auto pair = index.commonest();
    if (!pair) break;
    const std::string& left = trained.tokens[static_cast<size_t>(left_of(*pair))];
    const std::string& right = trained.tokens[static_cast<size_t>(right_of(*pair))];
    trained.merges.emplace_back(left, right);
    index.merge(*pair, id_of(left + right));
    if (progress) progress(trained.merges.size());
  }
  return trained;
}

std::string tokenizer_json(const TrainedBpe& trained, const std::vector<std::string>& special) {
  BpeFile file{.tokens = trained.tokens, .merges = trained.merges, .pre_tokenizer = byte_level(false)};
  for (size_t id = 0; id < special.size(); ++id) file.added.push_back({static_cast<int32_t>(id), true});
  if (!special.empty()) file.bos = 0;
  return bpe_json(file);
}

std::string tokenizer_config_json(const std::vector<std::string>& special) {
  nlohmann::ordered_json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                                   {"clean_up_tokenization_spaces", false}};
  if (!special.empty()) {
    config["bos_token"] = special.front();
    config["eos_token"] = special.back();
  }
  return config.dump(2) + "\n";
}

}  // namespace linnet

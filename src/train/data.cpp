#include "train/data.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/hash.h"
#include "base/random.h"

namespace linnet::train {
namespace {

// Streams of random numbers, so that no two uses share one.
constexpr uint64_t kDocumentOrder = 0x646f6373, kRowOrder = 0x726f7773, kCuts = 0x63757473,
                   kRepeats = 0x72657073;

/// Fisher-Yates with one counter a swap: a permutation that is a function of (seed, stream) alone.
template <class T>
void permute(std::vector<T>& items, uint64_t seed, uint64_t stream) {
  for (size_t i = items.size(); i > 1; --i)
    std::swap(items[i - 1], items[uniform_integer(seed, stream, i, i)]);
}

/// Encodes documents as they are read, some megabytes at a time, so that the text is never held whole.
class Encoder {
 public:
  Encoder(const Tokenizer& tokenizer, int32_t start_token, ThreadPool& pool)
      : tokenizer_(tokenizer), start_token_(start_token), pool_(pool) {}

  void add(std::string text) {
    waiting_bytes_ += text.size();
    waiting_.push_back(std::move(text));
    if (waiting_bytes_ >= kRoundBytes) flush();
  }

  TokenizedText finish() {
    flush();
    return std::move(out_);
  }

 private:
  static constexpr size_t kRoundBytes = size_t{64} << 20;

  void flush() {
    // Long documents first: the last piece to start is then a short one.
    std::vector<size_t> order(waiting_.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return waiting_[a].size() > waiting_[b].size(); });
    std::vector<std::vector<int32_t>> ids(waiting_.size());
    pool_.run(order.size(), [&](size_t i) { ids[order[i]] = tokenizer_.encode(waiting_[order[i]]); });
    for (size_t i = 0; i < ids.size(); ++i) {
      out_.bytes += static_cast<int64_t>(waiting_[i].size());
      out_.starts.push_back(static_cast<int64_t>(out_.tokens.size()));
      out_.tokens.push_back(start_token_);
      out_.tokens.insert(out_.tokens.end(), ids[i].begin(), ids[i].end());
    }
    waiting_.clear();
    waiting_bytes_ = 0;
  }

  const Tokenizer& tokenizer_;
  int32_t start_token_;
  ThreadPool& pool_;
  std::vector<std::string> waiting_;
  size_t waiting_bytes_ = 0;
  TokenizedText out_;
};

}  // namespace

TokenizedText tokenize_files(std::span<const std::filesystem::path> files, const Tokenizer& tokenizer,
                             int32_t start_token, ThreadPool& pool,
                             const std::function<bool(const Document&)>& skip, const CorpusOptions& options) {
  Encoder encoder(tokenizer, start_token, pool);
  int64_t dropped = 0;
  for (const auto& file : files)
    for_each_document(file, options, [&](Document&& document) {
      if (document.text.empty()) return true;
      if (skip && skip(document)) {
        ++dropped;
        return true;
      }
      encoder.add(std::move(document.text));
      return true;
    });
  TokenizedText text = encoder.finish();
  text.dropped = dropped;
  if (text.tokens.empty())
    throw Error(files.empty() ? "data" : files.front().string(), "no text", "at least one document");
  return text;
}

int64_t TokenizedText::longest_document() const {
  int64_t longest = 0;
  for (size_t i = 0; i < starts.size(); ++i) {
    const int64_t end = i + 1 < starts.size() ? starts[i + 1] : static_cast<int64_t>(tokens.size());
    longest = std::max(longest, end - starts[i]);
  }
  return longest;
}

std::string hash_of(const TokenizedText& text) {
  return linnet::hash_of(std::as_bytes(std::span(text.tokens)));
}

TokenRows::TokenRows(const TokenizedText& text, const RowOptions& options, uint64_t seed)
    : options_(options), seed_(seed) {
  if (options.context < 2) throw Error("context", fmt::format("{}", options.context), "at least 2 tokens");
  if (text.tokens.empty()) throw Error("data", "no tokens", "at least one document");
  const auto end_of = [&](int32_t document) {
    const auto next = static_cast<size_t>(document) + 1;
    return next < text.starts.size() ? text.starts[next] : static_cast<int64_t>(text.tokens.size());
  };
  std::vector<int32_t> order(text.starts.size());
  std::iota(order.begin(), order.end(), 0);
  if (options.long_documents) {
    const auto is_short = [&](int32_t document) {
      return end_of(document) - text.starts[static_cast<size_t>(document)] < options.context;
    };
    if (!std::all_of(order.begin(), order.end(), is_short)) std::erase_if(order, is_short);
  }
  permute(order, seed, kDocumentOrder);
  for (const int32_t document : order) {
    is_start_.resize(tokens_.size() + 1);
    is_start_.back() = 1;
    tokens_.insert(tokens_.end(), text.tokens.begin() + text.starts[static_cast<size_t>(document)],
                   text.tokens.begin() + end_of(document));
  }
  is_start_.resize(tokens_.size());
}

int64_t TokenRows::rows_per_epoch() const { return (tokens() + options_.context - 1) / options_.context; }

void TokenRows::shuffle(int64_t epoch) const {
  if (epoch == epoch_) return;
  order_.resize(static_cast<size_t>(rows_per_epoch()));
  std::iota(order_.begin(), order_.end(), 0);
  permute(order_, seed_, kRowOrder + (static_cast<uint64_t>(epoch) << 32));
  offset_ =
      static_cast<int64_t>(uniform_integer(seed_, kCuts, static_cast<uint64_t>(epoch),
                                           static_cast<uint64_t>(std::min(tokens(), options_.context))));
  epoch_ = epoch;
}

void TokenRows::row(int64_t index, std::span<int32_t> tokens, std::span<int32_t> documents) const {
  shuffle(index / rows_per_epoch());
  const int64_t slice = order_[static_cast<size_t>(index % rows_per_epoch())];
  size_t at = static_cast<size_t>((offset_ + slice * options_.context) % this->tokens());
  int32_t document = 0;
  for (size_t i = 0; i <= static_cast<size_t>(options_.context); ++i) {
    tokens[i] = tokens_[at];
    if (i < static_cast<size_t>(options_.context)) documents[i] = document += i > 0 ? is_start_[at] : 0;
    if (++at == tokens_.size()) at = 0;
  }
  if (options_.repeats > 0) repeat_passages(index, tokens);
}

void TokenRows::repeat_passages(int64_t index, std::span<int32_t> tokens) const {
  constexpr uint64_t kShortest = 32, kLongest = 128;
  const auto stream = kRepeats + (static_cast<uint64_t>(index) << 32);
  uint64_t draw = 0;
  const auto below = [&](uint64_t count) { return uniform_integer(seed_, stream, draw++, count); };
  const auto passages = std::llround(options_.repeats * static_cast<double>(options_.context) / 1024.0);
  for (int64_t i = 0; i < passages; ++i) {
    const uint64_t length = kShortest + below(kLongest - kShortest + 1);
    if (tokens.size() < 2 * length) continue;  // no room for two
    const uint64_t distance = length + below(tokens.size() - 2 * length + 1);
    const uint64_t from = below(tokens.size() - length - distance + 1);
    const auto passage = tokens.subspan(from, length);
    std::copy(passage.begin(), passage.end(), tokens.begin() + static_cast<std::ptrdiff_t>(from + distance));
  }
}

}  // namespace linnet::train

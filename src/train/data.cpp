#include "train/data.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "base/random.h"
#include "train/hash.h"

namespace linnet::train {
namespace {

// Streams of random numbers, so that no two uses share one.
constexpr uint64_t kDocumentOrder = 0x646f6373, kRowOrder = 0x726f7773, kCuts = 0x63757473;

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
                             const std::function<bool(const Document&)>& skip) {
  Encoder encoder(tokenizer, start_token, pool);
  int64_t dropped = 0;
  for (const auto& file : files)
    for_each_document(file, [&](Document&& document) {
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

std::string hash_of(const TokenizedText& text) { return hash_of(std::as_bytes(std::span(text.tokens))); }

TokenRows::TokenRows(const TokenizedText& text, int64_t context, uint64_t seed)
    : context_(context), seed_(seed) {
  if (context < 2) throw Error("context", fmt::format("{}", context), "at least 2 tokens");
  if (text.tokens.empty()) throw Error("data", "no tokens", "at least one document");
  std::vector<int32_t> order(text.starts.size());
  std::iota(order.begin(), order.end(), 0);
  permute(order, seed, kDocumentOrder);
  tokens_.reserve(text.tokens.size());
  is_start_.resize(text.tokens.size());
  for (const int32_t document : order) {
    const auto next = static_cast<size_t>(document) + 1;
    const int64_t begin = text.starts[static_cast<size_t>(document)];
    const int64_t end =
        next < text.starts.size() ? text.starts[next] : static_cast<int64_t>(text.tokens.size());
    is_start_[tokens_.size()] = 1;
    tokens_.insert(tokens_.end(), text.tokens.begin() + begin, text.tokens.begin() + end);
  }
}

int64_t TokenRows::rows_per_epoch() const { return (tokens() + context_ - 1) / context_; }

void TokenRows::shuffle(int64_t epoch) const {
  if (epoch == epoch_) return;
  order_.resize(static_cast<size_t>(rows_per_epoch()));
  std::iota(order_.begin(), order_.end(), 0);
  permute(order_, seed_, kRowOrder + (static_cast<uint64_t>(epoch) << 32));
  offset_ = static_cast<int64_t>(uniform_integer(seed_, kCuts, static_cast<uint64_t>(epoch),
                                                 static_cast<uint64_t>(std::min(tokens(), context_))));
  epoch_ = epoch;
}

void TokenRows::row(int64_t index, std::span<int32_t> tokens, std::span<int32_t> documents) const {
  shuffle(index / rows_per_epoch());
  const int64_t slice = order_[static_cast<size_t>(index % rows_per_epoch())];
  size_t at = static_cast<size_t>((offset_ + slice * context_) % this->tokens());
  int32_t document = 0;
  for (size_t i = 0; i <= static_cast<size_t>(context_); ++i) {
    tokens[i] = tokens_[at];
    if (i < static_cast<size_t>(context_)) documents[i] = document += i > 0 ? is_start_[at] : 0;
    if (++at == tokens_.size()) at = 0;
  }
}

}  // namespace linnet::train

// Training text: documents tokenised once, held as int32, cut into rows whose order is a function of
// (seed, epoch) alone, so that a resumed run reads on exactly where it stopped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "text/corpus.h"
#include "text/tokenizer.h"

namespace linnet::train {

/// Documents end to end, each preceded by the start token (BOS, else EOS).
struct TokenizedText {
  std::vector<int32_t> tokens;  // [tokens]
  std::vector<int64_t> starts;  // [documents]: where each one's start token lies, ascending, first 0
  int64_t bytes = 0;            // UTF-8 bytes of the documents
  int64_t dropped = 0;          // documents left out

  int64_t documents() const { return static_cast<int64_t>(starts.size()); }
  /// Tokens of the longest document, its start token included.
  int64_t longest_document() const;
};

/// Reads and encodes files (text/corpus.h) on all threads of `pool`; the result does not depend on how many.
/// Empty documents are left out, and those for which `skip` is true (counted in `dropped`).
/// Throws Error on an unreadable file, or where nothing is left.
TokenizedText tokenize_files(std::span<const std::filesystem::path> files, const Tokenizer& tokenizer,
                             int32_t start_token, ThreadPool& pool,
                             const std::function<bool(const Document&)>& skip = {},
                             const CorpusOptions& options = {});

/// "xxh3-128:…" over the tokens: what two runs must share to be the same.
std::string hash_of(const TokenizedText& text);

/// How rows are cut from the text.
struct RowOptions {
  int64_t context = 2;          // tokens per row, at least 2
  bool long_documents = false;  // only of documents that fill a row alone, where there is one
  double repeats = 0.0;         // passages that stand again later in their row, per 1024 tokens
  auto operator<=>(const RowOptions&) const = default;
};

/// Rows of `context` tokens from the documents laid end to end, documents in an order that `seed` gives. Long
/// documents become consecutive slices; where one ends inside a row, the next begins there. Each epoch the
/// cuts lie elsewhere and the rows come in another order. An epoch covers every token; its last row is filled
/// up from the beginning, so fewer than `context` tokens of an epoch come twice.
///
/// With `repeats`, passages of 32 to 128 tokens are copied over what stands later in the row, at distances
/// drawn uniformly from those that the row has room for: text that cannot be predicted but by recalling it.
class TokenRows {
 public:
  /// Throws Error if the text is empty or the context below 2.
  TokenRows(const TokenizedText& text, const RowOptions& options, uint64_t seed);

  int64_t context() const { return options_.context; }
  int64_t rows_per_epoch() const;
  int64_t tokens() const { return static_cast<int64_t>(tokens_.size()); }

  /// Row `index` of all epochs' rows end to end: `tokens` [context + 1], of which the last is the last
  /// input's target (the next row's first token in the text); `documents` [context] counts the documents
  /// within the row from 0.
  void row(int64_t index, std::span<int32_t> tokens, std::span<int32_t> documents) const;

 private:
  void shuffle(int64_t epoch) const;
  void repeat_passages(int64_t index, std::span<int32_t> tokens) const;

  std::vector<int32_t> tokens_;    // [tokens], documents shuffled
  std::vector<uint8_t> is_start_;  // [tokens]
  RowOptions options_;
  uint64_t seed_;
  mutable int64_t epoch_ = -1;  // whose order `order_` is
  mutable int64_t offset_ = 0;
  mutable std::vector<int32_t> order_;  // [rows_per_epoch]
};

}  // namespace linnet::train

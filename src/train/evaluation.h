// Validation while training: bits per byte by the rule of `linnet perplexity --window N`
// (docs/perplexity.md), computed by the workshop's module, so that the two can be held to the same number.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <unordered_set>
#include <vector>

#include "base/thread_pool.h"
#include "text/corpus.h"
#include "text/tokenizer.h"
#include "train/module.h"

namespace linnet::train {

class Validation {
 public:
  /// Windows of `window` inputs, each from an empty state, over the beginnings of `files`: at most
  /// `max_bytes` of text in all, an equal share of it from each file; 0 is all of it.
  /// Throws Error on an unreadable file or where there is no text.
  Validation(std::span<const std::filesystem::path> files, const Tokenizer& tokenizer, int32_t start_token,
             int64_t window, int64_t max_bytes, ThreadPool& pool, const CorpusOptions& options = {});

  /// Total −log2 p over all tokens of the text, divided by its UTF-8 bytes. `rows` windows at a time.
  /// Nothing once interrupted().
  std::optional<double> bits_per_byte(const Module& module, int64_t rows, Mode mode = Mode::kStudent) const;

  int64_t tokens() const { return tokens_; }
  int64_t bytes() const { return bytes_; }
  /// Whether a document of this text is (in part) in the set: training leaves it out.
  bool contains(const Document& document) const;

 private:
  struct Row {
    std::vector<int32_t> tokens;  // inputs and one more: [length + 1]
    int64_t scored = 0;           // the last so many targets count
  };
  void add(std::span<const int32_t> document, int32_t start_token, int64_t window);

  std::vector<Row> rows_;
  std::unordered_set<size_t> hashes_;
  int64_t tokens_ = 0, bytes_ = 0;
};

}  // namespace linnet::train

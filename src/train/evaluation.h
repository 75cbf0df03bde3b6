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

/// What is scored while training, and never trained on.
class HeldOut {
 public:
  virtual ~HeldOut() = default;
  /// Nothing once interrupted(). `rows` sequences at a time.
  virtual std::optional<double> score(const Module& module, int64_t rows) const = 0;
  /// What a score is: bits per byte of text, or nats per token that is to be written.
  virtual bool in_nats() const = 0;
  /// Whether a document of this text is (in part) in the set: training leaves it out.
  virtual bool contains(const Document&) const { return false; }
};

/// The beginnings of held-out files: at most `max_bytes` of text in all, an equal share of it from each file;
/// 0 is all of it. Throws Error on an unreadable file or where there is no text.
struct HeldOutTexts {
  HeldOutTexts(std::span<const std::filesystem::path> files, int64_t max_bytes, const CorpusOptions& options);

  std::vector<std::string> texts;
  std::unordered_set<size_t> hashes;  // of whole documents
  int64_t bytes = 0;
};

bool is_among(const Document& document, const std::unordered_set<size_t>& hashes);

/// Bits per byte of text.
class Validation final : public HeldOut {
 public:
  /// Windows of `window` inputs, each from an empty state, over the beginnings of `files`: at most
  /// `max_bytes` of text in all, an equal share of it from each file; 0 is all of it.
  /// Throws Error on an unreadable file or where there is no text.
  Validation(std::span<const std::filesystem::path> files, const Tokenizer& tokenizer, int32_t start_token,
             int64_t window, int64_t max_bytes, ThreadPool& pool, const CorpusOptions& options = {});

  /// Total −log2 p over all tokens of the text, divided by its UTF-8 bytes. `rows` windows at a time.
  /// Nothing once interrupted().
  std::optional<double> bits_per_byte(const Module& module, int64_t rows, Mode mode = Mode::kStudent) const;

  std::optional<double> score(const Module& module, int64_t rows) const override {
    return bits_per_byte(module, rows);
  }
  bool in_nats() const override { return false; }
  bool contains(const Document& document) const override { return is_among(document, hashes_); }

  int64_t tokens() const { return tokens_; }
  int64_t bytes() const { return bytes_; }

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

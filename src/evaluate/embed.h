// One vector a text: its tokens through the model, their rows pooled.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "model/encoder.h"
#include "text/tokenizer.h"

namespace linnet {

enum class Pooling {
  kMean,   // of all rows, those of special tokens too
  kFirst,  // the first token's, as BERT's [CLS]
  kLast,   // the last token's, which alone has seen all of them in a decoder
};
/// "mean", "first", "last"; throws Error (where: --pooling) on another.
Pooling parse_pooling(std::string_view name);

/// What sentence-transformers' files beside a model say of it: modules.json, the pooling's config.json,
/// sentence_bert_config.json. Absent: they are not there.
struct SentenceConfig {
  std::optional<Pooling> pooling;
  std::optional<int64_t> longest;  // tokens of a text, the special ones included
  bool normalized = false;

  /// Throws Error on a module or a pooling that is not computed, and on malformed files.
  static SentenceConfig read(const std::filesystem::path& folder);
};

struct EmbedOptions {
  Pooling pooling = Pooling::kMean;
  bool normalize = false;         // to length 1
  bool truncate = false;          // texts over the longest; else they are an Error
  int64_t longest = INT64_MAX;    // tokens, where the model's positions do not end before
  int64_t tokens_at_once = 4096;  // rows that go through the layers together
};

/// Says once that a text is long, where nothing cuts it and no positions end: all of it is read, which may
/// take long. `option`: what would cut it.
class LongTexts {
 public:
  explicit LongTexts(std::string option) : option_(std::move(option)) {}
  void see(const std::string& where, int64_t tokens);

 private:
  std::string option_;
  bool said_ = false;
};

class Embedder {
 public:
  /// Throws Error where the model is an encoder whose tokenizer sets no special tokens around a text.
  Embedder(Encoder& encoder, const Model& model, const Tokenizer& tokenizer, const EmbedOptions& options,
           ThreadPool& pool);

  int64_t size() const { return encoder_.hidden_size(); }
  /// Vectors [texts, size()]; `names` of the texts, for errors. Throws Error on a text over the longest, and
  /// on one without any token.
  std::vector<float> embed(std::span<const std::string> texts, std::span<const std::string> names);
  /// Tokens of the texts of the last call.
  const std::vector<int64_t>& tokens() const { return tokens_; }

 private:
  std::vector<std::vector<int32_t>> tokenize(std::span<const std::string> texts,
                                             std::span<const std::string> names);
  void pool_rows(std::span<const Encoder::Sequence> sequences, const float* rows, float* out) const;

  Encoder& encoder_;
  const Tokenizer& tokenizer_;
  EmbedOptions options_;
  ThreadPool& pool_;
  std::vector<int64_t> tokens_;
  std::vector<float> rows_;
  LongTexts long_{"--max-length and --truncate"};
};

}  // namespace linnet

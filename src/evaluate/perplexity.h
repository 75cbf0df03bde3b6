// How well a model predicts text, as docs/perplexity.md defines it: every token of every document, after BOS,
// in one streaming state or in windows that start anew.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "evaluate/score.h"
#include "evaluate/windows.h"
#include "model/decoder.h"
#include "text/tokenizer.h"

namespace linnet {

struct PerplexityOptions {
  int64_t window = 0, stride = 0;   // 0: one stream; 0: the window
  int64_t score_from = 0;           // only tokens score_from … score_to − 1 of each document count
  std::optional<int64_t> score_to;  // absent: to its end
  std::optional<int64_t> far_pairs;

  /// Throws Error naming the option.
  void check() const;
};

/// Sums over all documents.
struct PerplexityTotals {
  double nats = 0;  // −ln p of the counted tokens
  int64_t tokens = 0, words = 0, bytes = 0;
  double far_nats = 0, other_nats = 0;
  int64_t far_tokens = 0, other_tokens = 0;
  int64_t longest = 0;  // inputs of the longest window: positions that were needed

  double token_perplexity() const;
  double word_perplexity() const;  // infinite without a word
  double byte_perplexity() const;
  double bits_per_byte() const;
};

/// Bytes and words of the part of a document in which tokens from … to − 1 stand: bytes from where the first
/// begins to where token `to` begins, and words that begin there. A token that begins inside a code point
/// counts as beginning where the code point does.
struct TextPart {
  int64_t bytes = 0, words = 0;
};
TextPart measure(std::string_view text, const Tokenizer& tokenizer, std::span<const int32_t> ids,
                 int64_t from, int64_t to);

/// What is fed first: the tokenizer's BOS, else the config's, else EOS. Throws Error if there is none.
int32_t first_input(const Model& model, const Tokenizer& tokenizer);

/// How many positions a model has from a table; 0: no limit.
int64_t learned_positions(const Model& model);

/// Scores documents one after the other.
class PerplexityMeter {
 public:
  /// `decoder` runs `model`.
  PerplexityMeter(Decoder& decoder, const Model& model, const Tokenizer& tokenizer,
                  const PerplexityOptions& options, ThreadPool& pool);

  /// Adds a document. False: `progress` said no, and the document was left out. Throws Error (where: `where`)
  /// if it needs more positions than the model's table has.
  bool add(std::string_view text, std::string_view where, const std::function<bool(int64_t)>& progress = {});

  const PerplexityTotals& totals() const { return totals_; }

 private:
  Decoder& decoder_;
  const Tokenizer& tokenizer_;
  PerplexityOptions options_;
  ThreadPool& pool_;
  int32_t first_;
  int64_t positions_;
  PerplexityTotals totals_;
};

}  // namespace linnet

// What a model recalls of text that it has read, by distance (docs/recall.md): a passage that comes again at
// a row's end, a needle that is asked for there, and pairs of tokens that stood far back in ordinary text.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "evaluate/score.h"
#include "model/decoder.h"
#include "text/tokenizer.h"

namespace linnet {

/// A fact, what asks for it, and the tokens that answer; statement and question are whole sentences' tokens.
struct Needle {
  std::vector<int32_t> statement, question, answer;
};

/// Ordinary text, the passage that takes the place of its last tokens and of those `distance` earlier, and
/// the needle that stands before the passage's first time and is asked for in place of its second.
struct RecallRow {
  std::vector<int32_t> tokens;  // [inputs + 1]
  std::vector<int32_t> passage;
  Needle needle;
};

struct RecallOptions {
  int64_t passage = 64;            // tokens, of which the last three quarters are scored
  std::vector<int64_t> distances;  // ascending, from a passage's first token to the same token again

  int64_t scored() const { return passage * 3 / 4; }
};

/// Whether a passage so far back, with its needle before it, has room in a row.
bool fits(const RecallRow& row, const RecallOptions& options, int64_t distance);

/// Bounds of the distances by which pairs are told apart: (256, 1024], (1024, 4096], …
constexpr std::array<int64_t, 7> kFarBounds = {256, 1024, 4096, 8192, 16384, 32768, 65536};
constexpr size_t kFarBins = kFarBounds.size() - 1;

struct Asked {
  double nats = 0;     // −ln p of the whole answer
  bool exact = false;  // each of its tokens is the likeliest, so that greedy decoding writes it
};

/// Of one row.
struct RecallScores {
  double first = 0;                         // nats per token of a passage that was never read before
  std::vector<double> again;                // the same after each distance
  Asked never;                              // the needle, of which nothing was said
  std::vector<Asked> asked;                 // the same after each distance
  std::array<double, kFarBins> far_nats{};  // of tokens whose pair stood last so far back
  std::array<int64_t, kFarBins> far_tokens{};
  double nats = 0;  // of all tokens among which those are
  int64_t tokens = 0;
};

/// Reads rows on a decoder with kSlots slots: each once, and for each distance what follows the place where
/// the passage is put, from a copy of the state before it.
class RecallMeter {
 public:
  static constexpr int kSlots = 3;

  RecallMeter(Decoder& decoder, int64_t vocabulary, RecallOptions options, ThreadPool& pool,
              std::function<bool(int64_t)> progress = {});

  /// False: `progress` (inputs more) said no, and the row was left out. Every distance must fit.
  bool add(const RecallRow& row);
  const std::vector<RecallScores>& rows() const { return rows_; }

  /// Inputs that a row costs.
  static int64_t cost(const RecallRow& row, const RecallOptions& options);

 private:
  void read(int slot, std::span<const int32_t> inputs);
  void score(int slot, std::span<const int32_t> inputs, size_t first, std::vector<double>& scores);
  void text_to(const RecallRow& row, size_t end);
  double passage_after(int slot, const RecallRow& row);
  Asked ask(int slot, const Needle& needle);
  void sort_pairs(const RecallRow& row, RecallScores& scores) const;

  Decoder& decoder_;
  int64_t vocabulary_;
  RecallOptions options_;
  ThreadPool& pool_;
  std::function<bool(int64_t)> progress_;
  Scorer scorer_;
  size_t at_ = 0, late_ = 0;  // inputs of the row's own text in slot 0; from which on they are scored
  std::vector<double> text_;  // −ln p of the row's tokens late_ + 1 … at_
  std::vector<RecallScores> rows_;
};

/// Rows of `inputs` inputs of documents' ids (a beginning each, then text), as many as are there, at most
/// `most`, drawn by `seed`; the passage of each comes from another row. None: no document is so long.
std::vector<RecallRow> make_recall_rows(const std::vector<std::vector<int32_t>>& documents,
                                        const Tokenizer& tokenizer, int64_t inputs, int64_t passage,
                                        int64_t most, uint64_t seed);
/// The row's last `inputs` inputs.
RecallRow last_of(const RecallRow& row, int64_t inputs);

/// The model's weights under the softmax that they were trained with.
std::shared_ptr<const Model> softmax_of(const Model& model);
/// The same weights under local branches alone that hold no more bytes than the model's state, layer by
/// layer: softmax over the last groups and the sinks. Layers that are softmax stay so.
std::shared_ptr<const Model> window_alone(const Model& model);

}  // namespace linnet

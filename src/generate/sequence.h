// One text on its way: what was asked, what came of it so far, and what choosing its tokens needs.
#pragma once

#include <cstdint>
#include <exception>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "generate/logprobs.h"
#include "generate/sampler.h"
#include "generate/stop_strings.h"
#include "model/decoder.h"
#include "text/tokenizer.h"

namespace linnet {

struct Request {
  std::vector<int32_t> prompt;  // ids, at least one
  /// Behind an encoder, which reads the prompt: what was written before, and is gone on from.
  std::vector<int32_t> written = {};
  Sampling sampling;
  uint64_t seed = 0, sequence = 0;  // with the position they are what numbers are drawn from
  int64_t max_new_tokens = 256;     // 0: the prompt is read, and that is all
  std::vector<int32_t> end;         // tokens that end the text, themselves not printed; empty: none does
  /// Strings that end the text, themselves not printed; one that is a special token's ends it at that token.
  std::vector<std::string> stop;
  /// A guess that is likely enough is taken, drawn or not (typical_of): faster, and another distribution.
  bool typical = false;
  std::optional<int> logprobs;   // of each token, and of so many likeliest ones beside it
  bool prompt_logprobs = false;  // of the prompt's tokens too
};

/// Why a text ended: max_new_tokens, an end token, a stop string, no position left, an interrupt.
enum class Finish { kLength, kEnd, kStop, kPositions, kInterrupted };

struct Generation {
  std::vector<int32_t> tokens;  // generated, an end token included
  std::string text;
  Finish finish = Finish::kInterrupted;
  std::exception_ptr error;  // that broke the text off, as logits that are no numbers do; else null
  std::vector<TokenLogprobs> logprobs;         // a token each, where asked for
  std::vector<TokenLogprobs> prompt_logprobs;  // of the prompt's tokens from the second on, likewise
  int64_t prompt_read = 0;                     // tokens of the prompt that were computed, not held before
  int64_t steps = 0;                           // decode steps; each but the first token comes out of one
  double prefill_seconds = 0;                  // reading the prompt, until the first token was chosen
  double decode_seconds = 0;                   // of the steps that the sequence took part in
  size_t state_bytes = 0;                      // of the sequence when it ended
};

/// A piece of text as it becomes final.
using OnText = std::function<void(std::string_view text)>;

class Sequence {
 public:
  Sequence(int64_t id, Request request, OnText on_text, const Decoder::Info& info, Tokenizer tokenizer);

  const int64_t id;
  const Request request;
  Generation result;
  /// The prompt, the token that a decoder behind an encoder begins with, and what was generated.
  std::vector<int32_t> tokens;
  std::vector<float> hidden;  // that the last token was chosen from
  size_t prefilled = 0;       // of the prompt's tokens
  /// Behind an encoder: tokens of decoded() that the slot holds, its source read; none: nothing is held.
  std::optional<size_t> held;
  size_t parts = 0;    // where the prompt parts from another one's; 0: nowhere
  int64_t served = 0;  // the turn of the engine when it last read a piece of its prompt

  bool reads_prompt() const { return !done_ && prefilled < request.prompt.size(); }
  bool done() const { return done_; }
  /// Whether choose() reads more of the logits than which is the largest.
  bool needs_logits() const { return !sampler_.is_argmax() || request.logprobs.has_value(); }

  /// The tokens that the decoder reads: not those of a prompt that an encoder reads in its place.
  std::span<const int32_t> decoded() const {
    return start_ ? std::span<const int32_t>(tokens).subspan(request.prompt.size())
                  : std::span<const int32_t>(tokens);
  }

  /// The first token by the logits that follow the prompt, if one is wanted.
  void begin(std::span<const float> logits);
  /// The next token by these logits [vocabulary], which is taken; `guesses` were made at it.
  int32_t choose(std::span<const float> logits, std::span<const int32_t> guesses = {});
  /// A token that was chosen becomes the sequence's last.
  void take(int32_t token);
  /// Breaks the text off.
  void fail(std::exception_ptr error);
  /// Ends the text: what was held back becomes final.
  void finish();

 private:
  void finish_as(Finish finish);
  void pass(std::string_view text);

  std::optional<int32_t> start_;  // Decoder::Info's
  int64_t positions_;             // learned positions end here; 0: no end
  Tokenizer tokenizer_;
  OnText on_text_;
  Sampler sampler_;
  StreamingDetokenizer detokenizer_;
  StopStrings stops_;
  std::vector<int32_t> stop_tokens_;
  bool done_ = false;
};

}  // namespace linnet

// The loop that writes text: prefill the prompt, choose a token, then again and again let the drafter guess a
// tree below it, compute the whole tree in one step, accept the path that the sampler agrees with, commit it.
// The text of a request depends on the request alone: not on the drafter, the slots or its neighbours.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "generate/drafter.h"
#include "generate/logprobs.h"
#include "generate/sampler.h"
#include "model/decoder.h"
#include "text/tokenizer.h"

namespace linnet {

struct Request {
  std::vector<int32_t> prompt;  // ids, at least one
  Sampling sampling;
  uint64_t seed = 0, sequence = 0;  // with the position they are what numbers are drawn from
  int64_t max_new_tokens = 256;
  std::vector<int32_t> end;  // tokens that end the text, themselves not printed; empty: none does
  /// Strings that end the text, themselves not printed; one that is a special token's ends it at that token.
  std::vector<std::string> stop;
  std::optional<int> logprobs;   // of each token, and of so many likeliest ones beside it
  bool prompt_logprobs = false;  // of the prompt's tokens too
};

/// Why a text ended: max_new_tokens, an end token, a stop string, no position left, an interrupt.
enum class Finish { kLength, kEnd, kStop, kPositions, kInterrupted };

struct Generation {
  std::vector<int32_t> tokens;  // generated, an end token included
  std::string text;
  Finish finish = Finish::kInterrupted;
  std::vector<TokenLogprobs> logprobs;         // a token each, where asked for
  std::vector<TokenLogprobs> prompt_logprobs;  // of the prompt's tokens from the second on, likewise
  int64_t prompt_read = 0;                     // tokens of the prompt that were computed, not held before
  int64_t steps = 0;                           // decode steps; each but the first token comes out of one
  double prefill_seconds = 0;                  // reading the prompt, until the first token was chosen
  double decode_seconds = 0;                   // of the steps that the sequence took part in
  size_t state_bytes = 0;                      // of the sequence when it ended
};

/// What the engine has to know of a model.
struct EngineLimits {
  int64_t vocabulary = 0;
  int64_t positions = 0;  // learned positions end here; 0: no end
  int max_depth = 8;      // of trees: at most a group, so that no bit depends on them (mathematics, 4)
  int64_t memory = 0;     // tokens of a sequence whose state fits into it; 0: any number
};
EngineLimits limits_of(const Model& model, int max_depth = 8);

class Engine {
 public:
  struct Options {
    int slots = 1;       // sequences decoded at once; the decoder has at least as many
    int max_nodes = 64;  // nodes of all trees of a step; the decoder takes at least as many
    /// A prompt that goes on from what its slot holds is not read from its beginning again: a conversation's
    /// turn costs its new tokens. Prefilled in other pieces, logits agree to rounding, not to the bit.
    bool continue_slots = false;
    std::function<double()> clock;  // seconds; empty: a steady clock
  };
  /// Text of a request as it becomes final.
  using OnText = std::function<void(size_t request, std::string_view text)>;

  /// All references must outlive the engine.
  Engine(Decoder& decoder, const EngineLimits& limits, Tokenizer tokenizer, Drafter& drafter,
         const Options& options);
  ~Engine();

  /// Runs the requests, as many at once as there are slots, in order of arrival. Once `interrupted` says so,
  /// finishes the step and returns what there is. Throws Error on a prompt that is empty, out of range or too
  /// long, before anything is computed.
  std::vector<Generation> run(std::span<const Request> requests, const OnText& on_text = {},
                              const std::function<bool()>& interrupted = {});

 private:
  struct Sequence;
  double now() const;
  void check(const Request& request) const;
  bool prefill(Sequence& sequence, const std::function<bool()>& interrupted);
  size_t continue_slot(const Sequence& sequence);
  std::vector<float> read_piece(Sequence& sequence, size_t begin, size_t end);
  void step(std::span<const std::unique_ptr<Sequence>> active);
  std::vector<int32_t> accept(Sequence& sequence, std::span<const float> logits,
                              std::span<const float> hidden);
  int32_t choose(Sequence& sequence, std::span<const float> logits);
  void take(Sequence& sequence, int32_t token);
  TokenTree propose(const Sequence& sequence, int max_nodes);
  void finish(Sequence& sequence);

  Decoder& decoder_;
  EngineLimits limits_;
  Tokenizer tokenizer_;
  Drafter& drafter_;
  Options options_;
  const OnText* on_text_ = nullptr;
  std::vector<std::vector<int32_t>> held_;  // [slots] tokens committed to each, where slots are continued
};

}  // namespace linnet

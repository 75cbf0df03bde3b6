// The scheduler that writes texts: requests come and go at any time, prompts are read in pieces between
// steps, and in every step a drafter guesses a tree below each sequence's last token, the decoder computes
// all trees at once, and the path that the sampler agrees with is committed. The text of a request depends on
// the request alone: not on the drafter, the slots, its neighbours or when it came.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "generate/drafter.h"
#include "generate/prefix_cache.h"
#include "generate/sequence.h"
#include "generate/speculator.h"
#include "model/decoder.h"
#include "text/tokenizer.h"

namespace linnet {

/// What decoding took and what drafts were worth, of all steps of an engine.
struct DecodeReport {
  int64_t steps = 0;   // of a sequence each: two sequences in one step of the decoder count twice
  int64_t nodes = 0;   // computed, roots included
  int64_t tokens = 0;  // that came out of the steps
  double draft_seconds = 0, verify_seconds = 0, sampling_seconds = 0, commit_seconds = 0;
  struct Guesses {
    int64_t reached = 0;   // steps whose path came to where they were needed
    int64_t accepted = 0;  // of these the steps where one was right
  };
  std::vector<Guesses> depths;               // [d]: of any guess at depth d + 1
  std::vector<Guesses> places;               // [i]: of the i-th likeliest node of a tree
  std::vector<Speculator::Report> drafters;  // in their order
  std::vector<TreeBudget::Known> costs;      // by sequences of a step
  double lost = 0;                           // by its own account: plain steps; negative: gained
};

class Engine {
 public:
  struct Options {
    int slots = 1;       // sequences decoded at once; the decoder has at least as many
    int max_nodes = 64;  // nodes of all trees of a step; the decoder takes at least as many
    int max_depth = 64;  // of trees, where the decoder's own limit is not less
    /// Drafters are asked, and guesses computed, where they are expected to pay (speculator.h).
    bool budget = false;
    const TreeShape* shape = nullptr;  // that drafts are held to, alive as long as the engine; null: none
    /// A prompt that goes on from what its slot holds is not read from its beginning again: a conversation's
    /// turn costs its new tokens. Prefilled in other pieces, logits agree to rounding, not to the bit.
    bool continue_slots = false;
    /// Bytes for states of prompts' beginnings (prefix_cache.h); the same to rounding. 0: none.
    size_t prefix_cache = 0;
    std::function<double()> clock;  // seconds; empty: a steady clock
  };

  /// All references must outlive the engine. Of several drafters cheap ones come first.
  Engine(Decoder& decoder, Tokenizer tokenizer, std::vector<Drafter*> drafters, const Options& options);
  Engine(Decoder& decoder, Tokenizer tokenizer, Drafter& drafter, const Options& options)
      : Engine(decoder, std::move(tokenizer), std::vector<Drafter*>{&drafter}, options) {}
  ~Engine();

  /// Queues a request and returns its id. Text is passed on as it becomes final. Throws Error on a prompt
  /// that is empty, out of range or too long.
  int64_t add(Request request, OnText on_text = {});
  /// One turn: waiting requests get the slots that are free, at most a chunk of prompts is read, and every
  /// sequence that was past its prompt goes on by a step. False once nothing is left to do. A sequence that
  /// breaks, as one whose logits are no numbers, ends with its error, and the others go on.
  bool step();
  /// Ends a request, whether it waits or runs: its result is what there is. One that ended already stays.
  void cancel(int64_t id);
  /// Whether a request ended, and its result was not taken yet.
  bool ended(int64_t id) const { return results_.contains(id); }
  /// The result of a request that ended; once.
  Generation take(int64_t id);
  /// What there is of a request that runs: for its `on_text`.
  const Generation& so_far(int64_t id) const;

  /// Runs the requests to their ends, as many at once as there are slots, in order of arrival. Once
  /// `interrupted` says so, finishes the turn and returns what there is. Throws Error on a bad request before
  /// anything is computed, and where one of them breaks.
  std::vector<Generation> run(std::span<const Request> requests,
                              const std::function<void(size_t, std::string_view)>& on_text = {},
                              const std::function<bool()>& interrupted = {});

  DecodeReport report() const;
  const PrefixCache::Counts& prefix_counts() const { return prefixes_.counts(); }

  /// Where slots are continued: tokens whose state a slot holds, of a text that ended there or of one that
  /// was put there before any request.
  const std::vector<int32_t>& held(int slot) const { return places_[static_cast<size_t>(slot)].held; }
  void hold(int slot, std::span<const int32_t> tokens);

 private:
  struct Place {  // a slot and who has it
    std::unique_ptr<Sequence> sequence;
    std::vector<int32_t> held;  // tokens committed to it, where slots are continued and it is free
  };
  struct Waiting {
    int64_t id;
    Request request;
    OnText on_text;
  };

  double now() const;
  void check(const Request& request) const;
  void admit();
  void read_prompts();
  int64_t read_piece(int slot);
  int64_t read_source(int slot);
  void has_read(int slot, double seconds);
  void begin_behind_source(int slot, std::span<const int32_t> held);
  size_t continue_slot(int slot);
  size_t begin_from_prefix(int slot);
  bool waits_for_prefix(const Request& request);
  void decode(std::span<const int> slots);
  std::span<const TokenTree> propose(std::span<const int> slots);
  std::vector<int32_t> accept(Sequence& sequence, const TokenTree& tree, int first_node);
  std::vector<int32_t> walk(Sequence& sequence, const TokenTree& tree, int first_node);
  void count(const TokenTree& tree, int32_t node, size_t depth, int32_t child);
  int32_t choose(Sequence& sequence, const TokenTree& tree, int32_t node, int first_node);
  void release(int slot);
  void abandon();

  Sequence& at(int slot) { return *places_[static_cast<size_t>(slot)].sequence; }

  Decoder& decoder_;
  Tokenizer tokenizer_;
  Options options_;
  Speculator speculator_;
  std::vector<Place> places_;  // [slots]
  std::deque<Waiting> waiting_;
  std::map<int64_t, Generation> results_;
  PrefixCache prefixes_;
  std::exception_ptr broken_;  // what broke a sequence last; null: nothing since run() began
  int64_t next_id_ = 0, turns_ = 0;
  DecodeReport report_;
};

}  // namespace linnet

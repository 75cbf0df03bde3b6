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
#include <vector>

#include "generate/drafter.h"
#include "generate/prefix_cache.h"
#include "generate/sequence.h"
#include "generate/tree_budget.h"
#include "model/decoder.h"
#include "text/tokenizer.h"

namespace linnet {

/// What decoding took and what drafts were worth, of all steps of an engine.
struct DecodeReport {
  int64_t steps = 0;   // of a sequence each: two sequences in one step of the decoder count twice
  int64_t nodes = 0;   // computed, roots included
  int64_t tokens = 0;  // that came out of the steps
  double draft_seconds = 0, verify_seconds = 0, sampling_seconds = 0, commit_seconds = 0;
  struct Depth {
    int64_t reached = 0;   // steps whose path came to a node that has a guess below it
    int64_t accepted = 0;  // of these the steps where a guess was right
  };
  std::vector<Depth> depths;  // [d]: of guesses at depth d + 1
};

class Engine {
 public:
  struct Options {
    int slots = 1;       // sequences decoded at once; the decoder has at least as many
    int max_nodes = 64;  // nodes of all trees of a step; the decoder takes at least as many
    int max_depth = 64;  // of trees, where the decoder's own limit is not less
    /// Of each step's trees only the nodes that are expected to pay are computed (tree_budget.h).
    bool budget = false;
    /// A prompt that goes on from what its slot holds is not read from its beginning again: a conversation's
    /// turn costs its new tokens. Prefilled in other pieces, logits agree to rounding, not to the bit.
    bool continue_slots = false;
    /// Bytes for states of prompts' beginnings (prefix_cache.h); the same to rounding. 0: none.
    size_t prefix_cache = 0;
    std::function<double()> clock;  // seconds; empty: a steady clock
  };

  /// All references must outlive the engine.
  Engine(Decoder& decoder, Tokenizer tokenizer, Drafter& drafter, const Options& options);
  ~Engine();

  /// Queues a request and returns its id. Text is passed on as it becomes final. Throws Error on a prompt
  /// that is empty, out of range or too long.
  int64_t add(Request request, OnText on_text = {});
  /// One turn: waiting requests get the slots that are free, at most a chunk of prompts is read, and every
  /// sequence that was past its prompt goes on by a step. False once nothing is left to do.
  bool step();
  /// Ends a request, whether it waits or runs: its result is what there is. One that ended already stays.
  void cancel(int64_t id);
  /// The result of a request that ended; once.
  Generation take(int64_t id);

  /// Runs the requests to their ends, as many at once as there are slots, in order of arrival. Once
  /// `interrupted` says so, finishes the turn and returns what there is. Throws Error on a bad request before
  /// anything is computed.
  std::vector<Generation> run(std::span<const Request> requests,
                              const std::function<void(size_t, std::string_view)>& on_text = {},
                              const std::function<bool()>& interrupted = {});

  const DecodeReport& report() const { return report_; }
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
  size_t continue_slot(int slot);
  size_t begin_from_prefix(int slot);
  bool waits_for_prefix(const Request& request);
  void decode(std::span<const int> slots);
  bool propose(std::span<const int> slots);
  std::vector<int32_t> accept(Sequence& sequence, const Draft& draft, int first_node);
  int32_t choose(Sequence& sequence, int node);
  void release(int slot);
  void abandon();

  Sequence& at(int slot) { return *places_[static_cast<size_t>(slot)].sequence; }

  Decoder& decoder_;
  Tokenizer tokenizer_;
  Drafter& drafter_;
  Options options_;
  TreeBudget budget_;
  std::vector<Place> places_;  // [slots]
  std::deque<Waiting> waiting_;
  std::map<int64_t, Generation> results_;
  PrefixCache prefixes_;
  std::vector<Draft> drafts_;
  int64_t next_id_ = 0, turns_ = 0;
  DecodeReport report_;
};

}  // namespace linnet

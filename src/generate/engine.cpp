#include "generate/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/count.h"
#include "base/error.h"
#include "base/timing.h"
#include "generate/stop_strings.h"
#include "model/state_size.h"

namespace linnet {
namespace {

/// A long prompt goes in pieces of this many tokens, so that an interrupt does not wait for all of it, and of
/// this many logits where all of them are wanted.
constexpr size_t kPrefillPiece = 4096, kPrefillLogits = size_t{1} << 24;

/// The special tokens among stop strings: they have no text to be found in.
std::vector<int32_t> special_stops(const std::vector<std::string>& stops, const Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  for (const std::string& stop : stops) {
    if (const auto id = tokenizer.special_id_of(stop)) ids.push_back(*id);
  }
  return ids;
}

bool contains(const std::vector<int32_t>& ids, int32_t id) {
  return std::find(ids.begin(), ids.end(), id) != ids.end();
}

}  // namespace

EngineLimits limits_of(const Model& model, int max_depth) {
  EngineLimits limits;
  limits.vocabulary = model.config().vocabulary;
  if (model.family().positions == PositionKind::kLearned) limits.positions = model.config().positions;
  limits.memory = tokens_that_fit(model);
  limits.max_depth = max_depth;
  for (const AttentionConfig& layer : model.attention()) {
    if (!layer.grows()) limits.max_depth = std::min(limits.max_depth, layer.group);
  }
  return limits;
}

struct Engine::Sequence {
  Sequence(const Request& asked, size_t request_index, int of_slot, const EngineLimits& limits,
           const Tokenizer& tokenizer, Generation& into)
      : request(asked),
        index(request_index),
        slot(of_slot),
        sampler(asked.sampling, asked.seed, asked.sequence, limits.vocabulary),
        detokenizer(tokenizer),
        stops(asked.stop),
        stop_tokens(special_stops(asked.stop, tokenizer)),
        tokens(asked.prompt),
        result(into) {
    // The prompt goes through the detokenizer too: whether a piece begins with a space depends on it.
    for (const int32_t token : tokens) {
      sampler.observe(token);
      detokenizer.push(token);
    }
  }

  const Request& request;
  size_t index;
  int slot;
  Sampler sampler;
  StreamingDetokenizer detokenizer;
  StopStrings stops;
  std::vector<int32_t> stop_tokens;
  std::vector<int32_t> tokens;  // the prompt and what was generated
  std::vector<float> hidden;    // that the last token was chosen from
  TokenTree tree;
  Generation& result;
  bool done = false;
};

Engine::Engine(Decoder& decoder, const EngineLimits& limits, Tokenizer tokenizer, Drafter& drafter,
               const Options& options)
    : decoder_(decoder),
      limits_(limits),
      tokenizer_(std::move(tokenizer)),
      drafter_(drafter),
      options_(options),
      held_(static_cast<size_t>(options.slots)) {}

Engine::~Engine() = default;

double Engine::now() const { return options_.clock ? options_.clock() : steady_seconds(); }

void Engine::check(const Request& request) const {
  request.sampling.check();
  const auto length = static_cast<int64_t>(request.prompt.size());
  if (length == 0) throw Error("prompt", "empty, and the tokenizer adds no token of its own", "some text");
  if (request.max_new_tokens < 1) {
    throw Error("--max-new-tokens", fmt::format("{} tokens", request.max_new_tokens), "at least 1");
  }
  for (const int32_t token : request.prompt) {
    if (token < 0 || token >= limits_.vocabulary) {
      throw Error("prompt", fmt::format("token {} is not in the model's vocabulary", token),
                  fmt::format("ids from 0 to {}", limits_.vocabulary - 1));
    }
  }
  if (limits_.positions > 0 && length > limits_.positions) {
    throw Error("prompt", fmt::format("{}, more than the model has positions", counted(length, "token")),
                fmt::format("at most {}", limits_.positions));
  }
  if (limits_.memory > 0 && length > limits_.memory) {
    throw Error("prompt", fmt::format("{}, whose state does not fit into memory", counted(length, "token")),
                fmt::format("at most {}, or a linear model", limits_.memory));
  }
}

std::vector<Generation> Engine::run(std::span<const Request> requests, const OnText& on_text,
                                    const std::function<bool()>& interrupted) {
  for (const Request& request : requests) check(request);
  on_text_ = on_text ? &on_text : nullptr;
  std::vector<Generation> results(requests.size());
  std::vector<int> free_slots;
  for (int slot = options_.slots; slot-- > 0;) free_slots.push_back(slot);
  std::vector<std::unique_ptr<Sequence>> active;
  size_t next = 0;
  bool stopped = false;
  while (!stopped && (next < requests.size() || !active.empty())) {
    while (!stopped && next < requests.size() && !free_slots.empty()) {
      active.push_back(std::make_unique<Sequence>(requests[next], next, free_slots.back(), limits_,
                                                  tokenizer_, results[next]));
      free_slots.pop_back();
      ++next;
      stopped = !prefill(*active.back(), interrupted);
    }
    std::erase_if(active, [&](const std::unique_ptr<Sequence>& sequence) {
      if (sequence->done) free_slots.push_back(sequence->slot);
      return sequence->done;
    });
    stopped = stopped || (interrupted && interrupted());
    if (!stopped && !active.empty()) step(active);
  }
  for (const auto& sequence : active) finish(*sequence);
  return results;
}

/// How many tokens of the prompt its slot holds already; a slot that holds anything else is emptied.
size_t Engine::continue_slot(const Sequence& sequence) {
  const auto held = std::exchange(held_[static_cast<size_t>(sequence.slot)], {});
  const std::vector<int32_t>& prompt = sequence.request.prompt;
  if (options_.continue_slots && !sequence.request.prompt_logprobs && held.size() < prompt.size() &&
      std::equal(held.begin(), held.end(), prompt.begin())) {
    return held.size();
  }
  decoder_.reset(sequence.slot);
  return 0;
}

/// Commits tokens [begin, end) of the prompt; returns the logits of those rows that are wanted: the prompt's
/// last, or all of them for its logprobs.
std::vector<float> Engine::read_piece(Sequence& sequence, size_t begin, size_t end) {
  const std::span<const int32_t> prompt = sequence.request.prompt;
  const auto vocabulary = static_cast<size_t>(limits_.vocabulary);
  const bool all = sequence.request.prompt_logprobs, last = end == prompt.size();
  const size_t rows = all ? end - begin : last ? 1 : 0;
  std::vector<float> logits(rows * vocabulary);
  decoder_.prefill(sequence.slot, prompt.subspan(begin, end - begin), end - begin - rows, logits);
  sequence.result.prompt_read += static_cast<int64_t>(end - begin);
  for (size_t i = begin; all && i < end && i + 1 < prompt.size(); ++i) {
    const auto row = std::span(logits).subspan((i - begin) * vocabulary, vocabulary);
    sequence.result.prompt_logprobs.push_back(
        logprobs_of(row, prompt[i + 1], sequence.request.logprobs.value_or(0)));
  }
  return logits;
}

bool Engine::prefill(Sequence& sequence, const std::function<bool()>& interrupted) {
  const double start = now();
  const size_t length = sequence.request.prompt.size();
  const bool all = sequence.request.prompt_logprobs;
  const size_t rows = kPrefillLogits / static_cast<size_t>(limits_.vocabulary);
  const size_t most = all ? std::clamp(rows, size_t{1}, kPrefillPiece) : kPrefillPiece;
  std::vector<float> logits;
  for (size_t at = continue_slot(sequence), end = at; at < length; at = end) {
    if (interrupted && interrupted()) return false;
    end = std::min(at + most, length);
    if (all && end == length && at + 1 < length) --end;  // the last alone: its logits choose the first token
    logits = read_piece(sequence, at, end);
  }
  const std::span<const float> hidden = decoder_.hidden();  // of the one row that has logits
  sequence.hidden.assign(hidden.begin(), hidden.end());
  choose(sequence, logits);
  sequence.result.prefill_seconds = now() - start;
  if (sequence.done) finish(sequence);
  return true;
}

void Engine::step(std::span<const std::unique_ptr<Sequence>> active) {
  const double start = now();
  std::vector<Decoder::Branch> branches;
  const int each = std::max(1, options_.max_nodes / static_cast<int>(active.size()));
  for (const auto& sequence : active) {
    sequence->tree = propose(*sequence, each);
    branches.push_back({sequence->slot, &sequence->tree});
  }
  const std::span<const float> logits = decoder_.step(branches);
  const std::span<const float> hidden = decoder_.hidden();
  size_t nodes = 0, node = 0;
  for (const auto& sequence : active) nodes += static_cast<size_t>(sequence->tree.size());
  const size_t hidden_size = hidden.size() / nodes;
  const auto vocabulary = static_cast<size_t>(limits_.vocabulary);
  std::vector<std::vector<int32_t>> paths;
  for (const auto& sequence : active) {  // all, before any commit: logits are valid until the next call
    const auto size = static_cast<size_t>(sequence->tree.size());
    paths.push_back(accept(*sequence, logits.subspan(node * vocabulary, size * vocabulary),
                           hidden.subspan(node * hidden_size, size * hidden_size)));
    node += size;
  }
  for (size_t i = 0; i < active.size(); ++i) {
    decoder_.commit(static_cast<int>(i), paths[i]);
    if (active[i]->done) finish(*active[i]);
  }
  const double seconds = now() - start;
  for (const auto& sequence : active) sequence->result.decode_seconds += seconds;
}

TokenTree Engine::propose(const Sequence& sequence, int max_nodes) {
  const auto length = static_cast<int64_t>(sequence.tokens.size());
  const auto generated = static_cast<int64_t>(sequence.result.tokens.size());
  int64_t depth = std::min<int64_t>(limits_.max_depth, sequence.request.max_new_tokens - generated - 1);
  if (limits_.positions > 0) depth = std::min(depth, limits_.positions - length);
  const int max_depth = static_cast<int>(std::max<int64_t>(0, depth));
  TokenTree tree = drafter_.propose({sequence.tokens, sequence.hidden}, max_nodes, max_depth);
  bool good = tree.size() >= 1 && tree.size() <= max_nodes && tree.token(0) == sequence.tokens.back();
  for (int32_t i = 1; good && i < tree.size(); ++i) good = tree.parent(i) >= 0 && tree.depth(i) <= max_depth;
  if (!good) {
    throw Error(
        "drafter", fmt::format("a tree of {} nodes that breaks the rules", tree.size()),
        fmt::format("the chosen token as the only root, at most {} nodes and depth {}", max_nodes, max_depth),
        ExitStatus::kFailed);
  }
  return tree;
}

// mathematics.md, section 4, Acceptance: greedy and sampled are the same walk.
std::vector<int32_t> Engine::accept(Sequence& sequence, std::span<const float> logits,
                                    std::span<const float> hidden) {
  const TokenTree& tree = sequence.tree;
  const auto vocabulary = static_cast<size_t>(limits_.vocabulary);
  const size_t hidden_size = hidden.size() / static_cast<size_t>(tree.size());
  ++sequence.result.steps;
  std::vector<int32_t> path = {0};
  for (;;) {
    const int32_t node = path.back();
    const int32_t next = choose(sequence, logits.subspan(static_cast<size_t>(node) * vocabulary, vocabulary));
    int32_t child = node + 1;
    while (child < tree.size() && (tree.parent(child) != node || tree.token(child) != next)) ++child;
    if (sequence.done || child >= tree.size()) {
      const auto row = hidden.subspan(static_cast<size_t>(node) * hidden_size, hidden_size);
      sequence.hidden.assign(row.begin(), row.end());
      return path;
    }
    path.push_back(child);
  }
}

int32_t Engine::choose(Sequence& sequence, std::span<const float> logits) {
  const int32_t token = sequence.sampler.choose(logits, sequence.tokens.size());
  if (const auto top = sequence.request.logprobs) {
    sequence.result.logprobs.push_back(logprobs_of(logits, token, *top));
  }
  take(sequence, token);
  return token;
}

void Engine::take(Sequence& sequence, int32_t token) {
  const Request& request = sequence.request;
  Generation& result = sequence.result;
  sequence.tokens.push_back(token);
  result.tokens.push_back(token);
  sequence.sampler.observe(token);
  const auto finish_as = [&](Finish finish) {
    result.finish = finish;
    sequence.done = true;
  };
  if (contains(request.end, token)) return finish_as(Finish::kEnd);
  if (contains(sequence.stop_tokens, token)) return finish_as(Finish::kStop);
  // A model's vocabulary may be padded past the tokenizer's: such a token has no text.
  const bool has_text = token < tokenizer_.vocabulary();
  const std::string text = has_text ? sequence.stops.push(sequence.detokenizer.push(token)) : std::string();
  result.text += text;
  if (on_text_ != nullptr && !text.empty()) (*on_text_)(sequence.index, text);
  const auto length = static_cast<int64_t>(sequence.tokens.size());
  if (sequence.stops.found()) {
    finish_as(Finish::kStop);
  } else if (static_cast<int64_t>(result.tokens.size()) >= request.max_new_tokens) {
    finish_as(Finish::kLength);
  } else if (limits_.positions > 0 && length > limits_.positions) {
    finish_as(Finish::kPositions);
  }
}

void Engine::finish(Sequence& sequence) {
  Generation& result = sequence.result;
  std::string text = sequence.stops.push(sequence.detokenizer.finish());
  if (sequence.stops.found()) {
    if (result.finish != Finish::kInterrupted) result.finish = Finish::kStop;
  } else {
    text += sequence.stops.finish();
  }
  result.text += text;
  if (on_text_ != nullptr && !text.empty()) (*on_text_)(sequence.index, text);
  const auto held = sequence.tokens.begin() + decoder_.length(sequence.slot);
  held_[static_cast<size_t>(sequence.slot)].assign(sequence.tokens.begin(), held);
  result.state_bytes = decoder_.state_bytes(sequence.slot);
}

}  // namespace linnet

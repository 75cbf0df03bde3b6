#include "generate/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/count.h"
#include "base/error.h"
#include "base/timing.h"

namespace linnet {
namespace {

/// Numbers of a prompt's logits at a time, where all of them are wanted.
constexpr size_t kPrefillLogits = size_t{1} << 24;
/// Tokens that a beginning has to have more than what is kept already.
constexpr size_t kWorthKeeping = 16;

}  // namespace

Engine::Engine(Decoder& decoder, Tokenizer tokenizer, std::vector<Drafter*> drafters, const Options& options)
    : decoder_(decoder),
      tokenizer_(std::move(tokenizer)),
      options_(options),
      speculator_(std::move(drafters),
                  {options.max_nodes, options.budget, options.shape, decoder.cost().step_weight_bytes},
                  [this] { return now(); }),
      places_(static_cast<size_t>(options.slots)),
      prefixes_(options.prefix_cache) {}

Engine::~Engine() = default;

double Engine::now() const { return options_.clock ? options_.clock() : steady_seconds(); }

DecodeReport Engine::report() const {
  DecodeReport report = report_;
  report.drafters = speculator_.reports();
  report.costs = speculator_.budget().known();
  report.lost = speculator_.budget().lost();
  return report;
}

void Engine::check(const Request& request) const {
  request.sampling.check();
  const Decoder::Info& info = decoder_.info();
  const auto length = static_cast<int64_t>(request.prompt.size());
  if (length == 0) throw Error("prompt", "empty, and the tokenizer adds no token of its own", "some text");
  if (request.max_new_tokens < 0)
    throw Error("--max-new-tokens", fmt::format("{} tokens", request.max_new_tokens), "0 or more");
  for (const int32_t token : request.prompt) {
    if (token < 0 || token >= info.vocabulary) {
      throw Error("prompt", fmt::format("token {} is not in the model's vocabulary", token),
                  fmt::format("ids from 0 to {}", info.vocabulary - 1));
    }
  }
  if (info.positions > 0 && length > info.positions) {
    throw Error("prompt", fmt::format("{}, more than the model has positions", counted(length, "token")),
                fmt::format("at most {}", info.positions));
  }
  if (info.start && request.prompt_logprobs)
    throw Error("model", "has an encoder, which reads prompts, and is asked for their log probabilities",
                "a model of a decoder alone");
  if (length > info.memory) {
    throw Error("prompt", fmt::format("{}, whose state does not fit into memory", counted(length, "token")),
                fmt::format("at most {}, or a linear model", info.memory));
  }
}

int64_t Engine::add(Request request, OnText on_text) {
  check(request);
  waiting_.push_back({next_id_, std::move(request), std::move(on_text)});
  return next_id_++;
}

bool Engine::step() {
  ++turns_;
  admit();
  std::vector<int> decoding;  // those past their prompts before this turn
  for (int slot = 0; slot < options_.slots; ++slot) {
    if (places_[static_cast<size_t>(slot)].sequence && !at(slot).reads_prompt()) decoding.push_back(slot);
  }
  read_prompts();
  if (!decoding.empty()) decode(decoding);
  bool busy = !waiting_.empty();
  for (int slot = 0; slot < options_.slots; ++slot) {
    if (!places_[static_cast<size_t>(slot)].sequence) continue;
    if (at(slot).done()) {
      release(slot);
    } else {
      busy = true;
    }
  }
  return busy;
}

void Engine::cancel(int64_t id) {
  const auto waits =
      std::find_if(waiting_.begin(), waiting_.end(), [&](const Waiting& w) { return w.id == id; });
  if (waits != waiting_.end()) {
    waiting_.erase(waits);
    results_[id];
  }
  for (int slot = 0; slot < options_.slots; ++slot) {
    if (places_[static_cast<size_t>(slot)].sequence && at(slot).id == id) release(slot);
  }
}

Generation Engine::take(int64_t id) {
  auto found = results_.extract(id);
  if (!found) throw Error("engine", fmt::format("request {} has no result", id), "one that ended");
  return std::move(found.mapped());
}

const Generation& Engine::so_far(int64_t id) const {
  const auto place = std::find_if(places_.begin(), places_.end(),
                                  [&](const Place& p) { return p.sequence && p.sequence->id == id; });
  if (place == places_.end())
    throw Error("engine", fmt::format("request {} does not run", id), "one that does");
  return place->sequence->result;
}

std::vector<Generation> Engine::run(std::span<const Request> requests,
                                    const std::function<void(size_t, std::string_view)>& on_text,
                                    const std::function<bool()>& interrupted) {
  for (const Request& request : requests) check(request);
  broken_ = nullptr;
  std::vector<int64_t> ids;
  for (size_t i = 0; i < requests.size(); ++i)
    ids.push_back(
        add(requests[i], on_text ? [&on_text, i](std::string_view text) { on_text(i, text); } : OnText()));
  try {
    while (!(interrupted && interrupted()) && step() && !broken_) {
    }
    if (broken_) std::rethrow_exception(broken_);
    for (const int64_t id : ids) cancel(id);
  } catch (...) {
    abandon();  // what still runs would call on_text
    throw;
  }
  std::vector<Generation> results;
  for (const int64_t id : ids) results.push_back(take(id));
  return results;
}

void Engine::hold(int slot, std::span<const int32_t> tokens) {
  places_[static_cast<size_t>(slot)].held.assign(tokens.begin(), tokens.end());
}

void Engine::abandon() {
  waiting_.clear();
  for (Place& place : places_) place = {};
}

void Engine::admit() {
  for (int slot = 0; slot < options_.slots && !waiting_.empty(); ++slot) {
    Place& place = places_[static_cast<size_t>(slot)];
    if (place.sequence) continue;
    Waiting& next = waiting_.front();
    if (waits_for_prefix(next.request)) return;
    place.sequence = std::make_unique<Sequence>(next.id, std::move(next.request), std::move(next.on_text),
                                                decoder_.info(), tokenizer_);
    waiting_.pop_front();
    const double start = now();
    place.sequence->prefilled = continue_slot(slot);
    speculator_.begin(slot);
    place.sequence->result.prefill_seconds += now() - start;
  }
}

/// How many tokens of the prompt its slot holds already; a slot that holds anything else is emptied.
size_t Engine::continue_slot(int slot) {
  const auto held = std::exchange(places_[static_cast<size_t>(slot)].held, {});
  const Request& request = at(slot).request;
  if (decoder_.info().start) {
    begin_behind_source(slot, held);
    return 0;
  }
  if (options_.continue_slots && !request.prompt_logprobs && held.size() < request.prompt.size() &&
      std::equal(held.begin(), held.end(), request.prompt.begin())) {
    return held.size();
  }
  decoder_.reset(slot);
  return prefixes_.keeps() && !request.prompt_logprobs ? begin_from_prefix(slot) : 0;
}

namespace {

/// Under which a cache keeps what was read of a source: no other source begins so.
std::vector<int32_t> cached_as(std::vector<int32_t> source) {
  source.push_back(-1);
  return source;
}

}  // namespace

/// A source that the slot holds, with what was written behind it, or that stands in the cache is not read
/// again.
void Engine::begin_behind_source(int slot, std::span<const int32_t> held) {
  Sequence& sequence = at(slot);
  const size_t source = sequence.request.prompt.size();
  const std::span<const int32_t> all = sequence.tokens;
  if (options_.continue_slots && held.size() >= source && held.size() < all.size() &&
      std::ranges::equal(held, all.first(held.size()))) {
    sequence.held = held.size() - source;
    return;
  }
  decoder_.reset(slot);
  if (!prefixes_.keeps()) return;
  std::vector<int32_t> wanted = cached_as(sequence.request.prompt);
  wanted.push_back(*decoder_.info().start);
  if (const PrefixCache::Entry* entry = prefixes_.find(wanted); entry && entry->tokens.size() > source) {
    decoder_.load(slot, entry->state);
    sequence.held = 0;
  }
}

/// Whether another prompt, which is being read, will leave a state in the cache that this one can go on from:
/// read side by side, both would read what they share.
bool Engine::waits_for_prefix(const Request& request) {
  if (!prefixes_.keeps() || request.prompt_logprobs || decoder_.info().start) return false;
  for (Place& place : places_) {
    if (!place.sequence || !place.sequence->reads_prompt()) continue;
    Sequence& reader = *place.sequence;
    const std::vector<int32_t>& prompt = reader.request.prompt;
    const auto apart =
        std::mismatch(prompt.begin(), prompt.end(), request.prompt.begin(), request.prompt.end());
    const auto shared = static_cast<size_t>(apart.first - prompt.begin());
    if (shared == request.prompt.size()) continue;
    const bool comes = reader.parts > reader.prefilled && reader.parts <= shared;
    if (!comes && shared < reader.prefilled + kWorthKeeping) continue;
    if (!comes) reader.parts = shared;
    return true;
  }
  return false;
}

/// How many tokens of the prompt stood in the cache; notes where the prompt parts from another one.
size_t Engine::begin_from_prefix(int slot) {
  Sequence& sequence = at(slot);
  const std::vector<int32_t>& prompt = sequence.request.prompt;
  const size_t shared = prefixes_.shared(prompt);
  size_t held = 0;
  if (const PrefixCache::Entry* entry = prefixes_.find(prompt)) {
    decoder_.load(slot, entry->state);
    held = entry->tokens.size();
  }
  if (shared >= held + kWorthKeeping && shared < prompt.size()) sequence.parts = shared;
  return held;
}

/// A piece each in turn, whoever waited longest first, until a chunk is read: a short prompt does not wait
/// for a long one, and no step for more than a chunk.
void Engine::read_prompts() {
  for (int64_t left = decoder_.info().chunk; left > 0;) {
    int next = -1;
    for (int slot = 0; slot < options_.slots; ++slot) {
      if (!places_[static_cast<size_t>(slot)].sequence || !at(slot).reads_prompt()) continue;
      if (next < 0 || at(slot).served < at(next).served) next = slot;
    }
    if (next < 0) return;
    try {
      left -= read_piece(next);
    } catch (const Error&) {
      at(next).fail(std::current_exception());
    }
  }
}

/// Commits a piece of the slot's prompt and returns its size. Pieces begin and end at multiples of a chunk,
/// so that no bit depends on how they were cut; the last row's logits choose the first token.
int64_t Engine::read_piece(int slot) {
  Sequence& sequence = at(slot);
  if (decoder_.info().start) return read_source(slot);
  const double start = now();
  const std::span<const int32_t> prompt = sequence.request.prompt;
  const auto vocabulary = static_cast<size_t>(decoder_.info().vocabulary);
  const auto chunk = static_cast<size_t>(decoder_.info().chunk);
  const bool all = sequence.request.prompt_logprobs;
  const size_t most = all ? std::clamp(kPrefillLogits / vocabulary, size_t{1}, chunk) : chunk;
  const size_t begin = sequence.prefilled;
  size_t end = std::min(begin + most, prompt.size());
  if (begin < sequence.parts) end = std::min(end, sequence.parts);
  const bool last = end == prompt.size();
  const size_t rows = all ? end - begin : last ? 1 : 0;
  std::vector<float> logits(rows * vocabulary);
  decoder_.prefill(slot, prompt.subspan(begin, end - begin), end - begin - rows, logits);
  Generation& result = sequence.result;
  result.prompt_read += static_cast<int64_t>(end - begin);
  for (size_t i = begin; all && i < end && i + 1 < prompt.size(); ++i) {
    const auto row = std::span(logits).subspan((i - begin) * vocabulary, vocabulary);
    result.prompt_logprobs.push_back(logprobs_of(row, prompt[i + 1], sequence.request.logprobs.value_or(0)));
  }
  if (prefixes_.keeps() && (last || end == sequence.parts))
    prefixes_.keep(prompt.first(end), decoder_.save(slot));
  sequence.prefilled = end;
  sequence.served = turns_;
  if (last) {
    const std::span<const float> hidden = decoder_.hidden(static_cast<int>(rows) - 1);
    sequence.hidden.assign(hidden.begin(), hidden.end());
    sequence.begin(std::span(logits).last(vocabulary));
  }
  has_read(slot, now() - start);
  return static_cast<int64_t>(end - begin);
}

/// The encoder reads the slot's prompt whole; the decoder's first token follows its start.
int64_t Engine::read_source(int slot) {
  Sequence& sequence = at(slot);
  const double start = now();
  const std::vector<int32_t>& source = sequence.request.prompt;
  if (!sequence.held) {
    decoder_.read_source(slot, source);
    if (prefixes_.keeps()) prefixes_.keep(cached_as(source), decoder_.save(slot));
    sequence.result.prompt_read += std::ssize(source);
  }
  const std::span<const int32_t> rest = sequence.decoded().subspan(sequence.held.value_or(0));
  std::vector<float> logits(static_cast<size_t>(decoder_.info().vocabulary));
  decoder_.prefill(slot, rest, rest.size() - 1, logits);
  const std::span<const float> hidden = decoder_.hidden(0);
  sequence.hidden.assign(hidden.begin(), hidden.end());
  sequence.prefilled = source.size();
  sequence.served = turns_;
  sequence.begin(logits);
  has_read(slot, now() - start);
  return std::ssize(source);
}

/// The slot's own prompt was read for so long.
void Engine::has_read(int slot, double seconds) {
  at(slot).result.prefill_seconds += seconds;
  speculator_.read(slot, seconds);
}

void Engine::decode(std::span<const int> slots) {
  const double start = now();
  const auto trees = propose(slots);
  const double drafted = now();
  std::vector<Decoder::Branch> branches;
  int nodes = 0;
  for (size_t i = 0; i < slots.size(); ++i) {
    branches.push_back({slots[i], &trees[i]});
    nodes += trees[i].size();
  }
  decoder_.step(branches);
  const double verified = now();
  std::vector<std::vector<int32_t>> paths;
  int first = 0, tokens = 0;
  for (size_t i = 0; i < slots.size(); ++i) {  // all, before any commit: logits are valid until the next call
    paths.push_back(accept(at(slots[i]), trees[i], first));
    first += trees[i].size();
    tokens += static_cast<int>(paths.back().size());
  }
  const double sampled = now();
  for (size_t i = 0; i < slots.size(); ++i) {
    if (!paths[i].empty()) decoder_.commit(static_cast<int>(i), paths[i]);
  }
  const double committed = now();
  for (size_t i = 0; i < slots.size(); ++i)
    speculator_.followed(slots[i], std::span(at(slots[i]).tokens).last(paths[i].size()));
  const double end = now();
  for (const int slot : slots) at(slot).result.decode_seconds += end - start;
  report_.steps += std::ssize(slots);
  report_.nodes += nodes;
  report_.tokens += tokens;
  const double drafting = drafted - start + (end - committed);
  report_.draft_seconds += drafting;
  report_.verify_seconds += verified - drafted;
  report_.sampling_seconds += sampled - verified;
  report_.commit_seconds += committed - sampled;
  speculator_.measured(nodes, committed - drafted);
}

/// The slots' trees.
std::span<const TokenTree> Engine::propose(std::span<const int> slots) {
  const Decoder::Info& info = decoder_.info();
  const auto count = static_cast<int>(slots.size());
  std::vector<Drafter::Context> contexts;
  for (const int slot : slots) {
    const Sequence& sequence = at(slot);
    int64_t depth = std::min(options_.max_depth, info.tree_depth);
    depth = std::min(depth, sequence.request.max_new_tokens - std::ssize(sequence.result.tokens) - 1);
    if (info.positions > 0) depth = std::min(depth, info.positions - std::ssize(sequence.tokens));
    contexts.push_back({slot, sequence.tokens, sequence.hidden, std::max(1, options_.max_nodes / count),
                        static_cast<int>(std::max<int64_t>(0, depth))});
  }
  return speculator_.propose(contexts);
}

/// The path to commit; empty where the sequence broke, whose neighbours go on.
std::vector<int32_t> Engine::accept(Sequence& sequence, const TokenTree& tree, int first_node) {
  ++sequence.result.steps;
  try {
    return walk(sequence, tree, first_node);
  } catch (const Error&) {
    sequence.fail(std::current_exception());
    return {};
  }
}

// mathematics.md, section 4, Acceptance: greedy and sampled are the same walk.
std::vector<int32_t> Engine::walk(Sequence& sequence, const TokenTree& tree, int first_node) {
  std::vector<int32_t> path = {0};
  for (;;) {
    const int32_t node = path.back();
    const int32_t next = choose(sequence, tree, node, first_node);
    const int32_t child = child_of(tree, node, next);
    count(tree, node, path.size() - 1, child);
    if (sequence.done() || child < 0) {
      const std::span<const float> hidden = decoder_.hidden(first_node + node);
      sequence.hidden.assign(hidden.begin(), hidden.end());
      return path;
    }
    path.push_back(child);
  }
}

/// Notes what became of a node's children, of which `child` was right; −1: none.
void Engine::count(const TokenTree& tree, int32_t node, size_t depth, int32_t child) {
  const auto note = [](std::vector<DecodeReport::Guesses>& all, size_t place, bool right) {
    if (all.size() <= place) all.resize(place + 1);
    ++all[place].reached;
    all[place].accepted += right;
  };
  bool guessed = false;
  for (int32_t i = node + 1; i < tree.size(); ++i) {
    if (tree.parent(i) != node) continue;
    guessed = true;
    note(report_.places, static_cast<size_t>(i) - 1, i == child);
  }
  if (guessed) note(report_.depths, depth, child >= 0);
}

int32_t Engine::choose(Sequence& sequence, const TokenTree& tree, int32_t node, int first_node) {
  if (sequence.needs_logits()) {
    std::vector<int32_t> guesses;
    for (int32_t i = node + 1; sequence.request.typical && i < tree.size(); ++i) {
      if (tree.parent(i) == node) guesses.push_back(tree.token(i));
    }
    return sequence.choose(decoder_.logits(first_node + node), guesses);
  }
  const int32_t token = decoder_.likeliest(first_node + node);
  sequence.take(token);
  return token;
}

/// The slot's sequence ends: its result is there to be taken, and the slot is free.
void Engine::release(int slot) {
  Place& place = places_[static_cast<size_t>(slot)];
  Sequence& sequence = *place.sequence;
  sequence.finish();
  if (sequence.result.error) broken_ = sequence.result.error;
  if (options_.continue_slots)
    place.held.assign(sequence.tokens.begin(),
                      sequence.tokens.end() - std::ssize(sequence.decoded()) + decoder_.length(slot));
  sequence.result.state_bytes = decoder_.state_bytes(slot);
  speculator_.end(slot);
  results_[sequence.id] = std::move(sequence.result);
  place.sequence.reset();
}

}  // namespace linnet

#include "generate/sequence.h"

#include <algorithm>
#include <utility>

namespace linnet {
namespace {

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

Sequence::Sequence(int64_t of_id, Request asked, OnText on_text, const Decoder::Info& info,
                   Tokenizer tokenizer)
    : id(of_id),
      request(std::move(asked)),
      tokens(request.prompt),
      start_(info.start),
      positions_(info.positions),
      tokenizer_(std::move(tokenizer)),
      on_text_(std::move(on_text)),
      sampler_(request.sampling, request.seed, request.sequence, info.vocabulary),
      detokenizer_(tokenizer_),
      stops_(request.stop),
      stop_tokens_(special_stops(request.stop, tokenizer_)) {
  // The prompt goes through the detokenizer too: whether a piece begins with a space depends on it.
  if (start_) {
    tokens.push_back(*start_);
    tokens.insert(tokens.end(), request.written.begin(), request.written.end());
  }
  for (const int32_t token : decoded()) {
    sampler_.observe(token);
    if (token < tokenizer_.vocabulary()) detokenizer_.push(token);
  }
}

void Sequence::begin(std::span<const float> logits) {
  if (request.max_new_tokens == 0) return finish_as(Finish::kLength);
  choose(logits);
}

int32_t Sequence::choose(std::span<const float> logits, std::span<const int32_t> guesses) {
  const double temperature = request.sampling.temperature;
  int32_t token = sampler_.choose(logits, tokens.size());
  if (request.typical && temperature > 0) {
    const int32_t typical = typical_of(logits, temperature, guesses);
    if (typical >= 0) token = typical;
  }
  if (request.logprobs) result.logprobs.push_back(logprobs_of(logits, token, *request.logprobs));
  take(token);
  return token;
}

void Sequence::take(int32_t token) {
  tokens.push_back(token);
  result.tokens.push_back(token);
  sampler_.observe(token);
  if (contains(request.end, token)) return finish_as(Finish::kEnd);
  if (contains(stop_tokens_, token)) return finish_as(Finish::kStop);
  // A model's vocabulary may be padded past the tokenizer's: such a token has no text.
  if (token < tokenizer_.vocabulary()) pass(stops_.push(detokenizer_.push(token)));
  if (stops_.found()) {
    finish_as(Finish::kStop);
  } else if (std::ssize(result.tokens) >= request.max_new_tokens) {
    finish_as(Finish::kLength);
  } else if (positions_ > 0 && std::ssize(tokens) > positions_) {
    finish_as(Finish::kPositions);
  }
}

void Sequence::fail(std::exception_ptr error) {
  result.error = std::move(error);
  done_ = true;
}

void Sequence::finish() {
  std::string text = stops_.push(detokenizer_.finish());
  if (stops_.found()) {
    if (result.finish != Finish::kInterrupted) result.finish = Finish::kStop;
  } else {
    text += stops_.finish();
  }
  pass(text);
}

void Sequence::finish_as(Finish finish) {
  result.finish = finish;
  done_ = true;
}

void Sequence::pass(std::string_view text) {
  result.text += text;
  if (on_text_ && !text.empty()) on_text_(text);
}

}  // namespace linnet

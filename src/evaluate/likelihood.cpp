#include "evaluate/likelihood.h"

#include <algorithm>
#include <numeric>

namespace linnet {
namespace {

// Fewer shared tokens are read again: that is cheaper than a copy of a state.
constexpr size_t kWorthACopy = 8;

}  // namespace

LikelihoodReader::LikelihoodReader(Decoder& decoder, ThreadPool& pool, bool share)
    : decoder_(decoder), scorer_(decoder, decoder.vocabulary(), pool), share_(share) {}

std::vector<Likelihood> LikelihoodReader::read(std::span<const LikelihoodRequest> requests,
                                               const std::function<bool(int64_t)>& progress) {
  requests_ = requests;
  answers_.assign(requests.size(), {});
  progress_ = &progress;
  std::vector<size_t> order(requests.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return at(a).tokens < at(b).tokens; });
  for (const size_t request : order) counts_.all_tokens += static_cast<int64_t>(inputs(request));
  counts_.requests += static_cast<int64_t>(requests.size());
  if (!read_range(order, -1, 0)) answers_.clear();
  return std::move(answers_);
}

size_t LikelihoodReader::shared_inputs(Range range) const {
  const auto& first = at(range.front()).tokens;
  const auto& last = at(range.back()).tokens;  // sorted: what these two share, all do
  const auto differ = std::mismatch(first.begin(), first.end(), last.begin(), last.end());
  auto shared = static_cast<size_t>(differ.first - first.begin());
  for (const size_t request : range) shared = std::min(shared, inputs(request));
  return shared;
}

/// The slot's state (slot −1: none) holds the first `from` inputs of every request of the range.
bool LikelihoodReader::read_range(Range range, int slot, size_t from) {
  if (range.empty()) return true;
  if (!share_ || range.size() == 1 || slot + 2 >= kSlots) {
    for (const size_t request : range)
      if (!read_alone(request, slot, from)) return false;
    return true;
  }
  const size_t shared = shared_inputs(range);
  if (shared >= from + kWorthACopy || (shared > from && inputs(range.back()) == shared)) {
    if (!read_on(range, slot, from, shared)) return false;
    ++slot;
    from = shared;
  }
  for (auto begin = range.begin(); begin != range.end();) {
    const int32_t next = at(*begin).tokens[shared];
    const auto end = std::find_if(begin, range.end(), [&](size_t r) { return at(r).tokens[shared] != next; });
    const auto longer = std::find_if(begin, end, [&](size_t r) { return inputs(r) > shared; });
    if (from == shared) {  // those that end here are answered
      if (!answered(longer - begin)) return false;
    } else {
      for (auto it = begin; it != longer; ++it)
        if (!read_alone(*it, slot, from)) return false;
    }
    if (!read_range(Range(longer, end), slot, from)) return false;
    begin = end;
  }
  return true;
}

bool LikelihoodReader::read_alone(size_t request, int slot, size_t from) {
  return read_on(Range(&request, 1), slot, from, inputs(request)) && answered(1);
}

/// Reads inputs from … to − 1, which all of the range share, on from `slot` in the next one, and adds what
/// they say of the tokens that follow them.
bool LikelihoodReader::read_on(Range range, int slot, size_t from, size_t to) {
  if (from == 0) {
    decoder_.reset(slot + 1);
  } else {
    decoder_.copy(slot, slot + 1);
  }
  std::vector<size_t> scored;  // requests whose continuation has begun
  size_t first = to;           // the first input that says something of one
  for (const size_t request : range) {
    if (at(request).first > to) continue;
    scored.push_back(request);
    first = std::min(first, at(request).first - 1);
  }
  first = std::max(first, from);
  const std::vector<int32_t>& tokens = at(range.front()).tokens;
  std::vector<Likelihood> parts((to - first) * scored.size());
  const size_t read = scorer_.visit(
      slot + 1, std::span(tokens).subspan(from, to - from), first - from,
      [&](size_t row, std::span<const float> logits) {
        const size_t place = from + row;
        const int32_t likeliest = argmax(logits);
        for (size_t i = 0; i < scored.size(); ++i) {
          const LikelihoodRequest& request = at(scored[i]);
          if (request.first > place + 1) continue;
          const int32_t token = request.tokens[place + 1];
          parts[(place - first) * scored.size() + i] = {-negative_log_likelihood(logits, token),
                                                        token == likeliest};
        }
      },
      [&](int64_t) { return answered(0); });
  counts_.tokens += static_cast<int64_t>(read);
  for (size_t i = 0; i < parts.size(); ++i) {
    Likelihood& answer = answers_[scored[i % scored.size()]];
    answer.nats += parts[i].nats;
    answer.greedy = answer.greedy && parts[i].greedy;
  }
  return read == to - from;
}

bool LikelihoodReader::answered(int64_t requests) { return !*progress_ || (*progress_)(requests); }

}  // namespace linnet

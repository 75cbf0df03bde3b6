#include "generate/logprobs.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "generate/sampler.h"

namespace linnet {

TokenLogprobs logprobs_of(std::span<const float> logits, int32_t token, int top) {
  const double largest = logits[static_cast<size_t>(argmax(logits))];
  double sum = 0;
  for (const float x : logits) {
    if (!std::isnan(x)) sum += std::exp(x - largest);
  }
  const double total = largest + std::log(sum);
  const auto logprob = [&](int32_t id) { return logits[static_cast<size_t>(id)] - total; };
  TokenLogprobs result{token, logprob(token), {}};
  std::vector<int32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::erase_if(ids, [&](int32_t id) { return std::isnan(logits[static_cast<size_t>(id)]); });
  const auto end = ids.begin() + std::min<ptrdiff_t>(top, std::ssize(ids));
  std::partial_sort(ids.begin(), end, ids.end(), [&](int32_t a, int32_t b) {
    const float x = logits[static_cast<size_t>(a)], y = logits[static_cast<size_t>(b)];
    return x > y || (x == y && a < b);
  });
  for (auto id = ids.begin(); id != end; ++id) result.top.emplace_back(*id, logprob(*id));
  return result;
}

}  // namespace linnet

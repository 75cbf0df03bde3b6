// How likely the model itself holds a token: the softmax of its logits as they are, before penalty,
// temperature or any other choice of the sampler.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace linnet {

struct TokenLogprobs {
  int32_t token = 0;
  double logprob = 0;                           // ln p of `token`
  std::vector<std::pair<int32_t, double>> top;  // the likeliest tokens, likeliest first, ties by id
};

/// From logits [vocabulary]. Throws Error (status: failed) if they are not numbers.
TokenLogprobs logprobs_of(std::span<const float> logits, int32_t token, int top);

}  // namespace linnet

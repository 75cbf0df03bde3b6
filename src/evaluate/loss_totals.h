// What is summed over texts whose tokens are asked for.
#pragma once

#include <cstdint>

namespace linnet {

struct LossTotals {
  double nats = 0;                     // −ln p
  int64_t tokens = 0;                  // that were asked for
  int64_t texts = 0, text_tokens = 0;  // that they were taken from

  double nats_a_token() const { return nats / static_cast<double>(tokens); }
};

}  // namespace linnet

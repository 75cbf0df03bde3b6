// The drafter that looks up what followed the last tokens before: in the prompt, in the text itself, in other
// texts that it is given. Nothing is trained; time is linear, memory bounded.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "generate/drafter.h"

namespace linnet {

/// `texts`: tokens to look into beside each sequence's own, read once.
std::unique_ptr<Drafter> make_lookup_drafter(std::span<const int32_t> texts = {});

}  // namespace linnet

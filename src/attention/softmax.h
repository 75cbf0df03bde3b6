// `softmax`, the teacher:
//
//     o_t = Σ_{s ≤ t} exp(x_s − max x) v_s / Σ_{s ≤ t} exp(x_s − max x),   x_s = q_t·k_s / √d,
//
// or c·tanh(q_t·k_s / (c√d)) where the model caps its scores, over all tokens so far, or with `window` over
// the last `window` of them (Vaswani et al. 2017, equation 1, causal). State: n(d + e) numbers per key-value
// head, or at most about window (d + e). Cost of a token: n(d + e) multiply-adds per query head.
#pragma once

#include <memory>

#include "attention/attention.h"

namespace linnet {

template <class T>
std::unique_ptr<Attention<T>> make_softmax(const AttentionConfig& config, const AttentionShape& shape);

/// The most bytes that a sequence's state reaches with `window` > 0, of numbers of `number_size` bytes:
/// tokens leave it a block at a time.
size_t windowed_state_bytes(const AttentionShape& shape, int64_t window, size_t number_size);

}  // namespace linnet

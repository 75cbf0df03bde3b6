// Softmax attention, all earlier tokens or the last `window` of them.
//
// Fused kernels where libtorch has them; else blocks of queries against the keys they see, scores recomputed
// in the backward pass: no n × n tensor is ever held, and with a window or documents no score outside them
// computed but for the blocks' edges.
#pragma once

#include <ATen/ATen.h>

#include "train/attention/documents.h"
#include "train/attention/rows.h"

namespace linnet::train {

/// [B, n, H, e]. `window` 0: all. `cap`: c of scores that are c·tanh(x / c); 0: none is. `bias` (bias.h):
/// undefined: none; else scores are not capped, and n × n of them are held.
at::Tensor softmax_attention(const Rows& rows, const Documents& documents, int64_t window, double cap = 0,
                             const at::Tensor& bias = {});

}  // namespace linnet::train

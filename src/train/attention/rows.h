// Queries, keys and values as training forms take them.
#pragma once

#include <ATen/ATen.h>

namespace linnet::train {

/// Strides are free; the first dimension is that of the batch.
struct Rows {
  at::Tensor q;                     // [B, H, n, d], rotated
  at::Tensor k;                     // [B, G, n, d], rotated
  at::Tensor v;                     // [B, G, n, e]
  at::Tensor summary_q, summary_k;  // before rotary; undefined unless feature_position is none, or their own
  bool own_summary_rows = false;    // AttentionShape::own_summary_rows
};

}  // namespace linnet::train

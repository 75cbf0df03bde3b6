// Kept tokens (docs/mathematics.md section 1): which older tokens stay local for the readers of each group.
//
// A token's surprise is fixed when its block is folded, so what the readers of group g keep is the M largest
// of all tokens of their document up to group g − W. Chosen without a gradient, and for a few groups
// together: what any reader of `span` groups can keep is what the groups before them ended with and the span
// · C tokens that are folded for them. So nothing larger than groups · (M + span · C) indices is made.
#pragma once

#include <ATen/ATen.h>

#include "train/attention/documents.h"

namespace linnet::train {

/// Of blocks of `span` groups each, the last one filled up with groups of no tokens.
struct KeptTokens {
  /// The tokens that a block's readers may keep: their places in the row's groups, 0 … groups · C − 1.
  at::Tensor places;  // [G, B, blocks, M + span · C] int64
  at::Tensor hidden;  // [G, B, blocks, span, M + span · C] bool: those that a group's readers don't keep
};

/// `surprises` [G, B, folded groups, C], −∞ where a token is never kept; `kept` M and `local_groups` W of one
/// head. Ties go to the older token.
KeptTokens choose_kept(const at::Tensor& surprises, const GroupLayout& layout, int64_t local_groups,
                       int64_t kept, int64_t span);

/// Tokens at places [G, B, blocks, count] of x [G, B, groups, C, d]: [G, B, blocks, count, d].
at::Tensor at_places(const at::Tensor& x, const at::Tensor& places);

}  // namespace linnet::train

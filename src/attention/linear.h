// Linear attention in every form: one summary, a local branch, a mix, a convolution, for any row of the
// registry that has a summary or a local branch (docs/mathematics.md sections 1 and 4).
//
//     o_t = mix(L_t, G_t) + Σ_{j<K} w_j ⊙ v_{t−j}     (L_t alone where no token is global)
//
// One routine computes a tile of tree nodes that stand in the same group; a single token is a tree of one
// node, and a prefill is chains of up to 64 nodes within a group, each committed before the next. All sums
// run in position order whatever the tree, so plain, batched, speculative decoding and prefill give the same
// bits, as long as trees are no deeper than a group.
#pragma once

#include <memory>

#include "attention/attention.h"
#include "attention/method.h"

namespace linnet {

template <class T>
std::unique_ptr<Attention<T>> make_linear(const AttentionConfig& config, const AttentionShape& shape,
                                          const Parameters<T>& parameters, const Rotation* rotation);

}  // namespace linnet

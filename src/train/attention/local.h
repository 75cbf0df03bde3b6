// The local branch (mathematics.md section 1): each group's queries against the keys of its last W groups,
// the sinks and the kept tokens, with the weight ρ.
#pragma once

#include <ATen/ATen.h>

#include "attention/attention.h"
#include "attention/config.h"
#include "attention/rotation.h"
#include "train/attention/documents.h"

namespace linnet::train {

/// Queries, keys and values by groups; R = H / G query heads share a key-value head.
struct LocalRows {
  at::Tensor q;  // [G, B, groups, R · C, d]
  at::Tensor k;  // [G, B, groups, C, d]
  at::Tensor v;  // [G, B, groups, C, e]
};

struct LocalOutput {
  at::Tensor numerator;  // [G, B, groups, R · C, e]
  at::Tensor
      denominator;  // [G, B, groups, R · C, 1]; undefined unless asked for: the numerator is the output
};

/// Whether kept keys are turned for any of a layout's groups.
bool turns(const GroupLayout& layout, const Rotation& sinks);

/// `gain` [H, e] of ReLA, undefined: 1. If `parts`, returns softmax's numerator and denominator apart, both
/// after the maximum is taken out, for a denominator shared with the summary. `surprises` (summary.h) of the
/// groups that are folded, undefined where no token is kept. `bias` (bias.h) that scores take in; undefined:
/// none.
LocalOutput local_branch(const LocalRows& rows, const GroupLayout& layout, const AttentionConfig& config,
                         const Rotation* sinks, const at::Tensor& gain, bool parts,
                         const at::Tensor& surprises = {}, const at::Tensor& bias = {});

/// The same of each group's queries, any number of rows, against all of its own keys. `hidden` [B or 1,
/// groups, rows or 1, keys] bool: which keys they don't see; each row sees one at least. With a bias, row r
/// is at place r mod keys.
LocalOutput own_groups(const LocalRows& rows, const at::Tensor& hidden, const AttentionConfig& config,
                       const at::Tensor& gain, bool parts, const at::Tensor& bias = {});

}  // namespace linnet::train

// Training forms of summaries (docs/mathematics.md sections 1 to 3): what a row of the registry reads of the
// tokens that its queries see globally, and what it makes of it. The counterpart of the runtime's
// attention/summary.h.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <string>
#include <string_view>

#include "attention/method.h"
#include "train/attention/documents.h"

namespace linnet::train {

/// Learned tensors by their name after `linear_attention.`, in the sums' type.
using ParameterMap = std::map<std::string, at::Tensor, std::less<>>;

/// Queries, keys and values by groups, as the summary takes them.
struct SummaryRows {
  at::Tensor q;  // [H, B, groups, C, d]
  at::Tensor k;  // [G, B, groups, C, d]
  at::Tensor v;  // [G, B, groups, C, e]
};

/// Which tokens queries read.
enum class Sees {
  kEarlier,  // causal: groups that lie lag() before and, with own_group(), the own tokens up to the query
  kOthers,   // bidirectional: all groups but the own
  kAll,      // all tokens: queries are one group of any number of rows, of the same sequence or another's
};

/// A form asks this which tokens its queries read, and so computes the causal, the bidirectional and the
/// cross form alike: sums over groups by sums(), what must not enter them by without_unread().
struct SummaryPass {
  const GroupLayout& layout;  // of keys and values; of queries too unless they see all
  const ParameterMap& parameters;
  const AttentionConfig& config;
  Sees sees = Sees::kEarlier;
  /// Which places hold tokens, [B or 1, groups, C] bool. Undefined where queries see what is earlier: padding
  /// comes after all that is read.
  at::Tensor tokens = {};

  /// Causal and without a local branch, queries see their own group's tokens up to themselves.
  bool own_group() const { return sees == Sees::kEarlier && !config.has_local() && config.method->inclusive; }
  /// Tokens of group g are read from group g + lag on (and, with own_group(), within g).
  int64_t lag() const { return config.has_local() ? config.local_groups.number() : 1; }
  /// The first group whose queries read anything.
  int64_t first_reader() const { return own_group() || sees != Sees::kEarlier ? 0 : lag(); }
  int64_t readers() const { return sees == Sees::kAll ? 1 : layout.groups - first_reader(); }
  /// How many of the layout's first groups are read from another group.
  int64_t read_groups() const { return sees == Sees::kEarlier ? layout.groups - lag() : layout.groups; }
  /// How many tokens queries of the reading groups see globally: [1, B or 1, readers, C or 1, 1] int64; not
  /// positive where it is none.
  at::Tensor seen() const;
  /// Of tokens x [heads, B, groups, C, size] of the layout's first groups those that never enter a summary
  /// (sinks, padding) made `number`.
  at::Tensor without_unread(const at::Tensor& x, double number = 0.0) const;
  /// What is read of sums x [G, B, read_groups(), X], one of each group: the sum over the groups that each
  /// group sees, apart from its own, [G, B, groups, X]; causal for the groups from lag() on, [G, B,
  /// read_groups(), X]; where all is seen [G, B, 1, X]. Groups fade by the row's decay. `exponent` [G, B,
  /// read_groups()], undefined: 0: true numbers are x exp(exponent); then `largest` is set to that of what is
  /// returned. There is more than one group, or all is seen.
  at::Tensor sums(const at::Tensor& x, const at::Tensor& exponent = {}, at::Tensor* largest = nullptr) const;
  /// The same count for each row of queries: [1, B or 1, readers, R · C or 1, 1].
  at::Tensor seen_by_rows(int64_t repeats) const;
  /// What the reading groups see of sums x as above, or of all groups, apart from their own: [G, B, readers,
  /// X]; 0 where they see none, whose exponent is then the least.
  at::Tensor seen_sums(const at::Tensor& x, const at::Tensor& exponent = {},
                       at::Tensor* largest = nullptr) const;
};

/// What queries of the reading groups read, in the sums' type: true ones are these times exp(exponent).
struct SummaryRead {
  at::Tensor numerator;    // [G, B, readers, R · C, e]
  at::Tensor denominator;  // [.., 1]; undefined where the row divides by none
  at::Tensor exponent;     // [.., 1]; undefined: 0
};

// A summary of features: a row gives its map.

/// φ of one side, x [heads, tokens, d] -> [heads, tokens, f]. `side` is "q." or "k.". True features are what
/// is returned times exp of `exponent` [heads, tokens, 1], which a map sets that scales.
using FeatureMap = at::Tensor (*)(const at::Tensor& x, const ParameterMap& parameters, std::string_view side,
                                  at::Tensor& exponent);

/// Features [heads, .., f] of rows by tokens or by groups, and what they are to be multiplied by exp of, [..,
/// 1] or undefined.
struct Features {
  at::Tensor phi, exponent;
};

/// Of rows x [heads, .., d] of one side.
Features features_of(FeatureMap map, const at::Tensor& x, const ParameterMap& parameters,
                     std::string_view side);

/// A row of the workshop: the training form of a method with a summary.
struct Form {
  /// readers() is above 0.
  SummaryRead (*read)(const SummaryRows&, const SummaryPass&);
  /// The summary's output [G, B, readers, R · C, e].
  at::Tensor (*finish)(const SummaryRead&, const SummaryPass&);
  /// The gradients of q and k are an estimator's, not the derivative of what is computed (YOSO).
  bool estimated_gradients = false;
  FeatureMap map = nullptr;  // of a summary of features
};

/// Whether a layer is of the kind that is computed at once, where the place and the shapes allow it (fused.h,
/// by_heads.h): a local branch and a summary of features that divides by its sum, divided apart and mixed by
/// a share, without taps. Such features have no exponents.
bool mixes_by_share(const AttentionConfig& config);

SummaryRead read_features(const SummaryRows& rows, const SummaryPass& pass, FeatureMap map);
/// How badly the summary recalls each token of the groups that are read, [G, B, read_groups(), C] in the
/// sums' type: ‖v − what its own key reads of the groups before its own, as readers see them when its group
/// is folded‖. −∞ of tokens that never enter a summary. No gradient. read_groups() is above 0.
at::Tensor surprises(const SummaryRows& rows, const SummaryPass& pass, FeatureMap map);
/// What the rule `random` has in place of surprises (attention/kept_tokens.h), for values v [G, B, groups, C,
/// e].
at::Tensor random_surprises(const SummaryPass& pass, const at::Tensor& v);
/// The row's division, then its norm where it has a gain.
at::Tensor finish_features(const SummaryRead& read, const SummaryPass& pass);

template <FeatureMap kMap>
SummaryRead read_features(const SummaryRows& rows, const SummaryPass& pass) {
  return read_features(rows, pass, kMap);
}
template <FeatureMap kMap>
Form form_of_features() {
  return {read_features<kMap>, finish_features, false, kMap};
}

/// φ(x) = x.
at::Tensor identity_features(const at::Tensor& x, const ParameterMap&, std::string_view, at::Tensor&);

/// Ωy of rows x [heads, n, d], y = x/d^¼, in the sums' type [heads, n, f]: the tensor `projection` [G, f, d],
/// which query heads that share a key-value head share.
at::Tensor random_projection(const at::Tensor& x, const ParameterMap& parameters);

// Pieces that summaries share.

/// [H, B, groups, C, d] -> [G, B, groups, R · C, d].
at::Tensor share_heads(const at::Tensor& q, int64_t kv_heads);

/// ln λ of the row's decay [G] in the sums' type; undefined where nothing fades.
at::Tensor log_decay_of(const SummaryPass& pass, int64_t kv_heads, const at::TensorOptions& options);

/// Σ_{j ≤ g, same document} λ^(g−j) exp(exponent[j] − largest[g]) x[j] over the layout's first groups: x [G,
/// B, groups, X]. `log_decay` [G], undefined: λ = 1. `exponent` [G, B, groups], undefined: 0; then `largest`
/// is set to its maximum so far in each document.
at::Tensor scan_groups(const at::Tensor& x, const GroupLayout& layout, const at::Tensor& log_decay,
                       const at::Tensor& exponent = {}, at::Tensor* largest = nullptr);

/// x / √(mean x² + ε) over the last dimension of [G, B, groups, R · C, e], times `gain` [H, e] where it is
/// defined.
at::Tensor norm_heads(const at::Tensor& x, const at::Tensor& gain);

}  // namespace linnet::train

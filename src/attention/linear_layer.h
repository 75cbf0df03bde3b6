// What all heads of a linear layer, or of a class of them with a budget of its own, share: parameters, which
// tokens are where, what committing does.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "attention/linear_state.h"
#include "attention/local_branch.h"
#include "attention/method.h"
#include "attention/rotation.h"
#include "attention/sight.h"

namespace linnet {

constexpr int64_t kTileRows = 64;  // queries that read a block of keys together

template <class T>
class LinearLayer {
 public:
  /// `config` is a class's: its budgets are numbers.
  LinearLayer(const AttentionConfig& config, const AttentionShape& shape, const Parameters<T>& parameters,
              const Rotation* rotation);
  /// Another class of the same layer, which shares its summary.
  LinearLayer of_class(const AttentionConfig& own) const;

  AttentionConfig config;
  AttentionShape shape;
  std::shared_ptr<const Summary<T>> summary;  // null: the local branch alone
  std::optional<LocalBranch<T>> local;
  LinearLayout layout;
  int64_t repeat;         // query heads of a key-value head
  T score_scale;          // of local scores: τ, 1 for unit rows
  std::vector<T> alphas;  // [H], logits where learned and convex
  std::vector<T> gates;   // [H, padded d]; empty without
  std::vector<T> decays;  // [G] λ
  std::vector<T> taps;    // [H, K, padded e]

  // Which tokens a position of group g sees (sight.h).
  int64_t window_begin(int64_t group) const { return linnet::window_begin(config, group); }
  int64_t global_end(int64_t group) const { return linnet::global_end(config, group); }
  int64_t first_global() const { return linnet::first_global(config); }
  /// Weight with which position s of another group enters what group g reads.
  T fading(int64_t kv_head, int64_t group, int64_t token_group) const;

  /// The first position not in the summary that a reader of `group` uses, given `committed` tokens: blocks
  /// are folded when the group is max(W, 2) past them, if all of their tokens are committed.
  int64_t folded_end(int64_t group, int64_t committed) const;
  /// Makes the summary and the kept tokens that readers of group − 1 use those of `group`: the summary fades,
  /// then both take in the block that folds now, out of the ring in `part`.
  template <class S>
  void enter_group(int64_t kv_head, T* summary, const Part<T, S>& kept, const Part<const T, const S>& part,
                   int64_t group, int64_t committed) const;
  /// How many tokens readers of `group` find kept.
  int64_t held(int64_t group) const;
  /// Whether the block that folds last for readers of `group` is not all committed while tokens are kept:
  /// which are depends on the path then.
  bool keeps_uncommitted(int64_t group, int64_t committed) const;

  /// What `count` queries [repeat · count, padded d] of each head of a key-value head read of a summary of
  /// `folded` tokens, and of nothing else.
  Reading<T> reading(int64_t kv_head, const T* queries, int64_t count, const T* sums, int64_t folded) const;

  /// o = mix(L, G), or the shared fraction, of row r of what was read, into `near`, which holds the local
  /// branch's numerator [padded e]. `query` [padded d] as the summary reads it.
  void mix(int64_t head, const T* query, T* near, T near_denominator, const SummaryRead<T>& read,
           int64_t r) const;

  /// Writes row `index` into a head's part as the token at `position`.
  template <class S>
  void store(int64_t kv_head, const Part<T, S>& part, const Rows<T>& rows, int64_t index,
             int64_t position) const;
  /// The token at `position`, row `index`, enters a head's part; a new group folds what is due.
  template <class S>
  void append(int64_t kv_head, const Part<T, S>& part, const Rows<T>& rows, int64_t index,
              int64_t position) const;

  /// How far readers of `group` are past the trained positions, where anything turns for it: sinks stand so
  /// many positions further on, and kept tokens no further back than the end of the sinks; 0 while all is
  /// within what was trained. Turning the queries back says the same of both.
  int64_t turn_of(int64_t group) const;
  /// The first position that is not too far back for readers of `group` to be read where it stands.
  int64_t horizon(int64_t group) const {
    const int64_t turn = turn_of(group);
    return turn > 0 ? turn + layout.sinks : 0;
  }
  /// Turns a rotated vector on by `turn` positions (KeyRotation::turn).
  void turn(int64_t turn, T* vector, int64_t stride) const { rotation_->turn(turn, vector, stride); }

  /// Tokens of one block out of the ring as the summary reads them: in scratch where they are held in 16
  /// bits, or where the ring holds rotated keys and the summary reads those before, turned back.
  template <class S>
  TokenBlock<T> summary_tokens(const TokenBlock<T, S>& tokens, Scratch& scratch) const;
  /// Whether the summary's keys are made from the local branch's.
  bool turns_back() const { return reads_before_ && layout.has_local && !layout.separate_keys; }
  const KeyRotation<T>& rotation() const { return *rotation_; }

 private:
  /// `block` enters the kept tokens of readers of `group`, as the summary without it recalls its tokens;
  /// `held_block` are the same as the local branch reads them.
  template <class S>
  void fold_kept(int64_t kv_head, const T* summary, const Part<T, S>& kept, TokenBlock<T> block,
                 const TokenBlock<T, S>& held_block, int64_t group) const;
  /// α of a head's query: a share (convex), or what the summary is added with (additive).
  T alpha_of(int64_t head, const T* query) const;

  /// The layout of a class of heads.
  LinearLayout layout_of(const AttentionConfig& own) const;

  std::shared_ptr<const KeyRotation<T>> rotation_;  // null: how keys turn is not known
  bool reads_before_ = false;                       // the summary reads other keys than the local branch
};

}  // namespace linnet

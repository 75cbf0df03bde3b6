// Linear attention beside a local branch for training: one key-value head of one row of tokens with the query
// heads that share it, forward and backward, in memory that stays in a core's cache. What libtorch's
// operators would write out for all heads and read again (scores, their softmax, keys laid out once per
// group, sums of every group) lives here for some tokens of one head. With groups of C tokens, g the number
// of the query's group within its document, W = window, m = sinks:
//
//     L = softmax(scale q [K_sinks; K_{g−W+1} … K_g, up to the query]ᵀ) V      the sinks from group W on
//     S = Σ_{j ≤ g−W} λ^(g−W−j) φ(K_j)ᵀ V_j,   z likewise of φ(K_j)ᵀ 1         the sinks in neither
//     o = α L + (1 − α) φ(q)ᵀS / max(φ(q)·z, ε),   L where no token stands in S
//
// Sums are in T throughout: float, or double for the tests of gradients.
#pragma once

#include <cstdint>

namespace linnet::kernels {

/// Rows of numbers, one for each head and token.
template <class T>
struct HeadsOfRows {
  T* numbers = nullptr;
  int64_t head = 0, row = 0;  // from one head, and from one token, to the next

  T* at(int64_t h, int64_t token) const { return numbers + h * head + token * row; }
};

/// Sizes are multiples of kPad. Documents begin at groups whose number is 0; what stands behind a document's
/// last token, up to the next, is read by none of its tokens.
struct HeadShape {
  int64_t length;         // tokens; the last group may have fewer than the others
  int64_t group;          // C
  int64_t window;         // W, at least 1
  int64_t sinks;          // at most C
  const int64_t* number;  // of each group
  int64_t queries;        // query heads
  int64_t size, value_size, features;
  double scale, epsilon;
};

template <class T>
struct HeadInputs {
  HeadsOfRows<const T> q, k, v;       // k, v and phi_k of one head
  HeadsOfRows<const T> phi_q, phi_k;  // features
  HeadsOfRows<const T> alpha;         // a number each
  T decay;                            // λ
};

template <class T>
struct HeadGradients {
  HeadsOfRows<T> q, k, v, phi_q, phi_k, alpha;
  T* log_decay;  // one number
};

template <class T>
void head_attention(const HeadShape& shape, const HeadInputs<T>& in, const HeadsOfRows<T>& out);

/// All gradients are written, whatever stood there.
template <class T>
void head_attention_backward(const HeadShape& shape, const HeadInputs<T>& in,
                             const HeadsOfRows<const T>& gradient, const HeadGradients<T>& out);

}  // namespace linnet::kernels

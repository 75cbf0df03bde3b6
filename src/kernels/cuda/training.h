// Kernels of the workshop's own for CUDA devices (sm_80 and newer), on raw pointers. Compiled where libtorch
// and nvcc are CUDA's; elsewhere none.cpp stands in and training_kernels() is false. Each computes what a
// chain of libtorch's operators computes as well, with fewer passes over memory: train/kernels.cpp names that
// chain, and the tests hold the one to the other.
//
// All pointers are the current device's, numbers bfloat16 unless said otherwise, sums in float32. Work is
// queued on the default stream. Throws std::runtime_error where a launch fails.
#pragma once

#include <cstdint>

namespace linnet::cuda {

using Bf16 = uint16_t;

bool training_kernels();

/// Groups of a row: `number` [rows or 1, groups] is each group's number within its document; `per_row` says
/// whether there is one row of numbers a row of the batch.
struct Groups {
  const int64_t* number;
  bool per_row;
  int heads, rows, groups;  // key-value heads G, batch B
};

// ---- y[g] = Σ_{j ≤ g − lag, same document} λ^(g − lag − j) x[j]; 0 where there is none.

/// x, y [G, B, groups, width], width even, log_decay [G] float32.
void scan(const Groups& groups, int lag, int64_t width, const float* log_decay, const Bf16* x, Bf16* y);
/// How many partial sums of log λ's gradient a head has.
int scan_partials(const Groups& groups, int64_t width);
/// Gradients of x and of log λ, the latter as [G, scan_partials()] float32 to be summed.
void scan_backward(const Groups& groups, int lag, int64_t width, const float* log_decay, const Bf16* y,
                   const Bf16* dy, Bf16* dx, float* dlog_decay);

// ---- Softmax over the own group up to the query, the last W − 1 groups and the first `sinks` tokens.

constexpr int kWindowGroup = 64, kWindowHead = 64, kWindowSinks = 16;  // C, d = e, most sinks

struct Window {
  Groups groups;
  int repeats;  // R query heads of a key-value head
  int window;   // W
  int sinks;
  float scale;
};

/// q, out [G, B, groups, R · 64, 64], k, v [G, B, groups, 64, 64], lse [G, B, groups, R · 64] float32.
void window_forward(const Window& window, const Bf16* q, const Bf16* k, const Bf16* v, Bf16* out, float* lse);
/// `delta` like lse is scratch. sink_k, sink_v [G, B, groups, R, sinks, 64] float32: what each group's
/// queries give to the sinks of their document, to be summed over groups and added (dk, dv hold the windows'
/// alone).
void window_backward(const Window& window, const Bf16* q, const Bf16* k, const Bf16* v, const Bf16* out,
                     const float* lse, const Bf16* dout, float* delta, Bf16* dq, Bf16* dk, Bf16* dv,
                     float* sink_k, float* sink_v);

// ---- α L + (1 − α) N/D by tokens, α = σ(alpha + q·gate).

struct Mix {
  Groups groups;
  int repeats, size;       // R, C
  int length;              // n tokens a row
  const int64_t* inverse;  // [B · n] each token's place of B · groups · C; null: in order
  int lag, sinks;          // a query reads (number − lag + 1) · C − sinks tokens; none: α = 1
  int head;                // d = e: a multiple of 2, at most 128
  float least;             // D is at least this
};

constexpr int kMixPadding = 8;  // numbers behind a numerator's: the denominator and zeros

/// read [G, B, groups, R · C, e + 8]: numerator and denominator; local [G, B, groups, R · C, e]; q [G · R, B,
/// groups, C, d]; alpha [H] and gate [H, d] float32 (gate null: none); out [B, n, H, e].
void mix(const Mix& mix, const Bf16* read, const Bf16* local, const Bf16* q, const float* alpha,
         const float* gate, Bf16* out);
int mix_partials(const Mix& mix);
/// dq may be null. dgate [H, mix_partials(), d + 1] float32 to be summed: the gate's gradient, then alpha's.
/// Places without a token are not written.
void mix_backward(const Mix& mix, const Bf16* read, const Bf16* local, const Bf16* q, const float* alpha,
                  const float* gate, const Bf16* dout, Bf16* dread, Bf16* dlocal, Bf16* dq, float* dgate);

// ---- Heads and rotary.

/// Heads of tokens in any order of strides (in numbers, multiples of 8): x[row][head][token][0 … d).
struct HeadRows {
  Bf16* data;  // null: absent
  int64_t row, head, token;
};

struct Split {
  int rows, length, heads, kv_heads, head;  // head: d, a multiple of 8
  int turned;  // m: the first 2m of d numbers are turned, a multiple of 8; 0: none
  bool angles_per_row;
  const float *cos, *sin;  // [rows or 1, length, m]
};

/// qkv [rows, length, (H + 2G) · d] into q, k (turned), v and, where they are, q and k as they stand.
void split_heads(const Split& split, const Bf16* qkv, const HeadRows& q, const HeadRows& k, const HeadRows& v,
                 const HeadRows& plain_q, const HeadRows& plain_k);
/// And back: the gradients' sum.
void join_heads(const Split& split, Bf16* qkv, const HeadRows& q, const HeadRows& k, const HeadRows& v,
                const HeadRows& plain_q, const HeadRows& plain_k);

// ---- Losses of logits.

/// loss[row] = weight[row] · KL(softmax(teacher) ‖ softmax(logits)); logits [rows, vocabulary], a multiple of
/// 8, become the gradient where `gradient`.
void divergence(int rows, int vocabulary, Bf16* logits, const Bf16* teacher, const float* weight, float* loss,
                bool gradient);
/// loss[row] = −weight[row] · ln softmax(logits)[target[row]]; likewise.
void cross_entropy(int rows, int vocabulary, Bf16* logits, const int64_t* target, const float* weight,
                   float* loss, bool gradient);

}  // namespace linnet::cuda

// Both branches' mix, the summary's division and the gate: a warp per token and head, each number read and
// written once, from the layout of groups to that of tokens.
#include "kernels/cuda/warp.cuh"

namespace linnet::cuda {
namespace {

constexpr int kWarps = 8, kTokens = 256;  // tokens of a block
constexpr int kPairs = 2;                 // pairs a lane: heads of up to 128 numbers

struct Row {
  int64_t read, local, q;  // rows of numerators, of local outputs, of queries
  bool any;                // whether the query reads any token globally
};

__device__ Row row_of(const Mix& m, int head, int64_t token) {
  const int rows = m.groups.rows, groups = m.groups.groups;
  int64_t place = token;
  if (m.inverse != nullptr) {
    place = m.inverse[token];
  } else {
    const int64_t row = token / m.length;
    place = row * groups * m.size + (token - row * m.length);
  }
  const int c = static_cast<int>(place % m.size);
  const int64_t group = place / m.size;  // of all rows
  const int64_t row = group / groups;
  const int64_t number = m.groups.number[m.groups.per_row ? group : group - row * groups];
  const int kv = head / m.repeats, repeat = head - kv * m.repeats;
  const int64_t all = static_cast<int64_t>(rows) * groups;
  const int64_t out = ((kv * all + group) * m.repeats + repeat) * m.size + c;
  return {out, out, (head * all + group) * m.size + c, (number - m.lag + 1) * m.size - m.sinks > 0};
}

/// What both directions know of a token's head: the pairs that the lane holds.
struct Token {
  float read[2 * kPairs], local[2 * kPairs], q[2 * kPairs], gate[2 * kPairs];
  float scale;  // 1 / max(D, least)
  bool clamped;
  float alpha;
};

__device__ Token load(const Mix& m, const Row& row, int head, const uint32_t* read, const uint32_t* local,
                      const uint32_t* q, const float* alpha, const float* gate) {
  Token t;
  const int lane = threadIdx.x % 32, pairs = m.head / 2, stride = (m.head + kMixPadding) / 2;
  float logit = 0;
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    const int pair = lane + 32 * i;
    const bool inside = pair < pairs;
    const uint32_t r = inside && row.any ? read[row.read * stride + pair] : 0;
    const uint32_t l = inside ? local[row.local * pairs + pair] : 0;
    const uint32_t x = inside && gate != nullptr ? q[row.q * pairs + pair] : 0;
    t.read[2 * i] = low(r), t.read[2 * i + 1] = high(r);
    t.local[2 * i] = low(l), t.local[2 * i + 1] = high(l);
    t.q[2 * i] = low(x), t.q[2 * i + 1] = high(x);
    for (int j = 0; j < 2; ++j) {
      t.gate[2 * i + j] = inside && gate != nullptr ? gate[head * m.head + 2 * pair + j] : 0.0f;
      logit += t.q[2 * i + j] * t.gate[2 * i + j];
    }
  }
  logit = warp_sum(logit) + alpha[head];
  const float denominator = row.any ? low(read[row.read * stride + pairs]) : 1.0f;
  t.clamped = denominator < m.least;
  t.scale = 1.0f / fmaxf(denominator, m.least);
  t.alpha = row.any ? 1.0f / (1.0f + expf(-logit)) : 1.0f;
  return t;
}

__global__ void mix_kernel(Mix m, const uint32_t* read, const uint32_t* local, const uint32_t* q,
                           const float* alpha, const float* gate, uint32_t* out) {
  const int head = blockIdx.y, heads = gridDim.y, lane = threadIdx.x % 32, pairs = m.head / 2;
  const int64_t tokens = static_cast<int64_t>(m.groups.rows) * m.length;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTokens;
  for (int64_t token = first + threadIdx.x / 32; token < first + kTokens && token < tokens; token += kWarps) {
    const Token t = load(m, row_of(m, head, token), head, read, local, q, alpha, gate);
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int pair = lane + 32 * i;
      if (pair >= pairs) break;
      float mixed[2];
      for (int j = 0; j < 2; ++j) {
        const float global = t.read[2 * i + j] * t.scale;
        mixed[j] = global + t.alpha * (t.local[2 * i + j] - global);
      }
      out[(token * heads + head) * pairs + pair] = pack(mixed[0], mixed[1]);
    }
  }
}

__global__ void mix_backward_kernel(Mix m, const uint32_t* read, const uint32_t* local, const uint32_t* q,
                                    const float* alpha, const float* gate, const uint32_t* dout,
                                    uint32_t* dread, uint32_t* dlocal, uint32_t* dq, float* dgate) {
  __shared__ float sums[kWarps][64 * kPairs + 1];
  const int head = blockIdx.y, heads = gridDim.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int pairs = m.head / 2, stride = (m.head + kMixPadding) / 2;
  const int64_t tokens = static_cast<int64_t>(m.groups.rows) * m.length;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kTokens;
  float of_gate[2 * kPairs] = {}, of_alpha = 0;
  for (int64_t token = first + warp; token < first + kTokens && token < tokens; token += kWarps) {
    const Row row = row_of(m, head, token);
    const Token t = load(m, row, head, read, local, q, alpha, gate);
    float gradient[2 * kPairs], dalpha = 0, along = 0;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int pair = lane + 32 * i;
      const uint32_t g = pair < pairs ? dout[(token * heads + head) * pairs + pair] : 0;
      gradient[2 * i] = low(g), gradient[2 * i + 1] = high(g);
      for (int j = 0; j < 2; ++j) {
        const float global = t.read[2 * i + j] * t.scale;
        dalpha += gradient[2 * i + j] * (t.local[2 * i + j] - global);
        along += gradient[2 * i + j] * global;
      }
    }
    dalpha = warp_sum(dalpha);
    along = warp_sum(along);
    const float far = 1.0f - t.alpha, dlogit = row.any ? dalpha * t.alpha * far : 0.0f;
#pragma unroll
    for (int i = 0; i < kPairs; ++i) {
      const int pair = lane + 32 * i;
      for (int j = 0; j < 2; ++j) of_gate[2 * i + j] += dlogit * t.q[2 * i + j];
      if (pair >= pairs) continue;
      const float a = gradient[2 * i], b = gradient[2 * i + 1];
      dlocal[row.local * pairs + pair] = pack(a * t.alpha, b * t.alpha);
      dread[row.read * stride + pair] = row.any ? pack(a * far * t.scale, b * far * t.scale) : 0;
      if (dq != nullptr) dq[row.q * pairs + pair] = pack(dlogit * t.gate[2 * i], dlogit * t.gate[2 * i + 1]);
    }
    of_alpha += dlogit;
    if (lane < kMixPadding / 2) {
      const float denominator = row.any && !t.clamped ? -along * far * t.scale : 0.0f;
      dread[row.read * stride + pairs + lane] = lane == 0 ? pack(denominator, 0.0f) : 0;
    }
  }
#pragma unroll
  for (int i = 0; i < kPairs; ++i) {
    sums[warp][2 * (lane + 32 * i)] = of_gate[2 * i];
    sums[warp][2 * (lane + 32 * i) + 1] = of_gate[2 * i + 1];
  }
  if (lane == 0) sums[warp][64 * kPairs] = of_alpha;
  __syncthreads();
  for (int i = threadIdx.x; i <= m.head; i += blockDim.x) {
    float sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += sums[w][i < m.head ? i : 64 * kPairs];
    dgate[(static_cast<int64_t>(head) * gridDim.x + blockIdx.x) * (m.head + 1) + i] = sum;
  }
}

dim3 grid_of(const Mix& m) { return dim3(mix_partials(m), m.groups.heads * m.repeats); }

const uint32_t* pairs_of(const Bf16* x) { return reinterpret_cast<const uint32_t*>(x); }
uint32_t* pairs_of(Bf16* x) { return reinterpret_cast<uint32_t*>(x); }

}  // namespace

int mix_partials(const Mix& m) {
  return static_cast<int>((static_cast<int64_t>(m.groups.rows) * m.length + kTokens - 1) / kTokens);
}

void mix(const Mix& m, const Bf16* read, const Bf16* local, const Bf16* q, const float* alpha,
         const float* gate, Bf16* out) {
  launch(mix_kernel, grid_of(m), 32 * kWarps, m, pairs_of(read), pairs_of(local), pairs_of(q), alpha, gate,
         pairs_of(out));
}

void mix_backward(const Mix& m, const Bf16* read, const Bf16* local, const Bf16* q, const float* alpha,
                  const float* gate, const Bf16* dout, Bf16* dread, Bf16* dlocal, Bf16* dq, float* dgate) {
  launch(mix_backward_kernel, grid_of(m), 32 * kWarps, m, pairs_of(read), pairs_of(local), pairs_of(q), alpha,
         gate, pairs_of(dout), pairs_of(dread), pairs_of(dlocal), pairs_of(dq), dgate);
}

}  // namespace linnet::cuda

// The local branch's softmax attention over tiles of a group's 64 queries and a group's 64 keys, on the
// matrix units: scores and weights stay in registers, and the backward pass makes them again from each
// query's logarithm of its sum (lse, to base 2). Two kernels go backward, so that no two blocks add to one
// number: one block per group of queries, then one per group of keys. Each of a block's 4 warps owns 16 rows
// of its tile.
//
// Sinks are a tile of their own: the first tokens of the query's document, once its window is past them.
#include "kernels/cuda/warp.cuh"

namespace linnet::cuda {
namespace {

constexpr int kThreads = 128, kTile = kWindowGroup, kHead = kWindowHead;
constexpr int kRow = kHead + 8;  // a padded row of a tile: no two rows of a matrix share banks
constexpr int kSteps = kHead / 16;
constexpr int64_t kTileSize = kTile * kHead;
static_assert(kTile == 64 && kHead == 64);

using Tile = Bf16[kTile][kRow];
using Fragment = uint32_t[4];

/// A tile of 64 rows to shared memory.
__device__ void fetch(Tile& tile, const Bf16* from) {
#pragma unroll
  for (int i = 0; i < kTile * kHead / 8 / kThreads; ++i) {
    const int chunk = i * kThreads + threadIdx.x, row = chunk / (kHead / 8), column = chunk % (kHead / 8) * 8;
    *reinterpret_cast<int4*>(&tile[row][column]) = *reinterpret_cast<const int4*>(from + chunk * 8);
  }
}

/// The warp's 16 rows of a tile as left operands.
__device__ void load_left(Fragment (&a)[kSteps], const Tile& tile) {
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane % 16;
#pragma unroll
  for (int step = 0; step < kSteps; ++step) load_matrices(a[step], &tile[row][step * 16 + lane / 16 * 8]);
}

/// c [16, 8 · N] = a · tile[first … first + 8N)ᵀ, those columns from `limit` on left 0.
template <int N>
__device__ void times_rows(float (&c)[N][4], const Fragment (&a)[kSteps], const Tile& tile, int first,
                           int limit) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int n = 0; n < N; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) c[n][i] = 0;
    if (first + 8 * n >= limit) continue;
#pragma unroll
    for (int step = 0; step < kSteps; step += 2) {
      Fragment b;
      load_matrices(b, &tile[first + 8 * n + lane % 8][step * 16 + lane / 8 * 8]);
      multiply_add(c[n], a[step], b[0], b[1]);
      multiply_add(c[n], a[step + 1], b[2], b[3]);
    }
  }
}

/// out [16, 64] += c [16, 8N] · tile[first … first + 8N), rows from `limit` on not read (c is 0 there).
template <int N>
__device__ void add_product(float (&out)[kHead / 8][4], const float (&c)[N][4], const Tile& tile, int first,
                            int limit) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int n = 0; n < N; n += 2) {
    if (first + 8 * n >= limit) continue;
    const Fragment a = {pack(c[n][0], c[n][1]), pack(c[n][2], c[n][3]), pack(c[n + 1][0], c[n + 1][1]),
                        pack(c[n + 1][2], c[n + 1][3])};
#pragma unroll
    for (int d = 0; d < kHead / 8; d += 2) {
      Fragment b;
      load_transposed(b, &tile[first + 8 * n + lane % 16][(d + lane / 16) * 8]);
      multiply_add(out[d], a, b[0], b[1]);
      multiply_add(out[d + 1], a, b[2], b[3]);
    }
  }
}

/// The warp's 16 rows, c [16, 64] times a number per half, to memory.
__device__ void store(Bf16* to, const float (&c)[kHead / 8][4], float first, float second) {
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4, column = lane % 4 * 2;
#pragma unroll
  for (int d = 0; d < kHead / 8; ++d) {
    *reinterpret_cast<uint32_t*>(to + row * kHead + d * 8 + column) = pack(c[d][0] * first, c[d][1] * first);
    *reinterpret_cast<uint32_t*>(to + (row + 8) * kHead + d * 8 + column) =
        pack(c[d][2] * second, c[d][3] * second);
  }
}

__device__ float quad_sum(float x) {
  x += exchanged(x, 1);
  return x + exchanged(x, 2);
}
__device__ float quad_most(float x) {
  x = fmaxf(x, exchanged(x, 1));
  return fmaxf(x, exchanged(x, 2));
}

/// A block's group of queries: which tiles it reads.
struct Reader {
  int64_t tile;  // of queries
  int64_t keys;  // tile of the group's own keys
  int number;    // the group's number in its document
  int tiles;     // that it reads: its sinks', where it has one, then the window's from the oldest
  bool sinks;

  __device__ int64_t key_tile(int i) const {
    return sinks && i == 0 ? keys - number : keys - (tiles - 1 - i);
  }
  __device__ bool is_sinks(int i) const { return sinks && i == 0; }
  __device__ bool is_own(int i) const { return i == tiles - 1; }
};

__device__ int number_of(const Groups& groups, int head_row, int group) {
  const int row = head_row % groups.rows;
  return static_cast<int>(groups.number[(groups.per_row ? row * groups.groups : 0) + group]);
}

__device__ Reader reader_of(const Window& w) {
  const int group = blockIdx.x / w.repeats, head_row = blockIdx.y;
  const int number = number_of(w.groups, head_row, group);
  const int64_t first = static_cast<int64_t>(head_row) * w.groups.groups;
  Reader r;
  r.tile = first * w.repeats + blockIdx.x;
  r.keys = first + group;
  r.number = number;
  r.sinks = w.sinks > 0 && number >= w.window;
  r.tiles = (number < w.window ? number + 1 : w.window) + (r.sinks ? 1 : 0);
  return r;
}

__global__ void __launch_bounds__(kThreads)
    window_forward_kernel(Window w, const Bf16* q, const Bf16* k, const Bf16* v, Bf16* out, float* lse) {
  __shared__ __align__(16) Tile keys;
  __shared__ __align__(16) Tile values;
  const Reader reader = reader_of(w);
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4, column = lane % 4 * 2;
  const float scale = w.scale * 1.44269504f;  // powers of 2
  fetch(keys, q + reader.tile * kTileSize);
  __syncthreads();
  Fragment queries[kSteps];
  load_left(queries, keys);
  float sum[kHead / 8][4] = {}, most[2] = {-INFINITY, -INFINITY}, weight[2] = {0, 0};
  for (int i = 0; i < reader.tiles; ++i) {
    __syncthreads();
    fetch(keys, k + reader.key_tile(i) * kTileSize);
    fetch(values, v + reader.key_tile(i) * kTileSize);
    __syncthreads();
    const int limit = reader.is_sinks(i) ? w.sinks : kTile;
    float s[kTile / 8][4];
    times_rows(s, queries, keys, 0, limit);
    float largest[2] = {-INFINITY, -INFINITY};
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int key = n * 8 + column + j % 2;
        const bool hidden = key >= limit || (reader.is_own(i) && key > row + j / 2 * 8);
        s[n][j] = hidden ? -INFINITY : s[n][j] * scale;
        largest[j / 2] = fmaxf(largest[j / 2], s[n][j]);
      }
    }
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float now = fmaxf(most[half], quad_most(largest[half]));
      const float shrink = exp2f(most[half] - now);
      most[half] = now;
      weight[half] *= shrink;
#pragma unroll
      for (int d = 0; d < kHead / 8; ++d) sum[d][2 * half] *= shrink, sum[d][2 * half + 1] *= shrink;
    }
#pragma unroll
    for (int n = 0; n < kTile / 8; ++n) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        s[n][j] = exp2f(s[n][j] - most[j / 2]);
        weight[j / 2] += s[n][j];
      }
    }
    add_product(sum, s, values, 0, limit);
  }
  weight[0] = quad_sum(weight[0]);
  weight[1] = quad_sum(weight[1]);
  store(out + reader.tile * kTileSize, sum, 1.0f / weight[0], 1.0f / weight[1]);
  if (lane % 4 == 0) {
    lse[reader.tile * kTile + row] = most[0] + log2f(weight[0]);
    lse[reader.tile * kTile + row + 8] = most[1] + log2f(weight[1]);
  }
}

/// Σ over the sinks' weights: to[sink][d] = Σ_query of[query][sink] · tile[query][d].
__device__ void give_to_sinks(float* to, const float (&of)[kTile][kWindowSinks], const Tile& tile,
                              int sinks) {
  for (int i = threadIdx.x; i < sinks * kHead; i += kThreads) {
    const int sink = i / kHead, d = i % kHead;
    float sum = 0;
    for (int row = 0; row < kTile; ++row) sum += of[row][sink] * to_float(tile[row][d]);
    to[i] = sum;
  }
}

/// Gradients of a group's queries, and what they give to their sinks.
__global__ void __launch_bounds__(kThreads)
    window_backward_queries(Window w, const Bf16* q, const Bf16* k, const Bf16* v, const Bf16* out,
                            const float* lse, const Bf16* dout, float* delta, Bf16* dq, float* sink_k,
                            float* sink_v) {
  __shared__ __align__(16) Tile keys;
  __shared__ __align__(16) Tile values;
  __shared__ __align__(16) Tile tile;
  __shared__ float of_weights[kTile][kWindowSinks], of_scores[kTile][kWindowSinks];
  const Reader reader = reader_of(w);
  const int lane = threadIdx.x % 32, row = threadIdx.x / 32 * 16 + lane / 4, column = lane % 4 * 2;
  const float scale = w.scale * 1.44269504f;
  const int64_t sinks_of = reader.tile * w.sinks * kHead;
  fetch(keys, q + reader.tile * kTileSize);
  fetch(tile, dout + reader.tile * kTileSize);
  fetch(values, out + reader.tile * kTileSize);
  __syncthreads();
  Fragment queries[kSteps], gradients[kSteps];
  load_left(queries, keys);
  load_left(gradients, tile);
  float own[2] = {0, 0}, logarithm[2];
  {
    Fragment outputs[kSteps];
    load_left(outputs, values);
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int j = 0; j < 4; ++j)
        own[j % 2] += low(outputs[step][j]) * low(gradients[step][j]) +
                      high(outputs[step][j]) * high(gradients[step][j]);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    own[half] = quad_sum(own[half]);
    logarithm[half] = lse[reader.tile * kTile + row + 8 * half];
    if (lane % 4 == 0) delta[reader.tile * kTile + row + 8 * half] = own[half];
  }
  if (w.sinks > 0 && !reader.sinks) {
    for (int i = threadIdx.x; i < w.sinks * kHead; i += kThreads)
      sink_k[sinks_of + i] = 0, sink_v[sinks_of + i] = 0;
  }
  float sum[kHead / 8][4] = {};
  for (int i = 0; i < reader.tiles; ++i) {
    __syncthreads();
    fetch(keys, k + reader.key_tile(i) * kTileSize);
    fetch(values, v + reader.key_tile(i) * kTileSize);
    __syncthreads();
    const int limit = reader.is_sinks(i) ? w.sinks : kTile;
    for (int first = 0; first < limit; first += 32) {
      float s[4][4], dp[4][4];
      times_rows(s, queries, keys, first, limit);
      times_rows(dp, gradients, values, first, limit);
#pragma unroll
      for (int n = 0; n < 4; ++n) {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const int key = first + n * 8 + column + j % 2, query = row + j / 2 * 8;
          const bool hidden = key >= limit || (reader.is_own(i) && key > query);
          const float p = hidden ? 0.0f : exp2f(s[n][j] * scale - logarithm[j / 2]);
          s[n][j] = hidden ? 0.0f : p * (dp[n][j] - own[j / 2]) * w.scale;
          if (reader.is_sinks(i) && key < kWindowSinks) {
            of_weights[query][key] = p;
            of_scores[query][key] = s[n][j];
          }
        }
      }
      add_product(sum, s, keys, first, limit);
    }
    if (reader.is_sinks(i)) {
      __syncthreads();
      give_to_sinks(sink_v + sinks_of, of_weights, tile, w.sinks);
      fetch(values, q + reader.tile * kTileSize);
      __syncthreads();
      give_to_sinks(sink_k + sinks_of, of_scores, values, w.sinks);
    }
  }
  store(dq + reader.tile * kTileSize, sum, 1.0f, 1.0f);
}

/// Gradients of a group's keys and values, of all queries whose windows hold them. Scores are transposed: the
/// warp's rows are keys.
__global__ void __launch_bounds__(kThreads)
    window_backward_keys(Window w, const Bf16* q, const Bf16* k, const Bf16* v, const float* lse,
                         const Bf16* dout, const float* delta, Bf16* dk, Bf16* dv) {
  __shared__ __align__(16) Tile queries;
  __shared__ __align__(16) Tile gradients;
  __shared__ float logarithm[kTile], own[kTile];
  const int group = blockIdx.x, head_row = blockIdx.y;
  const int lane = threadIdx.x % 32, key = threadIdx.x / 32 * 16 + lane / 4, column = lane % 4 * 2;
  const int64_t tile = static_cast<int64_t>(head_row) * w.groups.groups + group;
  const float scale = w.scale * 1.44269504f;
  fetch(queries, k + tile * kTileSize);
  fetch(gradients, v + tile * kTileSize);
  __syncthreads();
  Fragment keys[kSteps], values[kSteps];
  load_left(keys, queries);
  load_left(values, gradients);
  float of_keys[kHead / 8][4] = {}, of_values[kHead / 8][4] = {};
  for (int reader = group; reader < group + w.window && reader < w.groups.groups; ++reader) {
    if (number_of(w.groups, head_row, reader) < reader - group) break;  // another document
    for (int repeat = 0; repeat < w.repeats; ++repeat) {
      const int64_t from = (tile - group + reader) * w.repeats + repeat;
      __syncthreads();
      fetch(queries, q + from * kTileSize);
      fetch(gradients, dout + from * kTileSize);
      if (threadIdx.x < kTile) {
        logarithm[threadIdx.x] = lse[from * kTile + threadIdx.x];
        own[threadIdx.x] = delta[from * kTile + threadIdx.x];
      }
      __syncthreads();
      for (int first = 0; first < kTile; first += 32) {
        float s[4][4], dp[4][4];
        times_rows(s, keys, queries, first, kTile);
        times_rows(dp, values, gradients, first, kTile);
#pragma unroll
        for (int n = 0; n < 4; ++n) {
#pragma unroll
          for (int j = 0; j < 4; ++j) {
            const int query = first + n * 8 + column + j % 2;
            const bool hidden = reader == group && key + j / 2 * 8 > query;
            s[n][j] = hidden ? 0.0f : exp2f(s[n][j] * scale - logarithm[query]);
            dp[n][j] = s[n][j] * (dp[n][j] - own[query]) * w.scale;
          }
        }
        add_product(of_values, s, gradients, first, kTile);
        add_product(of_keys, dp, queries, first, kTile);
      }
    }
  }
  store(dk + tile * kTileSize, of_keys, 1.0f, 1.0f);
  store(dv + tile * kTileSize, of_values, 1.0f, 1.0f);
}

}  // namespace

void window_forward(const Window& w, const Bf16* q, const Bf16* k, const Bf16* v, Bf16* out, float* lse) {
  launch(window_forward_kernel, dim3(w.groups.groups * w.repeats, w.groups.heads * w.groups.rows), kThreads,
         w, q, k, v, out, lse);
}

void window_backward(const Window& w, const Bf16* q, const Bf16* k, const Bf16* v, const Bf16* out,
                     const float* lse, const Bf16* dout, float* delta, Bf16* dq, Bf16* dk, Bf16* dv,
                     float* sink_k, float* sink_v) {
  const unsigned heads = w.groups.heads * w.groups.rows;
  launch(window_backward_queries, dim3(w.groups.groups * w.repeats, heads), kThreads, w, q, k, v, out, lse,
         dout, delta, dq, sink_k, sink_v);
  launch(window_backward_keys, dim3(w.groups.groups, heads), kThreads, w, q, k, v, lse, dout,
         static_cast<const float*>(delta), dk, dv);
}

}  // namespace linnet::cuda

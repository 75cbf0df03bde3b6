// Products side by side into heads, queries and keys turned on the way, and back: one thread per 8 numbers,
// or per 8 and the 8 that they are turned with.
#include "kernels/cuda/device.cuh"

namespace linnet::cuda {
namespace {

constexpr int kThreads = 256, kEight = 8;

struct Eight {
  float x[kEight];
};

__device__ Eight read(const Bf16* from) {
  const int4 all = *reinterpret_cast<const int4*>(from);
  const uint32_t pairs[4] = {static_cast<uint32_t>(all.x), static_cast<uint32_t>(all.y),
                             static_cast<uint32_t>(all.z), static_cast<uint32_t>(all.w)};
  Eight e;
#pragma unroll
  for (int i = 0; i < 4; ++i) e.x[2 * i] = low(pairs[i]), e.x[2 * i + 1] = high(pairs[i]);
  return e;
}

__device__ void write(Bf16* to, const Eight& e) {
  int4 all;
  all.x = static_cast<int>(pack(e.x[0], e.x[1]));
  all.y = static_cast<int>(pack(e.x[2], e.x[3]));
  all.z = static_cast<int>(pack(e.x[4], e.x[5]));
  all.w = static_cast<int>(pack(e.x[6], e.x[7]));
  *reinterpret_cast<int4*>(to) = all;
}

struct Piece {
  bool inside, turns;
  int row, token, head;  // the head among all of qkv
  int64_t product;       // of qkv, numbers
  int column, partner;   // within the head
  int64_t angle;
};

__device__ Piece piece_of(const Split& s) {
  const int pairs = s.turned / kEight, pieces = s.head / kEight - pairs, all = s.heads + 2 * s.kv_heads;
  int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  Piece p;
  const int piece = static_cast<int>(i % pieces);
  i /= pieces;
  p.head = static_cast<int>(i % all);
  i /= all;
  p.inside = i < static_cast<int64_t>(s.rows) * s.length;
  p.product = (i * all + p.head) * s.head;
  p.row = static_cast<int>(i / s.length);
  p.token = static_cast<int>(i - static_cast<int64_t>(p.row) * s.length);
  p.turns = piece < pairs;
  p.column = piece * kEight + (p.turns ? 0 : s.turned);
  p.partner = p.column + s.turned;
  p.angle = ((s.angles_per_row ? static_cast<int64_t>(p.row) * s.length : 0) + p.token) * s.turned + p.column;
  return p;
}

/// a, b turned by the piece's angles, or back.
__device__ void turn(const Split& s, const Piece& p, Eight& a, Eight& b, float sign) {
#pragma unroll
  for (int i = 0; i < kEight; ++i) {
    const float cosine = s.cos[p.angle + i], sine = s.sin[p.angle + i] * sign, x = a.x[i], y = b.x[i];
    a.x[i] = x * cosine - y * sine;
    b.x[i] = y * cosine + x * sine;
  }
}

/// Where the piece's head stands in rows of heads.
__device__ Bf16* at(const HeadRows& rows, const Piece& p, int head) {
  return rows.data + p.row * rows.row + head * rows.head + p.token * rows.token;
}

/// Which of the rows a head of qkv belongs to.
struct Target {
  HeadRows turned, plain;
  int head;
};

__device__ Target target_of(const Split& s, int head, const HeadRows& q, const HeadRows& k, const HeadRows& v,
                            const HeadRows& plain_q, const HeadRows& plain_k) {
  if (head < s.heads) return {q, plain_q, head};
  if (head < s.heads + s.kv_heads) return {k, plain_k, head - s.heads};
  return {{nullptr, 0, 0, 0}, v, head - s.heads - s.kv_heads};
}

__global__ void split_kernel(Split s, const Bf16* qkv, HeadRows q, HeadRows k, HeadRows v, HeadRows plain_q,
                             HeadRows plain_k) {
  const Piece p = piece_of(s);
  if (!p.inside) return;
  const Target to = target_of(s, p.head, q, k, v, plain_q, plain_k);
  Eight a = read(qkv + p.product + p.column), b = a;
  if (p.turns) b = read(qkv + p.product + p.partner);
  if (to.plain.data != nullptr) {
    write(at(to.plain, p, to.head) + p.column, a);
    if (p.turns) write(at(to.plain, p, to.head) + p.partner, b);
  }
  if (to.turned.data == nullptr) return;
  if (p.turns) turn(s, p, a, b, 1.0f);
  write(at(to.turned, p, to.head) + p.column, a);
  if (p.turns) write(at(to.turned, p, to.head) + p.partner, b);
}

__device__ void add(Eight& a, const Bf16* from) {
  const Eight b = read(from);
#pragma unroll
  for (int i = 0; i < kEight; ++i) a.x[i] += b.x[i];
}

__global__ void join_kernel(Split s, Bf16* qkv, HeadRows q, HeadRows k, HeadRows v, HeadRows plain_q,
                            HeadRows plain_k) {
  const Piece p = piece_of(s);
  if (!p.inside) return;
  const Target from = target_of(s, p.head, q, k, v, plain_q, plain_k);
  Eight a = {}, b = {};
  if (from.turned.data != nullptr) {
    a = read(at(from.turned, p, from.head) + p.column);
    if (p.turns) {
      b = read(at(from.turned, p, from.head) + p.partner);
      turn(s, p, a, b, -1.0f);
    }
  }
  if (from.plain.data != nullptr) {
    add(a, at(from.plain, p, from.head) + p.column);
    if (p.turns) add(b, at(from.plain, p, from.head) + p.partner);
  }
  write(qkv + p.product + p.column, a);
  if (p.turns) write(qkv + p.product + p.partner, b);
}

dim3 grid_of(const Split& s) {
  const int64_t pieces = (s.head - s.turned) / kEight;
  const int64_t all = static_cast<int64_t>(s.rows) * s.length * (s.heads + 2 * s.kv_heads) * pieces;
  return dim3(static_cast<unsigned>((all + kThreads - 1) / kThreads));
}

}  // namespace

void split_heads(const Split& split, const Bf16* qkv, const HeadRows& q, const HeadRows& k, const HeadRows& v,
                 const HeadRows& plain_q, const HeadRows& plain_k) {
  launch(split_kernel, grid_of(split), kThreads, split, qkv, q, k, v, plain_q, plain_k);
}

void join_heads(const Split& split, Bf16* qkv, const HeadRows& q, const HeadRows& k, const HeadRows& v,
                const HeadRows& plain_q, const HeadRows& plain_k) {
  launch(join_kernel, grid_of(split), kThreads, split, qkv, q, k, v, plain_q, plain_k);
}

}  // namespace linnet::cuda

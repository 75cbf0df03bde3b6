#include "train/attention/softmax.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "train/attention/bias.h"
#include "train/compat.h"
#include "train/ops.h"

namespace linnet::train {

using torch::autograd::AutogradContext;
using torch::autograd::Function;
namespace {

/// A block of queries and the keys that any of them sees.
struct Block {
  int64_t first, last;  // queries
  int64_t from;         // keys from … last − 1
  at::Tensor hidden;    // keys that a query doesn't see: [queries, keys] or [B, 1, 1, queries, keys] bool
};

constexpr int64_t kBlock = 256;  // queries: their scores stay near the cache, their products near full speed

std::vector<Block> blocks_of(const at::Tensor& starts, int64_t n, int64_t window, at::Device device) {
  std::vector<Block> blocks;
  for (int64_t first = 0; first < n; first += kBlock) {
    Block block{first, std::min(n, first + kBlock), 0, {}};
    if (window > 0) block.from = std::max<int64_t>(0, first - window + 1);
    at::Tensor begins;  // [B, queries, 1]
    if (starts.numel() > 0) {
      begins = starts.narrow(1, first, block.last - first);
      block.from = std::max(block.from, begins.min().item<int64_t>());
      begins = begins.unsqueeze(-1);
    }
    const at::Tensor query = at::arange(first, block.last, at::kLong).unsqueeze(-1);
    const at::Tensor key = at::arange(block.from, block.last, at::kLong);
    at::Tensor hidden = key > query;
    if (window > 0) hidden = hidden.logical_or(key <= query - window);
    if (begins.defined()) hidden = hidden.logical_or(key < begins).unsqueeze(1).unsqueeze(1);
    block.hidden = hidden.to(device, true);
    blocks.push_back(std::move(block));
  }
  return blocks;
}

/// q [B, G, R, n, d] scaled by τ; k [B, G, n, d]; v [B, G, n, e].
struct BlockedSoftmax : Function<BlockedSoftmax> {
  struct Products {
    at::Tensor keys, values, queries, weights;  // weights [B, G, R, queries, keys], the softmax
    at::Tensor slope;                           // of capped scores; undefined without a cap
  };

  static Products products(const Block& block, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                           double cap) {
    Products p;
    const int64_t keys = block.last - block.from, queries = block.last - block.first;
    const int64_t batch = q.size(0), groups = q.size(1), repeats = q.size(2);
    p.keys = k.narrow(2, block.from, keys);
    p.values = v.narrow(2, block.from, keys);
    p.queries = q.narrow(3, block.first, queries).reshape({batch, groups, repeats * queries, -1});
    at::Tensor scores =
        at::matmul(p.queries, p.keys.transpose(-1, -2)).view({batch, groups, repeats, queries, keys});
    if (cap > 0) {
      scores = capped(scores, cap);
      p.slope = (1 - (scores / cap).square()).view({batch, groups, repeats * queries, keys});
    }
    scores.masked_fill_(block.hidden, -std::numeric_limits<double>::infinity());
    p.weights = at::_softmax(scores, -1, false).view({batch, groups, repeats * queries, keys});
    return p;
  }

  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const at::Tensor& starts, int64_t window, double cap) {
    context->save_for_backward({q, k, v, starts});
    context->saved_data["window"] = window;
    context->saved_data["cap"] = cap;
    const int64_t batch = q.size(0), groups = q.size(1), repeats = q.size(2), n = q.size(3), e = v.size(3);
    at::Tensor out = at::empty({batch, n, groups, repeats, e}, v.options());
    for (const Block& block : blocks_of(starts, n, window, q.device())) {
      const Products p = products(block, q, k, v, cap);
      const int64_t queries = block.last - block.first;
      out.narrow(1, block.first, queries)
          .copy_(at::matmul(p.weights, p.values)
                     .view({batch, groups, repeats, queries, e})
                     .permute({0, 3, 1, 2, 4}));
    }
    return out;
  }

  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    const Tensors saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2];
    const int64_t batch = q.size(0), groups = q.size(1), repeats = q.size(2), n = q.size(3), d = q.size(4);
    const double cap = context->saved_data["cap"].toDouble();
    // Sums over blocks of queries in the sums' type.
    const auto type = v.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
    at::Tensor dq = at::empty(q.sizes(), q.options()), dk = at::zeros(k.sizes(), k.options().dtype(type)),
               dv = at::zeros(v.sizes(), v.options().dtype(type));
    for (const Block& block : blocks_of(saved[3], n, context->saved_data["window"].toInt(), q.device())) {
      const Products p = products(block, q, k, v, cap);
      const int64_t queries = block.last - block.first, keys = block.last - block.from;
      const at::Tensor dout = gradients[0]
                                  .narrow(1, block.first, queries)
                                  .permute({0, 2, 3, 1, 4})
                                  .reshape({batch, groups, repeats * queries, -1});
      const at::Tensor dweights = at::matmul(dout, p.values.transpose(-1, -2));
      at::Tensor dscores = at::_softmax_backward_data(dweights, p.weights, -1, p.weights.scalar_type());
      if (p.slope.defined()) dscores = dscores * p.slope;
      dv.narrow(2, block.from, keys).add_(at::matmul(p.weights.transpose(-1, -2), dout));
      dk.narrow(2, block.from, keys).add_(at::matmul(dscores.transpose(-1, -2), p.queries));
      dq.narrow(3, block.first, queries)
          .copy_(at::matmul(dscores, p.keys).view({batch, groups, repeats, queries, d}));
    }
    return {dq, dk.to(k.scalar_type()), dv.to(v.scalar_type()), {}, {}, {}};
  }
};

bool flash_fits(const Rows& rows) {
  const auto type = rows.v.scalar_type();
  return rows.v.is_cuda() && (type == at::kBFloat16 || type == at::kHalf) && rows.q.size(3) % 8 == 0 &&
         rows.q.size(3) <= 256 && rows.q.size(3) == rows.v.size(3);
}

/// FlashAttention over the documents laid end to end: they are, whatever row they stand in.
at::Tensor packed(const Rows& rows, const Documents& documents, int64_t window) {
  const int64_t batch = rows.q.size(0), n = rows.q.size(2);
  const auto flat = [&](const at::Tensor& x) {
    return x.transpose(1, 2).reshape({batch * n, x.size(1), x.size(3)});
  };
  at::Tensor boundaries = documents.boundaries();
  if (documents.one_each()) {
    boundaries =
        at::arange(0, (batch + 1) * n, n, at::TensorOptions().dtype(at::kInt).device(rows.v.device()));
  }
  const at::IValue left = window > 0 ? at::IValue(window - 1) : at::IValue();
  const at::IValue right = window > 0 ? at::IValue(int64_t{0}) : at::IValue();
  const auto results = compat::packed_attention()({{"query", flat(rows.q)},
                                                   {"key", flat(rows.k)},
                                                   {"value", flat(rows.v)},
                                                   {"cum_seq_q", boundaries},
                                                   {"cum_seq_k", boundaries},
                                                   {"max_q", documents.longest()},
                                                   {"max_k", documents.longest()},
                                                   {"dropout_p", 0.0},
                                                   {"is_causal", true},
                                                   {"return_debug_mask", false},
                                                   {"window_size_left", left},
                                                   {"window_size_right", right}});
  return results[0].view({batch, n, rows.q.size(1), -1});
}

}  // namespace

namespace {

/// Of scores that take in a bias by distance, kept whole for the backward pass: T5's rows are short.
at::Tensor biased(const Rows& rows, const Documents& documents, int64_t window, const at::Tensor& bias) {
  const int64_t heads = rows.q.size(1), n = rows.q.size(2);
  const int64_t repeats = heads / rows.k.size(1);
  const auto widened = [&](const at::Tensor& x) {
    return repeats == 1 ? x : x.repeat_interleave(repeats, 1);
  };
  const at::Tensor place = at::arange(n, at::TensorOptions().dtype(at::kLong).device(rows.q.device()));
  const at::Tensor distance = place - place.unsqueeze(-1);
  at::Tensor hidden = distance > 0;
  if (window > 0) hidden = hidden.logical_or(distance <= -window);
  if (!documents.one_each()) {
    const at::Tensor starts = documents.starts_cpu().to(rows.q.device(), true);  // [B, n]
    hidden = hidden.logical_or(place < starts.unsqueeze(-1)).unsqueeze(1);
  }
  const at::Tensor q = rows.q * (1.0 / std::sqrt(static_cast<double>(rows.q.size(3))));
  const at::Tensor scores =
      at::matmul(q, widened(rows.k).transpose(-1, -2)) + bias_at(bias, distance).to(rows.q.scalar_type());
  const at::Tensor weights =
      at::softmax(scores.masked_fill(hidden, -std::numeric_limits<double>::infinity()), -1);
  return at::matmul(weights, widened(rows.v)).transpose(1, 2);
}

}  // namespace

at::Tensor softmax_attention(const Rows& rows, const Documents& documents, int64_t window, double cap,
                             const at::Tensor& bias) {
  const int64_t batch = rows.q.size(0), heads = rows.q.size(1), n = rows.q.size(2), d = rows.q.size(3);
  const int64_t kv_heads = rows.k.size(1);
  if (window >= documents.longest()) window = 0;
  if (bias.defined()) return biased(rows, documents, window, bias);
  const bool whole = documents.one_each() && window == 0;
  if (whole && cap == 0 && compat::fused_attention().exists() && rows.v.scalar_type() != at::kDouble) {
    return compat::fused_attention()({{"query", rows.q},
                                      {"key", rows.k},
                                      {"value", rows.v},
                                      {"is_causal", true},
                                      {"enable_gqa", heads != kv_heads}})[0]
        .transpose(1, 2);
  }
  if (!whole && cap == 0 && flash_fits(rows) && compat::packed_attention().exists())
    return packed(rows, documents, window);
  const at::Tensor q =
      (rows.q * (1.0 / std::sqrt(static_cast<double>(d)))).reshape({batch, kv_heads, heads / kv_heads, n, d});
  const at::Tensor starts = documents.one_each() ? at::empty({0}, at::kLong) : documents.starts_cpu();
  return BlockedSoftmax::apply(q, rows.k, rows.v, starts, window, cap).view({batch, n, heads, -1});
}

}  // namespace linnet::train

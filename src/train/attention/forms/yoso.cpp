// Sampled tables (attention/methods/yoso.cpp): y_t = Σ_s c_ts v_s, c_ts the number of tables in which q_t and
// k_s collide. c is a step function of q and k, so their gradients are the estimator of the YOSO paper
// (section 3.2): with unit vectors q̂, k̂ and g the gradient at y,
//
//     dq̂_t = (bits/2) Σ_s c_ts (g_t·v_s) k̂_s,    dk̂_s = (bits/2) Σ_t c_ts (g_t·v_s) q̂_t
//
// Tokens go in chunks of many groups. Within a chunk c is a masked score, [tokens, tokens]. Between chunks go
// tables: of v_s for y, of g_t for dv, and of v_s ⊗ k̂_s and g_t ⊗ q̂_t for the estimator. A table's row of the
// last two is a matrix [e, d]: tokens are laid out row by row in blocks (struct Buckets), so that adding and
// reading are products of matrices, a few large ones per chunk. Heads and rows of the batch, N = G · B, stand
// side by side, as many at a time as fit kMostNumbers.
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "train/attention/summary.h"
#include "train/ops.h"

namespace linnet::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;

constexpr int64_t kMostNumbers = int64_t{1} << 26;   // of one kind of temporary
constexpr int64_t kTableNumbers = int64_t{1} << 22;  // of one head's tables of matrices
constexpr int64_t kRowTokens = 32;                   // tokens of a block

/// Groups of C tokens in a chunk. What is within a chunk costs the square of its tokens in numbers; between
/// chunks a device waits for some hundred launches, a CPU for small products.
int64_t chunk_groups(int64_t c, const at::Device& device) {
  const int64_t groups = device.is_cpu() ? 16 : 32, tokens = device.is_cpu() ? 1024 : 2048;
  return std::clamp<int64_t>(tokens / c, 1, groups);
}

/// Both sides' numbers and what is fixed for all heads.
struct Sizes {
  int64_t m, bits;  // tables and bits of a hash
  int64_t group;    // C
  int64_t repeats;  // R: rows of queries per key of a group; where all is seen queries have no groups
  int64_t first, lag;
  Sees sees;

  bool earlier() const { return sees == Sees::kEarlier; }
  /// Causal queries see their own group's tokens up to themselves.
  bool own() const { return earlier() && first < lag; }
  int64_t rows() const { return m << bits; }  // of a head's tables
};

/// The rows of a head's tables that tokens have, table by table: [m, N, tokens]. x [N, tokens, d] of G heads
/// with planes [G, m, bits, d].
at::Tensor hashes(const at::Tensor& x, const at::Tensor& planes) {
  at::NoGradGuard off;
  const int64_t heads = planes.size(0), m = planes.size(1), bits = planes.size(2), d = x.size(2);
  const auto type = sum_type(x.scalar_type());  // a side of a plane is no matter of bf16's rounding
  const at::Tensor sides =
      at::bmm(planes.to(type).view({heads, m * bits, d}), x.to(type).reshape({heads, -1, d}).transpose(1, 2));
  const at::Tensor above = (sides > 0).view({heads, m, bits, -1});
  at::Tensor codes = at::zeros({heads, m, above.size(3)}, x.options().dtype(at::kInt));
  for (int64_t i = 0; i < bits; ++i) codes.add_(above.select(2, i), 1 << i);
  codes = codes.transpose(0, 1).reshape({m, x.size(0), x.size(1)});
  return bits <= 8 ? codes.to(at::kByte) : codes;
}

/// One side's tokens of N heads in chunks.
struct Side {
  at::Tensor hash;   // [m, N, tokens]
  at::Tensor joins;  // [N, tokens]: 1 where a token is added to tables, or reads them; undefined: all do
  int64_t step;      // tokens of a chunk

  int64_t chunks() const { return (hash.size(2) + step - 1) / step; }
  /// Chunk i of x [N, tokens, ..].
  at::Tensor part(const at::Tensor& x, int64_t i) const {
    return x.narrow(1, i * step, std::min(step, x.size(1) - i * step));
  }
  at::Tensor hash_of(int64_t i) const {
    return hash.narrow(2, i * step, std::min(step, hash.size(2) - i * step));
  }
  /// Chunk i of x [N, tokens, size], 0 where a token does not take part.
  at::Tensor joining(const at::Tensor& x, int64_t i) const {
    return joins.defined() ? part(x, i) * part(joins, i).unsqueeze(-1) : part(x, i);
  }
};

/// N heads of both passes.
struct Walk {
  Sizes sizes;
  Side queries, keys;
  at::Tensor begin;  // [N, groups]: the first group that the reading group sees; undefined: group 0
  at::Tensor keep;   // [N, chunks]: 0 where another document begins in the chunk; undefined: none does

  /// How many chunks have queries that see keys of the same chunk by their own.
  int64_t within() const { return sizes.sees == Sees::kAll ? 0 : keys.chunks(); }
  /// Whether that is all there is to see.
  bool within_alone() const { return within() == 1; }
};

Walk make_walk(const Sizes& sizes, const at::Tensor& of_queries, const at::Tensor& of_keys,
               const at::Tensor& number, at::ScalarType type) {
  const int64_t c = sizes.group, span = chunk_groups(c, of_keys.device());
  Walk walk{sizes,
            {of_queries, {}, sizes.sees == Sees::kAll ? span * c : span * sizes.repeats * c},
            {of_keys, {}, span * c},
            {},
            {}};
  if (!number.defined()) return walk;
  const int64_t groups = of_keys.size(2) / c, chunks = walk.keys.chunks();
  const at::Tensor at_group = at::arange(groups, number.options());
  walk.begin = at_group + sizes.first - number.narrow(1, sizes.first, groups);
  const at::Tensor chunk_begin = at::arange(chunks, number.options()) * span;
  const at::Tensor last = (chunk_begin + (span - 1)).clamp_max(groups - 1);
  const at::Tensor document = last - number.index_select(1, last);  // where the one at a chunk's end begins
  const at::Tensor chunk_of = at_group.div(span, "floor");
  const auto by_tokens = [&](const at::Tensor& groups_join, int64_t rows) {
    return groups_join.to(type).unsqueeze(-1).expand({-1, -1, rows}).reshape({number.size(0), -1});
  };
  walk.keep = (document < chunk_begin).to(type);
  walk.keys.joins = by_tokens(at_group >= document.index_select(1, chunk_of), c);
  walk.queries.joins = by_tokens(walk.begin < chunk_of * span, sizes.repeats * c);
  return walk;
}

/// c within chunk i, 0 where the query does not see the key: [N, queries, keys].
at::Tensor collisions(const Walk& walk, int64_t i, at::ScalarType type) {
  const at::Tensor q = walk.queries.hash_of(i).unsqueeze(-1), k = walk.keys.hash_of(i).unsqueeze(-2);
  const int64_t n = q.size(1), rows = q.size(2), columns = k.size(3), c = walk.sizes.group;
  // Numbers of one type and of one byte are added fastest.
  const auto number = walk.sizes.m < 256 ? at::kByte : at::kShort;
  at::Tensor counts = at::zeros({n, rows, columns}, q.options().dtype(number));
  at::Tensor same = at::empty({n, rows, columns}, q.options().dtype(at::kBool));
  const at::Tensor one = number == at::kByte ? same.view(at::kByte) : same;
  for (int64_t h = 0; h < walk.sizes.m; ++h) {
    at::eq_out(same, q[h], k[h]);
    counts.add_(one);
  }
  const auto options = q.options().dtype(at::kLong);
  const int64_t groups = columns / c, first = i * (walk.keys.step / c);
  const at::Tensor of_query = at::arange(groups, options).view({groups, 1, 1, 1}),
                   of_key = at::arange(groups, options).view({groups, 1});
  at::Tensor seen = walk.sizes.earlier() ? of_key <= of_query : of_key != of_query;  // [groups, 1, groups, 1]
  if (walk.sizes.own()) {
    const at::Tensor later = at::ones({c, c}, options.dtype(at::kBool)).triu(1);
    seen = seen.logical_and((of_key == of_query).logical_and(later.unsqueeze(1)).logical_not());
    seen = seen.repeat({1, walk.sizes.repeats, 1, 1});
  }
  if (walk.begin.defined())
    seen =
        seen.logical_and(of_key + first >= walk.begin.narrow(1, first, groups).view({-1, groups, 1, 1, 1}));
  else
    seen = seen.unsqueeze(0);
  counts.view({n, groups, -1, groups, c}).mul_(seen);
  return counts.to(type);
}

using Step = std::function<void(int64_t)>;

/// Goes over the chunks so that `read` of a chunk follows `add` of all other chunks that it sees and of no
/// more, in tables [N, ..] that are 0 at first. Queries see earlier keys, keys are seen by later queries.
void across(const Walk& walk, const Side& adders, const Side& readers, at::Tensor& tables, const Step& add,
            const Step& read) {
  if (walk.sizes.sees == Sees::kAll) {
    for (int64_t i = 0; i < adders.chunks(); ++i) add(i);
    for (int64_t i = 0; i < readers.chunks(); ++i) read(i);
    return;
  }
  const int64_t chunks = adders.chunks();
  const auto go = [&](int64_t from, int64_t by) {
    tables.zero_();
    for (int64_t n = 0, i = from; n < chunks; ++n, i += by) {
      if (n > 0) read(i);
      if (n + 1 == chunks) break;
      if (walk.keep.defined()) tables.view({walk.keep.size(0), -1}).mul_(walk.keep.narrow(1, i, 1));
      add(i);
    }
  };
  const bool queries_read = &readers == &walk.queries;
  if (!walk.sizes.earlier() || queries_read) go(0, 1);
  if (!walk.sizes.earlier() || !queries_read) go(chunks - 1, -1);
}

/// Offsets i · size, [N · m, 1].
at::Tensor offsets(int64_t count, int64_t size, const at::TensorOptions& options) {
  return (at::arange(count, options.dtype(at::kLong)) * size).unsqueeze(-1);
}

/// to[t] += Σ_{s in other chunks, seen} c_ts from[s]: [N, tokens, e] of readers and adders.
void add_across(const Walk& walk, const Side& adders, const Side& readers, const at::Tensor& from,
                at::Tensor& to) {
  if (walk.within_alone()) return;
  const int64_t n = from.size(0), m = walk.sizes.m, e = from.size(2);
  at::Tensor tables = at::zeros({n * walk.sizes.rows(), e}, from.options());
  const auto rows = [&](const Side& side, int64_t i) {  // of all tables, [N · tokens · m]
    const at::Tensor hash = side.hash_of(i).permute({1, 2, 0}).to(at::kLong);
    const at::Tensor table = at::arange(n * m, hash.options()).view({n, 1, m});
    return (hash + table * (int64_t{1} << walk.sizes.bits)).reshape({-1});
  };
  across(
      walk, adders, readers, tables,
      [&](int64_t i) {
        const at::Tensor x = adders.joining(from, i).unsqueeze(2).expand({-1, -1, m, -1});
        // On a CPU index_add_ is a call for each row.
        tables.scatter_add_(0, rows(adders, i).unsqueeze(1).expand({-1, e}), x.reshape({-1, e}));
      },
      [&](int64_t i) {
        at::Tensor found = tables.index_select(0, rows(readers, i)).view({n, -1, m, e}).sum(2);
        if (readers.joins.defined()) found.mul_(readers.part(readers.joins, i).unsqueeze(-1));
        readers.part(to, i).add_(found);
      });
}

/// A chunk's tokens in the order of their rows, table by table: blocks of kRowTokens tokens that have one
/// row, the last of each row filled up with nothing. There are as many blocks as the fullest case needs,
/// whatever the tokens are, so that nobody waits for the device.
struct Buckets {
  at::Tensor token;  // [N · m · blocks · kRowTokens]: of N · (tokens + 1), the last of each nothing
  at::Tensor place;  // [N · m · tokens]: where each token stands among those
  at::Tensor row;    // [N · m · blocks]: of all tables
  int64_t n, m;

  Buckets(const Walk& walk, const at::Tensor& hash)  // [m, N, tokens]
      : n(hash.size(1)), m(hash.size(0)) {
    const at::Tensor codes = hash.transpose(0, 1).to(at::kLong).reshape({n * m, -1});
    const auto options = codes.options();
    const int64_t tokens = codes.size(1), rows = int64_t{1} << walk.sizes.bits;
    const int64_t blocks = std::min(tokens, tokens / kRowTokens + rows);
    const auto [sorted, order] = at::sort(codes, /*stable=*/true, -1, false);
    const at::Tensor counts =
        at::zeros({n * m, rows}, options).scatter_add_(1, codes, at::ones({1}, options).expand_as(codes));
    const at::Tensor filled = (counts + (kRowTokens - 1)).div(kRowTokens, "floor");
    const at::Tensor end = filled.cumsum(1);
    const at::Tensor begin = (end - filled) * kRowTokens - (counts.cumsum(1) - counts);
    const at::Tensor at_place = begin.gather(1, sorted) + at::arange(tokens, options);
    token = at::full({n * m, blocks * kRowTokens}, tokens, options).scatter_(1, at_place, order);
    token = (token.view({n, -1}) + offsets(n, tokens + 1, options)).view({-1});
    place = at::empty_like(codes).scatter_(1, order, at_place);
    place = (place + offsets(n * m, blocks * kRowTokens, options)).view({-1});
    const at::Tensor all = at::arange(blocks, options).expand({n * m, blocks}).contiguous();
    row = at::searchsorted(end, all, false, /*right=*/true).clamp_max_(rows - 1);
    row = (row + offsets(n * m, rows, options)).view({-1});
  }

  /// Rows of x [N, tokens, size] in blocks: [N · m · blocks, kRowTokens, size].
  at::Tensor gather(const at::Tensor& x) const {
    const at::Tensor with_nothing = at::constant_pad_nd(x, {0, 0, 0, 1});
    return with_nothing.view({-1, x.size(2)}).index_select(0, token).view({-1, kRowTokens, x.size(2)});
  }
  /// Σ over tables of what blocks [.., kRowTokens, size] hold for each token: [N, tokens, size].
  at::Tensor sum(const at::Tensor& blocks) const {
    return blocks.view({-1, blocks.size(2)}).index_select(0, place).view({n, m, -1, blocks.size(2)}).sum(1);
  }
};

/// to[t] += Σ_{s in other chunks, seen} c_ts (by[t]·of[s]) from[s], `by` and `of` [.., e], `from` and `to`
/// [.., d].
void add_products_across(const Walk& walk, const Side& adders, const Side& readers, const at::Tensor& of,
                         const at::Tensor& from, const at::Tensor& by, at::Tensor& to) {
  if (walk.within_alone()) return;
  const int64_t n = from.size(0), e = of.size(2), d = from.size(2), rows = walk.sizes.rows();
  const int64_t most = std::clamp<int64_t>(kTableNumbers / (rows * d), 1, e);
  for (int64_t first = 0; first < e; first += most) {
    const int64_t size = std::min(most, e - first);
    const at::Tensor of_part = of.narrow(2, first, size), by_part = by.narrow(2, first, size);
    at::Tensor tables = at::zeros({n * rows, size * d}, from.options());
    across(
        walk, adders, readers, tables,
        [&](int64_t i) {
          const Buckets blocks(walk, adders.hash_of(i));
          const at::Tensor products = at::bmm(blocks.gather(adders.joining(of_part, i)).transpose(1, 2),
                                              blocks.gather(adders.part(from, i)));
          tables.index_add_(0, blocks.row, products.view({-1, size * d}));
        },
        [&](int64_t i) {
          const Buckets blocks(walk, readers.hash_of(i));
          const at::Tensor matrices = tables.index_select(0, blocks.row).view({-1, size, d});
          readers.part(to, i).add_(blocks.sum(at::bmm(blocks.gather(readers.joining(by_part, i)), matrices)));
        });
  }
}

/// What both passes are given of all N heads.
struct Inputs {
  const at::Tensor &q, &v, &of_queries, &of_keys, &number;
};

/// Calls run(walk, first, count) for heads, as many at a time as kMostNumbers allows.
void by_heads(const Sizes& sizes, const Inputs& in,
              const std::function<void(const Walk&, int64_t, int64_t)>& run) {
  const int64_t chunk = sizes.group * chunk_groups(sizes.group, in.q.device()), heads = in.q.size(0),
                keys = in.v.size(1);
  const int64_t within = std::min(in.q.size(1), chunk * sizes.repeats) * std::min(keys, chunk);
  const int64_t between = keys > chunk ? std::max(kTableNumbers, sizes.rows() * in.v.size(2)) : 0;
  const int64_t most = std::clamp<int64_t>(kMostNumbers / std::max({within, between, int64_t{1}}), 1, heads);
  for (int64_t first = 0; first < heads; first += most) {
    const int64_t count = std::min(most, heads - first);
    const at::Tensor number = in.number.numel() > 0 ? in.number.narrow(0, first, count) : at::Tensor();
    run(make_walk(sizes, in.of_queries.narrow(1, first, count), in.of_keys.narrow(1, first, count), number,
                  in.v.scalar_type()),
        first, count);
  }
}

Sizes unpack(const std::vector<int64_t>& numbers) {
  return {
      numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], numbers[5], static_cast<Sees>(numbers[6])};
}

/// Inputs, all of N heads: q [N, queries, d], k and v [N, keys, ..] in the sums' type, hashes [m, N, ..],
/// number [N, groups], empty where each row is one document; and the numbers of Sizes.
struct Tables : Function<Tables> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const at::Tensor& of_queries, const at::Tensor& of_keys,
                            const at::Tensor& number, const std::vector<int64_t>& sizes) {
    context->save_for_backward({q, k, v, of_queries, of_keys, number});
    context->saved_data["sizes"] = sizes;
    at::Tensor y = at::zeros({q.size(0), q.size(1), v.size(2)}, v.options());
    by_heads(unpack(sizes), {q, v, of_queries, of_keys, number},
             [&](const Walk& walk, int64_t first, int64_t count) {
               const at::Tensor values = v.narrow(0, first, count);
               at::Tensor out = y.narrow(0, first, count);
               for (int64_t i = 0; i < walk.within(); ++i)
                 walk.queries.part(out, i).baddbmm_(collisions(walk, i, v.scalar_type()),
                                                    walk.keys.part(values, i));
               add_across(walk, walk.keys, walk.queries, values, out);
             });
    return y;
  }

  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    const Tensors saved = context->get_saved_variables();
    const at::Tensor &all_q = saved[0], &all_k = saved[1], &all_v = saved[2];
    const Sizes sizes = unpack(context->saved_data["sizes"].toIntVector());
    const bool estimate = all_q.requires_grad() || all_k.requires_grad();
    at::Tensor all_dq = at::zeros_like(all_q), all_dk = at::zeros_like(all_k), all_dv = at::zeros_like(all_v);
    by_heads(sizes, {all_q, all_v, saved[3], saved[4], saved[5]},
             [&](const Walk& walk, int64_t first, int64_t count) {
               const auto of = [&](const at::Tensor& x) { return x.narrow(0, first, count); };
               const at::Tensor q = of(all_q), k = of(all_k), v = of(all_v), g = of(gradients[0]);
               at::Tensor dq = of(all_dq), dk = of(all_dk), dv = of(all_dv);
               const Side &queries = walk.queries, &keys = walk.keys;
               for (int64_t i = 0; i < walk.within(); ++i) {
                 at::Tensor c = collisions(walk, i, v.scalar_type());
                 const at::Tensor of_g = queries.part(g, i);
                 keys.part(dv, i).baddbmm_(c.transpose(1, 2), of_g);
                 if (!estimate) continue;
                 c.mul_(at::bmm(of_g, keys.part(v, i).transpose(1, 2)));
                 queries.part(dq, i).baddbmm_(c, keys.part(k, i));
                 keys.part(dk, i).baddbmm_(c.transpose(1, 2), queries.part(q, i));
               }
               add_across(walk, queries, keys, g, dv);
               if (!estimate) return;
               add_products_across(walk, keys, queries, v, k, g, dq);
               add_products_across(walk, queries, keys, g, q, v, dk);
             });
    const double scale = 0.5 * static_cast<double>(sizes.bits);
    return {all_dq.mul_(scale), all_dk.mul_(scale), all_dv, {}, {}, {}, {}};
  }
};

SummaryRead read_tables(const SummaryRows& rows, const SummaryPass& pass) {
  const int64_t kv_heads = rows.k.size(0), batch = rows.k.size(1), heads = kv_heads * batch;
  const auto type = sum_type(rows.v.scalar_type());
  const at::Tensor& planes = pass.parameters.find("planes")->second;
  const int64_t groups = pass.sees == Sees::kAll ? rows.k.size(2) : pass.readers();  // those that are read
  const at::Tensor q = share_heads(part_of(rows.q, 2, pass.first_reader(), pass.readers()), kv_heads);
  const auto flat = [&](const at::Tensor& x) { return x.reshape({heads, -1, x.size(4)}); };
  const at::Tensor queries = flat(q), keys = flat(part_of(rows.k, 2, 0, groups)),
                   values = flat(pass.without_unread(part_of(rows.v, 2, 0, groups)));
  at::Tensor number = at::empty({0}, pass.layout.number.options());  // Function takes no undefined tensor
  if (pass.sees == Sees::kEarlier && pass.layout.index.defined())
    number = pass.layout.number.unsqueeze(0).expand({kv_heads, batch, -1}).reshape({heads, -1});
  const std::vector<int64_t> sizes{planes.size(1),
                                   planes.size(2),
                                   pass.layout.size,
                                   q.size(3) / pass.layout.size,
                                   pass.first_reader(),
                                   pass.lag(),
                                   static_cast<int64_t>(pass.sees)};
  SummaryRead read;
  read.numerator = Tables::apply(unit(queries).to(type), unit(keys).to(type), values.to(type),
                                 hashes(queries, planes), hashes(keys, planes), number, sizes)
                       .view({kv_heads, batch, q.size(2), q.size(3), -1});
  return read;
}

/// The mean over tables, of unit length.
at::Tensor finish_tables(const SummaryRead& read, const SummaryPass& pass) {
  return unit(read.numerator / static_cast<double>(pass.parameters.find("planes")->second.size(1)));
}

}  // namespace

Form yoso_form() {
  Form form{read_tables, finish_tables};
  form.estimated_gradients = true;
  return form;
}

}  // namespace linnet::train

// Sampled tables (attention/methods/yoso.cpp): y_t = Σ_s c_ts v_s, c_ts the number of tables in which q_t and
// k_s collide. A running table [m·2^bits, e] goes over the groups, scattered into by keys and gathered from
// by queries; within a group, where queries see it, c is a masked score. c is a step function of q and k, so
// their gradients are the estimator of the YOSO paper (section 3.2): with unit vectors q̂, k̂ and g the
// gradient at y,
//
//     dq̂_t = (bits/2) Σ_s c_ts (g_t·v_s) k̂_s,    dk̂_s = (bits/2) Σ_t c_ts (g_t·v_s) q̂_t
//
// which are linear in n by tables of v_s ⊗ k̂_s, kValues value numbers at a time.
#include <torch/csrc/autograd/custom_function.h>

#include <functional>

#include "train/attention/summary.h"
#include "train/ops.h"

namespace linnet::train {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::Function;

constexpr int64_t kValues = 8;  // value numbers in a table at a time, for gradients

/// Which rows of the tables a token has, [.., m] int64, tables of all key-value heads and rows of the batch
/// one after the other. x [G, B, groups, tokens, d], planes [G, m, bits, d].
at::Tensor rows_of_tables(const at::Tensor& x, const at::Tensor& planes) {
  at::NoGradGuard off;
  const int64_t kv_heads = x.size(0), batch = x.size(1), m = planes.size(1), bits = planes.size(2);
  const auto type = sum_type(x.scalar_type());  // a side of a plane is no matter of bf16's rounding
  const at::Tensor sides = at::bmm(x.reshape({kv_heads, -1, x.size(4)}).to(type),
                                   planes.to(type).view({kv_heads, m * bits, -1}).transpose(1, 2));
  const auto options = x.options().dtype(at::kLong);
  const at::Tensor powers = at::bitwise_left_shift(at::ones({bits}, options), at::arange(bits, options));
  at::Tensor rows = (sides.view({kv_heads, -1, m, bits}) > 0).to(at::kLong).mul_(powers).sum(-1);
  rows = rows.view({kv_heads, batch, x.size(2), x.size(3), m});
  const at::Tensor head = at::arange(kv_heads * batch, options).view({kv_heads, batch, 1, 1, 1});
  return rows + (head * m + at::arange(m, options)) * (int64_t{1} << bits);
}

/// Everything that both passes go by.
struct Walk {
  at::Tensor of_queries, of_keys;  // rows of tables, [G, B, readers, R · C, m] and [G, B, groups, C, m]
  at::Tensor number;               // [B or 1, groups]: the group's number in its document
  int64_t table_rows;              // of all tables together
  int64_t first, lag;
  Sees sees;
  bool packed;  // rows hold more than one document

  /// Causal queries see their own group's tokens up to themselves.
  bool own() const { return sees == Sees::kEarlier && first < lag; }

  /// x [G, B, tokens, size] of group g's queries, or what they found, 0 where their document has no groups
  /// before that they see.
  at::Tensor seeing(int64_t g, const at::Tensor& x) const {
    return packed ? x * (number.select(1, g) >= lag).to(x.scalar_type()).view({1, -1, 1, 1}) : x;
  }
  /// Empties the tables of rows of the batch in which a document begins with the group.
  void empty_between_documents(at::Tensor& tables, int64_t group) const {
    if (!packed) return;
    const at::Tensor goes_on = (number.select(1, group) > 0).to(tables.scalar_type()).view({1, -1, 1});
    tables.view({of_keys.size(0), of_keys.size(1), -1}).mul_(goes_on);
  }
};

/// tables[rows[token, h]] += x[token] for every h: rows [G, B, tokens, m], x [G, B, tokens, X].
void scatter(at::Tensor& tables, const at::Tensor& rows, const at::Tensor& x) {
  const int64_t m = rows.size(-1), size = x.size(-1);
  const at::Tensor copies = x.unsqueeze(3).expand({-1, -1, -1, m, -1}).reshape({-1, size});
  tables.index_add_(0, rows.reshape({-1}), copies);
}

/// Σ_h tables[rows[token, h]]: [G, B, tokens, X].
at::Tensor gather(const at::Tensor& tables, const at::Tensor& rows) {
  return tables.index_select(0, rows.reshape({-1}))
      .view({rows.size(0), rows.size(1), rows.size(2), rows.size(3), -1})
      .sum(3);
}

/// What goes into the tables, of a group or reader: [G, B, tokens, size]; and who hears what is found there.
using Add = std::function<at::Tensor(int64_t)>;
using Read = std::function<void(int64_t, const at::Tensor&)>;

/// Readers of one side, [G, B, groups, tokens, m], read what the other side added in all groups, or (kOthers)
/// in all but their own: those before, then those after, since taking the own away again would leave its
/// rounding.
void on_both_sides(const Walk& walk, int64_t size, const at::TensorOptions& options, const at::Tensor& adders,
                   const at::Tensor& readers, const Add& add, const Read& read) {
  const int64_t groups = adders.size(2);
  at::Tensor tables = at::zeros({walk.table_rows, size}, options);
  if (walk.sees == Sees::kAll) {
    for (int64_t g = 0; g < groups; ++g) scatter(tables, adders.select(2, g), add(g));
    for (int64_t g = 0; g < readers.size(2); ++g) read(g, gather(tables, readers.select(2, g)));
    return;
  }
  const auto step = [&](int64_t from, int64_t to) {
    scatter(tables, adders.select(2, from), add(from));
    read(to, gather(tables, readers.select(2, to)));
  };
  for (int64_t g = 1; g < groups; ++g) step(g - 1, g);
  tables.zero_();
  for (int64_t g = groups - 1; g > 0; --g) step(g, g - 1);
}

/// Queries read what keys of the groups that they see added.
void over_keys(const Walk& walk, int64_t size, const at::TensorOptions& options, const Add& add,
               const Read& read) {
  if (walk.sees != Sees::kEarlier)
    return on_both_sides(walk, size, options, walk.of_keys, walk.of_queries, add, read);
  at::Tensor tables = at::zeros({walk.table_rows, size}, options);
  for (int64_t g = walk.lag; g < walk.number.size(1); ++g) {
    const int64_t group = g - walk.lag;
    walk.empty_between_documents(tables, group);
    scatter(tables, walk.of_keys.select(2, group), add(group));
    const int64_t reader = g - walk.first;
    read(reader, walk.seeing(g, gather(tables, walk.of_queries.select(2, reader))));
  }
}

/// Keys read what queries that see their group added.
void over_queries(const Walk& walk, int64_t size, const at::TensorOptions& options, const Add& add,
                  const Read& read) {
  if (walk.sees != Sees::kEarlier)
    return on_both_sides(walk, size, options, walk.of_queries, walk.of_keys, add, read);
  at::Tensor tables = at::zeros({walk.table_rows, size}, options);
  for (int64_t g = walk.number.size(1) - 1; g >= walk.lag; --g) {
    const int64_t group = g - walk.lag, reader = g - walk.first;
    scatter(tables, walk.of_queries.select(2, reader), walk.seeing(g, add(reader)));
    read(group, gather(tables, walk.of_keys.select(2, group)));
    walk.empty_between_documents(tables, group);  // the document before is seen by none of these
  }
}

/// c of the own group, 0 for later tokens: [G, B, groups, R · C, C]; undefined where queries don't see it.
at::Tensor own_collisions(const Walk& walk, at::ScalarType type) {
  if (!walk.own()) return {};
  const int64_t c = walk.of_keys.size(3), repeats = walk.of_queries.size(3) / c;
  at::Tensor counts;
  for (int64_t h = 0; h < walk.of_keys.size(4); ++h) {
    const at::Tensor same =
        walk.of_queries.select(4, h).unsqueeze(-1).eq(walk.of_keys.select(4, h).unsqueeze(-2)).to(type);
    counts = counts.defined() ? counts.add_(same) : same;
  }
  return counts.masked_fill_(
      at::ones({c, c}, walk.of_keys.options().dtype(at::kBool)).triu(1).repeat({repeats, 1}), 0.0);
}

/// x[.., first … first + count) ⊗ y, a row of count · |y|.
at::Tensor outer(const at::Tensor& x, int64_t first, int64_t count, const at::Tensor& y) {
  return (x.narrow(-1, first, count).unsqueeze(-1) * y.unsqueeze(-2)).flatten(-2, -1);
}

/// What a query with `own` numbers finds of outer products, contracted with them: [.., |y|].
at::Tensor contract(const at::Tensor& found, const at::Tensor& own, int64_t first, int64_t count) {
  const at::Tensor products = found.unflatten(-1, {count, -1});
  return at::matmul(own.narrow(-1, first, count).unsqueeze(-2), products).squeeze(-2);
}

struct Tables : Function<Tables> {
  /// y [G, B, readers, R · C, e] in v's type; all inputs in the sums' type.
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const at::Tensor& of_queries, const at::Tensor& of_keys,
                            const at::Tensor& number, int64_t table_rows, int64_t bits, int64_t first,
                            int64_t lag, int64_t sees, bool packed) {
    context->save_for_backward({q, k, v, of_queries, of_keys, number});
    context->saved_data["sizes"] = std::vector<int64_t>{table_rows, bits, first, lag, sees, packed};
    const Walk walk{of_queries, of_keys, number, table_rows, first, lag, static_cast<Sees>(sees), packed};
    const at::Tensor own = own_collisions(walk, v.scalar_type());
    at::Tensor y = own.defined()
                       ? at::matmul(own, v)
                       : at::zeros({q.size(0), q.size(1), q.size(2), q.size(3), v.size(4)}, v.options());
    over_keys(
        walk, v.size(4), v.options(), [&](int64_t g) { return v.select(2, g); },
        [&](int64_t reader, const at::Tensor& found) { y.select(2, reader).add_(found); });
    return y;
  }

  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    const Tensors saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], g = gradients[0].contiguous();
    const auto sizes = context->saved_data["sizes"].toIntVector();
    const Walk walk{
        saved[3],     saved[4], saved[5], sizes[0], sizes[2], sizes[3], static_cast<Sees>(sizes[4]),
        sizes[5] != 0};
    const double scale = 0.5 * static_cast<double>(sizes[1]);
    const int64_t d = q.size(4), e = v.size(4);
    at::Tensor dq = at::zeros_like(q), dk = at::zeros_like(k), dv = at::zeros_like(v);
    if (const at::Tensor c = own_collisions(walk, v.scalar_type()); c.defined()) {
      dv.add_(at::matmul(c.transpose(-1, -2), g));
      const at::Tensor weights = c * at::matmul(g, v.transpose(-1, -2));
      dq.add_(at::matmul(weights, k));
      dk.add_(at::matmul(weights.transpose(-1, -2), q));
    }
    over_queries(
        walk, e, v.options(), [&](int64_t reader) { return g.select(2, reader); },
        [&](int64_t group, const at::Tensor& found) { dv.select(2, group).add_(found); });
    for (int64_t i = 0; i < e && (q.requires_grad() || k.requires_grad()); i += kValues) {
      const int64_t count = std::min(kValues, e - i);
      over_keys(
          walk, count * d, v.options(),
          [&](int64_t group) { return outer(v.select(2, group), i, count, k.select(2, group)); },
          [&](int64_t reader, const at::Tensor& found) {
            dq.select(2, reader).add_(contract(found, g.select(2, reader), i, count));
          });
      over_queries(
          walk, count * d, v.options(),
          [&](int64_t reader) { return outer(g.select(2, reader), i, count, q.select(2, reader)); },
          [&](int64_t group, const at::Tensor& found) {
            dk.select(2, group).add_(contract(found, v.select(2, group), i, count));
          });
    }
    Tensors inputs(12);  // as many as forward() takes
    inputs[0] = dq * scale, inputs[1] = dk * scale, inputs[2] = dv;
    return inputs;
  }
};

SummaryRead read_tables(const SummaryRows& rows, const SummaryPass& pass) {
  const int64_t kv_heads = rows.k.size(0), batch = rows.k.size(1);
  const auto type = sum_type(rows.v.scalar_type());
  const at::Tensor& planes = pass.parameters.find("planes")->second;
  const int64_t m = planes.size(1), bits = planes.size(2);
  const at::Tensor q = share_heads(rows.q.narrow(2, pass.first_reader(), pass.readers()), kv_heads);
  SummaryRead read;
  read.numerator = Tables::apply(unit(q).to(type), unit(rows.k).to(type),
                                 pass.without_unread(rows.v).to(type).contiguous(), rows_of_tables(q, planes),
                                 rows_of_tables(rows.k, planes), pass.layout.number,
                                 (kv_heads * batch * m) << bits, bits, pass.first_reader(), pass.lag(),
                                 static_cast<int64_t>(pass.sees), pass.layout.index.defined());
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

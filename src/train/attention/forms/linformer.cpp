#include <cmath>

#include "train/attention/summary.h"
#include "train/ops.h"

namespace linnet::train {
namespace {

/// b: periods begun by what each row of queries sees.
at::Tensor periods(const SummaryPass& pass, int64_t rows, at::ScalarType type) {
  const int64_t c = pass.layout.size;
  const at::Tensor seen = pass.seen_by_rows(rows / c);
  return at::div(seen + (c - 1), c, "floor").clamp_min(1).to(type);
}

// A group is a period. Between groups, slots are sums of E k and F v; within one, where queries see it,
// tokens are masked score rows: q·K'_j += Σ_s M_ts E_js (q·k_s), P V' += ((P F) ⊙ M) V.
SummaryRead read_slots(const SummaryRows& rows, const SummaryPass& pass) {
  const int64_t kv_heads = rows.k.size(0), batch = rows.k.size(1), c = pass.layout.size;
  const int64_t d = rows.k.size(4), e = rows.v.size(4), readers = pass.readers(), groups = pass.layout.groups;
  const auto compute = rows.v.scalar_type(), type = sum_type(compute);
  const at::Tensor q = share_heads(part_of(rows.q, 2, pass.first_reader(), readers), kv_heads);
  const at::Tensor k = pass.without_unread(rows.k), v = pass.without_unread(rows.v);
  const auto weights = [&](const char* name) {  // [G, 1, 1, r, C]
    return pass.parameters.find(name)->second.to(compute).unsqueeze(1).unsqueeze(1);
  };
  const at::Tensor key_weights = weights("E"), value_weights = weights("F");
  const int64_t r = key_weights.size(3), repeats = q.size(3) / c;
  const auto slots = [&](const at::Tensor& weight, const at::Tensor& x, int64_t size) {
    const at::Tensor added = at::matmul(weight, x).to(type).view({kv_heads, batch, groups, r * size});
    return pass.seen_sums(added).to(compute).view({kv_heads, batch, readers, r, size});
  };
  at::Tensor scores = at::matmul(q, slots(key_weights, k, d).transpose(-1, -2)).to(type), later;
  if (pass.own_group()) {
    later = at::ones({c, c}, k.options().dtype(at::kBool)).triu(1).repeat({repeats, 1});
    const at::Tensor own = at::matmul(q, k.transpose(-1, -2)).masked_fill(later, 0.0);
    scores = scores + at::matmul(own, key_weights.transpose(-1, -2)).to(type);
  }
  const double scale = pass.config.method->unit_rows ? 1.0 : 1.0 / std::sqrt(static_cast<double>(d));
  const at::Tensor shares = at::softmax(scores * scale / periods(pass, scores.size(3), type), -1).to(compute);
  SummaryRead read;
  read.numerator = at::matmul(shares, slots(value_weights, v, e)).to(type);
  if (pass.own_group()) {
    const at::Tensor own = at::matmul(shares, value_weights).masked_fill(later, 0.0);
    read.numerator = read.numerator + at::matmul(own, v).to(type);
  }
  return read;
}

at::Tensor finish_slots(const SummaryRead& read, const SummaryPass& pass) {
  return read.numerator / periods(pass, read.numerator.size(3), read.numerator.scalar_type());
}

}  // namespace

Form linformer_form() { return {read_slots, finish_slots}; }

}  // namespace linnet::train

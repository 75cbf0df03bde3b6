#include "train/attention/branches.h"

#include "attention/method.h"
#include "train/ops.h"

namespace linnet::train {
namespace {

/// The shared fraction (a N + (1 − a) φ(q)ᵀS) / (a D + (1 − a) φ(q)·z), all four brought to one scale.
at::Tensor shared_fraction(const at::Tensor& a, const at::Tensor& n, const at::Tensor& d,
                           const SummaryRead& read) {
  at::Tensor near = a, far = 1 - a;
  if (read.exponent.defined()) {
    near = near * at::exp(-read.exponent.clamp_min(0));
    far = far * at::exp(read.exponent.clamp_max(0));
  }
  const at::Tensor sum = near * d + far * read.denominator;
  return (near * n + far * read.numerator) / at::where(sum > 0, sum, at::ones({}, sum.options()));
}

}  // namespace

Rows entered(Rows rows, const AttentionConfig& config) {
  const bool apart = rows.own_summary_rows || config.feature_position == FeaturePosition::kNone;
  if (!apart) rows.summary_q = rows.q, rows.summary_k = rows.k;
  if (config.method->unit_rows) {
    for (at::Tensor* x : {&rows.q, &rows.k, &rows.summary_q, &rows.summary_k}) *x = unit(*x);
  }
  return rows;
}

at::Tensor mixing(const at::Tensor& q, const ParameterMap& parameters, const AttentionConfig& config,
                  int64_t kv_heads) {
  const auto type = sum_type(q.scalar_type());
  if (!config.alpha_learned) return at::full({1, 1, 1, 1, 1}, config.alpha, q.options().dtype(type));
  const int64_t heads = q.size(0), c = q.size(3);
  at::Tensor alpha = parameters.find("alpha")->second.view({heads, 1, 1, 1});
  if (config.gate) {
    const at::Tensor gate = parameters.find("gate")->second.to(q.scalar_type()).view({heads, 1, 1, 1, -1});
    alpha = alpha + (q * gate).sum(-1, false, type);
  } else {
    alpha = alpha.expand({heads, 1, 1, c});
  }
  if (config.method->mix == Mix::kConvex) alpha = at::sigmoid(alpha);
  return share_heads(alpha.unsqueeze(-1), kv_heads);
}

at::Tensor mix(const LocalOutput& local, const SummaryRead& read, const at::Tensor& alpha, const Form& form,
               const SummaryPass& pass) {
  const AttentionConfig& config = pass.config;
  const at::Tensor any = (pass.seen() > 0).squeeze(0).unsqueeze(0);
  const at::Tensor l = local.numerator.to(read.numerator.scalar_type());
  const bool additive = config.method->mix == Mix::kAdditive;
  const at::Tensor a =
      at::where(any, alpha, additive ? at::zeros({}, alpha.options()) : at::ones({}, alpha.options()));
  if (config.denominator == Denominator::kShared) return shared_fraction(a, l, local.denominator, read);
  const at::Tensor g = form.finish(read, pass);
  return additive ? l + a * g : at::lerp(g, l, a);
}

at::Tensor convolve(at::Tensor out, const at::Tensor& v, const at::Tensor& taps, const GroupLayout& layout,
                    int64_t ahead) {
  const int64_t kv_heads = v.size(0), batch = v.size(1), groups = v.size(2), c = v.size(3), e = v.size(4);
  const int64_t repeats = taps.size(0) / kv_heads, count = taps.size(1);
  const at::Tensor w = taps.view({kv_heads, 1, 1, repeats, 1, count, e});
  const at::Tensor padded = at::constant_pad_nd(
      v.to(out.scalar_type()).view({kv_heads, batch, groups * c, e}), {0, 0, count - 1 - ahead, ahead});
  const at::Tensor place = layout.number.unsqueeze(-1) * c + at::arange(c, layout.number.options());
  out = out.view({kv_heads, batch, groups, repeats, c, e});
  for (int64_t j = 0; j < count; ++j) {
    at::Tensor shifted = padded.narrow(2, count - 1 - j, groups * c).view({kv_heads, batch, groups, c, e});
    if (j > 0 && layout.index.defined()) shifted = shifted.masked_fill((place < j).unsqueeze(-1), 0.0);
    out = at::addcmul(out, shifted.unsqueeze(3), w.select(5, j));
  }
  return out.view({kv_heads, batch, groups, repeats * c, e});
}

at::Tensor restore(const at::Tensor& out, const GroupLayout& layout, int64_t length, int64_t heads,
                   at::ScalarType type) {
  const int64_t kv_heads = out.size(0), batch = out.size(1), groups = out.size(2), e = out.size(4);
  const int64_t repeats = heads / kv_heads;
  const at::Tensor by_head = out.view({kv_heads, batch, groups, repeats, layout.size, e})
                                 .permute({0, 3, 1, 2, 4, 5})
                                 .reshape({heads, batch, groups * layout.size, e});
  return from_groups(by_head, layout, length)
      .permute({1, 2, 0, 3})
      .to(out.options().dtype(type), false, false, at::MemoryFormat::Contiguous);
}

}  // namespace linnet::train

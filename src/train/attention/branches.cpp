#include "train/attention/branches.h"

#include <torch/csrc/autograd/custom_function.h>

#include "attention/method.h"
#include "train/compat.h"
#include "train/ops.h"

namespace linnet::train {

using torch::autograd::AutogradContext;
using torch::autograd::Function;

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

namespace {

/// out [G, B, groups, R, C, e] with w [G, 1, 1, R, 1, F, e] over padded [G, B, groups · C + F − 1, e] added;
/// `place` [B or 1, groups, C]: places in a document, before which there is nothing; undefined: one document.
/// One multiplication a tap each way: of narrow's own gradients each would fill a tensor as large as padded.
struct ByTaps : Function<ByTaps> {
  static at::Tensor shifted(const at::Tensor& padded, const at::Tensor& like, const at::Tensor& place,
                            int64_t taps, int64_t j) {
    const int64_t groups = like.size(2), c = like.size(4);
    const at::Tensor x = padded.narrow(2, taps - 1 - j, groups * c).unflatten(2, {groups, c});
    if (j == 0 || !place.defined()) return x;
    return x.masked_fill((place < j).unsqueeze(-1), 0.0);
  }

  static at::Tensor forward(AutogradContext* context, const at::Tensor& out, const at::Tensor& padded,
                            const at::Tensor& w, const compat::Optional<at::Tensor>& of_documents) {
    const at::Tensor place = of_documents.value_or(at::Tensor());
    context->save_for_backward({padded, w, place});
    at::Tensor result = out.clone();
    for (int64_t j = 0; j < w.size(5); ++j)
      result.addcmul_(shifted(padded, out, place, w.size(5), j).unsqueeze(3), w.select(5, j));
    return result;
  }

  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    const Tensors saved = context->get_saved_variables();
    const at::Tensor &padded = saved[0], &w = saved[1], &place = saved[2], &given = gradients[0];
    const int64_t taps = w.size(5);
    at::Tensor dpadded = at::zeros_like(padded), dw = at::empty_like(w);
    for (int64_t j = 0; j < taps; ++j) {
      at::Tensor share = (given * w.select(5, j)).sum(3);
      if (j > 0 && place.defined()) share = share.masked_fill((place < j).unsqueeze(-1), 0.0);
      dpadded.narrow(2, taps - 1 - j, share.size(2) * share.size(3)).add_(share.flatten(2, 3));
      dw.select(5, j).copy_(
          (given * shifted(padded, given, place, taps, j).unsqueeze(3)).sum({1, 2, 4}, true));
    }
    return {given, dpadded, dw, {}};
  }
};

}  // namespace

at::Tensor convolve_by_taps(const at::Tensor& out, const at::Tensor& padded, const at::Tensor& w,
                            const at::Tensor& place) {
  return ByTaps::apply(
      out, padded, w, place.defined() ? compat::Optional<at::Tensor>(place) : compat::Optional<at::Tensor>());
}

at::Tensor convolve_at_once(const at::Tensor& out, const at::Tensor& padded, const at::Tensor& w) {
  const int64_t kv_heads = out.size(0), batch = out.size(1), repeats = out.size(3), e = out.size(5);
  const at::Tensor input = padded.permute({1, 0, 3, 2}).flatten(1, 2);  // [B, G · e, tokens]
  const at::Tensor kernel =                                             // [G · e · R, 1, F]
      w.flip(5).view({kv_heads, repeats, -1, e}).permute({0, 3, 1, 2}).flatten(0, 2).unsqueeze(1);
  return out + at::conv1d(input, kernel, {}, at::IntArrayRef{1}, at::IntArrayRef{0}, at::IntArrayRef{1},
                          kv_heads * e)
                   .view({batch, kv_heads, e, repeats, out.size(2), out.size(4)})
                   .permute({1, 0, 4, 3, 5, 2});
}

at::Tensor convolve(at::Tensor out, const at::Tensor& v, const at::Tensor& taps, const GroupLayout& layout,
                    int64_t ahead) {
  constexpr int64_t kFew = 4;  // taps that are no more work one by one
  const int64_t kv_heads = v.size(0), batch = v.size(1), groups = v.size(2), c = v.size(3), e = v.size(4);
  const int64_t repeats = taps.size(0) / kv_heads, count = taps.size(1);
  const at::Tensor w = taps.view({kv_heads, 1, 1, repeats, 1, count, e});
  const at::Tensor padded = at::constant_pad_nd(
      v.to(out.scalar_type()).view({kv_heads, batch, groups * c, e}), {0, 0, count - 1 - ahead, ahead});
  out = out.view({kv_heads, batch, groups, repeats, c, e});
  if (v.is_cuda() && !layout.index.defined() && count > kFew) {
    out = convolve_at_once(out, padded, w);
  } else {
    at::Tensor place;
    if (layout.index.defined())
      place = layout.number.unsqueeze(-1) * c + at::arange(c, layout.number.options());
    out = convolve_by_taps(out, padded, w, place);
  }
  return out.reshape({kv_heads, batch, groups, repeats * c, e});
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

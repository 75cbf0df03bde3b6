#include "train/attention/fused.h"

#include <torch/csrc/autograd/custom_function.h>

#include "train/attention/branches.h"
#include "train/attention/parallel.h"
#include "train/kernels.h"
#include "train/ops.h"

namespace linnet::train {

using torch::autograd::AutogradContext;
using torch::autograd::Function;

namespace {

constexpr int64_t kPadding = 8;  // numbers behind a value's: 1 and zeros, which keep rows aligned

/// 0 in the rows of x [G, B, groups, C, ..] that are sinks.
void clear_sinks(at::Tensor x, const GroupLayout& layout, int64_t sinks) {
  if (sinks == 0) return;
  const at::Tensor first = x.narrow(3, 0, sinks);
  if (!layout.index.defined()) {
    first.select(2, 0).zero_();
  } else {
    first.masked_fill_(layout.number.eq(0).unsqueeze(-1).unsqueeze(-1), 0.0);
  }
}

/// Values [G, B, groups, C, e] with a one and zeros behind them, [.., e + 8]; 0 where they are sinks.
struct Extend : Function<Extend> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& v, const GroupLayout* layout,
                            int64_t sinks) {
    context->saved_data["sinks"] = sinks;
    context->saved_data["size"] = layout->size;
    context->saved_data["packed"] = layout->index.defined();
    context->save_for_backward({layout->number});
    auto shape = v.sizes().vec();
    shape.back() += kPadding;
    at::Tensor out = at::empty(shape, v.options());
    out.narrow(-1, 0, v.size(4)).copy_(v);
    out.narrow(-1, v.size(4), kPadding).zero_();
    out.select(-1, v.size(4)).fill_(1.0);
    clear_sinks(out, *layout, sinks);
    return out;
  }

  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    GroupLayout layout;
    layout.number = context->get_saved_variables()[0];
    if (context->saved_data["packed"].toBool()) layout.index = layout.number;
    const at::Tensor dv = gradients[0].narrow(-1, 0, gradients[0].size(-1) - kPadding).contiguous();
    clear_sinks(dv, layout, context->saved_data["sinks"].toInt());
    return {dv, {}, {}};
  }
};

/// What each group sees of sums x [G, B, groups, X]: the same shape, 0 where it sees nothing.
at::Tensor seen_by_all(const at::Tensor& x, const SummaryPass& pass) {
  if (has_kernels(x)) {
    at::Tensor log_decay = log_decay_of(pass, x.size(0), x.options());
    if (!log_decay.defined()) log_decay = at::zeros({x.size(0)}, x.options().dtype(at::kFloat));
    return scan_kernel(x, pass.layout, pass.lag(), log_decay);
  }
  const at::Tensor seen = pass.seen_sums(x.to(sum_type(x.scalar_type())));
  return at::constant_pad_nd(seen, {0, 0, pass.first_reader(), 0}).to(x.scalar_type());
}

/// mix_kernel by libtorch's operators.
at::Tensor plain_mix(const at::Tensor& read, const at::Tensor& local, const SummaryRows& rows,
                     const SummaryPass& pass, int64_t length) {
  const auto type = sum_type(local.scalar_type());
  const int64_t e = local.size(4);
  const at::Tensor number = pass.layout.number.view({1, -1, pass.layout.groups, 1, 1});
  const at::Tensor any = (number - pass.lag() + 1) * pass.layout.size > pass.config.sinks;
  const at::Tensor alpha = mixing(rows.q, pass.parameters, pass.config, local.size(0));
  const at::Tensor wide = read.to(type);
  const at::Tensor global = wide.narrow(-1, 0, e) / wide.narrow(-1, e, 1).clamp_min(kEpsilon);
  const at::Tensor out =
      at::lerp(global, local.to(type), at::where(any, alpha, at::ones({}, alpha.options())));
  return restore(out, pass.layout, length, rows.q.size(0), local.scalar_type());
}

}  // namespace

bool is_fused(const SummaryRows& rows, const SummaryPass& pass) {
  const int64_t d = rows.q.size(4);
  return mixes_by_share(pass.config) && pass.config.alpha_learned && pass.sees == Sees::kEarlier &&
         pass.readers() > 0 && d == rows.v.size(4) && d % 2 == 0 && d <= 128;
}

at::Tensor fused_mix(const at::Tensor& local, const SummaryRows& rows, const SummaryPass& pass,
                     int64_t length) {
  const int64_t kv_heads = rows.k.size(0), batch = rows.k.size(1), groups = rows.k.size(2),
                c = rows.k.size(3);
  const int64_t wide = rows.v.size(4) + kPadding, all = kv_heads * batch * groups;
  const FeatureMap map = form_of(*pass.config.method).map;
  const at::Tensor q = share_heads(features_of(map, rows.q, pass.parameters, "q.").phi, kv_heads),
                   k = features_of(map, rows.k, pass.parameters, "k.").phi;
  const int64_t f = k.size(4);
  const at::Tensor values = Extend::apply(rows.v, &pass.layout, pass.config.sinks);
  const at::Tensor added = at::bmm(k.reshape({all, c, f}).transpose(1, 2), values.view({all, c, wide}));
  const at::Tensor seen = seen_by_all(added.view({kv_heads, batch, groups, f * wide}), pass);
  const at::Tensor read =
      at::bmm(q.reshape({all, -1, f}), seen.view({all, f, wide})).view({kv_heads, batch, groups, -1, wide});
  if (!has_kernels(read)) return plain_mix(read, local, rows, pass, length);
  const auto gate = pass.config.gate ? pass.parameters.find("gate")->second.contiguous() : at::Tensor();
  return mix_kernel(read, local, rows.q, pass.parameters.find("alpha")->second, gate,
                    {pass.layout, length, pass.lag(), pass.config.sinks});
}

}  // namespace linnet::train

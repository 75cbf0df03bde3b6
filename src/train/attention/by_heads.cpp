#include "train/attention/by_heads.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <type_traits>
#include <vector>

#include "attention/method.h"
#include "kernels/cpu/attention_kernels.h"
#include "kernels/cpu/head_attention.h"
#include "train/attention/bias.h"
#include "train/attention/local.h"
#include "train/attention/parallel.h"
#include "train/compat.h"
#include "train/ops.h"

namespace linnet::train {

using torch::autograd::AutogradContext;
using torch::autograd::Function;

namespace {

/// x [heads, B, tokens, size] as the kernel takes it: in the sums' type, of a multiple of kPad numbers, which
/// lie side by side.
at::Tensor kernel_rows(const at::Tensor& x) {
  at::Tensor wide = x.to(sum_type(x.scalar_type()));
  const int64_t size = x.size(3), more = kernels::padded(size) - size;
  if (more > 0) wide = at::constant_pad_nd(wide, {0, more});
  return wide.stride(3) == 1 ? wide : wide.contiguous();
}

/// The other way: a gradient of kernel_rows(x).
at::Tensor own_rows(const at::Tensor& gradient, const at::Tensor& x) {
  return gradient.narrow(3, 0, x.size(3)).to(x.scalar_type());
}

/// Heads `first` and those that follow of row b of x [heads, B, tokens, size].
template <class T>
kernels::HeadsOfRows<std::remove_const_t<T>> heads_of(const at::Tensor& x, int64_t first, int64_t b) {
  return {x.data_ptr<std::remove_const_t<T>>() + first * x.stride(0) + b * x.stride(1), x.stride(0),
          x.stride(2)};
}
template <class T>
kernels::HeadsOfRows<const T> read_heads(const at::Tensor& x, int64_t first, int64_t b) {
  const auto heads = heads_of<T>(x, first, b);
  return {heads.numbers, heads.head, heads.row};
}

/// What a layer is made of, all as the kernel takes it.
struct HeadsLayer {
  at::Tensor q, k, v, phi_q, phi_k, alpha;  // [H | G, B, tokens, size]; alpha [.., 1]
  at::Tensor decay;                         // λ [G]; undefined: 1
  at::Tensor number;                        // [B or 1, groups]
  std::vector<int64_t> windows;             // in groups, of each key-value head
  int64_t group, sinks;
  double scale;

  kernels::HeadShape shape(int64_t g, int64_t b) const {
    return {.length = k.size(2),
            .group = group,
            .window = windows[static_cast<size_t>(g)],
            .sinks = sinks,
            .number = number.data_ptr<int64_t>() + (number.size(0) > 1 ? b * number.size(1) : 0),
            .queries = q.size(0) / k.size(0),
            .size = k.size(3),
            .value_size = v.size(3),
            .features = phi_k.size(3),
            .scale = scale,
            .epsilon = kEpsilon};
  }

  template <class T>
  kernels::HeadInputs<T> inputs(int64_t g, int64_t b) const {
    const int64_t first = g * (q.size(0) / k.size(0));
    return {.q = read_heads<T>(q, first, b),
            .k = read_heads<T>(k, g, b),
            .v = read_heads<T>(v, g, b),
            .phi_q = read_heads<T>(phi_q, first, b),
            .phi_k = read_heads<T>(phi_k, g, b),
            .alpha = read_heads<T>(alpha, first, b),
            .decay = decay.defined() ? decay.data_ptr<T>()[g] : T(1)};
  }

  /// Calls f(T(), g, b) for every key-value head and row. Windows make some heads take longer than others:
  /// each thread takes the next.
  template <class F>
  void each_head(const F& f) const {
    const int64_t heads = k.size(0), all = heads * k.size(1);
    std::atomic<int64_t> next = 0;
    const int64_t threads = std::min<int64_t>(at::get_num_threads(), all);
    at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
      for (int64_t i = next++; i < all; i = next++) {
        if (v.scalar_type() == at::kDouble) {
          f(double(), i % heads, i / heads);
        } else {
          f(float(), i % heads, i / heads);
        }
      }
    });
  }
};

struct HeadAttention : Function<HeadAttention> {
  static HeadsLayer layer_of(AutogradContext* context, const Tensors& in) {
    HeadsLayer layer;
    layer.q = kernel_rows(in[0]), layer.k = kernel_rows(in[1]), layer.v = kernel_rows(in[2]);
    layer.phi_q = kernel_rows(in[3]), layer.phi_k = kernel_rows(in[4]), layer.alpha = in[5];
    layer.number = in[6];
    if (in[7].defined()) layer.decay = at::exp(in[7]).contiguous();
    layer.windows = context->saved_data["windows"].toIntVector();
    layer.group = context->saved_data["group"].toInt();
    layer.sinks = context->saved_data["sinks"].toInt();
    layer.scale = 1.0 / std::sqrt(static_cast<double>(in[0].size(3)));
    return layer;
  }

  /// Outputs [B, tokens, H, e]. alpha [H, B, tokens, 1], log_decay [G].
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k,
                            const at::Tensor& v, const at::Tensor& phi_q, const at::Tensor& phi_k,
                            const at::Tensor& alpha, const at::Tensor& number,
                            const compat::Optional<at::Tensor>& log_decay,
                            const std::vector<int64_t>& windows, int64_t group, int64_t sinks) {
    const Tensors in = {q, k, v, phi_q, phi_k, alpha, number, log_decay.value_or(at::Tensor())};
    context->save_for_backward(in);
    context->saved_data["windows"] = windows;
    context->saved_data["group"] = group;
    context->saved_data["sinks"] = sinks;
    const HeadsLayer layer = layer_of(context, in);
    const at::Tensor out = at::empty({v.size(1), v.size(2), q.size(0), layer.v.size(3)}, layer.v.options()),
                     heads = out.permute({2, 0, 1, 3});
    layer.each_head([&]<class T>(T, int64_t g, int64_t b) {
      const auto shape = layer.shape(g, b);
      kernels::head_attention<T>(shape, layer.inputs<T>(g, b), heads_of<T>(heads, g * shape.queries, b));
    });
    return own_rows(out, v);
  }

  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    const Tensors in = context->get_saved_variables();
    const HeadsLayer layer = layer_of(context, in);
    const at::Tensor given = kernel_rows(gradients[0].permute({2, 0, 1, 3}));
    const auto like = [](const at::Tensor& x) { return at::empty(x.sizes(), x.options()); };
    const at::Tensor dq = like(layer.q), dk = like(layer.k), dv = like(layer.v), dphi_q = like(layer.phi_q),
                     dphi_k = like(layer.phi_k), dalpha = like(layer.alpha),
                     dlog_decay = at::empty({layer.k.size(0), layer.k.size(1)}, layer.v.options());
    layer.each_head([&]<class T>(T, int64_t g, int64_t b) {
      const auto shape = layer.shape(g, b);
      const int64_t first = g * shape.queries;
      kernels::head_attention_backward<T>(
          shape, layer.inputs<T>(g, b), read_heads<T>(given, first, b),
          {.q = heads_of<T>(dq, first, b),
           .k = heads_of<T>(dk, g, b),
           .v = heads_of<T>(dv, g, b),
           .phi_q = heads_of<T>(dphi_q, first, b),
           .phi_k = heads_of<T>(dphi_k, g, b),
           .alpha = heads_of<T>(dalpha, first, b),
           .log_decay = dlog_decay.data_ptr<T>() + g * dlog_decay.size(1) + b});
    });
    Tensors result(11);
    result[0] = own_rows(dq, in[0]), result[1] = own_rows(dk, in[1]), result[2] = own_rows(dv, in[2]);
    result[3] = own_rows(dphi_q, in[3]), result[4] = own_rows(dphi_k, in[4]), result[5] = dalpha;
    if (in[7].defined()) result[7] = dlog_decay.sum(1);
    return result;
  }
};

/// α [H, B, tokens, 1] of queries [H, B, tokens, d].
at::Tensor shares(const at::Tensor& q, const ParameterMap& parameters, const AttentionConfig& config) {
  const int64_t heads = q.size(0), batch = q.size(1), tokens = q.size(2);
  const auto type = sum_type(q.scalar_type());
  const std::vector<int64_t> shape = {heads, batch, tokens, 1};
  if (!config.alpha_learned) return at::full(shape, config.alpha, q.options().dtype(type));
  at::Tensor logit = parameters.find("alpha")->second.view({heads, 1, 1, 1}).to(type);
  if (!config.gate) return at::sigmoid(logit).expand(shape).contiguous();
  const at::Tensor gate = parameters.find("gate")->second.to(q.scalar_type()).view({heads, -1, 1});
  return at::sigmoid(logit + at::bmm(q.reshape({heads, batch * tokens, -1}), gate).view(shape).to(type));
}

}  // namespace

bool goes_by_heads(const Rows& rows, const Documents& documents, const ParameterMap& parameters,
                   const AttentionConfig& config, const Rotation* sinks) {
  if (!rows.v.is_cpu() || !mixes_by_share(config) || config.local != LocalWeight::kSoftmax) return false;
  const bool turned = config.sinks > 0 && sinks != nullptr && turns(documents.groups(config.group), *sinks);
  return !config.method->unit_rows && config.kept.most() == 0 && config.score_cap == 0 &&
         !bias_of(parameters).defined() && !turned;
}

at::Tensor attend_by_heads(const Rows& rows, const Documents& documents, const ParameterMap& parameters,
                           const AttentionConfig& config) {
  const bool apart = rows.own_summary_rows || config.feature_position == FeaturePosition::kNone;
  const int64_t batch = rows.v.size(0), n = rows.v.size(2), heads = rows.q.size(1), kv_heads = rows.k.size(1);
  const GroupLayout& layout = documents.groups(config.group);
  const auto laid = [&](const at::Tensor& x) {  // documents at groups of their own
    return layout.index.defined() ? to_groups(x, layout).flatten(2, 3) : x.transpose(0, 1);
  };
  const at::Tensor q = laid(rows.q), k = laid(rows.k), v = laid(rows.v);
  const at::Tensor summary_q = apart ? laid(rows.summary_q) : q, summary_k = apart ? laid(rows.summary_k) : k;
  std::vector<int64_t> windows;
  for (int64_t g = 0; g < kv_heads; ++g) windows.push_back(config.local_groups.of(static_cast<int>(g)));
  const at::Tensor log_decay = log_decay_of({layout, parameters, config}, kv_heads, v.options());
  const FeatureMap map = form_of(*config.method).map;
  const at::Tensor out = HeadAttention::apply(
      q, k, v, features_of(map, summary_q, parameters, "q.").phi,
      features_of(map, summary_k, parameters, "k.").phi, shares(summary_q, parameters, config), layout.number,
      log_decay.defined() ? compat::Optional<at::Tensor>(log_decay) : compat::Optional<at::Tensor>(), windows,
      config.group, config.sinks);
  if (!layout.inverse.defined()) return out;
  return out.reshape({-1, heads * v.size(3)})
      .index_select(0, layout.inverse)
      .view({batch, n, heads, v.size(3)});
}

}  // namespace linnet::train

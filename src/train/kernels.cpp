#include "train/kernels.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>

#include "attention/config.h"
#include "kernels/cuda/training.h"
#include "train/compat.h"

namespace linnet::train {

using torch::autograd::AutogradContext;
using torch::autograd::Function;

namespace {

using cuda::Bf16;

Bf16* numbers(const at::Tensor& x) { return x.defined() ? static_cast<Bf16*>(x.data_ptr()) : nullptr; }
float* floats(const at::Tensor& x) { return x.defined() ? x.data_ptr<float>() : nullptr; }
const int64_t* integers(const at::Tensor& x) { return x.defined() ? x.data_ptr<int64_t>() : nullptr; }

cuda::Groups groups_of(const at::Tensor& number, int64_t heads, int64_t rows) {
  return {integers(number), number.size(0) > 1, static_cast<int>(heads), static_cast<int>(rows),
          static_cast<int>(number.size(1))};
}

at::TensorOptions sums(const at::Tensor& x) { return x.options().dtype(at::kFloat); }

}  // namespace

bool has_kernels(const at::Tensor& x) {
  return x.is_cuda() && x.scalar_type() == at::kBFloat16 && cuda::training_kernels();
}

// ---------------------------------------------------------------- scan
namespace {

struct Scan : Function<Scan> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& given, const at::Tensor& log_decay,
                            const at::Tensor& number, int64_t lag) {
    const at::Tensor x = given.contiguous();
    const c10::DeviceGuard guard(x.device());
    at::Tensor y = at::empty_like(x);
    cuda::scan(groups_of(number, x.size(0), x.size(1)), static_cast<int>(lag), x.size(3), floats(log_decay),
               numbers(x), numbers(y));
    context->save_for_backward({y, log_decay, number});
    context->saved_data["lag"] = lag;
    return y;
  }

  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    const Tensors saved = context->get_saved_variables();
    const at::Tensor &y = saved[0], &log_decay = saved[1], dy = gradients[0].contiguous();
    const c10::DeviceGuard guard(y.device());
    const cuda::Groups groups = groups_of(saved[2], y.size(0), y.size(1));
    at::Tensor dx = at::empty_like(y);
    at::Tensor partial = at::empty({y.size(0), cuda::scan_partials(groups, y.size(3))}, sums(y));
    cuda::scan_backward(groups, static_cast<int>(context->saved_data["lag"].toInt()), y.size(3),
                        floats(log_decay), numbers(y), numbers(dy), numbers(dx), floats(partial));
    return {dx, log_decay.requires_grad() ? partial.sum(1) : at::Tensor(), {}, {}};
  }
};

}  // namespace

at::Tensor scan_kernel(const at::Tensor& x, const GroupLayout& layout, int64_t lag,
                       const at::Tensor& log_decay) {
  return Scan::apply(x, log_decay, layout.number, lag);
}

// ---------------------------------------------------------------- the local branch
namespace {

cuda::Window window_of(const at::Tensor& q, const at::Tensor& k, const at::Tensor& number, int64_t window,
                       int64_t sinks) {
  return {groups_of(number, k.size(0), k.size(1)), static_cast<int>(q.size(3) / k.size(3)),
          static_cast<int>(window), static_cast<int>(sinks),
          static_cast<float>(1.0 / std::sqrt(static_cast<double>(q.size(4))))};
}

/// Adds to each document's first tokens what its groups give to its sinks: dx [G, B, groups, C, d], given [G,
/// B, groups, R, sinks, d].
void add_to_sinks(const at::Tensor& dx, const at::Tensor& given, const at::Tensor& number, bool packed) {
  const int64_t heads = dx.size(0), rows = dx.size(1), groups = dx.size(2), sinks = given.size(4);
  const at::Tensor first = dx.narrow(3, 0, sinks);
  if (!packed) {
    first.select(2, 0).add_(given.sum({2, 3}));
    return;
  }
  const at::Tensor place = at::arange(rows * groups, number.options()) - number.reshape({-1});
  at::Tensor sums = at::zeros({heads, rows * groups, sinks, dx.size(4)}, given.options());
  sums.index_add_(1, place, given.sum(3).view(sums.sizes()));
  first.add_(sums.view(first.sizes()));
}

struct WindowAttention : Function<WindowAttention> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& given_q, const at::Tensor& given_k,
                            const at::Tensor& given_v, const at::Tensor& number, bool packed, int64_t window,
                            int64_t sinks) {
    const at::Tensor q = given_q.contiguous(), k = given_k.contiguous(), v = given_v.contiguous();
    const c10::DeviceGuard guard(q.device());
    at::Tensor out = at::empty_like(q),
               lse = at::empty({q.size(0), q.size(1), q.size(2), q.size(3)}, sums(q));
    cuda::window_forward(window_of(q, k, number, window, sinks), numbers(q), numbers(k), numbers(v),
                         numbers(out), floats(lse));
    context->save_for_backward({q, k, v, number, out, lse});
    context->saved_data["packed"] = packed;
    context->saved_data["window"] = window;
    context->saved_data["sinks"] = sinks;
    return out;
  }

  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    const Tensors saved = context->get_saved_variables();
    const at::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &number = saved[3], &out = saved[4],
                     &lse = saved[5], dout = gradients[0].contiguous();
    const c10::DeviceGuard guard(q.device());
    const int64_t sinks = context->saved_data["sinks"].toInt(), repeats = q.size(3) / k.size(3);
    const cuda::Window window = window_of(q, k, number, context->saved_data["window"].toInt(), sinks);
    at::Tensor dq = at::empty_like(q), dk = at::empty_like(k), dv = at::empty_like(v);
    at::Tensor delta = at::empty_like(lse);
    at::Tensor sink_k = at::empty({k.size(0), k.size(1), k.size(2), repeats, sinks, k.size(4)}, sums(k));
    at::Tensor sink_v = at::empty_like(sink_k);
    cuda::window_backward(window, numbers(q), numbers(k), numbers(v), numbers(out), floats(lse),
                          numbers(dout), floats(delta), numbers(dq), numbers(dk), numbers(dv), floats(sink_k),
                          floats(sink_v));
    if (sinks > 0) {
      const bool packed = context->saved_data["packed"].toBool();
      add_to_sinks(dk, sink_k, number, packed);
      add_to_sinks(dv, sink_v, number, packed);
    }
    return {dq, dk, dv, {}, {}, {}, {}};
  }
};

}  // namespace

at::Tensor window_kernel(const LocalRows& rows, const GroupLayout& layout, int64_t window, int64_t sinks) {
  const bool fits = has_kernels(rows.q) && layout.size == cuda::kWindowGroup &&
                    rows.q.size(4) == cuda::kWindowHead && rows.v.size(4) == cuda::kWindowHead &&
                    sinks <= cuda::kWindowSinks;
  if (!fits) return {};
  return WindowAttention::apply(rows.q, rows.k, rows.v, layout.number, layout.index.defined(), window, sinks);
}

// ---------------------------------------------------------------- mix
namespace {

cuda::Mix mix_of(const at::Tensor& local, const at::Tensor& q, const at::Tensor& number,
                 const at::Tensor& inverse, int64_t length, int64_t lag, int64_t sinks) {
  const int64_t kv_heads = local.size(0);
  return {groups_of(number, kv_heads, local.size(1)),
          static_cast<int>(q.size(0) / kv_heads),
          static_cast<int>(q.size(3)),
          static_cast<int>(length),
          integers(inverse),
          static_cast<int>(lag),
          static_cast<int>(sinks),
          static_cast<int>(q.size(4)),
          static_cast<float>(kEpsilon)};
}

struct MixByTokens : Function<MixByTokens> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& given_read,
                            const at::Tensor& given_local, const at::Tensor& given_q, const at::Tensor& alpha,
                            const compat::Optional<at::Tensor>& gate, const at::Tensor& number,
                            const compat::Optional<at::Tensor>& inverse, int64_t length, int64_t lag,
                            int64_t sinks) {
    const at::Tensor read = given_read.contiguous(), local = given_local.contiguous(),
                     q = given_q.contiguous(), weights = gate.value_or(at::Tensor()),
                     places = inverse.value_or(at::Tensor());
    const c10::DeviceGuard guard(q.device());
    at::Tensor out = at::empty({q.size(1), length, q.size(0), q.size(4)}, q.options());
    cuda::mix(mix_of(local, q, number, places, length, lag, sinks), numbers(read), numbers(local), numbers(q),
              floats(alpha), floats(weights), numbers(out));
    context->save_for_backward({read, local, q, alpha, weights, number, places});
    context->saved_data["length"] = length;
    context->saved_data["lag"] = lag;
    context->saved_data["sinks"] = sinks;
    context->saved_data["wants_q"] = given_q.requires_grad();
    return out;
  }

  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    const Tensors saved = context->get_saved_variables();
    const at::Tensor &read = saved[0], &local = saved[1], &q = saved[2], &alpha = saved[3], &gate = saved[4],
                     &number = saved[5], &inverse = saved[6], dout = gradients[0].contiguous();
    const c10::DeviceGuard guard(q.device());
    const int64_t length = context->saved_data["length"].toInt(), d = q.size(4);
    const cuda::Mix mix = mix_of(local, q, number, inverse, length, context->saved_data["lag"].toInt(),
                                 context->saved_data["sinks"].toInt());
    // A place without a token gets no gradient.
    const bool padded = inverse.defined() || length < q.size(2) * q.size(3);
    const auto like = [&](const at::Tensor& x) { return padded ? at::zeros_like(x) : at::empty_like(x); };
    const bool wants_q = gate.defined() && context->saved_data["wants_q"].toBool();
    at::Tensor dread = like(read), dlocal = like(local), dq = wants_q ? like(q) : at::Tensor();
    at::Tensor partial = at::empty({q.size(0), cuda::mix_partials(mix), d + 1}, sums(q));
    cuda::mix_backward(mix, numbers(read), numbers(local), numbers(q), floats(alpha), floats(gate),
                       numbers(dout), numbers(dread), numbers(dlocal), numbers(dq), floats(partial));
    const at::Tensor learned = partial.sum(1);  // [H, d + 1]
    Tensors result(10);
    result[0] = dread;
    result[1] = dlocal;
    result[2] = dq;
    result[3] = learned.select(1, d).view(alpha.sizes());
    if (gate.defined()) result[4] = learned.narrow(1, 0, d);
    return result;
  }
};

compat::Optional<at::Tensor> optional(const at::Tensor& x) {
  return x.defined() ? compat::Optional<at::Tensor>(x) : compat::Optional<at::Tensor>();
}

}  // namespace

at::Tensor mix_kernel(const at::Tensor& read, const at::Tensor& local, const at::Tensor& q,
                      const at::Tensor& alpha, const at::Tensor& gate, const MixPlace& place) {
  return MixByTokens::apply(read, local, q, alpha.contiguous(), optional(gate), place.layout.number,
                            optional(place.layout.inverse), place.length, place.lag, place.sinks);
}

// ---------------------------------------------------------------- heads
namespace {

constexpr int64_t kEight = 8;  // numbers that a thread moves at a time

bool by_eight(const at::Tensor& x) {
  return x.stride(3) == 1 && x.stride(0) % kEight == 0 && x.stride(1) % kEight == 0 &&
         x.stride(2) % kEight == 0 && reinterpret_cast<uintptr_t>(x.data_ptr()) % 16 == 0;
}

cuda::HeadRows head_rows(const at::Tensor& x) {
  if (!x.defined()) return {nullptr, 0, 0, 0};
  return {numbers(x), x.stride(0), x.stride(1), x.stride(2)};
}

/// `heads` [B, H | G, n, d]: q, k, v and the unrotated q and k, of which some are defined.
cuda::Split split_of(const at::Tensor& qkv, int64_t heads, int64_t kv_heads, const at::Tensor* cos,
                     const at::Tensor* sin) {
  const int64_t d = qkv.size(2) / (heads + 2 * kv_heads);
  return {static_cast<int>(qkv.size(0)),
          static_cast<int>(qkv.size(1)),
          static_cast<int>(heads),
          static_cast<int>(kv_heads),
          static_cast<int>(d),
          cos != nullptr ? static_cast<int>(cos->size(-1)) : 0,
          cos != nullptr && cos->size(0) > 1,
          cos != nullptr ? floats(*cos) : nullptr,
          sin != nullptr ? floats(*sin) : nullptr};
}

}  // namespace

bool splits_heads(const at::Tensor& qkv, int64_t d, const at::Tensor* cos) {
  return has_kernels(qkv) && qkv.is_contiguous() && d % kEight == 0 &&
         (cos == nullptr ||
          (cos->scalar_type() == at::kFloat && cos->is_contiguous() && cos->size(-1) % kEight == 0));
}

void split_kernel(const at::Tensor& qkv, const Tensors& heads, const at::Tensor* cos, const at::Tensor* sin) {
  const c10::DeviceGuard guard(qkv.device());
  cuda::split_heads(split_of(qkv, heads[0].size(1), heads[2].size(1), cos, sin), numbers(qkv),
                    head_rows(heads[0]), head_rows(heads[1]), head_rows(heads[2]), head_rows(heads[3]),
                    head_rows(heads[4]));
}

void join_kernel(const at::Tensor& dqkv, const Tensors& given, int64_t heads, int64_t kv_heads,
                 const at::Tensor* cos, const at::Tensor* sin) {
  const c10::DeviceGuard guard(dqkv.device());
  Tensors x;
  for (const at::Tensor& g : given) x.push_back(!g.defined() || by_eight(g) ? g : g.contiguous());
  cuda::join_heads(split_of(dqkv, heads, kv_heads, cos, sin), numbers(dqkv), head_rows(x[0]), head_rows(x[1]),
                   head_rows(x[2]), head_rows(x[3]), head_rows(x[4]));
}

// ---------------------------------------------------------------- losses

bool has_loss_kernels(const at::Tensor& logits) {
  return has_kernels(logits) && logits.is_contiguous() && logits.size(1) % kEight == 0;
}

at::Tensor divergence_kernel(const at::Tensor& logits, const at::Tensor& teacher, const at::Tensor& weights,
                             bool gradient) {
  const c10::DeviceGuard guard(logits.device());
  at::Tensor loss = at::empty({logits.size(0)}, sums(logits));
  const at::Tensor other = teacher.contiguous(), weight = weights.contiguous();
  cuda::divergence(static_cast<int>(logits.size(0)), static_cast<int>(logits.size(1)), numbers(logits),
                   numbers(other), floats(weight), floats(loss), gradient);
  return loss;
}

at::Tensor cross_entropy_kernel(const at::Tensor& logits, const at::Tensor& targets,
                                const at::Tensor& weights, bool gradient) {
  const c10::DeviceGuard guard(logits.device());
  at::Tensor loss = at::empty({logits.size(0)}, sums(logits));
  const at::Tensor target = targets.contiguous(), weight = weights.contiguous();
  cuda::cross_entropy(static_cast<int>(logits.size(0)), static_cast<int>(logits.size(1)), numbers(logits),
                      integers(target), floats(weight), floats(loss), gradient);
  return loss;
}

}  // namespace linnet::train

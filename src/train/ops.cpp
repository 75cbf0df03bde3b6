#include "train/ops.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include "attention/config.h"
#include "train/compat.h"
#include "train/kernels.h"

namespace linnet::train {

using torch::autograd::AutogradContext;
using torch::autograd::Function;

at::ScalarType sum_type(at::ScalarType compute) { return compute == at::kDouble ? at::kDouble : at::kFloat; }

// ---------------------------------------------------------------- frozen products
namespace {

/// On a GPU one product of all matrices is quicker than one of each and a copy of their results; on a CPU a
/// second copy of the matrices is not worth it.
bool joins(const at::Tensor& x, const Tensors& matrices) { return x.is_cuda() && matrices.size() > 1; }

at::Tensor joined(const Tensors& parts, at::ScalarType type) {
  Tensors converted;
  for (const at::Tensor& part : parts) converted.push_back(part.to(type));
  return at::cat(converted, 0);
}

struct FrozenProducts : Function<FrozenProducts> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, at::TensorList given,
                            at::TensorList biases) {
    const Tensors matrices = given.vec();
    context->save_for_backward(matrices);
    context->saved_data["inputs"] = static_cast<int64_t>(1 + matrices.size() + biases.size());
    const auto type = x.scalar_type();
    if (joins(x, matrices)) {
      const at::Tensor bias = biases.empty() ? at::Tensor() : joined(biases.vec(), type);
      return at::linear(x, joined(matrices, type), bias);
    }
    Tensors parts;
    for (size_t i = 0; i < matrices.size(); ++i) {
      const at::Tensor bias = biases.empty() ? at::Tensor() : biases[i].to(type);
      parts.push_back(at::linear(x, matrices[i].to(type), bias));
    }
    return parts.size() == 1 ? parts[0] : at::cat(parts, -1);
  }

  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    const Tensors matrices = context->get_saved_variables();
    const at::Tensor& gradient = gradients[0];
    Tensors all(static_cast<size_t>(context->saved_data["inputs"].toInt()));
    at::Tensor& result = all[0];
    if (joins(gradient, matrices)) {
      result = at::matmul(gradient, joined(matrices, gradient.scalar_type()));
      return all;
    }
    int64_t first = 0;
    for (const at::Tensor& matrix : matrices) {
      const at::Tensor part = gradient.narrow(-1, first, matrix.size(0));
      const at::Tensor share = at::matmul(part, matrix.to(part.scalar_type()));
      result = result.defined() ? result.add_(share) : share;
      first += matrix.size(0);
    }
    return all;
  }
};

}  // namespace

at::Tensor frozen_products(const at::Tensor& x, const Tensors& matrices, const Tensors& biases) {
  return FrozenProducts::apply(x, at::TensorList(matrices), at::TensorList(biases));
}

// ---------------------------------------------------------------- checkpoint
namespace {

struct Closure : torch::CustomClassHolder {
  explicit Closure(std::function<at::Tensor(const Tensors&)> function) : f(std::move(function)) {}
  std::function<at::Tensor(const Tensors&)> f;
};

struct Checkpoint : Function<Checkpoint> {
  static at::Tensor forward(AutogradContext* context, const c10::intrusive_ptr<Closure>& closure,
                            at::TensorList inputs) {
    at::NoGradGuard off;
    context->saved_data["f"] = at::IValue::make_capsule(closure);
    context->save_for_backward(inputs.vec());
    return closure->f(inputs.vec());
  }

  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    const auto closure = c10::static_intrusive_pointer_cast<Closure>(context->saved_data["f"].toCapsule());
    Tensors inputs = context->get_saved_variables(), wanted;
    std::vector<size_t> places;
    at::AutoGradMode on(true);
    for (size_t i = 0; i < inputs.size(); ++i) {
      const bool needs = inputs[i].requires_grad();
      inputs[i] = inputs[i].detach();
      if (!needs) continue;
      inputs[i].set_requires_grad(true);
      wanted.push_back(inputs[i]);
      places.push_back(i);
    }
    const at::Tensor output = closure->f(inputs);
    Tensors result(inputs.size() + 1);
    if (output.requires_grad()) {
      const Tensors own = torch::autograd::grad({output}, wanted, {gradients[0]}, c10::nullopt, false, true);
      for (size_t i = 0; i < own.size(); ++i) result[places[i] + 1] = own[i];
    }
    return result;
  }
};

}  // namespace

at::Tensor checkpoint(std::function<at::Tensor(const Tensors&)> f, const Tensors& inputs) {
  const bool needed = at::GradMode::is_enabled() &&
                      std::any_of(inputs.begin(), inputs.end(), [](auto& x) { return x.requires_grad(); });
  if (!needed) return f(inputs);
  return Checkpoint::apply(c10::make_intrusive<Closure>(std::move(f)), at::TensorList(inputs));
}

// ---------------------------------------------------------------- gradients at once
namespace {

struct WithGradients : Function<WithGradients> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& value, at::TensorList /*inputs*/,
                            at::TensorList gradients) {
    context->save_for_backward(gradients.vec());
    return value.clone();
  }

  static Tensors backward(AutogradContext* context, const Tensors& outer) {
    const Tensors own = context->get_saved_variables();
    Tensors all(1 + own.size() * 2);
    for (size_t i = 0; i < own.size(); ++i) all[1 + i] = own[i] * outer[0].to(own[i].scalar_type());
    return all;
  }
};

}  // namespace

at::Tensor part_of(const at::Tensor& x, int64_t dim, int64_t first, int64_t count) {
  const int64_t rest = x.size(dim) - first - count;
  if (first == 0 && rest == 0) return x;
  return at::split_with_sizes(x, {first, count, rest}, dim)[1];
}

at::Tensor with_gradients(const at::Tensor& value, const Tensors& inputs) {
  if (!at::GradMode::is_enabled() || !value.requires_grad()) return value;
  Tensors wanted, reached, gradients;
  for (const at::Tensor& input : inputs)
    if (input.requires_grad()) wanted.push_back(input);
  const Tensors all = torch::autograd::grad({value}, wanted, {}, c10::nullopt, false, /*allow_unused=*/true);
  for (size_t i = 0; i < all.size(); ++i) {
    if (!all[i].defined()) continue;
    reached.push_back(wanted[i]);
    gradients.push_back(all[i]);
  }
  return WithGradients::apply(value.detach(), at::TensorList(reached), at::TensorList(gradients));
}

// ---------------------------------------------------------------- RMSNorm
namespace {

struct RmsNorm : Function<RmsNorm> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const at::Tensor& gain,
                            double epsilon, at::ScalarType type) {
    // 1 / √(mean x² + ε), [..., 1]
    const at::Tensor scale = at::linalg_vector_norm(x, 2, at::IntArrayRef{-1}, true)
                                 .square_()
                                 .div_(x.size(-1))
                                 .add_(epsilon)
                                 .rsqrt_();
    context->save_for_backward({x, gain, scale});
    return at::mul(x, scale).mul_(gain).to(type);
  }

  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    const Tensors saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &gain = saved[1], &scale = saved[2];
    const at::Tensor dy = gradients[0].to(x.scalar_type()), unit = x * scale;
    const at::Tensor product = dy * unit;
    at::Tensor dgain;
    if (gain.requires_grad()) dgain = product.reshape({-1, gain.size(0)}).sum(0);
    // dx = scale (g·dy − unit · mean(g·dy·unit))
    const at::Tensor mean = at::matmul(product, gain).div_(gain.size(0)).unsqueeze(-1);
    return {at::mul(dy, gain).addcmul_(unit, mean, -1).mul_(scale), dgain, {}, {}};
  }
};

}  // namespace

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& gain, double epsilon, at::ScalarType type) {
  if (x.is_cuda() && x.scalar_type() == at::kFloat && compat::fused_rms_norm().exists()) {
    return compat::fused_rms_norm()({{"input", x},
                                     {"normalized_shape", std::vector<int64_t>{x.size(-1)}},
                                     {"weight", gain},
                                     {"eps", epsilon}})[0]
        .to(type);
  }
  return RmsNorm::apply(x, gain, epsilon, type);
}

at::Tensor capped(const at::Tensor& x, double c) { return c > 0 ? at::tanh(x / c) * c : x; }

// ---------------------------------------------------------------- SwiGLU
namespace {

struct SiluGate : Function<SiluGate> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& gate_up) {
    context->save_for_backward({gate_up});
    const int64_t size = gate_up.size(-1) / 2;
    return at::silu(gate_up.narrow(-1, 0, size)).mul_(gate_up.narrow(-1, size, size));
  }

  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    const at::Tensor gate_up = context->get_saved_variables()[0];
    const int64_t size = gate_up.size(-1) / 2;
    const at::Tensor gate = gate_up.narrow(-1, 0, size), up = gate_up.narrow(-1, size, size);
    at::Tensor result = at::empty_like(gate_up);
    at::Tensor dgate = result.narrow(-1, 0, size), dup = result.narrow(-1, size, size);
    at::silu_out(dup, gate).mul_(gradients[0]);
    at::silu_backward_out(dgate, at::mul(gradients[0], up), gate);
    return {result};
  }
};

}  // namespace

at::Tensor silu_gate(const at::Tensor& gate_up) { return SiluGate::apply(gate_up); }

// ---------------------------------------------------------------- heads and rotary
namespace {

/// out = in with its first 2·m numbers rotated. cos, sin [B or 1, 1, n, m]; in, out [B, heads, n, d].
void rotate_into(at::Tensor out, const at::Tensor& in, const at::Tensor& cos, const at::Tensor& sin,
                 bool back) {
  const int64_t m = cos.size(-1), rest = in.size(-1) - 2 * m;
  const double sign = back ? -1.0 : 1.0;
  const at::Tensor a = in.narrow(-1, 0, m), b = in.narrow(-1, m, m);
  at::Tensor first = out.narrow(-1, 0, m), second = out.narrow(-1, m, m);
  if (in.scalar_type() == cos.scalar_type()) {
    at::mul_out(first, a, cos).addcmul_(b, sin, -sign);
    at::mul_out(second, b, cos).addcmul_(a, sin, sign);
  } else {  // products in the angles' type; not every libtorch multiplies and adds across types
    at::sub_out(first, a * cos, b * sin, sign);
    at::add_out(second, b * cos, a * sin, sign);
  }
  if (rest > 0) out.narrow(-1, 2 * m, rest).copy_(in.narrow(-1, 2 * m, rest));
}

/// An uninitialized [B, heads, n, d] stored as [heads, B, n, d] or [B, n, heads, d].
at::Tensor empty_heads(const at::Tensor& like, int64_t heads, bool heads_first) {
  const int64_t rows = like.size(0), n = like.size(2), d = like.size(3);
  return heads_first ? at::empty({heads, rows, n, d}, like.options()).transpose(0, 1)
                     : at::empty({rows, n, heads, d}, like.options()).transpose(1, 2);
}

struct SplitHeads : Function<SplitHeads> {
  /// Outputs q, k, v and, where `unrotated`, summary_q, summary_k.
  static Tensors forward(AutogradContext* context, const at::Tensor& qkv, int64_t heads, int64_t kv_heads,
                         const compat::Optional<at::Tensor>& cos, const compat::Optional<at::Tensor>& sin,
                         bool unrotated, bool heads_first) {
    context->saved_data["heads"] = heads;
    context->saved_data["kv_heads"] = kv_heads;
    context->saved_data["rotated"] = cos.has_value();
    context->set_materialize_grads(false);
    if (cos) context->save_for_backward({cos->unsqueeze(1), sin->unsqueeze(1)});
    const at::Tensor x =
        qkv.view({qkv.size(0), qkv.size(1), heads + 2 * kv_heads, -1}).transpose(1, 2);  // [B, H+2G, n, d]
    if (splits_heads(qkv, x.size(3), cos ? &*cos : nullptr)) {
      Tensors parts;  // q, k, v, unrotated q and k
      for (const int64_t count : {heads, kv_heads, kv_heads})
        parts.push_back(empty_heads(x, count, heads_first));
      for (const int64_t count : {heads, kv_heads})
        parts.push_back(unrotated ? empty_heads(x, count, heads_first) : at::Tensor());
      split_kernel(qkv, parts, cos ? &*cos : nullptr, sin ? &*sin : nullptr);
      parts.resize(unrotated ? 5 : 3);
      return parts;
    }
    const auto take = [&](int64_t first, int64_t count, bool rotated) {
      const at::Tensor in = x.narrow(1, first, count);
      at::Tensor out = empty_heads(in, count, heads_first);
      if (rotated) {
        rotate_into(out, in, cos->unsqueeze(1), sin->unsqueeze(1), false);
      } else {
        out.copy_(in);
      }
      return out;
    };
    Tensors result = {take(0, heads, cos.has_value()), take(heads, kv_heads, cos.has_value()),
                      take(heads + kv_heads, kv_heads, false)};
    if (unrotated) {
      result.push_back(take(0, heads, false));
      result.push_back(take(heads, kv_heads, false));
    }
    return result;
  }

  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    const int64_t heads = context->saved_data["heads"].toInt(),
                  kv_heads = context->saved_data["kv_heads"].toInt();
    const Tensors saved = context->get_saved_variables();
    const auto some = std::find_if(gradients.begin(), gradients.end(), [](auto& g) { return g.defined(); });
    Tensors none(7);
    if (some == gradients.end()) return none;
    const int64_t rows = some->size(0), n = some->size(2), d = some->size(3);
    at::Tensor result = at::empty({rows, n, heads + 2 * kv_heads, d}, some->options());
    const bool turned = context->saved_data["rotated"].toBool();
    const at::Tensor cos = turned ? saved[0].squeeze(1) : at::Tensor(),
                     sin = turned ? saved[1].squeeze(1) : at::Tensor();
    none[0] = result.view({rows, n, -1});
    if (splits_heads(none[0], d, turned ? &cos : nullptr)) {
      Tensors parts = gradients;
      parts.resize(5);
      join_kernel(none[0], parts, heads, kv_heads, turned ? &cos : nullptr, turned ? &sin : nullptr);
      return none;
    }
    const auto give = [&](int64_t first, int64_t count, const at::Tensor& rotated, const at::Tensor& as_is) {
      at::Tensor part = result.transpose(1, 2).narrow(1, first, count);
      if (rotated.defined() && turned) {
        rotate_into(part, rotated, saved[0], saved[1], true);
      } else if (rotated.defined()) {
        part.copy_(rotated);
      } else {
        part.zero_();
      }
      if (as_is.defined()) part.add_(as_is);
    };
    const bool unrotated = gradients.size() > 3;
    give(0, heads, gradients[0], unrotated ? gradients[3] : at::Tensor());
    give(heads, kv_heads, gradients[1], unrotated ? gradients[4] : at::Tensor());
    give(heads + kv_heads, kv_heads, {}, gradients[2]);
    return none;
  }
};

}  // namespace

Rows split_heads(const at::Tensor& qkv, int64_t heads, int64_t kv_heads, const RotaryTable* table,
                 bool unrotated, bool heads_first) {
  compat::Optional<at::Tensor> cos, sin;
  if (table != nullptr) {
    cos = table->cos;
    sin = table->sin;
  }
  const bool copies = unrotated && table != nullptr;
  const Tensors parts = SplitHeads::apply(qkv, heads, kv_heads, cos, sin, copies, heads_first);
  Rows rows{parts[0], parts[1], parts[2], {}, {}};
  if (unrotated) {
    rows.summary_q = copies ? parts[3] : parts[0];
    rows.summary_k = copies ? parts[4] : parts[1];
  }
  return rows;
}

at::Tensor unit(const at::Tensor& x) {
  const at::Tensor wide = x.to(sum_type(x.scalar_type()));
  const at::Tensor norm = at::linalg_vector_norm(wide, 2, at::IntArrayRef{-1}, true);
  return (wide / norm.clamp_min(kEpsilon)).to(x.scalar_type());
}

at::Tensor rotate(const at::Tensor& x, const at::Tensor& cos, const at::Tensor& sin, bool back) {
  const int64_t m = cos.size(-1), rest = x.size(-1) - 2 * m;
  const at::Tensor a = x.narrow(-1, 0, m), b = x.narrow(-1, m, m), turn = back ? -sin : sin;
  return at::cat({a * cos - b * turn, b * cos + a * turn, x.narrow(-1, 2 * m, rest)}, -1).to(x.scalar_type());
}

}  // namespace linnet::train

#include "train/loss.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "train/kernels.h"
#include "train/ops.h"

namespace linnet::train {

using torch::autograd::AutogradContext;
using torch::autograd::Function;

namespace {

/// Rows a chunk: logits of 64 MiB in float32 or 128 MiB in bfloat16 on a GPU, 16 MiB on a CPU, where they
/// shall stay in its cache.
int64_t chunk_rows(const at::Tensor& hidden, int64_t vocabulary, int64_t chunk) {
  if (chunk > 0) return chunk;
  const int64_t numbers = has_kernels(hidden) ? 1 << 26 : hidden.is_cuda() ? 1 << 24 : 1 << 22;
  return std::max<int64_t>(64, numbers / vocabulary);
}

at::Tensor log_probabilities(const at::Tensor& logits) {
  return at::_log_softmax(logits.to(sum_type(logits.scalar_type())), -1, false);
}

/// Walks the chunks. `score(first, count, logits)` gives the chunk's weighted loss and makes of the logits
/// [count, vocabulary] the gradient of that loss with respect to them, where it is wanted.
struct Chunked {
  at::Tensor loss, dhidden, dhead;  // gradients undefined where not wanted

  template <class Score>
  Chunked(const at::Tensor& hidden, const at::Tensor& head, bool wants_hidden, bool wants_head, double cap,
          int64_t chunk, Score score) {
    const auto type = sum_type(hidden.scalar_type());
    const int64_t rows = hidden.size(0), step = chunk_rows(hidden, head.size(0), chunk);
    loss = at::zeros({}, hidden.options().dtype(type));
    if (wants_hidden) dhidden = at::empty_like(hidden);
    if (wants_head) dhead = at::zeros(head.sizes(), head.options().dtype(type));
    for (int64_t first = 0; first < rows; first += step) {
      const int64_t count = std::min(step, rows - first);
      const at::Tensor part = hidden.narrow(0, first, count);
      at::Tensor logits = capped(at::linear(part, head), cap), slope;
      if (cap > 0 && (wants_hidden || wants_head)) slope = 1 - (logits / cap).square();
      loss.add_(score(first, count, logits));
      if (!wants_hidden && !wants_head) continue;
      if (slope.defined()) logits = logits * slope;
      const at::Tensor dlogits = logits.to(hidden.scalar_type());
      if (wants_hidden) dhidden.narrow(0, first, count).copy_(at::matmul(dlogits, head));
      if (wants_head) dhead.add_(at::matmul(dlogits.t(), part));
    }
  }

  /// Leaves the gradients for backward(); gives the loss.
  at::Tensor save(AutogradContext* context, at::ScalarType type) const {
    context->saved_data["type"] = static_cast<int64_t>(type);
    context->saved_data["hidden"] = dhidden.defined();
    context->saved_data["head"] = dhead.defined();
    Tensors kept;
    for (const at::Tensor& x : {dhidden, dhead}) {
      if (x.defined()) kept.push_back(x);
    }
    context->save_for_backward(kept);
    return loss;
  }
};

/// A loss of (hidden, head, …), `Inputs` arguments in all, that Chunked computed: the first two alone have
/// gradients, in the types of those.
template <class Loss, size_t Inputs>
struct ChunkedLoss : Function<Loss> {
  static Tensors backward(AutogradContext* context, const Tensors& gradients) {
    const auto type = static_cast<at::ScalarType>(context->saved_data["type"].toInt());
    Tensors kept = context->get_saved_variables(), result(Inputs);
    size_t next = 0;
    if (context->saved_data["hidden"].toBool()) result[0] = kept[next++] * gradients[0].to(type);
    if (context->saved_data["head"].toBool()) result[1] = (kept[next++] * gradients[0]).to(type);
    return result;
  }
};

struct CrossEntropy : ChunkedLoss<CrossEntropy, 8> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden, const at::Tensor& head,
                            const at::Tensor& targets, const at::Tensor& weights, bool wants_hidden,
                            bool wants_head, double cap, int64_t chunk) {
    const bool gradient = wants_hidden || wants_head;
    const Chunked chunked(
        hidden, head, wants_hidden, wants_head, cap, chunk,
        [&](int64_t first, int64_t count, at::Tensor& logits) {
          const at::Tensor own = targets.narrow(0, first, count), weight = weights.narrow(0, first, count);
          if (has_loss_kernels(logits)) return cross_entropy_kernel(logits, own, weight, gradient).sum();
          const at::Tensor target = own.unsqueeze(1), factor = weight.unsqueeze(1);
          at::Tensor log_p = log_probabilities(logits);
          const at::Tensor loss = log_p.gather(1, target).mul_(factor).sum().neg_();
          if (gradient)
            logits = log_p.exp_().scatter_add_(1, target, at::full_like(factor, -1.0)).mul_(factor);
          return loss;
        });
    return chunked.save(context, hidden.scalar_type());
  }
};

struct Divergence : ChunkedLoss<Divergence, 9> {
  static at::Tensor forward(AutogradContext* context, const at::Tensor& hidden, const at::Tensor& head,
                            const at::Tensor& teacher, const at::Tensor& teacher_head,
                            const at::Tensor& weights, bool wants_hidden, bool wants_head, double cap,
                            int64_t chunk) {
    const bool gradient = wants_hidden || wants_head;
    const Chunked chunked(hidden, head, wants_hidden, wants_head, cap, chunk,
                          [&](int64_t first, int64_t count, at::Tensor& logits) {
                            const at::Tensor other =
                                capped(at::linear(teacher.narrow(0, first, count), teacher_head), cap);
                            const at::Tensor weight = weights.narrow(0, first, count);
                            if (has_loss_kernels(logits))
                              return divergence_kernel(logits, other, weight, gradient).sum();
                            at::Tensor log_p = log_probabilities(logits), log_t = log_probabilities(other);
                            const at::Tensor t = log_t.exp();
                            const at::Tensor loss = log_t.sub_(log_p).mul_(t).sum(-1).mul_(weight).sum();
                            if (gradient) logits = log_p.exp_().sub_(t).mul_(weight.unsqueeze(1));
                            return loss;
                          });
    return chunked.save(context, hidden.scalar_type());
  }
};

bool wants(const at::Tensor& x) { return at::GradMode::is_enabled() && x.requires_grad(); }

}  // namespace

at::Tensor cross_entropy(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets,
                         const at::Tensor& weights, int64_t chunk, double cap) {
  return CrossEntropy::apply(hidden, head, targets, weights, wants(hidden), wants(head), cap, chunk);
}

at::Tensor kl_divergence(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& teacher,
                         const at::Tensor& teacher_head, const at::Tensor& weights, int64_t chunk,
                         double cap) {
  return Divergence::apply(hidden, head, teacher.detach(), teacher_head.detach(), weights, wants(hidden),
                           wants(head), cap, chunk);
}

at::Tensor row_losses(const at::Tensor& hidden, const at::Tensor& head, const at::Tensor& targets,
                      int64_t chunk, double cap) {
  at::NoGradGuard off;
  Tensors parts;
  const int64_t rows = hidden.size(0), step = chunk_rows(hidden, head.size(0), chunk);
  for (int64_t first = 0; first < rows; first += step) {
    const int64_t count = std::min(step, rows - first);
    parts.push_back(log_probabilities(capped(at::linear(hidden.narrow(0, first, count), head), cap))
                        .gather(1, targets.narrow(0, first, count).unsqueeze(1))
                        .neg_());
  }
  return at::cat(parts).squeeze(1);
}

}  // namespace linnet::train

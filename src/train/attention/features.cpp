#include "train/attention/features.h"

#include <algorithm>
#include <string>

#include "train/ops.h"

namespace linnet::train {

at::Tensor relu_features(const at::Tensor& x, const ParameterMap&, std::string_view) { return at::relu(x); }

at::Tensor elu1_features(const at::Tensor& x, const ParameterMap&, std::string_view) {
  // 1 + elu(x), without the cancellation of exp(x) − 1 + 1.
  return at::relu(x) + at::exp(at::clamp_max(x, 0.0));
}

at::Tensor hedgehog_features(const at::Tensor& x, const ParameterMap& parameters, std::string_view side) {
  const at::Tensor w =
      parameters.find(std::string(side) + "weight")->second.to(x.scalar_type());  // [heads, d, d]
  const int64_t d = x.size(2);
  // [Wx, −Wx] in one product, then both softmaxes in one pass.
  const at::Tensor y = at::bmm(x, at::cat({w, -w}, 1).transpose(1, 2));
  return at::softmax(y.view({x.size(0), x.size(1), 2, d}), -1).view({x.size(0), x.size(1), 2 * d});
}

// The scan goes by blocks of groups: within a block one small matrix of powers of λ, between blocks a carried
// sum.
at::Tensor scan_groups(const at::Tensor& x, const GroupLayout& layout, const at::Tensor& log_decay) {
  if (!layout.index.defined() && !log_decay.defined()) return at::cumsum(x, 2);
  constexpr int64_t kBlock = 32;
  const int64_t heads = x.size(0), rows = x.size(1), groups = x.size(2);
  at::Tensor carry;
  Tensors parts;
  for (int64_t first = 0; first < groups; first += kBlock) {
    const int64_t count = std::min(kBlock, groups - first), carried = first > 0 ? 1 : 0;
    const auto options = layout.number.options();
    // [.., count, carried + count]: how many groups j lies before i; the carried sum is that of group −1.
    const at::Tensor distance =
        at::arange(count, options).unsqueeze(-1) - at::arange(-carried, count, options);
    const at::Tensor seen =
        (distance >= 0).logical_and(distance <= layout.number.narrow(1, first, count).unsqueeze(-1));
    at::Tensor power = seen.to(x.scalar_type()).unsqueeze(0);  // [1, B or 1, count, ..]
    if (log_decay.defined()) {
      power = power * at::exp(log_decay.to(x.scalar_type()).view({heads, 1, 1, 1}) * distance.clamp_min(0));
    }
    at::Tensor block = x.narrow(2, first, count);
    if (carried > 0) block = at::cat({carry, block}, 2);
    parts.push_back(at::matmul(power.expand({heads, rows, count, carried + count}), block));
    carry = parts.back().narrow(2, count - 1, 1);
  }
  return parts.size() == 1 ? parts[0] : at::cat(parts, 2);
}

namespace {

at::Tensor apply(FeatureMap features, const at::Tensor& x, const ParameterMap& parameters,
                 std::string_view side) {
  const auto shape = x.sizes();
  return features(x.reshape({shape[0], -1, shape[4]}), parameters, side)
      .view({shape[0], shape[1], shape[2], shape[3], -1});
}

at::Tensor log_decay_of(const ParameterMap& parameters, const AttentionConfig& config, int64_t kv_heads,
                        const at::TensorOptions& options) {
  if (config.decay_learned) return at::log_sigmoid(parameters.find("decay")->second);
  if (config.decay == 1.0) return {};
  return at::full({kv_heads}, std::log(config.decay),
                  options.dtype(sum_type(c10::typeMetaToScalarType(options.dtype()))));
}

/// Each group's own tokens up to the query: numerator and denominator of (φ(Q)φ(K)ᵀ ⊙ M) V.
SummaryRead read_own(const at::Tensor& fq, const at::Tensor& fk, const at::Tensor& v) {
  const int64_t c = fk.size(3), repeats = fq.size(3) / c;
  const auto type = sum_type(v.scalar_type());
  const at::Tensor later = at::ones({c, c}, fk.options().dtype(at::kBool)).triu(1).repeat({repeats, 1});
  const at::Tensor scores = at::matmul(fq, fk.transpose(-1, -2)).masked_fill_(later, 0.0);
  return {at::matmul(scores, v).to(type), scores.sum(-1, true, type)};
}

}  // namespace

SummaryRead read_summary(const SummaryRows& rows, const GroupLayout& layout, const ParameterMap& parameters,
                         const AttentionConfig& config, FeatureMap features) {
  const bool plain = config.local == LocalWeight::kNone;
  const int64_t lag = plain ? 1 : config.local_groups, groups = layout.groups, seen = groups - lag;
  const int64_t heads = rows.q.size(0), kv_heads = rows.k.size(0), batch = rows.q.size(1), c = layout.size;
  const auto compute = rows.v.scalar_type(), type = sum_type(compute);
  if (seen <= 0 && !plain) return {};

  // Only groups that read, and only groups that are read.
  at::Tensor fq = apply(features, plain ? rows.q : rows.q.narrow(2, lag, seen), parameters, "q.");
  at::Tensor fk = apply(features, plain ? rows.k : rows.k.narrow(2, 0, seen), parameters, "k.");
  fq = fq.view({kv_heads, heads / kv_heads, batch, fq.size(2), c, -1})
           .permute({0, 2, 3, 1, 4, 5})
           .reshape({kv_heads, batch, fq.size(2), heads / kv_heads * c, -1});
  if (config.sinks > 0) {
    const at::Tensor sink =
        layout.number.narrow(1, 0, seen)
            .eq(0)
            .unsqueeze(-1)
            .logical_and(at::arange(c, layout.number.options()) < config.sinks);  // [B or 1, seen, C]
    fk = fk.masked_fill(sink.unsqueeze(-1), 0.0);
  }
  SummaryRead own;
  if (plain) own = read_own(fq, fk, rows.v);
  if (seen <= 0) return own;

  const at::Tensor k = fk.narrow(2, 0, seen), v = rows.v.narrow(2, 0, seen);
  const int64_t f = k.size(-1), e = v.size(-1);
  const at::Tensor log_decay = log_decay_of(parameters, config, kv_heads, rows.v.options());
  const at::Tensor added = at::matmul(k.transpose(-1, -2), v).to(type).view({kv_heads, batch, seen, f * e});
  const at::Tensor s = scan_groups(added, layout, log_decay).to(compute).view({kv_heads, batch, seen, f, e});
  const at::Tensor z = scan_groups(k.sum(3, false, type), layout, log_decay).to(compute).unsqueeze(-1);
  const at::Tensor readers = plain ? fq.narrow(2, lag, seen) : fq;
  SummaryRead read{at::matmul(readers, s).to(type), at::matmul(readers, z).to(type)};
  if (!plain) return read;
  // A document's first group has nothing before it.
  const at::Tensor begins = layout.number.narrow(1, lag, seen).eq(0).view({-1, seen, 1, 1});
  const auto add = [&](const at::Tensor& a, const at::Tensor& b) {
    return at::cat({a.narrow(2, 0, lag), a.narrow(2, lag, seen) + b.masked_fill(begins, 0.0)}, 2);
  };
  return {add(own.numerator, read.numerator), add(own.denominator, read.denominator)};
}

}  // namespace linnet::train

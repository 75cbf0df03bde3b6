#include "train/attention/parallel.h"

#include <fmt/format.h>

#include <algorithm>

#include "attention/method.h"
#include "base/error.h"
#include "train/attention/features.h"
#include "train/attention/local.h"
#include "train/attention/softmax.h"
#include "train/ops.h"

namespace linnet::train {
namespace {

constexpr int64_t kPlainChunk = 64;  // where groups mean nothing, chunks that suit the matrix units

constexpr Form kForms[] = {
    {"softmax", nullptr},           {"relu", relu_features},
    {"elu1", elu1_features},        {"hedgehog", hedgehog_features},
    {"grouped", hedgehog_features}, {"flash_local", nullptr},
};

/// [H, B, groups, C, d] -> [G, B, groups, R · C, d].
at::Tensor share_heads(const at::Tensor& q, int64_t kv_heads) {
  const int64_t repeats = q.size(0) / kv_heads;
  if (repeats == 1) return q;
  return q.view({kv_heads, repeats, q.size(1), q.size(2), q.size(3), q.size(4)})
      .permute({0, 2, 3, 1, 4, 5})
      .reshape({kv_heads, q.size(1), q.size(2), repeats * q.size(3), q.size(4)});
}

/// α [G, B or 1, groups or 1, R · C or R, 1] of the groups of q [H, B, groups, C, d].
at::Tensor mixing(const at::Tensor& q, const ParameterMap& parameters, const AttentionConfig& config,
                  int64_t kv_heads) {
  const auto type = sum_type(q.scalar_type());
  if (!config.alpha_learned) return at::full({1, 1, 1, 1, 1}, config.alpha, q.options().dtype(type));
  const int64_t heads = q.size(0), c = q.size(3);
  at::Tensor logit = parameters.find("alpha")->second.view({heads, 1, 1, 1});
  if (config.gate) {
    const at::Tensor gate = parameters.find("gate")->second.to(q.scalar_type()).view({heads, 1, 1, 1, -1});
    logit = logit + (q * gate).sum(-1, false, type);
  } else {
    logit = logit.expand({heads, 1, 1, c});
  }
  return share_heads(at::sigmoid(logit).unsqueeze(-1), kv_heads);
}

/// Both branches of the groups from W on, mixed; L alone where a query sees no global token.
at::Tensor mix(const LocalOutput& local, const SummaryRead& read, const at::Tensor& alpha,
               const GroupLayout& layout, const AttentionConfig& config) {
  const int64_t lag = config.local_groups, seen = layout.groups - lag;
  const auto type = read.numerator.scalar_type();
  const at::Tensor number = layout.number.narrow(1, lag, seen).view({-1, seen, 1, 1});
  const at::Tensor global = (number - lag + 1) * layout.size - config.sinks;  // how many tokens, if positive
  const at::Tensor a = at::where(global > 0, alpha, at::ones({}, alpha.options()));
  const at::Tensor l = local.numerator.narrow(2, lag, seen).to(type);
  if (config.denominator == Denominator::kShared) {
    const at::Tensor d = local.denominator.narrow(2, lag, seen);
    return (a * l + (1 - a) * read.numerator) / (a * d + (1 - a) * read.denominator);
  }
  return at::lerp(read.numerator / read.denominator.clamp_min(kEpsilon), l, a);
}

/// out + Σ_j w_j ⊙ v_{t−j}. out [G, B, groups, R · C, e], v [G, B, groups, C, e], taps [H, K, e]; before the
/// document's start v is 0.
at::Tensor convolve(at::Tensor out, const at::Tensor& v, const at::Tensor& taps, const GroupLayout& layout) {
  const int64_t kv_heads = v.size(0), batch = v.size(1), groups = v.size(2), c = v.size(3), e = v.size(4);
  const int64_t repeats = taps.size(0) / kv_heads, count = taps.size(1);
  const at::Tensor w = taps.view({kv_heads, 1, 1, repeats, 1, count, e});
  const at::Tensor padded = at::constant_pad_nd(
      v.to(out.scalar_type()).view({kv_heads, batch, groups * c, e}), {0, 0, count - 1, 0});
  const at::Tensor place = layout.number.unsqueeze(-1) * c + at::arange(c, layout.number.options());
  out = out.view({kv_heads, batch, groups, repeats, c, e});
  for (int64_t j = 0; j < count; ++j) {
    at::Tensor shifted = padded.narrow(2, count - 1 - j, groups * c).view({kv_heads, batch, groups, c, e});
    if (j > 0 && layout.index.defined()) shifted = shifted.masked_fill((place < j).unsqueeze(-1), 0.0);
    out = at::addcmul(out, shifted.unsqueeze(3), w.select(5, j));
  }
  return out.view({kv_heads, batch, groups, repeats * c, e});
}

/// [G, B, groups, R · C, e] -> [B, n, H, e] as `type`.
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

at::Tensor linear_attention(const Rows& rows, const Documents& documents, const ParameterMap& parameters,
                            const AttentionConfig& config, FeatureMap features, const SinkRotation* sinks) {
  const bool has_local = config.local != LocalWeight::kNone;
  const bool plain_rows = config.feature_position == FeaturePosition::kNone;
  const int64_t heads = rows.q.size(1), kv_heads = rows.k.size(1);
  const GroupLayout& layout = documents.groups(has_local ? config.group : kPlainChunk);
  const at::Tensor v = to_groups(rows.v, layout);
  at::Tensor out;
  LocalOutput local;
  SummaryRead read;
  const at::Tensor q = to_groups(rows.q, layout), k = to_groups(rows.k, layout);
  const at::Tensor fq = plain_rows ? to_groups(rows.q_plain, layout) : q;
  const at::Tensor fk = plain_rows ? to_groups(rows.k_plain, layout) : k;
  if (!config.local_alone()) read = read_summary({fq, fk, v}, layout, parameters, config, features);
  if (!has_local) {
    out = read.numerator / read.denominator.clamp_min(kEpsilon);
  } else {
    const bool parts = config.denominator == Denominator::kShared;
    const auto gain = parameters.find("local_gain");
    local = local_branch({share_heads(q, kv_heads), k, v}, layout, config, sinks,
                         gain != parameters.end() ? gain->second : at::Tensor(), parts);
    const at::Tensor alone = parts ? local.numerator / local.denominator : local.numerator;
    out = alone.to(sum_type(v.scalar_type()));
    if (read.numerator.defined()) {
      const int64_t lag = config.local_groups;
      const at::Tensor alpha = mixing(fq.narrow(2, lag, layout.groups - lag), parameters, config, kv_heads);
      out = at::cat({out.narrow(2, 0, lag), mix(local, read, alpha, layout, config)}, 2);
    }
  }
  if (config.taps > 0) out = convolve(out, v, parameters.find("taps")->second, layout);
  return restore(out, layout, rows.v.size(2), heads, rows.v.scalar_type());
}

/// Whether the local branch is all there is and its window holds every document whole, with no sink turned:
/// then it is softmax attention, for which libtorch has its fastest kernels.
bool sees_whole_documents(const AttentionConfig& config, const Documents& documents,
                          const SinkRotation* sinks) {
  const int64_t groups = (documents.longest() + config.group - 1) / config.group;
  const bool turned =
      config.sinks > 0 && sinks != nullptr && groups * config.group > sinks->trained_positions;
  return config.local == LocalWeight::kSoftmax && config.local_alone() && config.taps == 0 &&
         groups <= config.local_groups && !turned;
}

}  // namespace

std::span<const Form> forms() { return kForms; }

const Form& form_of(const AttentionConfig& config, const std::string& where) {
  const auto form = std::find_if(std::begin(kForms), std::end(kForms),
                                 [&](const Form& f) { return f.name == config.method; });
  if (form == std::end(kForms)) {
    std::string known;
    for (const Form& f : kForms) known += fmt::format("{}{}", known.empty() ? "" : ", ", f.name);
    throw Error(where, fmt::format("no training form of {}", config.method), "one of " + known);
  }
  return *form;
}

bool heads_first(const AttentionConfig& config) { return !find_method(config.method, "attention").grows; }

at::Tensor parallel(const Rows& rows, const Documents& documents, const ParameterMap& parameters,
                    const AttentionConfig& config, const SinkRotation* sinks) {
  const Form& form = form_of(config, "attention");
  if (find_method(config.method, "attention").grows || sees_whole_documents(config, documents, sinks))
    return softmax_attention(rows, documents, config.window);
  return linear_attention(rows, documents, parameters, config, form.features, sinks);
}

}  // namespace linnet::train

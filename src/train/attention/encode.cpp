#include "train/attention/encode.h"

#include <fmt/format.h>

#include "attention/attention.h"
#include "attention/method.h"
#include "base/error.h"
#include "train/attention/bias.h"
#include "train/attention/branches.h"
#include "train/attention/documents.h"
#include "train/attention/parallel.h"
#include "train/ops.h"

namespace linnet::train {
namespace {

/// Which rows hold tokens, [B or 1, n] bool.
at::Tensor tokens_of(const at::Tensor& lengths, int64_t rows, int64_t n, at::Device device) {
  if (!lengths.defined()) return at::ones({1, n}, at::TensorOptions().dtype(at::kBool).device(device));
  const bool fits = lengths.dim() == 1 && lengths.size(0) == rows && lengths.scalar_type() == at::kLong &&
                    lengths.device().is_cpu() &&
                    (rows == 0 || (lengths.min().item<int64_t>() >= 0 && lengths.max().item<int64_t>() <= n));
  if (!fits)
    throw Error("lengths", "not of the sequences", fmt::format("[{}] int64 on the CPU, 0 … {}", rows, n));
  const at::Tensor place = at::arange(n, at::TensorOptions().dtype(at::kLong).device(device));
  return place < lengths.to(device, true).unsqueeze(1);
}

/// x [B, heads, n, size] with 0 for padding.
at::Tensor without_padding(const at::Tensor& x, const at::Tensor& tokens) {
  return x.defined() ? x.masked_fill(tokens.logical_not().unsqueeze(1).unsqueeze(-1), 0.0) : x;
}

/// [B, heads, n, size] -> [heads, B, 1, n, size]: the sequence as one group.
at::Tensor as_one_group(const at::Tensor& x) { return x.transpose(0, 1).unsqueeze(2); }

/// Tokens [B or 1, n] by groups, [B or 1, groups, C].
at::Tensor by_groups(const at::Tensor& tokens, const GroupLayout& layout) {
  const int64_t padding = layout.groups * layout.size - tokens.size(1);
  return at::constant_pad_nd(tokens, {0, padding}, 0).view({-1, layout.groups, layout.size});
}

/// `hidden` where a row sees a key at least: one that sees none has no output to be told from another.
at::Tensor but_not_all(const at::Tensor& hidden) {
  return hidden.logical_and(hidden.all(-1, true).logical_not());
}

/// Outputs [G, B, 1, R · m, e] of queries q [B, H, m, d] that read all tokens of k and v [B, G, n, ..]; 0
/// where there are none.
at::Tensor read_all(const Rows& rows, const at::Tensor& tokens, const ParameterMap& parameters,
                    const AttentionConfig& config) {
  const bool features = config.method->summary == SummaryKind::kFeatures;
  const Documents documents({}, rows.k.size(0), rows.k.size(2), rows.v.device());
  const GroupLayout& layout = documents.groups(features ? kFreeChunk : config.group);
  const SummaryPass pass{layout, parameters, config, Sees::kAll, by_groups(tokens, layout)};
  const SummaryRows summary{as_one_group(rows.summary_q), to_groups(rows.summary_k, layout),
                            to_groups(rows.v, layout)};
  const Form& form = form_of(*config.method);
  const at::Tensor out = form.finish(form.read(summary, pass), pass);
  return at::where(pass.seen() > 0, out, at::zeros({}, out.options()));
}

/// Outputs [G, B, 1, R · m, e] of softmax's queries, all of a sequence's keys its one group.
at::Tensor softmax_all(const Rows& rows, const at::Tensor& hidden, const AttentionConfig& config,
                       const at::Tensor& bias = {}) {
  AttentionConfig branch = config;
  branch.local = LocalWeight::kSoftmax;
  const at::Tensor q = share_heads(as_one_group(rows.q), rows.k.size(1));
  return own_groups({q, as_one_group(rows.k), as_one_group(rows.v)}, but_not_all(hidden), branch, {}, false,
                    bias)
      .numerator;
}

/// Outputs [G, B, groups, R · C, e] of a row whose queries don't read their own group's summary.
at::Tensor by_own_groups(const Rows& rows, const at::Tensor& tokens, const GroupLayout& layout,
                         const ParameterMap& parameters, const AttentionConfig& config) {
  const int64_t kv_heads = rows.k.size(1);
  const SummaryPass pass{layout, parameters, config, Sees::kOthers, by_groups(tokens, layout)};
  const at::Tensor q = to_groups(rows.q, layout), v = to_groups(rows.v, layout);
  LocalOutput local;
  at::Tensor out;
  if (config.has_local()) {
    const bool parts = config.denominator == Denominator::kShared;
    const auto gain = parameters.find("local_gain");
    const at::Tensor hidden = but_not_all(pass.tokens.logical_not().unsqueeze(2));
    local = own_groups({share_heads(q, kv_heads), to_groups(rows.k, layout), v}, hidden, config,
                       gain != parameters.end() ? gain->second : at::Tensor(), parts, bias_of(parameters));
    out = parts ? local.numerator / local.denominator : local.numerator;
    out = out.to(sum_type(v.scalar_type()));
  }
  const bool others = config.has_summary() && layout.groups > 1;
  if (!others && out.defined()) return out;
  if (!others) {
    return at::zeros({kv_heads, v.size(1), layout.groups, q.size(0) / kv_heads * layout.size, v.size(4)},
                     v.options().dtype(sum_type(v.scalar_type())));
  }
  const SummaryRows summary{to_groups(rows.summary_q, layout), to_groups(rows.summary_k, layout), v};
  const Form& form = form_of(*config.method);
  const SummaryRead read = form.read(summary, pass);
  if (out.defined()) return mix(local, read, mixing(summary.q, parameters, config, kv_heads), form, pass);
  out = form.finish(read, pass);
  return at::where(pass.seen() > 0, out, at::zeros({}, out.options()));
}

}  // namespace

at::Tensor bidirectional(const Rows& given, const at::Tensor& lengths, const ParameterMap& parameters,
                         const AttentionConfig& config) {
  const int64_t batch = given.q.size(0), heads = given.q.size(1), n = given.q.size(2);
  const at::Tensor tokens = tokens_of(lengths, batch, n, given.v.device());
  if (n == 0) return at::zeros({batch, 0, heads, given.v.size(3)}, given.v.options());
  Rows rows = given;
  for (at::Tensor* x : {&rows.q, &rows.k, &rows.v, &rows.summary_q, &rows.summary_k})
    *x = without_padding(*x, tokens);
  rows = entered(rows, config);
  const bool whole = config.grows() || (!config.has_local() && config.method->inclusive);
  const Documents documents({}, batch, n, rows.v.device());
  const GroupLayout& layout = documents.groups(whole ? n : config.group);
  at::Tensor out;
  if (config.grows()) {
    at::Tensor hidden = tokens.logical_not().view({-1, 1, 1, n});
    if (config.window > 0) {
      const at::Tensor place = at::arange(n, layout.number.options());
      const at::Tensor far = (place.unsqueeze(-1) - place).abs() >= config.window;
      hidden = hidden.logical_or(far.repeat({heads / rows.k.size(1), 1}));
    }
    out = softmax_all(rows, hidden, config, bias_of(parameters));
  } else if (whole) {
    out = read_all(rows, tokens, parameters, config);
  } else {
    out = by_own_groups(rows, tokens, layout, parameters, config);
  }
  if (config.taps > 0) {
    out = convolve(out, to_groups(rows.v, layout), parameters.find("taps")->second, layout, config.taps / 2);
  }
  return restore(out, layout, n, heads, rows.v.scalar_type())
      .masked_fill(tokens.logical_not().unsqueeze(-1).unsqueeze(-1), 0.0);
}

at::Tensor cross(const Rows& given, const at::Tensor& lengths, const ParameterMap& parameters,
                 const AttentionConfig& config) {
  check_cross(config);
  const int64_t batch = given.q.size(0), heads = given.q.size(1), m = given.q.size(2), n = given.k.size(2);
  const at::Tensor tokens = tokens_of(lengths, batch, n, given.v.device());
  if (n == 0 || m == 0) return at::zeros({batch, m, heads, given.v.size(3)}, given.v.options());
  Rows rows = given;
  for (at::Tensor* x : {&rows.k, &rows.v, &rows.summary_k}) *x = without_padding(*x, tokens);
  rows = entered(rows, config);
  const at::Tensor out = config.grows() ? softmax_all(rows, tokens.logical_not().view({-1, 1, 1, n}), config)
                                        : read_all(rows, tokens, parameters, config);
  const Documents documents({}, batch, m, rows.v.device());
  return restore(out, documents.groups(m), m, heads, rows.v.scalar_type());
}

}  // namespace linnet::train

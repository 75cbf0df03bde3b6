#include "train/attention/parallel.h"

#include <algorithm>
#include <map>

#include "attention/method.h"
#include "train/attention/branches.h"
#include "train/attention/local.h"
#include "train/attention/softmax.h"
#include "train/ops.h"

namespace linnet::train {
namespace {

constexpr int64_t kPlainChunk = 64;  // where groups mean nothing, chunks that suit the matrix units

/// out + Σ_{j ≥ 1} w_{−j} ⊙ v_{t+j}, with out and v as above, taps [H, F, e]; past the document's end v is 0.
/// No causal attention has this: it is the leak that the experiments plant.
at::Tensor look_ahead(at::Tensor out, const at::Tensor& v, const at::Tensor& taps,
                      const GroupLayout& layout) {
  const int64_t kv_heads = v.size(0), batch = v.size(1), groups = v.size(2), c = v.size(3), e = v.size(4);
  const int64_t repeats = taps.size(0) / kv_heads, count = taps.size(1);
  const at::Tensor w = taps.view({kv_heads, 1, 1, repeats, 1, count, e});
  const at::Tensor values = v.to(out.scalar_type()).reshape({kv_heads, batch, groups * c, e});
  at::Tensor place, padding;  // [B, groups · C]: of packed documents
  if (layout.index.defined()) {
    place = (layout.number.unsqueeze(-1) * c + at::arange(c, layout.number.options())).flatten(1);
    padding = (layout.inverse.index_select(0, layout.index) !=
               at::arange(layout.index.size(0), layout.index.options()))
                  .view_as(place);
  }
  out = out.view({kv_heads, batch, groups, repeats, c, e});
  for (int64_t j = 1; j <= count; ++j) {
    // A document's first j tokens are in the future of none of its own.
    const at::Tensor seen =
        place.defined() ? values.masked_fill((padding | (place < j)).unsqueeze(-1), 0.0) : values;
    const at::Tensor shifted = at::constant_pad_nd(seen, {0, 0, 0, j}).narrow(2, j, groups * c);
    out = at::addcmul(out, shifted.reshape({kv_heads, batch, groups, 1, c, e}), w.select(5, j - 1));
  }
  return out.view({kv_heads, batch, groups, repeats * c, e});
}

/// Outputs [G, B, groups, R · C, e] of a row without a local branch.
at::Tensor summary_alone(const SummaryRows& rows, const SummaryPass& pass) {
  const int64_t kv_heads = rows.k.size(0), repeats = rows.q.size(0) / kv_heads;
  const auto options = rows.v.options().dtype(sum_type(rows.v.scalar_type()));
  const auto nothing = [&](int64_t groups) {
    return at::zeros({kv_heads, rows.v.size(1), groups, repeats * pass.layout.size, rows.v.size(4)}, options);
  };
  if (pass.readers() <= 0) return nothing(pass.layout.groups);
  const Form& form = form_of(*pass.config.method);
  const at::Tensor out = form.finish(form.read(rows, pass), pass);
  if (pass.own_group()) return out;
  return at::cat({nothing(pass.first_reader()), at::where(pass.seen() > 0, out, at::zeros({}, options))}, 2);
}

at::Tensor linear_attention(const Rows& given, const Documents& documents, const ParameterMap& parameters,
                            const AttentionConfig& config, const SinkRotation* sinks) {
  Rows rows = given;
  const bool own_rows = config.feature_position == FeaturePosition::kNone;
  if (!own_rows) rows.summary_q = rows.q, rows.summary_k = rows.k;
  if (config.method->unit_rows) {
    for (at::Tensor* x : {&rows.q, &rows.k, &rows.summary_q, &rows.summary_k}) *x = unit(*x);
  }
  const int64_t heads = rows.q.size(1), kv_heads = rows.k.size(1);
  // Features up to the own token ask for no groups: chunks are as suits the matrix units.
  const bool by_groups =
      config.has_local() || !config.method->inclusive || config.method->summary != SummaryKind::kFeatures;
  const GroupLayout& layout = documents.groups(by_groups ? config.group : kPlainChunk);
  const SummaryPass pass{layout, parameters, config};
  const at::Tensor q = to_groups(rows.q, layout), k = to_groups(rows.k, layout),
                   v = to_groups(rows.v, layout);
  SummaryRows summary{q, k, v};
  if (own_rows) summary = {to_groups(rows.summary_q, layout), to_groups(rows.summary_k, layout), v};
  at::Tensor out;
  if (!config.has_local()) {
    out = summary_alone(summary, pass);
  } else {
    const bool parts = config.denominator == Denominator::kShared;
    const auto gain = parameters.find("local_gain");
    const LocalOutput local = local_branch({share_heads(q, kv_heads), k, v}, layout, config, sinks,
                                           gain != parameters.end() ? gain->second : at::Tensor(), parts);
    const at::Tensor alone = parts ? local.numerator / local.denominator : local.numerator;
    out = alone.to(sum_type(v.scalar_type()));
    if (config.has_summary() && pass.readers() > 0) {
      const Form& form = form_of(*config.method);
      const int64_t lag = pass.lag(), readers = pass.readers();
      const at::Tensor alpha = mixing(summary.q.narrow(2, lag, readers), parameters, config, kv_heads);
      LocalOutput near{local.numerator.narrow(2, lag, readers), {}};
      if (parts) near.denominator = local.denominator.narrow(2, lag, readers);
      out = at::cat({out.narrow(2, 0, lag), mix(near, form.read(summary, pass), alpha, form, pass)}, 2);
    }
  }
  if (config.taps > 0) out = convolve(out, v, parameters.find("taps")->second, layout);
  if (config.future_taps > 0)
    out = look_ahead(out, v, parameters.find(std::string(kFutureTaps))->second, layout);
  return restore(out, layout, rows.v.size(2), heads, rows.v.scalar_type());
}

/// Whether the local branch is all there is and its window holds every document whole, with no sink turned:
/// then it is softmax attention, for which libtorch has its fastest kernels.
bool sees_whole_documents(const AttentionConfig& config, const Documents& documents,
                          const SinkRotation* sinks) {
  const int64_t groups = (documents.longest() + config.group - 1) / config.group;
  const bool turned =
      config.sinks > 0 && sinks != nullptr && groups * config.group > sinks->trained_positions;
  return config.local == LocalWeight::kSoftmax && !config.has_summary() && !config.method->unit_rows &&
         config.taps == 0 && config.future_taps == 0 && groups <= config.local_groups.least() && !turned;
}

}  // namespace

#define LINNET_METHOD(name) Form name##_form();
#define LINNET_LOCAL_METHOD(name)
#include "attention/methods/list.inc"
#undef LINNET_METHOD

const Form& form_of(const Method& method) {
#define LINNET_METHOD(name) {#name, name##_form()},
  static const std::map<std::string_view, Form> forms{
#include "attention/methods/list.inc"
  };
#undef LINNET_METHOD
#undef LINNET_LOCAL_METHOD
  return forms.at(method.name);
}

bool heads_first(const AttentionConfig& config) { return !config.grows(); }

at::Tensor parallel(const Rows& rows, const Documents& documents, const ParameterMap& parameters,
                    const AttentionConfig& config, const SinkRotation* sinks) {
  if (config.grows() || sees_whole_documents(config, documents, sinks))
    return softmax_attention(rows, documents, config.window);
  refuse_budgets(config, "training");
  return linear_attention(rows, documents, parameters, config, sinks);
}

}  // namespace linnet::train

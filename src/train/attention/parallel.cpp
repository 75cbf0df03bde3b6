#include "train/attention/parallel.h"

#include <algorithm>
#include <map>
#include <vector>

#include "attention/method.h"
#include "train/attention/bias.h"
#include "train/attention/branches.h"
#include "train/attention/by_heads.h"
#include "train/attention/fused.h"
#include "train/attention/local.h"
#include "train/attention/softmax.h"
#include "train/kernels.h"
#include "train/ops.h"

namespace linnet::train {
namespace {

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
  at::Tensor out = form.finish(form.read(rows, pass), pass);
  if (pass.own_group()) return out;
  if (pass.layout.index.defined())  // of packed documents each has groups that see nothing
    out = at::where(pass.seen() > 0, out, at::zeros({}, options));
  return at::cat({nothing(pass.first_reader()), out}, 2);
}

at::Tensor linear_attention(const Rows& given, const Documents& documents, const ParameterMap& parameters,
                            const AttentionConfig& config, const Rotation* sinks) {
  const Rows rows = entered(given, config);
  const bool own_rows = rows.own_summary_rows || config.feature_position == FeaturePosition::kNone;
  const int64_t heads = rows.q.size(1), kv_heads = rows.k.size(1);
  // Features up to the own token ask for no groups: chunks are as suits the matrix units.
  const bool by_groups =
      config.has_local() || !config.method->inclusive || config.method->summary != SummaryKind::kFeatures;
  const GroupLayout& layout = documents.groups(by_groups ? config.group : kFreeChunk);
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
    at::Tensor surprise;
    if (config.kept.number() > 0 && pass.read_groups() > 0)
      surprise = config.keep == KeepRule::kRandom ? random_surprises(pass, v)
                                                  : surprises(summary, pass, form_of(*config.method).map);
    const LocalOutput local = local_branch({share_heads(q, kv_heads), k, v}, layout, config, sinks,
                                           gain != parameters.end() ? gain->second : at::Tensor(), parts,
                                           surprise, bias_of(parameters));
    if (has_kernels(v) && is_fused(summary, pass))
      return fused_mix(local.numerator, summary, pass, rows.v.size(2));
    const at::Tensor alone = parts ? local.numerator / local.denominator : local.numerator;
    out = alone.to(sum_type(v.scalar_type()));
    if (config.has_summary() && pass.readers() > 0) {
      const Form& form = form_of(*config.method);
      const int64_t lag = pass.lag(), readers = pass.readers();
      const at::Tensor alpha = mixing(part_of(summary.q, 2, lag, readers), parameters, config, kv_heads);
      LocalOutput near{part_of(local.numerator, 2, lag, readers), {}};
      if (parts) near.denominator = part_of(local.denominator, 2, lag, readers);
      out = at::cat({part_of(out, 2, 0, lag), mix(near, form.read(summary, pass), alpha, form, pass)}, 2);
    }
  }
  if (config.taps > 0) out = convolve(out, v, parameters.find("taps")->second, layout);
  if (config.future_taps > 0)
    out = look_ahead(out, v, parameters.find(std::string(kFutureTaps))->second, layout);
  return restore(out, layout, rows.v.size(2), heads, rows.v.scalar_type());
}

/// Whether the local branch is all there is and its window holds every document whole, with no sink turned:
/// then it is softmax attention, for which libtorch has its fastest kernels.
bool sees_whole_documents(const AttentionConfig& config, const Documents& documents, const Rotation* sinks) {
  const int64_t groups = (documents.longest() + config.group - 1) / config.group;
  const bool turned =
      config.sinks > 0 && sinks != nullptr && groups * config.group > sinks->trained_positions;
  return config.local == LocalWeight::kSoftmax && !config.has_summary() && !config.method->unit_rows &&
         config.taps == 0 && config.future_taps == 0 && groups <= config.local_groups.number() && !turned;
}

/// Of heads whose budgets are equal.
at::Tensor of_equal_heads(const Rows& rows, const Documents& documents, const ParameterMap& parameters,
                          const AttentionConfig& config, const Rotation* sinks) {
  if (config.grows() || sees_whole_documents(config, documents, sinks))
    return softmax_attention(rows, documents, config.window, config.score_cap, bias_of(parameters));
  return linear_attention(rows, documents, parameters, config, sinks);
}

/// Takes heads of unequal budgets apart, by class, and puts them together again. No gradient of a part is
/// filled up to the whole.
class HeadClasses {
 public:
  HeadClasses(const std::vector<BudgetClass>& classes, int64_t kv_heads)
      : kv_heads_(kv_heads), of_head_(static_cast<size_t>(kv_heads)), classes_(classes.size()) {
    for (size_t i = 0; i < classes.size(); ++i) {
      for (const int head : classes[i].kv_heads) of_head_[static_cast<size_t>(head)] = i;
    }
  }

  /// x [heads, ..], query or key-value heads: each class's.
  Tensors apart(const at::Tensor& x) const {
    std::vector<int64_t> sizes;  // of runs of heads of one class
    std::vector<size_t> of_run;
    for (size_t g = 0; g < of_head_.size(); ++g) {
      if (g == 0 || of_head_[g] != of_head_[g - 1]) {
        sizes.push_back(0);
        of_run.push_back(of_head_[g]);
      }
      sizes.back() += x.size(0) / kv_heads_;
    }
    const Tensors runs = at::split_with_sizes(x, sizes, 0);
    std::vector<Tensors> parts(classes_);
    for (size_t i = 0; i < runs.size(); ++i) parts[of_run[i]].push_back(runs[i]);
    Tensors joined;
    for (const Tensors& own : parts) joined.push_back(own.size() == 1 ? own[0] : at::cat(own, 0));
    return joined;
  }

  /// All heads of each class's x [B, n, heads, e].
  at::Tensor together(const Tensors& parts) const {
    std::vector<Tensors> heads;
    for (size_t i = 0; i < parts.size(); ++i) {
      const auto own = std::count(of_head_.begin(), of_head_.end(), i);
      heads.push_back(at::split(parts[i], parts[i].size(2) / own, 2));
    }
    std::vector<size_t> next(classes_);
    Tensors all;
    for (const size_t i : of_head_) all.push_back(heads[i][next[i]++]);
    return at::cat(all, 2);
  }

 private:
  int64_t kv_heads_;
  std::vector<size_t> of_head_;  // the class of each key-value head
  size_t classes_;
};

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
                    const AttentionConfig& config, const Rotation* sinks) {
  if (goes_by_heads(rows, documents, parameters, config, sinks))
    return attend_by_heads(rows, documents, parameters, config);
  const int64_t kv_heads = rows.k.size(1);
  const std::vector<BudgetClass> classes = budget_classes(config, static_cast<int>(kv_heads));
  if (classes.size() == 1) return of_equal_heads(rows, documents, parameters, classes[0].config, sinks);
  const HeadClasses heads(classes, kv_heads);
  std::vector<Rows> own_rows(classes.size());
  for (Rows& own : own_rows) own.own_summary_rows = rows.own_summary_rows;
  std::vector<ParameterMap> own_parameters(classes.size());
  for (at::Tensor Rows::*x : {&Rows::q, &Rows::k, &Rows::v, &Rows::summary_q, &Rows::summary_k}) {
    if (!(rows.*x).defined()) continue;
    const Tensors parts = heads.apart((rows.*x).transpose(0, 1));
    for (size_t i = 0; i < parts.size(); ++i) own_rows[i].*x = parts[i].transpose(0, 1);
  }
  for (const auto& [name, x] : parameters) {  // of query or of key-value heads, all of them
    const Tensors parts = heads.apart(x);
    for (size_t i = 0; i < parts.size(); ++i) own_parameters[i][name] = parts[i];
  }
  Tensors outputs;
  for (size_t i = 0; i < classes.size(); ++i)
    outputs.push_back(of_equal_heads(own_rows[i], documents, own_parameters[i], classes[i].config, sinks));
  return heads.together(outputs);
}

}  // namespace linnet::train

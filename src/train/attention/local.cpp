#include "train/attention/local.h"

#include <cmath>
#include <functional>
#include <limits>
#include <numbers>
#include <stdexcept>

#include "attention/method.h"
#include "train/attention/summary.h"
#include "train/ops.h"

namespace linnet::train {
namespace {

/// Places of sinks in a window: a multiple of 8 keeps rows of scores aligned for the matrix units.
int64_t sink_places(const AttentionConfig& config) { return (config.sinks + 7) / 8 * 8; }

/// Whether sinks are turned for a layout's groups at all.
bool turns(const GroupLayout& layout, const SinkRotation& sinks) {
  return !sinks.inverse_frequencies.empty() && layout.groups * layout.size > sinks.trained_positions;
}

/// What a group's queries don't see: [B or 1, groups, 1, C, places + W·C] bool.
at::Tensor hidden_keys(const GroupLayout& layout, const AttentionConfig& config,
                       const SinkRotation& rotation) {
  const int64_t c = layout.size, w = config.local_groups.number(), places = sink_places(config);
  const auto options = layout.number.options();
  const at::Tensor number = layout.number.view({layout.number.size(0), -1, 1, 1, 1});
  const at::Tensor slot = at::arange(w * c, options);
  const at::Tensor distance = w - 1 - slot.div(c, "floor");  // in groups
  const at::Tensor query = at::arange(c, options).unsqueeze(-1);
  at::Tensor hidden = (distance > number).logical_or((slot - (w - 1) * c) > query);
  if (places == 0) return hidden;
  // Sinks stand in the window's own places while the first group does; apart, once that is past or they are
  // turned.
  const at::Tensor sink = at::arange(places, options);
  at::Tensor apart = number >= w;
  if (turns(layout, rotation)) {
    const at::Tensor turned = (number + 1) * c > rotation.trained_positions;
    const at::Tensor first = (distance == number).logical_and(slot.remainder(c) < config.sinks);
    hidden = hidden.logical_or(turned.logical_and(first));
    apart = apart.logical_or(turned);
  }
  const at::Tensor later = (number == 0).logical_and(sink > query);
  const at::Tensor absent = (sink >= config.sinks).logical_or(apart.logical_not()).logical_or(later);
  return at::cat({absent.expand({hidden.size(0), layout.groups, 1, c, places}), hidden}, -1);
}

/// The last W groups before and with each: x [G, B, groups, C, d] -> [G, B, groups, W·C, d].
at::Tensor windows(const at::Tensor& x, int64_t w) {
  if (w == 1) return x;
  const int64_t groups = x.size(2);
  const at::Tensor padded = at::constant_pad_nd(x, {0, 0, 0, 0, w - 1, 0});
  Tensors parts;
  for (int64_t j = 0; j < w; ++j) parts.push_back(padded.narrow(2, j, groups));
  return at::cat(parts, 3);
}

/// The first `places` tokens of each group's document: [G, B, groups, places, d].
at::Tensor first_tokens(const at::Tensor& x, const GroupLayout& layout, int64_t sinks, int64_t places) {
  const int64_t rows = x.size(1), groups = x.size(2), d = x.size(4);
  const at::Tensor own = at::constant_pad_nd(x.narrow(3, 0, sinks), {0, 0, 0, places - sinks});
  if (!layout.index.defined()) return own.narrow(2, 0, 1).expand({-1, -1, groups, -1, -1});
  const auto options = layout.number.options();
  const at::Tensor first =
      at::arange(rows * groups, options) - layout.number.reshape({-1});  // the document's first group
  return own.reshape({x.size(0), rows * groups, places, d})
      .index_select(1, first)
      .view({x.size(0), rows, groups, places, d});
}

/// Past the trained positions P, sink i is turned from position i to (g + 1)C − P + i.
at::Tensor turned(const at::Tensor& keys, const GroupLayout& layout, const SinkRotation& sinks) {
  const auto options = layout.number.options().dtype(at::kDouble);
  const at::Tensor by =
      ((layout.number + 1) * layout.size - sinks.trained_positions).clamp_min(0).to(at::kDouble);
  const at::Tensor angle =
      by.view({by.size(0), -1, 1, 1}) *
      at::tensor(at::ArrayRef<double>(sinks.inverse_frequencies), at::kDouble).to(options.device());
  const auto type = sum_type(keys.scalar_type());
  return rotate(keys, angle.cos().to(type), angle.sin().to(type));
}

/// Unnormalized weights of all but softmax: scores [..] already hold τ q·k.
at::Tensor weights(const at::Tensor& scores, const at::Tensor& hidden, const AttentionConfig& config) {
  at::Tensor w;
  switch (config.local) {
    case LocalWeight::kRelu2:
      w = at::relu(scores).square() / config.group;
      break;
    case LocalWeight::kRelu:
      w = at::relu(scores);
      break;
    case LocalWeight::kRelu2Unit:  // scores are cosines
      w = at::relu(scores).square();
      break;
    case LocalWeight::kLaplace: {
      const double mu = std::sqrt(0.5), sigma = std::sqrt(0.25 / std::numbers::pi);
      w = (at::erf((scores - mu) / (sigma * std::numbers::sqrt2)) + 1.0) * (0.5 / config.group);
      break;
    }
    case LocalWeight::kYoso: {  // the arc cosine has no slope at ±1
      const double most = scores.scalar_type() == at::kDouble ? 1.0 - 1e-15 : 1.0 - 6e-8;
      const at::Tensor cosine = scores.to(sum_type(scores.scalar_type())).clamp(-most, most);
      w = (1.0 - at::acos(cosine) / std::numbers::pi).pow(config.option("bits")).to(scores.scalar_type());
      break;
    }
    case LocalWeight::kNone:
    case LocalWeight::kSoftmax:
      throw std::logic_error("weights of a branch that has none of its own");
  }
  return w.masked_fill(hidden, 0.0);
}

/// What follows the sum: ReLA's RMSNorm with gain [H, e], YOSO's norm.
at::Tensor normalized(const at::Tensor& sum, const AttentionConfig& config, const at::Tensor& gain) {
  if (config.local == LocalWeight::kYoso) return unit(sum.to(sum_type(sum.scalar_type())));
  if (config.local != LocalWeight::kRelu) return sum;
  return norm_heads(sum.to(sum_type(sum.scalar_type())), gain);
}

struct Scored {
  at::Tensor scores;  // [G, B, groups, R·C, keys], τ q·k; softmax: −∞ where hidden
  at::Tensor hidden;  // [B or 1, groups or 1, R·C or 1, keys]
  at::Tensor values;  // [G, B, groups, keys, e]
};

Scored scored(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
              const at::Tensor& hidden, const AttentionConfig& config) {
  const double scale = config.method->unit_rows ? 1.0 : 1.0 / std::sqrt(static_cast<double>(queries.size(4)));
  const bool cosines = config.local == LocalWeight::kYoso || config.local == LocalWeight::kRelu2Unit;
  const at::Tensor q = cosines ? unit(queries) : queries * scale;
  at::Tensor scores = at::matmul(q, (cosines ? unit(keys) : keys).transpose(-1, -2));
  if (config.local == LocalWeight::kSoftmax)
    scores.masked_fill_(hidden, -std::numeric_limits<double>::infinity());
  return {scores, hidden, values};
}

/// What the branch gives of scores. `score` is computed again in the backward pass.
LocalOutput output_of(const std::function<Scored(const Tensors&)>& score, const LocalRows& rows,
                      const AttentionConfig& config, const at::Tensor& gain, bool parts) {
  const Tensors inputs = {rows.q, rows.k, rows.v};
  if (parts) {
    const Scored s = score(inputs);
    const at::Tensor scores = s.scores.to(sum_type(s.scores.scalar_type()));
    const at::Tensor w = at::exp(scores - std::get<0>(scores.max(-1, true)));
    return {at::matmul(w.to(s.values.scalar_type()), s.values), w.sum(-1, true)};
  }
  // Scores are the largest tensors of a layer: computed again rather than kept.
  const auto output = [score, config](const Tensors& in) {
    const Scored s = score(in);
    return at::matmul(config.local == LocalWeight::kSoftmax ? at::softmax(s.scores, -1)
                                                            : weights(s.scores, s.hidden, config),
                      s.values);
  };
  return {normalized(checkpoint(output, inputs), config, gain), {}};
}

}  // namespace

LocalOutput local_branch(const LocalRows& rows, const GroupLayout& layout, const AttentionConfig& config,
                         const SinkRotation* sinks, const at::Tensor& gain, bool parts) {
  // By value: the backward pass runs this again when the caller's rows are gone.
  const SinkRotation rotation = sinks != nullptr ? *sinks : SinkRotation{};
  const auto score = [layout, config, rotation](const Tensors& in) {
    const int64_t places = sink_places(config), repeats = in[0].size(3) / layout.size;
    at::Tensor k = windows(in[1], config.local_groups.number()),
               v = windows(in[2], config.local_groups.number());
    if (places > 0) {
      at::Tensor first = first_tokens(in[1], layout, config.sinks, places);
      if (turns(layout, rotation)) first = turned(first, layout, rotation);
      k = at::cat({first, k}, 3);
      v = at::cat({first_tokens(in[2], layout, config.sinks, places), v}, 3);
    }
    const at::Tensor hidden =
        hidden_keys(layout, config, rotation).expand({-1, -1, repeats, -1, -1}).flatten(2, 3);
    return scored(in[0], k, v, hidden, config);
  };
  return output_of(score, rows, config, gain, parts);
}

LocalOutput own_groups(const LocalRows& rows, const at::Tensor& hidden, const AttentionConfig& config,
                       const at::Tensor& gain, bool parts) {
  const auto score = [hidden, config](const Tensors& in) {
    return scored(in[0], in[1], in[2], hidden, config);
  };
  return output_of(score, rows, config, gain, parts);
}

}  // namespace linnet::train

#include "train/attention/local.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <numbers>
#include <stdexcept>

#include "attention/method.h"
#include "train/attention/bias.h"
#include "train/attention/kept.h"
#include "train/attention/summary.h"
#include "train/kernels.h"
#include "train/ops.h"

namespace linnet::train {
namespace {

/// Numbers in the scores of the blocks that are computed at a time.
constexpr int64_t kMostScores = int64_t{1} << 28;

/// Places of sinks in a window: a multiple of 8 keeps rows of scores aligned for the matrix units.
int64_t sink_places(const AttentionConfig& config) { return (config.sinks + 7) / 8 * 8; }

/// Groups that are scored together, against all keys that any of them sees: what they share is not copied for
/// each. A block is small beside `keys` tokens that its groups see, so that little is scored that none of
/// them does.
int64_t span_of(int64_t keys, int64_t group) { return std::max<int64_t>(1, keys / group / 8); }

/// Some blocks of `span` groups, from block `first` on. Groups past the row's last have no tokens.
struct Blocks {
  int64_t span, first, count;
  int64_t size;       // C
  int64_t window;     // W, or all groups of the row where that is less
  int64_t groups;     // of the row
  bool packed;        // the row holds more than one document
  at::Tensor number;  // [B or 1, count · span]: each group's number in its document; 0 past the row's last

  int64_t first_group() const { return first * span; }
  /// x [.., groups of these blocks, a, b] -> [.., count, span · a, b].
  at::Tensor by_block(const at::Tensor& x) const {
    return x.reshape({x.size(0), x.size(1), count, span * x.size(3), x.size(4)});
  }
};

/// Groups `first` … `first + count` of x [G, B, groups, C, d], those outside the row 0.
at::Tensor groups_of(const at::Tensor& x, int64_t first, int64_t count) {
  const int64_t begin = std::max<int64_t>(first, 0), end = std::min(first + count, x.size(2));
  const at::Tensor inside = x.narrow(2, begin, end - begin);
  if (end - begin == count) return inside;
  return at::constant_pad_nd(inside, {0, 0, 0, 0, begin - first, first + count - end});
}

/// What a block's queries don't see of its sinks and its window: [B or 1, blocks, span, 1, C, span · places +
/// (W + span − 1) · C] bool.
at::Tensor hidden_keys(const Blocks& blocks, const AttentionConfig& config, const Rotation* rotation) {
  const int64_t c = blocks.size, w = blocks.window, span = blocks.span, places = sink_places(config);
  const auto options = blocks.number.options();
  const at::Tensor number = blocks.number.view({blocks.number.size(0), -1, span, 1, 1, 1});
  const at::Tensor reader = at::arange(span, options).view({span, 1, 1, 1});
  const at::Tensor slot = at::arange((w + span - 1) * c, options);
  const at::Tensor distance = reader + w - 1 - slot.div(c, "floor");  // in groups
  const at::Tensor query = at::arange(c, options).unsqueeze(-1);
  at::Tensor hidden =
      (distance > number.clamp_max(w - 1)).logical_or(distance * c < slot.remainder(c) - query);
  if (places == 0) return hidden;
  // Sinks stand in the window's own places while the first group does; apart, once that is past or they are
  // turned.
  const at::Tensor sink = at::arange(places, options);
  at::Tensor apart = number >= w;
  if (rotation != nullptr) {
    const at::Tensor group = number + 1;
    const at::Tensor turned = group * c > rotation->trained_positions;
    const at::Tensor first = (distance == number).logical_and(slot.remainder(c) < config.sinks);
    hidden = hidden.logical_or(turned.logical_and(first));
    apart = apart.logical_or(turned);
  }
  const at::Tensor later = (number == 0).logical_and(sink > query);
  const at::Tensor absent = (sink >= config.sinks).logical_or(apart.logical_not()).logical_or(later);
  // Each group of the block has its own places.
  const at::Tensor others = at::arange(span, options).unsqueeze(-1) != reader.unsqueeze(-1);
  const at::Tensor all = absent.unsqueeze(-2).logical_or(others);  // [.., C, span, places]
  return at::cat({all.expand({hidden.size(0), blocks.count, span, 1, c, span, places}).flatten(-2), hidden},
                 -1);
}

/// How far behind (negative) a block's queries the keys of its sinks and its window stand, as hidden_keys()
/// has them: [B or 1, blocks, span, 1, C, span · places + (W + span − 1) · C] int64.
at::Tensor distances(const Blocks& blocks, const AttentionConfig& config) {
  const int64_t c = blocks.size, w = blocks.window, span = blocks.span, places = sink_places(config);
  const auto options = blocks.number.options().dtype(at::kLong);
  const at::Tensor reader = at::arange(span, options).view({span, 1, 1, 1});
  const at::Tensor slot = at::arange((w + span - 1) * c, options);
  const at::Tensor query = at::arange(c, options).unsqueeze(-1);
  const at::Tensor groups = slot.div(c, "floor") - (reader + w - 1);
  const at::Tensor near = (groups * c + slot.remainder(c) - query)
                              .unsqueeze(0)
                              .expand({blocks.count, span, 1, c, (w + span - 1) * c})
                              .unsqueeze(0);
  if (places == 0) return near;
  const at::Tensor number = blocks.number.to(at::kLong).view({blocks.number.size(0), -1, span, 1, 1, 1});
  const at::Tensor sink = at::arange(places, options) - (number * c + query);  // [.., C, places]
  const int64_t rows = number.size(0);
  return at::cat({sink.unsqueeze(-2).expand({rows, blocks.count, span, 1, c, span, places}).flatten(-2),
                  near.expand({rows, -1, -1, -1, -1, -1})},
                 -1);
}

/// The groups that each block's groups see: x [G, B, groups, C, d] -> [G, B, blocks, (W + span − 1) · C, d].
at::Tensor windows(const at::Tensor& x, const Blocks& blocks) {
  const int64_t w = blocks.window, wide = w + blocks.span - 1;
  const at::Tensor all = groups_of(x, blocks.first_group() - w + 1, blocks.count * blocks.span + w - 1);
  if (wide == 1) return all;
  Tensors parts;
  for (int64_t j = 0; j < wide; ++j) {
    parts.push_back(at::slice(all, 2, j, j + (blocks.count - 1) * blocks.span + 1, blocks.span));
  }
  return at::cat(parts, 3);
}

/// The first `places` tokens of the document of each of the blocks' groups: [G, B, groups, places, d].
at::Tensor first_tokens(const at::Tensor& x, const Blocks& blocks, int64_t sinks, int64_t places) {
  const int64_t rows = x.size(1), groups = blocks.count * blocks.span, d = x.size(4);
  const at::Tensor own = at::constant_pad_nd(x.narrow(3, 0, sinks), {0, 0, 0, places - sinks});
  if (!blocks.packed) return own.narrow(2, 0, 1).expand({-1, -1, groups, -1, -1});
  const auto options = blocks.number.options();
  const at::Tensor group = at::arange(blocks.first_group(), blocks.first_group() + groups, options);
  const at::Tensor first =
      (group - blocks.number).clamp_max(blocks.groups - 1);  // the document's first group
  const at::Tensor row = at::arange(rows, options).unsqueeze(-1) * blocks.groups;
  return own.reshape({x.size(0), rows * blocks.groups, places, d})
      .index_select(1, (row + first).flatten())
      .view({x.size(0), rows, groups, places, d});
}

/// keys [.., d] turned by `by` positions, which broadcast to [.., 1].
at::Tensor turned(const at::Tensor& keys, const at::Tensor& by, const Rotation& sinks) {
  const at::Tensor angle =
      by.to(at::kDouble) *
      at::tensor(at::ArrayRef<double>(sinks.inverse_frequencies), at::kDouble).to(by.device(), true);
  const auto type = sum_type(keys.scalar_type());
  return rotate(keys, angle.cos().to(type), angle.sin().to(type));
}

/// How far the readers of each group stand past the trained positions P, (g + 1)C − P: [B or 1, groups].
at::Tensor past_trained(const Blocks& blocks, const Rotation& sinks) {
  return (blocks.number + 1) * blocks.size - sinks.trained_positions;
}

/// Past the trained positions, sink i is turned from position i to (g + 1)C − P + i.
at::Tensor turned_sinks(const at::Tensor& keys, const Blocks& blocks, const Rotation& sinks) {
  const at::Tensor by = past_trained(blocks, sinks).clamp_min(0);
  return turned(keys, by.view({by.size(0), -1, 1, 1}), sinks);
}

/// And a kept token from its position s to max(s, (g + 1)C − P + sinks). Blocks are of one group.
at::Tensor turned_kept(const at::Tensor& keys, const at::Tensor& places, const Blocks& blocks, int64_t sinks,
                       const Rotation& rotation) {
  const at::Tensor group =
      at::arange(blocks.first_group(), blocks.first_group() + blocks.count, places.options());
  const at::Tensor start = (group - blocks.number) * blocks.size;  // of the document, [B or 1, groups]
  const at::Tensor least = past_trained(blocks, rotation) + sinks + start;  // as a place
  return turned(keys, (least.unsqueeze(-1) - places).clamp_min(0).unsqueeze(-1), rotation);
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
  at::Tensor hidden;  // what broadcasts to it
  at::Tensor values;  // [G, B, groups, keys, e]
};

/// Whether scores are the base's, which a cap or a bias is of: neither cosines nor products of unit rows.
bool are_scores(const AttentionConfig& config) {
  return config.local != LocalWeight::kYoso && config.local != LocalWeight::kRelu2Unit &&
         !config.method->unit_rows;
}

/// `bias` of each score; undefined: none.
Scored scored(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values,
              const at::Tensor& hidden, const AttentionConfig& config, const at::Tensor& bias = {}) {
  const double scale = config.method->unit_rows ? 1.0 : 1.0 / std::sqrt(static_cast<double>(queries.size(4)));
  const bool cosines = config.local == LocalWeight::kYoso || config.local == LocalWeight::kRelu2Unit;
  const at::Tensor q = cosines ? unit(queries) : queries * scale;
  at::Tensor scores = at::matmul(q, (cosines ? unit(keys) : keys).transpose(-1, -2));
  if (are_scores(config)) scores = capped(scores, config.score_cap);
  if (bias.defined()) scores = scores + bias.to(scores.scalar_type());
  if (config.local == LocalWeight::kSoftmax)
    scores.masked_fill_(hidden, -std::numeric_limits<double>::infinity());
  return {scores, hidden, values};
}

/// What the branch gives of scores, before any norm. `score` is computed again in the backward pass.
LocalOutput output_of(const std::function<Scored(const Tensors&)>& score, const Tensors& inputs,
                      const AttentionConfig& config, bool parts) {
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
  return {checkpoint(output, inputs), {}};
}

/// Distances [B or 1, .., keys] with those of kept tokens behind: [G, B, blocks, span, 1, C, keys + M + span
/// · C].
at::Tensor with_kept(const at::Tensor& distance, const KeptTokens& kept, const Blocks& blocks) {
  const int64_t heads = kept.places.size(0), rows = kept.places.size(1), span = blocks.span, c = blocks.size;
  const auto options = distance.options();
  // As places in the row: a block's queries stand at its groups'.
  const at::Tensor group = blocks.first_group() + at::arange(blocks.count * span, options);
  const at::Tensor query =
      (group * c).view({1, 1, blocks.count, span, 1, 1, 1}) + at::arange(c, options).view({c, 1});
  const at::Tensor older = kept.places.to(at::kLong).view({heads, rows, blocks.count, 1, 1, 1, -1}) - query;
  return at::cat({distance.unsqueeze(0).expand({heads, rows, -1, -1, -1, -1, -1}), older}, -1);
}

/// Of distances [(G,) B or 1, blocks, span, 1, C, keys]: [G, B or 1, blocks, span · R · C, keys].
at::Tensor bias_of_heads(const at::Tensor& bias, const at::Tensor& distance, int64_t kv_heads,
                         int64_t repeats) {
  Tensors heads;
  for (int64_t g = 0; g < kv_heads; ++g) {
    const at::Tensor own = distance.dim() == 7 ? distance[g] : distance;
    heads.push_back(
        bias_at(bias.narrow(0, g * repeats, repeats), own.squeeze(3))  // [R, B, blocks, span, C, keys]
            .permute({1, 2, 3, 0, 4, 5})
            .flatten(2, 4));
  }
  return at::stack(heads, 0);
}

/// Scores of the queries of some blocks [G, B, blocks, span · R · C, d], of all keys and values of the row.
/// `kept` is of these blocks, its tensors undefined where none are.
Scored score_blocks(const Tensors& in, const Blocks& blocks, const KeptTokens& kept,
                    const AttentionConfig& config, const Rotation* rotation) {
  const int64_t places = sink_places(config);
  const int64_t repeats = in[0].size(3) / (blocks.span * blocks.size);
  Tensors k, v;
  if (places > 0) {
    const at::Tensor first = first_tokens(in[1], blocks, config.sinks, places);
    k.push_back(blocks.by_block(rotation != nullptr ? turned_sinks(first, blocks, *rotation) : first));
    v.push_back(blocks.by_block(first_tokens(in[2], blocks, config.sinks, places)));
  }
  k.push_back(windows(in[1], blocks));
  v.push_back(windows(in[2], blocks));
  at::Tensor hidden = hidden_keys(blocks, config, rotation);  // [B or 1, blocks, span, 1, C, keys]
  at::Tensor distance;
  if (in.size() > 3) distance = distances(blocks, config);
  if (kept.places.defined()) {
    const at::Tensor keys = at_places(in[1], kept.places);
    k.push_back(rotation != nullptr ? turned_kept(keys, kept.places, blocks, config.sinks, *rotation) : keys);
    v.push_back(at_places(in[2], kept.places));
    const at::Tensor others =
        kept.hidden.unsqueeze(4).unsqueeze(4);  // [G, B, blocks, span, 1, 1, M + span · C]
    const int64_t heads = others.size(0), rows = others.size(1);
    hidden = at::cat({hidden.unsqueeze(0).expand({heads, rows, -1, -1, -1, -1, -1}),
                      others.expand({-1, -1, -1, -1, -1, blocks.size, -1})},
                     -1);
    if (distance.defined()) distance = with_kept(distance, kept, blocks);
  }
  const auto joined = [](const Tensors& parts) { return parts.size() == 1 ? parts[0] : at::cat(parts, 3); };
  auto shape = hidden.sizes().vec();
  shape[shape.size() - 3] = repeats;
  const int64_t last = static_cast<int64_t>(shape.size()) - 2;  // span, R and C are the rows of a block
  at::Tensor bias;
  if (distance.defined()) bias = bias_of_heads(in[3], distance, in[1].size(0), repeats);
  return scored(in[0], joined(k), joined(v), hidden.expand(shape).flatten(last - 2, last), config, bias);
}

}  // namespace

bool turns(const GroupLayout& layout, const Rotation& sinks) {
  return !sinks.inverse_frequencies.empty() && layout.groups * layout.size > sinks.trained_positions;
}

LocalOutput local_branch(const LocalRows& rows, const GroupLayout& layout, const AttentionConfig& config,
                         const Rotation* sinks, const at::Tensor& gain, bool parts,
                         const at::Tensor& surprises, const at::Tensor& given_bias) {
  const at::Tensor bias = are_scores(config) ? given_bias : at::Tensor();
  const bool plain = !bias.defined() && config.local == LocalWeight::kSoftmax && !config.method->unit_rows &&
                     !parts && config.score_cap == 0;
  if (plain && !surprises.defined() && (config.sinks == 0 || sinks == nullptr || !turns(layout, *sinks))) {
    const at::Tensor out = window_kernel(rows, layout, config.local_groups.number(), config.sinks);
    if (out.defined()) return {out, {}};
  }
  // By value: the backward pass runs this again when the caller's rows are gone.
  const std::shared_ptr<const Rotation> rotation =
      sinks != nullptr && turns(layout, *sinks) ? std::make_shared<Rotation>(*sinks) : nullptr;
  const int64_t heads = rows.q.size(0), batch = rows.q.size(1), in_group = rows.q.size(3);
  const int64_t window = std::min<int64_t>(config.local_groups.number(), layout.groups);
  // Beyond the trained positions each group turns kept keys by an angle of its own.
  const int64_t older =
      surprises.defined() ? std::min<int64_t>(config.kept.number(), surprises.size(2) * layout.size) : 0;
  const int64_t span = older > 0 && rotation ? 1 : span_of(older + window * layout.size, layout.size);
  const int64_t count = (layout.groups + span - 1) / span;
  KeptTokens kept;
  if (surprises.defined())
    kept = choose_kept(surprises, layout, config.local_groups.number(), config.kept.number(), span);
  const int64_t keys = span * sink_places(config) + (window + span - 1) * layout.size +
                       (surprises.defined() ? kept.places.size(3) : 0);
  const int64_t scores = std::max<int64_t>(1, heads * batch * span * in_group * keys);  // of a block
  const int64_t chunk = std::max<int64_t>(1, kMostScores / scores);
  const at::Tensor number = at::constant_pad_nd(layout.number, {0, count * span - layout.groups});
  Tensors numerators, denominators;
  for (int64_t first = 0; first < count; first += chunk) {
    const int64_t some = std::min(chunk, count - first);
    const Blocks blocks{span,
                        first,
                        some,
                        layout.size,
                        window,
                        layout.groups,
                        layout.index.defined(),
                        number.narrow(1, first * span, some * span)};
    KeptTokens own;
    if (surprises.defined()) own = {kept.places.narrow(2, first, some), kept.hidden.narrow(2, first, some)};
    const auto score = [blocks, own, config, rotation](const Tensors& in) {
      return score_blocks(in, blocks, own, config, rotation.get());
    };
    const at::Tensor q = blocks.by_block(groups_of(rows.q, first * span, some * span));
    Tensors inputs = {q, rows.k, rows.v};
    if (bias.defined()) inputs.push_back(bias);
    const LocalOutput out = output_of(score, inputs, config, parts);
    numerators.push_back(out.numerator);
    if (parts) denominators.push_back(out.denominator);
  }
  const auto all = [&](const Tensors& blocks) {
    const at::Tensor out = blocks.size() == 1 ? blocks[0] : at::cat(blocks, 2);
    return part_of(out.view({heads, batch, count * span, in_group, -1}), 2, 0, layout.groups);
  };
  LocalOutput out{all(numerators), {}};
  if (parts) {
    out.denominator = all(denominators);
  } else {
    out.numerator = normalized(out.numerator, config, gain);
  }
  return out;
}

LocalOutput own_groups(const LocalRows& rows, const at::Tensor& hidden, const AttentionConfig& config,
                       const at::Tensor& gain, bool parts, const at::Tensor& bias) {
  const auto score = [hidden, config](const Tensors& in) {
    if (in.size() <= 3) return scored(in[0], in[1], in[2], hidden, config);
    const int64_t heads = in[1].size(0), keys = in[1].size(3);
    const at::Tensor place = at::arange(keys, in[0].options().dtype(at::kLong));
    const at::Tensor own = bias_at(in[3], place - place.unsqueeze(-1));  // [H, keys, keys]
    return scored(in[0], in[1], in[2], hidden, config, own.view({heads, 1, 1, -1, keys}));
  };
  Tensors inputs = {rows.q, rows.k, rows.v};
  if (bias.defined() && are_scores(config)) inputs.push_back(bias);
  LocalOutput out = output_of(score, inputs, config, parts);
  if (!parts) out.numerator = normalized(out.numerator, config, gain);
  return out;
}

}  // namespace linnet::train

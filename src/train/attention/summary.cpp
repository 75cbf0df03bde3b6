#include "train/attention/summary.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "attention/kept_tokens.h"
#include "train/ops.h"

namespace linnet::train {

namespace {

constexpr double kLeastExponent = -1e30;  // finite: a difference of two is 0

/// out[g] = Σ x[j] over j ≤ g, or over j ≥ g: the first `count` numbers of rows [groups, size].
template <class T>
void running_sums(const T* x, T* out, int64_t groups, int64_t size, int64_t count, bool later) {
  const int64_t step = later ? -size : size, first = later ? (groups - 1) * size : 0;
  x += first, out += first;
  std::copy_n(x, count, out);
  for (int64_t g = 1; g < groups; ++g) {
    x += step, out += step;
    for (int64_t i = 0; i < count; ++i) out[i] = out[i - step] + x[i];
  }
}

at::Tensor running_sums(const at::Tensor& given, bool later) {
  constexpr int64_t kPiece = 1024;  // numbers of a group that a thread takes
  const at::Tensor x = given.contiguous();
  at::Tensor out = at::empty_like(x);
  const int64_t groups = x.size(2), size = x.size(3), pieces = (size + kPiece - 1) / kPiece;
  const auto of_type = [&]<class T>(T) {
    at::parallel_for(0, x.size(0) * x.size(1) * pieces, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t first = i % pieces * kPiece, at = i / pieces * groups * size + first;
        running_sums(x.data_ptr<T>() + at, out.data_ptr<T>() + at, groups, size,
                     std::min(kPiece, size - first), later);
      }
    });
  };
  if (x.numel() == 0) return out;
  x.scalar_type() == at::kDouble ? of_type(double()) : of_type(float());
  return out;
}

/// at::cumsum over dimension 2 of x [G, B, groups, X] on a CPU, group after group. at::cumsum goes column
/// after column, each number of which lies in a cache line of its own, and its backward pass turns x round
/// twice.
struct RunningSums : torch::autograd::Function<RunningSums> {
  static at::Tensor forward(torch::autograd::AutogradContext*, const at::Tensor& x) {
    return running_sums(x, false);
  }
  static Tensors backward(torch::autograd::AutogradContext*, const Tensors& gradients) {
    return {running_sums(gradients[0], true)};
  }
};

/// Sums over the groups before each of x [G, B, groups, X], and those over the groups after each, as one.
at::Tensor sum_others(const at::Tensor& x, const GroupLayout& layout, const at::Tensor& log_decay,
                      const at::Tensor& exponent, at::Tensor* largest) {
  const int64_t others = x.size(2) - 1;
  const auto before = [&](const at::Tensor& sums, const at::Tensor& exponents, at::Tensor* most) {
    const at::Tensor scanned = scan_groups(part_of(sums, 2, 0, others), layout, log_decay,
                                           exponents.defined() ? part_of(exponents, 2, 0, others) : exponents,
                                           exponents.defined() ? most : nullptr);
    if (exponents.defined()) *most = at::constant_pad_nd(*most, {1, 0}, kLeastExponent);
    return at::constant_pad_nd(scanned, {0, 0, 1, 0});  // the first has none
  };
  const auto reversed = [](const at::Tensor& t) { return t.defined() ? t.flip({2}) : t; };
  at::Tensor most, most_after;
  const at::Tensor earlier = before(x, exponent, &most);
  const at::Tensor later = reversed(before(reversed(x), reversed(exponent), &most_after));
  if (!exponent.defined()) return earlier + later;
  most_after = reversed(most_after);
  *largest = at::maximum(most, most_after);
  return earlier * at::exp(most - *largest).unsqueeze(-1) +
         later * at::exp(most_after - *largest).unsqueeze(-1);
}

}  // namespace

at::Tensor log_decay_of(const SummaryPass& pass, int64_t kv_heads, const at::TensorOptions& options) {
  if (pass.config.decay_learned) return at::log_sigmoid(pass.parameters.find("decay")->second);
  if (pass.config.decay == 1.0) return {};
  return at::full({kv_heads}, std::log(pass.config.decay),
                  options.dtype(sum_type(c10::typeMetaToScalarType(options.dtype()))));
}

at::Tensor SummaryPass::seen() const {
  if (sees != Sees::kEarlier) {
    const at::Tensor own = tokens.sum(-1), all = own.sum(1, true);  // [B or 1, groups or 1]
    const at::Tensor number = sees == Sees::kAll ? all : all - own;
    return number.view({1, number.size(0), number.size(1), 1, 1});
  }
  const int64_t first = first_reader();
  const at::Tensor number =
      layout.number.narrow(1, first, layout.groups - first).view({1, -1, readers(), 1, 1});
  if (!own_group()) return (number - lag() + 1) * layout.size - config.sinks;
  return number * layout.size + 1 + at::arange(layout.size, number.options()).unsqueeze(-1);
}

at::Tensor SummaryPass::without_unread(const at::Tensor& x, double number) const {
  if (sees != Sees::kEarlier)
    return x.masked_fill(tokens.narrow(1, 0, x.size(2)).logical_not().unsqueeze(-1), number);
  if (config.sinks == 0) return x;
  const at::Tensor first = layout.number.narrow(1, 0, x.size(2)).eq(0).unsqueeze(-1).unsqueeze(-1);
  const at::Tensor place = at::arange(layout.size, layout.number.options()).unsqueeze(-1);  // [C, 1]
  return x.masked_fill(first.logical_and(place < config.sinks), number);
}

at::Tensor SummaryPass::sums(const at::Tensor& x, const at::Tensor& exponent, at::Tensor* largest) const {
  if (sees == Sees::kAll) {  // no group is nearer than another
    if (!exponent.defined()) return x.sum(2, true);
    *largest = exponent.amax(2, true);
    return (x * at::exp(exponent - *largest).unsqueeze(-1)).sum(2, true);
  }
  const at::Tensor log_decay = log_decay_of(*this, x.size(0), x.options());
  if (sees == Sees::kOthers) return sum_others(x, layout, log_decay, exponent, largest);
  return scan_groups(x, layout, log_decay, exponent, largest);
}

at::Tensor SummaryPass::seen_by_rows(int64_t repeats) const {
  const at::Tensor counts = seen();
  return counts.size(3) > 1 ? counts.repeat({1, 1, 1, repeats, 1}) : counts;
}

at::Tensor SummaryPass::seen_sums(const at::Tensor& x, const at::Tensor& exponent,
                                  at::Tensor* largest) const {
  if (sees != Sees::kEarlier) return sums(x, exponent, largest);
  const int64_t first = first_reader(), missing = lag() - first;
  if (read_groups() <= 0) {
    if (exponent.defined())
      *largest = at::full({x.size(0), x.size(1), readers()}, kLeastExponent, exponent.options());
    return at::zeros({x.size(0), x.size(1), readers(), x.size(3)}, x.options());
  }
  const auto read = [&](const at::Tensor& all) {
    return all.defined() ? part_of(all, 2, 0, read_groups()) : all;
  };
  at::Tensor seen = sums(read(x), read(exponent), largest);
  if (missing > 0) seen = at::constant_pad_nd(seen, {0, 0, missing, 0});
  if (missing > 0 && exponent.defined())
    *largest = at::constant_pad_nd(*largest, {missing, 0}, kLeastExponent);
  if (!layout.index.defined()) return seen;  // groups that see nothing are the first: those that are missing
  const at::Tensor none = layout.number.narrow(1, first, readers()) < lag();
  if (exponent.defined()) *largest = largest->masked_fill(none.unsqueeze(0), kLeastExponent);
  return seen.masked_fill(none.unsqueeze(0).unsqueeze(-1), 0.0);
}

at::Tensor share_heads(const at::Tensor& q, int64_t kv_heads) {
  const int64_t repeats = q.size(0) / kv_heads;
  if (repeats == 1) return q;
  return q.view({kv_heads, repeats, q.size(1), q.size(2), q.size(3), q.size(4)})
      .permute({0, 2, 3, 1, 4, 5})
      .reshape({kv_heads, q.size(1), q.size(2), repeats * q.size(3), q.size(4)});
}

// The scan goes by blocks of groups: within a block one small matrix of powers of λ, between blocks a carried
// sum. Blocks are split off all at once: of a slice each the backward pass would fill a gradient as large as
// x, and there are as many blocks as x is long.
at::Tensor scan_groups(const at::Tensor& x, const GroupLayout& layout, const at::Tensor& log_decay,
                       const at::Tensor& exponent, at::Tensor* largest) {
  if (!layout.index.defined() && !log_decay.defined() && !exponent.defined())
    return x.is_cpu() ? RunningSums::apply(x) : at::cumsum(x, 2);
  constexpr int64_t kBlock = 32;
  const int64_t heads = x.size(0), rows = x.size(1);
  const Tensors blocks = at::split(x, kBlock, 2);
  at::Tensor carry, carried_exponent;
  Tensors parts, exponents;
  for (at::Tensor block : blocks) {
    const int64_t first = kBlock * static_cast<int64_t>(parts.size()), count = block.size(2);
    const int64_t carried = first > 0 ? 1 : 0;
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
    if (exponent.defined()) {
      at::Tensor own = exponent.narrow(2, first, count);
      if (carried > 0) own = at::cat({carried_exponent, own}, 2);
      const at::Tensor of_seen = own.unsqueeze(2).masked_fill(seen.logical_not().unsqueeze(0),
                                                              -std::numeric_limits<double>::infinity());
      exponents.push_back(of_seen.amax(-1));  // [G, B, count]
      power = power * at::exp(of_seen - exponents.back().unsqueeze(-1));
      carried_exponent = exponents.back().narrow(2, count - 1, 1);
    }
    if (carried > 0) block = at::cat({carry, block}, 2);
    parts.push_back(at::matmul(power.expand({heads, rows, count, carried + count}), block));
    carry = parts.back().narrow(2, count - 1, 1);
  }
  if (largest != nullptr) *largest = at::cat(exponents, 2);
  return parts.size() == 1 ? parts[0] : at::cat(parts, 2);
}

at::Tensor norm_heads(const at::Tensor& x, const at::Tensor& gain) {
  const at::Tensor scaled = x * at::rsqrt(x.square().mean(-1, true) + kEpsilon);
  if (!gain.defined()) return scaled;
  const int64_t kv_heads = x.size(0), repeats = gain.size(0) / kv_heads;
  return (scaled.unflatten(3, {repeats, -1}) * gain.view({kv_heads, 1, 1, repeats, 1, -1})).flatten(3, 4);
}

at::Tensor identity_features(const at::Tensor& x, const ParameterMap&, std::string_view, at::Tensor&) {
  return x;
}

at::Tensor random_projection(const at::Tensor& x, const ParameterMap& parameters) {
  const at::Tensor projection = parameters.find("projection")->second.to(x.scalar_type());
  const int64_t kv_heads = projection.size(0), f = projection.size(1), heads = x.size(0), d = x.size(2);
  const at::Tensor shared = x.reshape({kv_heads, heads / kv_heads * x.size(1), d});
  const at::Tensor projected = at::bmm(shared, projection.transpose(1, 2)).view({heads, x.size(1), f});
  return projected.to(sum_type(x.scalar_type())) * std::pow(static_cast<double>(d), -0.25);
}

Features features_of(FeatureMap map, const at::Tensor& x, const ParameterMap& parameters,
                     std::string_view side) {
  Features features;
  auto shape = x.sizes().vec();
  features.phi = map(x.reshape({shape.front(), -1, shape.back()}), parameters, side, features.exponent);
  shape.back() = features.phi.size(2);
  features.phi = features.phi.view(shape);
  shape.back() = 1;
  if (features.exponent.defined()) features.exponent = features.exponent.view(shape);
  return features;
}

bool mixes_by_share(const AttentionConfig& config) {
  const Method& method = *config.method;
  return config.has_local() && config.has_summary() && method.summary == SummaryKind::kFeatures &&
         method.division == Division::kSum && !method.gain && method.mix == Mix::kConvex &&
         config.denominator == Denominator::kSeparate && config.taps == 0 && config.future_taps == 0;
}

namespace {

/// Of keys, nothing where none is read.
Features key_features(FeatureMap map, const at::Tensor& keys, const SummaryPass& pass) {
  Features k = features_of(map, keys, pass.parameters, "k.");
  k.phi = pass.without_unread(k.phi);
  if (k.exponent.defined()) k.exponent = pass.without_unread(k.exponent, kLeastExponent);
  return k;
}

Features first_groups(const Features& x, int64_t count) {
  return {part_of(x.phi, 2, 0, count), x.exponent.defined() ? part_of(x.exponent, 2, 0, count) : x.exponent};
}

bool divides_by_sum(const AttentionConfig& config) {
  return config.method->division == Division::kSum || config.method->division == Division::kPositiveSum;
}

/// Each group's own tokens up to the query: numerator and denominator of (φ(Q)φ(K)ᵀ ⊙ M) V.
SummaryRead read_own(const at::Tensor& fq, const Features& k, const at::Tensor& v, bool sums) {
  const int64_t c = k.phi.size(3), repeats = fq.size(3) / c;
  const auto type = sum_type(v.scalar_type());
  const at::Tensor later = at::ones({c, c}, k.phi.options().dtype(at::kBool)).triu(1).repeat({repeats, 1});
  at::Tensor scores = at::matmul(fq, k.phi.transpose(-1, -2));
  SummaryRead read;
  if (k.exponent.defined()) {  // to the largest exponent among what each query sees
    const at::Tensor seen =
        k.exponent.transpose(-1, -2).masked_fill(later, -std::numeric_limits<double>::infinity());
    read.exponent = seen.amax(-1, true);
    scores = (scores * at::exp(seen - read.exponent)).to(v.scalar_type());
  } else {
    scores = scores.masked_fill_(later, 0.0);
  }
  read.numerator = at::matmul(scores, v).to(type);
  if (sums) read.denominator = scores.sum(-1, true, type);
  return read;
}

/// Two reads of disjoint tokens by the same queries as one.
SummaryRead joined(const SummaryRead& a, const SummaryRead& b) {
  SummaryRead both;
  at::Tensor scale_a, scale_b;
  if (a.exponent.defined()) {
    both.exponent = at::maximum(a.exponent, b.exponent);
    scale_a = at::exp(a.exponent - both.exponent);
    scale_b = at::exp(b.exponent - both.exponent);
  }
  const auto sum = [&](const at::Tensor& x, const at::Tensor& y) {
    return scale_a.defined() ? x * scale_a + y * scale_b : x + y;
  };
  both.numerator = sum(a.numerator, b.numerator);
  if (a.denominator.defined()) both.denominator = sum(a.denominator, b.denominator);
  return both;
}

/// What queries [G, B, groups, R · C, f] read of other groups: of those that they see, or with `next` each of
/// the groups up to the one before it.
SummaryRead read_others(const at::Tensor& fq, const Features& k, const at::Tensor& v, const SummaryPass& pass,
                        bool next = false) {
  const int64_t kv_heads = k.phi.size(0), batch = k.phi.size(1), groups = k.phi.size(2);
  const int64_t f = k.phi.size(-1), e = v.size(-1);
  const auto compute = v.scalar_type(), type = sum_type(compute);
  at::Tensor phi = k.phi, exponent, largest;
  if (k.exponent.defined()) {  // each group to its own largest, the scan brings groups together
    const at::Tensor own = k.exponent.amax(3, true);
    phi = (phi * at::exp(k.exponent - own)).to(compute);
    exponent = own.view({kv_heads, batch, groups});
  }
  const bool scaled = exponent.defined();
  const auto scan = [&](const at::Tensor& x) {
    at::Tensor* const most = scaled ? &largest : nullptr;
    return (next ? pass.sums(x, exponent, most) : pass.seen_sums(x, exponent, most)).to(compute);
  };
  const at::Tensor added =
      at::matmul(phi.transpose(-1, -2), v).to(type).view({kv_heads, batch, groups, f * e});
  SummaryRead read;
  read.numerator = at::matmul(fq, scan(added).view({kv_heads, batch, -1, f, e})).to(type);
  if (divides_by_sum(pass.config))
    read.denominator = at::matmul(fq, scan(phi.sum(3, false, type)).unsqueeze(-1)).to(type);
  if (scaled) read.exponent = largest.view({kv_heads, batch, -1, 1, 1});
  return read;
}

}  // namespace

SummaryRead read_features(const SummaryRows& rows, const SummaryPass& pass, FeatureMap map) {
  const int64_t read_groups = pass.read_groups(), kv_heads = rows.k.size(0);
  const bool own = pass.own_group();

  // Only groups that read, and only groups that are read.
  const Features q =
      features_of(map, part_of(rows.q, 2, pass.first_reader(), pass.readers()), pass.parameters, "q.");
  const Features k = key_features(map, own ? rows.k : part_of(rows.k, 2, 0, read_groups), pass);
  const at::Tensor fq = share_heads(q.phi, kv_heads);
  SummaryRead read = read_others(fq, first_groups(k, read_groups), part_of(rows.v, 2, 0, read_groups), pass);
  if (own) read = joined(read_own(fq, k, rows.v, divides_by_sum(pass.config)), read);
  if (q.exponent.defined()) read.exponent = read.exponent + share_heads(q.exponent, kv_heads);
  return read;
}

at::Tensor surprises(const SummaryRows& rows, const SummaryPass& pass, FeatureMap map) {
  at::NoGradGuard off;
  const int64_t groups = pass.read_groups(), earlier = groups - 1;
  const auto type = sum_type(rows.v.scalar_type());  // the runtime's: both are to choose alike
  const at::Tensor v = rows.v.narrow(2, 0, groups).to(type);
  const Features k = key_features(map, rows.k.narrow(2, 0, groups).to(type), pass);
  at::Tensor missed = v.square().sum(-1, true);  // of a document's first group, of which nothing is recalled
  if (earlier > 0) {
    const SummaryRead read = read_others(k.phi.narrow(2, 1, earlier), first_groups(k, earlier),
                                         v.narrow(2, 0, earlier), pass, /*next=*/true);
    // True numbers are these times exp(exponent), faded by the group that is folded; ε is true.
    at::Tensor exponent = at::zeros({}, read.denominator.options());
    if (read.exponent.defined()) exponent = read.exponent + k.exponent.narrow(2, 1, earlier);
    const at::Tensor log_decay = log_decay_of(pass, v.size(0), v.options());
    if (log_decay.defined()) exponent = exponent + log_decay.to(type).view({-1, 1, 1, 1, 1});
    const at::Tensor least = (kEpsilon * at::exp(-exponent)).clamp_min(std::numeric_limits<float>::min());
    const at::Tensor recalled = read.numerator / at::maximum(read.denominator, least);
    const at::Tensor begins = pass.layout.number.narrow(1, 1, earlier).eq(0).view({-1, earlier, 1, 1});
    const at::Tensor error = v.narrow(2, 1, earlier) - recalled.masked_fill(begins, 0.0);
    missed = at::cat({missed.narrow(2, 0, 1), error.square().sum(-1, true)}, 2);
  }
  return pass.without_unread(missed.sqrt(), -std::numeric_limits<double>::infinity()).squeeze(-1);
}

at::Tensor random_surprises(const SummaryPass& pass, const at::Tensor& v) {
  const GroupLayout& layout = pass.layout;
  const int64_t groups = pass.read_groups(), most = layout.groups * layout.size;
  at::Tensor of_position = at::empty({most}, at::kFloat);
  for (int64_t i = 0; i < most; ++i) of_position.data_ptr<float>()[i] = random_surprise(i);
  const auto type = sum_type(v.scalar_type());
  const at::Tensor inside = at::arange(layout.size, layout.number.options());
  const at::Tensor position = layout.number.narrow(1, 0, groups).unsqueeze(-1) * layout.size + inside;
  const at::Tensor drawn = of_position.to(v.device(), type)
                               .index_select(0, position.flatten())
                               .view({1, position.size(0), groups, layout.size, 1})
                               .expand({v.size(0), v.size(1), groups, layout.size, 1});
  return pass.without_unread(drawn, -std::numeric_limits<double>::infinity()).squeeze(-1);
}

at::Tensor finish_features(const SummaryRead& read, const SummaryPass& pass) {
  at::Tensor out = read.numerator;
  switch (pass.config.method->division) {
    case Division::kSum:
      out = out / read.denominator.clamp_min(kEpsilon);
      break;
    case Division::kPositiveSum:
      out = out / at::where(read.denominator > 0, read.denominator, at::ones({}, out.options()));
      break;
    case Division::kCount:
      out = out / pass.seen_by_rows(out.size(3) / pass.layout.size).clamp_min(1).to(out.scalar_type());
      break;
    case Division::kNone:
      break;
  }
  if (!pass.config.method->gain) return out;
  const auto gain = pass.parameters.find("gain");
  return norm_heads(out, gain == pass.parameters.end() ? at::Tensor() : gain->second);
}

}  // namespace linnet::train

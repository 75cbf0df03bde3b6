#include "attention/linear_layer.h"

#include <cmath>
#include <limits>
#include <type_traits>

#include "attention/rows.h"

namespace linnet {
namespace {

template <class T>
const std::vector<T>& values_of(const Parameters<T>& parameters, const char* name) {
  static const std::vector<T> none;
  const auto found = parameters.find(name);
  return found == parameters.end() ? none : found->second;
}

/// Rows of `size` numbers, each padded with zeros.
template <class T>
std::vector<T> padded_rows(const std::vector<T>& from, int64_t size) {
  const int64_t rows = static_cast<int64_t>(from.size()) / size, row = kernels::padded(size);
  std::vector<T> to(rows * row, T(0));
  for (int64_t r = 0; r < rows; ++r) std::copy_n(from.begin() + r * size, size, to.begin() + r * row);
  return to;
}

/// Tokens in the type of sums, in scratch: their keys [d, padded count].
template <class T, class S>
TokenBlock<T> widened(const TokenBlock<T, S>& tokens, int64_t head_size, Scratch& scratch) {
  const int64_t key_row = kernels::padded(tokens.count), values = tokens.count * tokens.value_row;
  T* keys = scratch.take<T>(head_size * key_row);
  for (int64_t x = 0; x < head_size; ++x)
    gather_row(tokens.keys + x * tokens.key_row, tokens.count, key_row, keys + x * key_row);
  T* wide = scratch.take<T>(values);
  gather_row(tokens.values, values, values, wide);
  return {keys, key_row, wide, tokens.value_row, tokens.count, tokens.position, tokens.weight};
}

std::unique_ptr<Summary<float>> make_summary(const AttentionConfig& config, const AttentionShape& shape,
                                             const Parameters<float>& parameters) {
  return config.method->make_float(config, shape, parameters);
}
std::unique_ptr<Summary<double>> make_summary(const AttentionConfig& config, const AttentionShape& shape,
                                              const Parameters<double>& parameters) {
  return config.method->make_double(config, shape, parameters);
}

}  // namespace

template <class T>
LinearLayer<T>::LinearLayer(const AttentionConfig& c, const AttentionShape& s,
                            const Parameters<T>& parameters, const Rotation* rotation)
    : config(c),
      shape(s),
      repeat(s.heads / s.kv_heads),
      score_scale(c.method->unit_rows ? T(1) : T(1) / std::sqrt(T(s.head_size))) {
  if (config.has_summary()) summary = make_summary(config, shape, parameters);
  if (config.has_local()) local.emplace(config, shape, score_scale, values_of(parameters, "local_gain"));
  if (rotation) rotation_ = std::make_shared<const KeyRotation<T>>(*rotation, s.head_size, c.group);
  reads_before_ = shape.reads_apart(config);
  layout = layout_of(config);
  alphas =
      config.alpha_learned ? values_of(parameters, "alpha") : std::vector<T>(shape.heads, T(config.alpha));
  gates = padded_rows(values_of(parameters, "gate"), shape.head_size);
  taps = padded_rows(values_of(parameters, "taps"), shape.value_size);
  decays.assign(shape.kv_heads, T(config.decay));
  if (config.decay_learned) {
    decays = values_of(parameters, "decay");
    for (T& decay : decays) decay = T(1) / (T(1) + std::exp(-decay));
  }
}

template <class T>
LinearLayer<T> LinearLayer<T>::of_class(const AttentionConfig& own) const {
  LinearLayer other = *this;
  other.config = own;
  other.layout = other.layout_of(own);
  return other;
}

// Keys of unit length are made of rotated and unrotated ones by themselves, a unit's of maps of their own.
template <class T>
LinearLayout LinearLayer<T>::layout_of(const AttentionConfig& own) const {
  const bool apart = reads_before_ && (!rotation_ || own.method->unit_rows || shape.own_summary_rows);
  return {own, shape, summary ? summary->matrices() : std::vector<PaddedMatrix>(), apart};
}

template <class T>
T LinearLayer<T>::fading(int64_t kv_head, int64_t group, int64_t token_group) const {
  if (decays[kv_head] == T(1)) return T(1);
  return std::pow(decays[kv_head], T(group - config.local_groups.number() - token_group));
}

template <class T>
int64_t LinearLayer<T>::folded_end(int64_t group, int64_t committed) const {
  const int64_t blocks = std::min(group - layout.blocks + 1, committed / config.group);
  return std::max<int64_t>(0, blocks) * config.group;
}

template <class T>
template <class S>
TokenBlock<T> LinearLayer<T>::summary_tokens(const TokenBlock<T, S>& tokens, Scratch& scratch) const {
  const auto turned = [&](const TokenBlock<T>& wide) {
    return turns_back() ? rotation_->before_rotary(wide, scratch) : wide;
  };
  if constexpr (std::is_same_v<S, T>) {
    return turned(tokens);
  } else {
    return turned(widened(tokens, shape.head_size, scratch));
  }
}

template <class T>
template <class S>
void LinearLayer<T>::enter_group(int64_t kv_head, T* sums, const Part<T, S>& kept,
                                 const Part<const T, const S>& part, int64_t group, int64_t committed) const {
  if (!summary) return;
  if (decays[kv_head] != T(1)) summary->scale(sums, decays[kv_head]);
  const int64_t block = group - layout.blocks, begin = std::max(block * config.group, first_global());
  const int64_t end = (block + 1) * config.group;
  if (block < 0 || end > committed || begin >= end) return;
  const int64_t slot = layout.slot(begin);
  Scratch& scratch = Scratch::of_thread();
  const Scratch::Scope scope(scratch);
  TokenBlock<T, S> held_block{part.tokens + layout.feature_keys + slot,
                              layout.key_row,
                              part.tokens + layout.values + slot * layout.value_row,
                              layout.value_row,
                              end - begin,
                              begin,
                              fading(kv_head, group, block)};
  const TokenBlock<T> tokens = summary_tokens(held_block, scratch);
  held_block.keys = part.tokens + layout.local_keys + slot;
  if (layout.kept.tokens > 0) fold_kept(kv_head, sums, kept, tokens, held_block, group);
  summary->add(kv_head, sums, tokens);
}

template <class T>
template <class S>
void LinearLayer<T>::fold_kept(int64_t kv_head, const T* sums, const Part<T, S>& kept, TokenBlock<T> block,
                               const TokenBlock<T, S>& held_block, int64_t group) const {
  Scratch& scratch = Scratch::of_thread();
  const Scratch::Scope scope(scratch);
  T* surprises = scratch.take<T>(block.count);
  block.weight = T(1);
  if (config.keep == KeepRule::kRandom) {
    for (int64_t i = 0; i < block.count; ++i) surprises[i] = T(random_surprise(block.position + i));
  } else {
    summary->surprises(kv_head, sums, block, surprises);
  }
  const int64_t stay =
      keep_most_surprising(layout.kept, shape.head_size, kept, held(group - 1), held_block, surprises);
  const int64_t before = horizon(group - 1), now = horizon(group);
  for (int64_t i = 0; i < held(group); ++i) {  // those that these readers are the first to see too far back
    const int64_t position = layout.kept.position(kept.numbers, i);
    if (position >= now) break;
    if (i < stay && position < before) continue;
    rotation_->turn(layout.sinks - position, kept.tokens + i, layout.kept.key_row);
  }
}

template <class T>
int64_t LinearLayer<T>::held(int64_t group) const {
  return std::clamp<int64_t>(window_begin(group) - first_global(), 0, layout.kept.tokens);
}

template <class T>
bool LinearLayer<T>::keeps_uncommitted(int64_t group, int64_t committed) const {
  return layout.kept.tokens > 0 && window_begin(group) > committed;
}

template <class T>
Reading<T> LinearLayer<T>::reading(int64_t kv_head, const T* queries, int64_t count, const T* sums,
                                   int64_t folded) const {
  Reading<T> reading{};
  reading.kv_head = kv_head;
  reading.first_head = kv_head * repeat;
  reading.heads = repeat;
  reading.tokens = count;
  reading.queries = queries;
  reading.query_row = kernels::padded(shape.head_size);
  reading.summary = sums;
  reading.folded = folded;
  return reading;
}

template <class T>
T LinearLayer<T>::alpha_of(int64_t head, const T* query) const {
  T alpha = alphas[head];
  if (!config.alpha_learned || config.method->mix == Mix::kAdditive) return alpha;
  if (!gates.empty()) {
    const int64_t query_row = kernels::padded(shape.head_size);
    alpha += kernels::dot(gates.data() + head * query_row, query, query_row);
  }
  return T(1) / (T(1) + std::exp(-alpha));
}

template <class T>
void LinearLayer<T>::mix(int64_t head, const T* query, T* near, T near_denominator,
                         const SummaryRead<T>& read, int64_t r) const {
  const T alpha = alpha_of(head, query);
  T* far = read.numerators + r * layout.value_row;
  T near_scale = alpha, far_scale = T(1) - alpha;
  if (config.method->mix == Mix::kAdditive) near_scale = T(1), far_scale = alpha;
  if (config.denominator == Denominator::kShared) {
    if (read.exponents[r] > T(0)) {  // all four terms to one scale
      near_scale *= std::exp(-read.exponents[r]);
    } else if (read.exponents[r] < T(0)) {
      far_scale *= std::exp(read.exponents[r]);
    }
    const T sum = near_scale * near_denominator + far_scale * read.denominators[r];
    const T whole = sum >= std::numeric_limits<T>::min() ? T(1) / sum : T(0);  // too small for T: 0
    near_scale *= whole;
    far_scale *= whole;
  } else {
    near_scale /= near_denominator;
    summary->finish(head, far, read.denominators[r]);
  }
  for (int64_t i = 0; i < layout.value_row; ++i) near[i] = near_scale * near[i] + far_scale * far[i];
}

template <class T>
template <class S>
void LinearLayer<T>::store(int64_t kv_head, const Part<T, S>& part, const Rows<T>& rows, int64_t index,
                           int64_t position) const {
  const int64_t slot = layout.slot(position), d = shape.head_size;
  const T* value = rows.v.row(kv_head, index);
  const auto put = [&](const T* key, S* columns, int64_t stride) {
    for (int64_t x = 0; x < d; ++x) columns[x * stride] = S(key[x]);
  };
  S* const tokens = part.tokens;
  gather_row(value, shape.value_size, layout.value_row, tokens + layout.values + slot * layout.value_row);
  if (local) put(rows.k.row(kv_head, index), tokens + layout.local_keys + slot, layout.key_row);
  if (!local || layout.separate_keys) {
    put(rows.summary_k.row(kv_head, index), tokens + layout.feature_keys + slot, layout.key_row);
  }
  if (position < layout.sinks) {
    put(rows.k.row(kv_head, index), tokens + layout.sink_keys + position, layout.sink_row);
    gather_row(value, shape.value_size, layout.value_row,
               tokens + layout.sink_values + position * layout.value_row);
  }
  if (layout.recent > 0) {
    gather_row(value, shape.value_size, layout.value_row,
               part.numbers + layout.recents + position % layout.recent * layout.value_row);
  }
}

template <class T>
template <class S>
void LinearLayer<T>::append(int64_t kv_head, const Part<T, S>& part, const Rows<T>& rows, int64_t index,
                            int64_t position) const {
  store(kv_head, part, rows, index, position);
  const int64_t next = position + 1;
  if (next % config.group == 0) {
    enter_group<S>(kv_head, part.numbers, part.from(layout.kept_begin, layout.kept_token_begin), part,
                   next / config.group, next);
  }
}

template <class T>
int64_t LinearLayer<T>::turn_of(int64_t group) const {
  if (!rotation_ || !rotation_->turns() || (layout.sinks == 0 && layout.kept.tokens == 0)) return 0;
  return std::max<int64_t>(0, (group + 1) * config.group - rotation_->trained_positions());
}

template class LinearLayer<float>;
template class LinearLayer<double>;

#define LINNET_HELD_IN(T, S)                                                                                \
  template void LinearLayer<T>::append(int64_t, const Part<T, S>&, const Rows<T>&, int64_t, int64_t) const; \
  template void LinearLayer<T>::enter_group(int64_t, T*, const Part<T, S>&, const Part<const T, const S>&,  \
                                            int64_t, int64_t) const;                                        \
  template TokenBlock<T> LinearLayer<T>::summary_tokens(const TokenBlock<T, S>&, Scratch&) const;
LINNET_HELD_IN(float, float)
LINNET_HELD_IN(double, double)
LINNET_HELD_IN(float, BFloat16)
LINNET_HELD_IN(double, BFloat16)
#undef LINNET_HELD_IN

}  // namespace linnet

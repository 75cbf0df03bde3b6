#include "evaluate/reach.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "base/scratch.h"
#include "evaluate/row_attention.h"
#include "evaluate/score.h"
#include "evaluate/windows.h"
#include "kernels/cpu/attention_kernels.h"
#include "model/forward.h"
#include "model/teacher.h"

namespace linnet {
namespace {

/// A token that is scored: predicted by input `input` of the tail.
struct Scored {
  int64_t input;
  int32_t token;
  bool far, passage;
};

/// What of a row's tail is scored.
std::vector<Scored> scored_tokens(const ReachRow& row, const ReachOptions& options, int64_t tail) {
  const int64_t count = std::ssize(row.tokens), end = count - row.passage, begin = count - 1 - tail;
  LastPairs last;
  std::vector<Scored> scored;
  for (int64_t t = 1; t < end; ++t) {
    const auto at = static_cast<size_t>(t);
    const int64_t before = last.note(row.tokens[at - 1], row.tokens[at], t);
    if (t > begin)
      scored.push_back(
          {t - 1 - begin, row.tokens[at], before >= 0 && t - before > options.near, /*passage=*/false});
  }
  for (int64_t t = std::max(count - row.passage * 3 / 4, begin + 1); t < count; ++t)
    scored.push_back({t - 1 - begin, row.tokens[static_cast<size_t>(t)], false, true});
  return scored;
}

/// What a token loses.
struct Lost {
  double divergence = 0;
  double nats = 0;  // −ln p, in all
};

void add(const Scored& token, const Lost& lost, ReachSums& sums) {
  sums[token.passage ? kPassage : kText] += lost.divergence;
  if (token.far) sums[kFarPairs] += lost.divergence;
  if (!token.passage) sums[kTextInFact] += lost.nats;
}

int64_t tail_of(const ReachRow& row, const ReachOptions& options) {
  return std::min(options.tail, std::ssize(row.tokens) - 1);
}

/// Passes of a tail through a layer that a row takes: its own, and each limited head's.
double own_passes(const ReachRow& row, const ReachOptions& options, int layers) {
  return layers * static_cast<double>(row.tokens.size() - 1) / static_cast<double>(tail_of(row, options));
}
double limited_passes(const ReachOptions& options, int layers, int heads) {
  return static_cast<double>(options.windows.size()) * heads * layers * (layers + 1) / 2.0;
}

/// What the whole model predicts of the scored tokens, and how far other predictions are from it.
class Predictions {
 public:
  explicit Predictions(int64_t vocabulary) : vocabulary_(vocabulary), row_(kernels::padded(vocabulary)) {}

  void plan(int64_t tokens) {
    probabilities_.plan(tokens * row_);
    shift_.resize(static_cast<size_t>(tokens));
  }
  /// Takes logits [vocabulary] as the whole model's of scored token `index`.
  void set(int64_t index, const float* logits) {
    float* p = probabilities_.data() + index * row_;
    const double all = log_sum(logits, p);
    const auto sum = static_cast<float>(std::exp(all - largest(logits)));
    for (int64_t i = 0; i < vocabulary_; ++i) p[i] /= sum;
    shift_[static_cast<size_t>(index)] = expected(index, logits) - all;
  }
  /// Of a scored token that is `token`, by a limited model's logits.
  Lost lost(int64_t index, int32_t token, const float* logits) const {
    Scratch& scratch = Scratch::of_thread();
    const Scratch::Scope scope(scratch);
    const double all = log_sum(logits, scratch.take<float>(row_));
    const double divergence = shift_[static_cast<size_t>(index)] - (expected(index, logits) - all);
    return {std::max(0.0, divergence), all - static_cast<double>(logits[token])};  // below 0 is rounding
  }

 private:
  double largest(const float* logits) const { return *std::max_element(logits, logits + vocabulary_); }
  /// ln Σ exp(logits); exp(logits − their largest) in `room`.
  double log_sum(const float* logits, float* room) const {
    std::copy_n(logits, vocabulary_, room);
    return largest(logits) + std::log(static_cast<double>(kernels::exponentiate(room, vocabulary_)));
  }
  /// Σ p · logits.
  double expected(int64_t index, const float* logits) const {
    const float* p = probabilities_.data() + index * row_;
    double sum = 0;
    for (int64_t i = 0; i < vocabulary_; i += kLanes) {
      float lanes = 0;
      for (int64_t x = i; x < std::min(i + kLanes, vocabulary_); ++x) lanes += p[x] * logits[x];
      sum += static_cast<double>(lanes);
    }
    return sum;
  }

  static constexpr int64_t kLanes = 64;
  int64_t vocabulary_, row_;
  Room<float> probabilities_;  // [tokens, row_]
  std::vector<double> shift_;  // Σ p ln p
};

/// One model's layers, run by hand: a row whole, and its tail again from any layer on with one of that
/// layer's heads limited.
template <class T>
class TailReader {
 public:
  TailReader(const Model& model, const ReachOptions& options, ThreadPool& pool)
      : model_(model),
        options_(options),
        pool_(pool),
        forward_(model, {.compute = options.compute}, pool),
        predictions_(model.config().vocabulary) {
    inputs_.resize(model.attention().size());
    mixed_.resize(model.attention().size());
  }

  int layers() const { return static_cast<int>(inputs_.size()); }
  int heads() const { return model_.attention_shape().kv_heads; }

  /// Reads a row with nothing limited.
  void read(const ReachRow& row) {
    const int64_t inputs = std::ssize(row.tokens) - 1;
    tail_ = tail_of(row, options_), before_ = inputs - tail_;
    scored_ = scored_tokens(row, options_, tail_);
    rows_.clear();
    for (int layer = 0; layer < layers(); ++layer)
      rows_.emplace_back(model_.attention_shape(), inputs, model_.config().score_cap);
    constexpr int64_t kChunk = 512;
    forward_.plan(activations_, std::max(tail_, std::min(kChunk, before_)), 1);
    for (int64_t at = 0; at < before_; at += kChunk) {
      const int64_t count = std::min(kChunk, before_ - at);
      place(row, at, count);
      forward_.embed(activations_, count);
      for (int layer = 0; layer < layers(); ++layer) run(layer, at, count, nullptr);
    }
    place(row, before_, tail_);
    forward_.embed(activations_, tail_);
    for (int layer = 0; layer < layers(); ++layer) {
      keep(activations_.hidden, model_.config().hidden, inputs_[static_cast<size_t>(layer)]);
      run(layer, before_, tail_, nullptr);
      const AttentionShape shape = model_.attention_shape();
      keep(activations_.mixed, int64_t{shape.heads} * shape.value_size, mixed_[static_cast<size_t>(layer)]);
    }
    predictions_.plan(std::ssize(scored_));
    score([&](int64_t index, const float* logits) {
      predictions_.set(index, logits);
      const std::span<const float> row_logits(logits, static_cast<size_t>(model_.config().vocabulary));
      const double nats = negative_log_likelihood(row_logits, scored_[static_cast<size_t>(index)].token);
      return Lost{nats, nats};
    });
    nats_ = sums();
  }

  /// What the row's tokens lose with a head limited.
  ReachSums limited(int layer, const HeadSight& sight) {
    const auto& input = inputs_[static_cast<size_t>(layer)];
    std::copy(input.begin(), input.end(), activations_.hidden.data());
    run(layer, before_, tail_, &sight);
    for (int later = layer + 1; later < layers(); ++later) run(later, before_, tail_, nullptr);
    score([&](int64_t index, const float* logits) {
      return predictions_.lost(index, scored_[static_cast<size_t>(index)].token, logits);
    });
    ReachSums lost = sums();
    lost[kTextInFact] -= nats_[kTextInFact];
    return lost;
  }

  ReachSums tokens() const {
    ReachSums counts{};
    for (const Scored& token : scored_) add(token, {1, 1}, counts);
    return counts;
  }
  const ReachSums& nats() const { return nats_; }
  /// A head's sight at one of the options' windows; the layer's own where that is shorter.
  HeadSight sight(int layer, int head, int64_t window) const {
    const auto own = int64_t{model_.config().windows[static_cast<size_t>(layer)]};
    if (own > 0 && own <= window) return {head, own, 0};
    return {head, window, options_.sinks};
  }

 private:
  void place(const ReachRow& row, int64_t from, int64_t rows) {
    for (int64_t r = 0; r < rows; ++r) {
      activations_.tokens[static_cast<size_t>(r)] = row.tokens[static_cast<size_t>(from + r)];
      activations_.positions[static_cast<size_t>(r)] = from + r;
    }
  }
  void keep(const Room<T>& numbers, int64_t width, std::vector<T>& to) const {
    to.assign(numbers.data(), numbers.data() + tail_ * width);
  }
  /// A layer over tokens from `position` on; with one head limited the others' outputs are those kept.
  void run(int layer, int64_t position, int64_t count, const HeadSight* limited) {
    const auto at = static_cast<size_t>(layer);
    std::vector<HeadSight> sights;
    for (int head = 0; head < heads(); ++head) sights.push_back({head, model_.config().windows[at], 0});
    if (limited != nullptr) sights = {*limited};
    forward_.run_layer(at, activations_, count, Stage::kPrefill, [&](size_t, HeadRows<T> out) {
      const Rows<T> rows = forward_.rows_of(activations_, at, 0, count);
      if (limited != nullptr) std::copy(mixed_[at].begin(), mixed_[at].end(), activations_.mixed.data());
      rows_[at].store(rows, position, pool_);
      rows_[at].attend(rows, position, sights, out, pool_);
    });
  }

  /// What each scored token loses, from its logits.
  template <class LostOf>
  void score(LostOf&& lost_of) {
    const int64_t hidden = model_.config().hidden, vocabulary = model_.config().vocabulary;
    const auto all = std::ssize(scored_), most = std::max<int64_t>((int64_t{1} << 24) / vocabulary, 16);
    const T* ends = forward_.final_rows(activations_);
    lost_.resize(scored_.size());
    for (int64_t at = 0; at < all; at += most) {
      const int64_t rows = std::min(most, all - at);
      gathered_.resize(static_cast<size_t>(rows * hidden));
      for (int64_t r = 0; r < rows; ++r)
        std::copy_n(ends + scored_[static_cast<size_t>(at + r)].input * hidden, hidden,
                    gathered_.data() + r * hidden);
      logits_.resize(static_cast<size_t>(rows * vocabulary));
      forward_.logits(gathered_.data(), rows, Stage::kPrefill, logits_.data());
      pool_.run(static_cast<size_t>(rows), [&](size_t r) {
        lost_[static_cast<size_t>(at) + r] =
            lost_of(at + static_cast<int64_t>(r), logits_.data() + r * static_cast<size_t>(vocabulary));
      });
    }
  }
  ReachSums sums() const {
    ReachSums sums{};
    for (size_t i = 0; i < scored_.size(); ++i) add(scored_[i], lost_[i], sums);
    return sums;
  }

  const Model& model_;
  ReachOptions options_;
  ThreadPool& pool_;
  Forward<T> forward_;
  std::vector<RowAttention<T>> rows_;           // of the layers
  Activations<T> activations_;                  // of a chunk, or of the tail
  std::vector<std::vector<T>> inputs_, mixed_;  // of the layers: [tail, hidden], [tail, heads, value_size]
  std::vector<T> gathered_;
  std::vector<float> logits_;
  std::vector<Lost> lost_;
  std::vector<Scored> scored_;
  Predictions predictions_;
  ReachSums nats_{};
  int64_t tail_ = 0, before_ = 0;
};

double weighted(const ReachSums& losses, double recall_weight) {
  return losses[kText] + recall_weight * (losses[kFarPairs] + losses[kPassage]);
}
/// The loss of one row.
double loss_of(const ReachSums& sums, const ReachSums& tokens) {
  ReachSums losses{};
  for (size_t part = 0; part < kReachParts; ++part)
    losses[part] = tokens[part] > 0 ? sums[part] / tokens[part] : 0;
  return weighted(losses, kRecallWeight);
}

/// The sums of one row for each layer, head and window; empty where `progress` said no.
template <class T>
std::vector<ReachSums> row_sums(TailReader<T>& reader, const ReachRow& row, const ReachOptions& options,
                                const std::function<bool(double)>& progress) {
  const auto tell = [&](double passes) { return !progress || progress(passes); };
  reader.read(row);
  const ReachSums tokens = reader.tokens();
  if (!tell(own_passes(row, options, reader.layers()))) return {};
  std::vector<ReachSums> all;
  for (int layer = 0; layer < reader.layers(); ++layer) {
    for (int head = 0; head < reader.heads(); ++head) {
      bool near = false;
      for (const int64_t window : options.windows) {
        all.push_back(near ? ReachSums{} : reader.limited(layer, reader.sight(layer, head, window)));
        near = near || loss_of(all.back(), tokens) <= options.negligible;
        if (!tell(reader.layers() - layer)) return {};
      }
    }
  }
  return all;
}

template <class T>
Reach measure(const Model& model, const std::vector<ReachRow>& rows, const ReachOptions& options,
              ThreadPool& pool, const std::function<bool(double)>& progress) {
  TailReader<T> reader(model, options, pool);
  Reach reach{.layers = reader.layers(), .heads = reader.heads(), .windows = options.windows};
  reach.limited_.resize(static_cast<size_t>(reach.layers * reach.heads) * options.windows.size());
  for (const ReachRow& row : rows) {
    const std::vector<ReachSums> sums = row_sums(reader, row, options, progress);
    if (sums.empty()) break;
    reach.tokens.push_back(reader.tokens());
    reach.nats.push_back(reader.nats());
    for (size_t i = 0; i < sums.size(); ++i) reach.limited_[i].push_back(sums[i]);
  }
  return reach;
}

}  // namespace

std::vector<ReachRow> make_reach_rows(const std::vector<RecallRow>& rows, int64_t near) {
  std::vector<ReachRow> out;
  for (const RecallRow& row : rows) {
    const int64_t passage = std::ssize(row.passage), end = std::ssize(row.tokens) - passage;
    const auto least = static_cast<double>(std::min(std::max(near, passage), end - 1));
    const double share = (static_cast<double>(out.size()) + 0.5) / static_cast<double>(rows.size());
    const double distance = least * std::pow(static_cast<double>(end - 1) / least, share);
    ReachRow own{.tokens = row.tokens, .passage = passage};
    std::copy(row.passage.begin(), row.passage.end(), own.tokens.begin() + end);
    std::copy(row.passage.begin(), row.passage.end(),
              own.tokens.begin() + (end - static_cast<int64_t>(std::ceil(distance))));
    out.push_back(std::move(own));
  }
  return out;
}

double reach_passes(const Model& model, const std::vector<ReachRow>& rows, const ReachOptions& options) {
  const int layers = static_cast<int>(model.attention().size());
  double passes = 0;
  for (const ReachRow& row : rows)
    passes +=
        own_passes(row, options, layers) + limited_passes(options, layers, model.attention_shape().kv_heads);
  return passes;
}

Reach measure_reach(const std::shared_ptr<const Model>& model, const std::vector<ReachRow>& rows,
                    const ReachOptions& options, ThreadPool& pool,
                    const std::function<bool(double)>& progress) {
  if (model->attention() != teacher_attention(model->config())) {
    throw Error(model->folder().string(), "a model whose layers are not all its own softmax",
                "the softmax model");
  }
  return options.compute == ComputeType::kFloat64 ? measure<double>(*model, rows, options, pool, progress)
                                                  : measure<float>(*model, rows, options, pool, progress);
}

Mean Reach::loss_of(ReachPart part, int layer, int head, size_t window) const {
  std::vector<double> losses, counts;
  double all = 0;
  for (size_t r = 0; r < tokens.size(); ++r) {
    losses.push_back(limited(layer, head, window)[r][part]);
    counts.push_back(tokens[r][part]);
    all += counts.back();
  }
  return all > 0 ? ratio_of(losses, counts) : Mean{};
}

double Reach::loss(int layer, int head, size_t window, double recall_weight) const {
  ReachSums losses{};
  for (const ReachPart part : {kText, kFarPairs, kPassage})
    losses[part] = loss_of(part, layer, head, window).mean;
  return weighted(losses, recall_weight);
}

std::vector<HeadPlace> ranked_heads(const Reach& reach) {
  std::vector<HeadPlace> places;
  for (int layer = 0; layer < reach.layers; ++layer)
    for (int head = 0; head < reach.heads; ++head) places.push_back({layer, head});
  std::stable_sort(places.begin(), places.end(), [&](const HeadPlace& a, const HeadPlace& b) {
    return reach.loss(a.layer, a.head, 0) > reach.loss(b.layer, b.head, 0);
  });
  return places;
}

}  // namespace linnet

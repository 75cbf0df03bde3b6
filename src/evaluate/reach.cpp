#include "evaluate/reach.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "attention/softmax.h"
#include "base/error.h"
#include "evaluate/score.h"
#include "evaluate/windows.h"
#include "model/forward.h"
#include "model/teacher.h"

namespace linnet {
namespace {

/// A token that is scored: predicted by input `input` of the tail.
struct Scored {
  int64_t input;
  int32_t token;
  bool passage;
};

/// What of a row's tail is scored.
std::vector<Scored> scored_tokens(const ReachRow& row, const ReachOptions& options, int64_t tail) {
  const int64_t count = std::ssize(row.tokens), end = count - row.passage, begin = count - 1 - tail;
  LastPairs last;
  std::vector<Scored> scored;
  for (int64_t t = 1; t < end; ++t) {
    const auto at = static_cast<size_t>(t);
    const int64_t before = last.note(row.tokens[at - 1], row.tokens[at], t);
    if (t > begin && before >= 0 && t - before > options.near)
      scored.push_back({t - 1 - begin, row.tokens[at], false});
  }
  for (int64_t t = std::max(count - row.passage * 3 / 4, begin + 1); t < count; ++t)
    scored.push_back({t - 1 - begin, row.tokens[static_cast<size_t>(t)], true});
  return scored;
}

int64_t tail_of(const ReachRow& row, const ReachOptions& options) {
  return std::min(options.tail, std::ssize(row.tokens) - 1);
}

/// Passes of a tail through a layer that a row takes: its beginning's, each head's and the whole one's.
double row_passes(const ReachRow& row, const ReachOptions& options, int layers, int units) {
  const auto tail = static_cast<double>(tail_of(row, options));
  const double beginning = (static_cast<double>(row.tokens.size() - 1) - tail) / tail;
  return layers * (beginning + 1) + units * layers * (layers + 1) / 2.0;
}

/// One model's layers, run by hand: the states after a row's beginning, and its tail from any layer on with
/// any attention in one of them.
template <class T>
class TailReader {
 public:
  TailReader(const Model& model, const ReachOptions& options, ThreadPool& pool)
      : model_(model), options_(options), pool_(pool), forward_(model, {.compute = options.compute}, pool) {
    for (int layer = 0; layer < layers(); ++layer) {
      const auto own = int64_t{model.config().windows[static_cast<size_t>(layer)]};
      const int64_t near = own > 0 ? std::min(own, options.near) : options.near;
      const AttentionShape shape = model.attention_shape();
      const auto heads = static_cast<size_t>(shape.kv_heads);
      for (size_t head = 0; head < heads; ++head) {
        std::vector<int64_t> windows(heads, own);
        windows[head] = near;
        limited_.push_back(make_windowed_heads<T>(std::move(windows), shape));
      }
      limited_.push_back(make_windowed_heads<T>(std::vector<int64_t>(heads, near), shape));
    }
  }

  int layers() const { return static_cast<int>(model_.attention().size()); }
  int units() const { return model_.attention_shape().kv_heads + 1; }

  /// Takes up a row: reads what stands before its tail.
  void begin(const ReachRow& row) {
    tail_ = tail_of(row, options_);
    scored_ = scored_tokens(row, options_, tail_);
    states_.clear();
    for (const auto& layer : forward_.weights().layers) states_.push_back(layer.attention->make_state());
    const int64_t all = std::ssize(row.tokens) - 1 - tail_;
    constexpr int64_t kChunk = 512;
    forward_.plan(chunk_, std::min(kChunk, all), 1);
    for (int64_t at = 0; at < all; at += kChunk) {
      const int64_t rows = std::min(kChunk, all - at);
      place(chunk_, row, at, rows);
      forward_.run(chunk_, rows, Stage::kPrefill, [&](size_t layer, HeadRows<T> out) {
        forward_.weights().layers[layer].attention->prefill(
            *states_[layer], forward_.rows_of(chunk_, layer, 0, rows), out, pool_);
      });
    }
    forward_.plan(tail_rows_, tail_, 1);
    place(tail_rows_, row, all, tail_);
    forward_.embed(tail_rows_, tail_);
    const auto width = static_cast<size_t>(tail_ * model_.config().hidden);
    input_.assign(tail_rows_.hidden.data(), tail_rows_.hidden.data() + width);
  }

  /// The scores with a unit of `layer` limited: one head, or (units() − 1) all of them. The layer's input
  /// stays as it is.
  ReachScores limited(int layer, int unit) {
    restore();
    run(layer, *limited_[static_cast<size_t>(layer * units() + unit)]);
    return rest(layer + 1);
  }
  /// Goes on to the next layer, with nothing limited.
  void advance(int layer) {
    restore();
    run(layer, *forward_.weights().layers[static_cast<size_t>(layer)].attention);
    input_.assign(tail_rows_.hidden.data(), tail_rows_.hidden.data() + input_.size());
  }
  /// The scores of the layers' input as it is, taken as the last one's output.
  ReachScores whole() {
    restore();
    return score();
  }

  int64_t count(bool passage) const {
    return std::count_if(scored_.begin(), scored_.end(), [&](const auto& x) { return x.passage == passage; });
  }

 private:
  void place(Activations<T>& a, const ReachRow& row, int64_t from, int64_t rows) {
    for (int64_t r = 0; r < rows; ++r) {
      a.tokens[static_cast<size_t>(r)] = row.tokens[static_cast<size_t>(from + r)];
      a.positions[static_cast<size_t>(r)] = from + r;
    }
  }
  void restore() { std::copy(input_.begin(), input_.end(), tail_rows_.hidden.data()); }
  void run(int layer, const Attention<T>& attention) {
    const auto state = states_[static_cast<size_t>(layer)]->clone();
    forward_.run_layer(static_cast<size_t>(layer), tail_rows_, tail_, Stage::kPrefill,
                       [&](size_t at, HeadRows<T> out) {
                         attention.prefill(*state, forward_.rows_of(tail_rows_, at, 0, tail_), out, pool_);
                       });
  }
  ReachScores rest(int layer) {
    for (; layer < layers(); ++layer)
      run(layer, *forward_.weights().layers[static_cast<size_t>(layer)].attention);
    return score();
  }

  ReachScores score() {
    const int64_t hidden = model_.config().hidden, vocabulary = model_.config().vocabulary;
    const auto all = std::ssize(scored_), most = std::max<int64_t>((int64_t{1} << 24) / vocabulary, 16);
    ReachScores sums;
    for (int64_t at = 0; at < all; at += most) {
      const int64_t rows = std::min(most, all - at);
      gathered_.resize(static_cast<size_t>(rows * hidden));
      for (int64_t r = 0; r < rows; ++r)
        std::copy_n(tail_rows_.hidden.data() + scored_[static_cast<size_t>(at + r)].input * hidden, hidden,
                    gathered_.data() + r * hidden);
      logits_.resize(static_cast<size_t>(rows * vocabulary));
      forward_.logits(gathered_.data(), rows, Stage::kPrefill, logits_.data());
      nats_.resize(static_cast<size_t>(rows));
      pool_.run(static_cast<size_t>(rows), [&](size_t r) {
        nats_[r] =
            negative_log_likelihood(std::span<const float>(logits_).subspan(
                                        r * static_cast<size_t>(vocabulary), static_cast<size_t>(vocabulary)),
                                    scored_[static_cast<size_t>(at) + r].token);
      });
      for (size_t r = 0; r < nats_.size(); ++r)
        (scored_[static_cast<size_t>(at) + r].passage ? sums.passage_nats : sums.far_nats) += nats_[r];
    }
    return sums;
  }

  const Model& model_;
  ReachOptions options_;
  ThreadPool& pool_;
  Forward<T> forward_;
  std::vector<std::unique_ptr<Attention<T>>> limited_;  // [layers, units]
  std::vector<std::unique_ptr<State<T>>> states_;       // of the layers, after the row's beginning
  Activations<T> chunk_, tail_rows_;
  std::vector<T> input_;  // [tail, hidden]: of the layer that is looked at
  std::vector<T> gathered_;
  std::vector<float> logits_;
  std::vector<double> nats_;
  std::vector<Scored> scored_;
  int64_t tail_ = 0;
};

/// The scores of one row, whole (last) and of each unit; empty where `progress` said no.
template <class T>
std::vector<ReachScores> row_scores(TailReader<T>& reader, const ReachRow& row, const ReachOptions& options,
                                    const std::function<bool(double)>& progress) {
  const int layers = reader.layers(), units = reader.units();
  const auto tell = [&](double passes) { return !progress || progress(passes); };
  reader.begin(row);
  if (!tell(row_passes(row, options, layers, 0))) return {};
  std::vector<ReachScores> scores;
  for (int layer = 0; layer < layers; ++layer) {
    for (int unit = 0; unit < units; ++unit) {
      scores.push_back(reader.limited(layer, unit));
      if (!tell(layers - layer)) return {};
    }
    reader.advance(layer);
  }
  scores.push_back(reader.whole());
  return scores;
}

template <class T>
Reach measure(const Model& model, const std::vector<ReachRow>& rows, const ReachOptions& options,
              ThreadPool& pool, const std::function<bool(double)>& progress) {
  TailReader<T> reader(model, options, pool);
  Reach reach{.layers = reader.layers(), .heads = reader.units() - 1};
  reach.limited_.resize(static_cast<size_t>(reader.layers() * reader.units()));
  for (const ReachRow& row : rows) {
    const std::vector<ReachScores> scores = row_scores(reader, row, options, progress);
    if (scores.empty()) break;
    reach.far_tokens.push_back(reader.count(false));
    reach.passage_tokens.push_back(reader.count(true));
    reach.whole.push_back(scores.back());
    for (size_t i = 0; i + 1 < scores.size(); ++i) reach.limited_[i].push_back(scores[i]);
  }
  return reach;
}

/// Nats per token by which `limited` loses to `whole`; 0 where no token counts.
Mean loss_of(const std::vector<ReachScores>& limited, const std::vector<ReachScores>& whole,
             const std::vector<int64_t>& tokens, double ReachScores::*nats) {
  if (std::accumulate(tokens.begin(), tokens.end(), int64_t{0}) == 0) return {};
  std::vector<double> losses;
  for (size_t r = 0; r < whole.size(); ++r) losses.push_back(limited[r].*nats - whole[r].*nats);
  return ratio_of(losses, std::vector<double>(tokens.begin(), tokens.end()));
}

}  // namespace

std::vector<ReachRow> make_reach_rows(const std::vector<RecallRow>& rows, int64_t near) {
  std::vector<ReachRow> out;
  for (const RecallRow& row : rows) {
    const int64_t passage = std::ssize(row.passage), end = std::ssize(row.tokens) - passage;
    std::vector<int64_t> distances;
    for (int64_t distance = std::max(2 * near, passage); distance < end; distance *= 2)
      distances.push_back(distance);
    if (distances.empty()) distances.push_back(end - 1);
    const int64_t place = end - distances[out.size() % distances.size()];
    ReachRow own{.tokens = row.tokens, .passage = passage};
    std::copy(row.passage.begin(), row.passage.end(), own.tokens.begin() + end);
    std::copy(row.passage.begin(), row.passage.end(), own.tokens.begin() + place);
    out.push_back(std::move(own));
  }
  return out;
}

double reach_passes(const Model& model, const std::vector<ReachRow>& rows, const ReachOptions& options) {
  double passes = 0;
  for (const ReachRow& row : rows)
    passes += row_passes(row, options, static_cast<int>(model.attention().size()),
                         model.attention_shape().kv_heads + 1);
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

Mean Reach::far_loss(int layer, int head) const {
  return loss_of(limited(layer, head), whole, far_tokens, &ReachScores::far_nats);
}
Mean Reach::passage_loss(int layer, int head) const {
  return loss_of(limited(layer, head), whole, passage_tokens, &ReachScores::passage_nats);
}
double Reach::loss(int layer, int head) const {
  return std::max(0.0, far_loss(layer, head).mean) + std::max(0.0, passage_loss(layer, head).mean);
}

std::vector<HeadPlace> ranked_heads(const Reach& reach) {
  std::vector<HeadPlace> places;
  for (int layer = 0; layer < reach.layers; ++layer)
    for (int head = 0; head < reach.heads; ++head) places.push_back({layer, head});
  std::stable_sort(places.begin(), places.end(), [&](const HeadPlace& a, const HeadPlace& b) {
    return reach.loss(a.layer, a.head) > reach.loss(b.layer, b.head);
  });
  return places;
}

std::vector<int> far_layers(const Reach& reach, double share) {
  std::vector<int> order(static_cast<size_t>(reach.layers));
  std::iota(order.begin(), order.end(), 0);
  const auto loss = [&](int layer) { return reach.loss(layer, reach.heads); };
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return loss(a) > loss(b); });
  const double all = std::accumulate(order.begin(), order.end(), 0.0,
                                     [&](double sum, int layer) { return sum + loss(layer); });
  double held = 0;
  size_t count = 0;
  while (count < order.size() && held < share * all) held += loss(order[count++]);
  order.resize(count);
  std::sort(order.begin(), order.end());
  return order;
}

}  // namespace linnet

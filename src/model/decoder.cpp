#include "model/decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "base/array.h"
#include "base/error.h"
#include "base/log.h"
#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/rotary.h"
#include "model/slot_file.h"
#include "model/weights.h"

namespace linnet {
namespace {

kernels::Unary unary_of(Activation activation) {
  switch (activation) {
    case Activation::kSilu:
      return kernels::Unary::kSilu;
    case Activation::kGeluTanh:
      return kernels::Unary::kGeluTanh;
    case Activation::kGelu:
      return kernels::Unary::kGelu;
    case Activation::kRelu:
      return kernels::Unary::kRelu;
  }
  return kernels::Unary::kSilu;
}

/// Rows on their way through the layers; planned once for `rows` of them. A step keeps queries, keys and
/// values of all layers until commit; a prefill needs one layer's at a time.
template <class T>
struct Activations {
  int64_t rows = 0;
  Room<T> hidden;                           // [rows, hidden]: the residual stream
  Room<T> normed;                           // [rows, hidden]
  Room<T> delta;                            // [rows, hidden]: what a block adds
  Room<T> mixed;                            // [rows, heads, value_size]: attention's outputs
  Room<T> inner;                            // [rows, intermediate or twice that]
  Room<T> cosines, sines;                   // [rows, rotary size / 2]
  std::vector<Room<T>> projected, rotated;  // a layer: [rows, q k v], [rows, q k]
  std::vector<int32_t> tokens;              // [rows]
  std::vector<int64_t> positions;           // [rows]
};

template <class T>
class DecoderOf final : public Decoder {
 public:
  DecoderOf(std::shared_ptr<const Model> model, const Options& options, ThreadPool& pool);

  const Model& model() const override { return *model_; }
  void reset(int slot) override;
  int64_t length(int slot) const override { return slots_[slot].length; }
  size_t state_bytes(int slot) const override;
  Cost cost() const override;
  void prefill(int slot, std::span<const int32_t> tokens, size_t first, std::span<float> logits) override;
  std::span<const float> step(std::span<const Branch> branches) override;
  std::span<const float> hidden() const override { return {final_.data(), final_rows_ * hidden_}; }
  void commit(int branch, std::span<const int32_t> path) override;
  std::vector<std::byte> save(int slot) const override;
  void load(int slot, std::span<const std::byte> bytes) override;

 private:
  struct Slot {
    int64_t length = 0;
    std::vector<std::unique_ptr<State<T>>> layers;
  };
  /// A branch of the last step, for commit.
  struct Stepped {
    int slot = 0;
    int32_t begin = 0, count = 0;  // its nodes among all
    int64_t length = 0;            // of the slot then
  };
  enum class Stage { kStep, kPrefill };

  void plan(Activations<T>& a, int64_t rows, size_t kept_layers) const;
  void check_tokens(std::span<const int32_t> tokens, int64_t end);
  void embed(Activations<T>& a, int64_t rows);
  Rows<T> rows_of(const Activations<T>& a, size_t layer, int64_t begin, int64_t count) const;
  /// The layers, up to before the final norm. attend(layer, out) writes the attention's outputs of all rows.
  template <class Attend>
  void run_layers(Activations<T>& a, int64_t rows, Stage stage, const Attend& attend);
  void product(Linear& linear, const Room<T>& x, int64_t x_stride, int64_t rows, Room<T>& y, Stage stage);
  void rotate(Activations<T>& a, size_t kept, int64_t rows);
  void normalize(const NormWeights<T>& norm, const T* x, int64_t rows, T* y);
  void activate(Room<T>& inner, int64_t rows);
  /// Final norm and logits of rows at `x`; rows of `logits` are vocabulary apart.
  void finish(const T* x, int64_t rows, Stage stage, float* logits);
  SlotHeader header(int64_t length) const;

  std::shared_ptr<const Model> model_;
  Options options_;
  ThreadPool& pool_;
  ModelWeights<T> weights_;
  int64_t hidden_, heads_, kv_heads_, head_size_, value_size_, inner_;
  RopeFrequencies rope_;   // empty where positions are learned
  int64_t positions_ = 0;  // past the last position that the model knows
  bool warned_ = false;    // of being past them
  bool gated_;
  kernels::Unary activation_;
  std::vector<Slot> slots_;
  Activations<T> step_, prefill_;
  ProductScratch scratch_;
  std::vector<Stepped> stepped_;
  std::vector<int32_t> parents_;  // [nodes] of the last step, within each tree
  Room<float> logits_;            // [max_nodes, vocabulary]
  Room<T> normed_;                // [rows, hidden] after the final norm
  Room<T> wide_logits_;           // where T is not float
  Room<float> final_;             // normed_ as float
  size_t final_rows_ = 0;
  mutable std::optional<std::array<std::byte, 16>> fingerprint_;
};

template <class T>
DecoderOf<T>::DecoderOf(std::shared_ptr<const Model> model, const Options& options, ThreadPool& pool)
    : model_(std::move(model)), options_(options), pool_(pool), weights_(*model_, options.compute) {
  const ModelConfig& config = model_->config();
  const AttentionShape shape = model_->attention_shape();
  hidden_ = config.hidden, heads_ = shape.heads, kv_heads_ = shape.kv_heads;
  head_size_ = shape.head_size, value_size_ = shape.value_size;
  gated_ = model_->family().gated;
  inner_ = config.intermediate * (gated_ ? 2 : 1);
  activation_ = unary_of(config.activation);
  positions_ = config.positions;
  if (model_->family().positions == PositionKind::kRotary) {
    rope_ = rope_frequencies(config);
  } else {
    positions_ = weights_.position_embedding.out;
  }
  slots_.resize(static_cast<size_t>(options_.slots));
  for (Slot& slot : slots_) {
    for (const auto& layer : weights_.layers) slot.layers.push_back(layer.attention->make_state());
  }
  plan(step_, options_.max_nodes, weights_.layers.size());
  scratch_.plan(options_.max_nodes, weights_.widest_input());
  const auto nodes = static_cast<size_t>(options_.max_nodes);
  logits_.plan(options_.max_nodes * vocabulary());
  normed_.plan(options_.max_nodes * hidden_);
  final_.plan(options_.max_nodes * hidden_);
  stepped_.reserve(nodes);
  parents_.reserve(nodes);
}

template <class T>
void DecoderOf<T>::plan(Activations<T>& a, int64_t rows, size_t kept_layers) const {
  if (a.rows >= rows) return;
  const auto room = [&](Room<T>& numbers, int64_t width) { numbers.plan(rows * width); };
  a.rows = rows;
  room(a.hidden, hidden_);
  room(a.normed, hidden_);
  room(a.delta, hidden_);
  room(a.mixed, heads_ * value_size_);
  room(a.inner, inner_);
  room(a.cosines, static_cast<int64_t>(rope_.inverse.size()));
  room(a.sines, static_cast<int64_t>(rope_.inverse.size()));
  a.projected.resize(kept_layers);
  a.rotated.resize(kept_layers);
  for (size_t i = 0; i < kept_layers; ++i) {
    room(a.projected[i], (heads_ + kv_heads_) * head_size_ + kv_heads_ * value_size_);
    if (!rope_.inverse.empty()) room(a.rotated[i], (heads_ + kv_heads_) * head_size_);
  }
  a.tokens.resize(static_cast<size_t>(rows));
  a.positions.resize(static_cast<size_t>(rows));
}

template <class T>
void DecoderOf<T>::reset(int slot) {
  for (auto& layer : slots_[slot].layers) layer->reset();
  slots_[slot].length = 0;
}

template <class T>
size_t DecoderOf<T>::state_bytes(int slot) const {
  size_t sum = 0;
  for (const auto& layer : slots_[slot].layers) sum += layer->bytes();
  return sum;
}

template <class T>
Decoder::Cost DecoderOf<T>::cost() const {
  Cost cost{weights_.bytes_a_step(), 0, std::is_same_v<T, float>};
  for (const auto& layer : weights_.layers) {
    for (const Linear* linear : {&layer.qkv, &layer.o, &layer.up, &layer.down}) {
      cost.layer_parameters += linear->in() * linear->out();
      cost.bfloat16_prefill &= linear->bfloat16_prefill();
    }
  }
  return cost;
}

/// `end` is the position after the last of the tokens.
template <class T>
void DecoderOf<T>::check_tokens(std::span<const int32_t> tokens, int64_t end) {
  for (int32_t token : tokens) {
    if (token < 0 || token >= vocabulary())
      throw Error("token", fmt::format("{}", token), fmt::format("an id from 0 to {}", vocabulary() - 1));
  }
  if (end <= positions_) return;
  if (rope_.inverse.empty())
    throw Error("position", fmt::format("{} tokens", end),
                fmt::format("at most {}, where the model's learned positions end", positions_));
  if (!warned_)
    warn(fmt::format("the sequence is longer than the {} positions that the model was trained on",
                     positions_));
  warned_ = true;
}

template <class T>
void DecoderOf<T>::embed(Activations<T>& a, int64_t rows) {
  const auto half = static_cast<int64_t>(rope_.inverse.size());
  for_rows(rows, pool_, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      T* row = a.hidden.data() + r * hidden_;
      weights_.embedding.row(a.tokens[r], row);
      if (half > 0) {
        kernels::rotary_angles<T>(rope_.inverse, rope_.factor, a.positions[r], a.cosines.data() + r * half,
                                  a.sines.data() + r * half);
      } else {
        T* position = a.delta.data() + r * hidden_;
        weights_.position_embedding.row(a.positions[r], position);
        kernels::add(row, position, hidden_);
      }
    }
  });
}

template <class T>
Rows<T> DecoderOf<T>::rows_of(const Activations<T>& a, size_t layer, int64_t begin, int64_t count) const {
  const size_t kept = layer % a.projected.size();
  const int64_t q_size = heads_ * head_size_, k_size = kv_heads_ * head_size_;
  const int64_t stride = q_size + k_size + kv_heads_ * value_size_;
  const T* projected = a.projected[kept].data() + begin * stride;
  Rows<T> rows;
  rows.count = count;
  rows.q = {projected, head_size_, stride};
  rows.k = {projected + q_size, head_size_, stride};
  rows.v = {projected + q_size + k_size, value_size_, stride};
  if (weights_.layers[layer].plain_rows) rows.q_plain = rows.q, rows.k_plain = rows.k;
  if (!rope_.inverse.empty()) {
    const T* rotated = a.rotated[kept].data() + begin * (q_size + k_size);
    rows.q = {rotated, head_size_, q_size + k_size};
    rows.k = {rotated + q_size, head_size_, q_size + k_size};
  }
  return rows;
}

template <class T>
void DecoderOf<T>::product(Linear& linear, const Room<T>& x, int64_t x_stride, int64_t rows, Room<T>& y,
                           Stage stage) {
  if (stage == Stage::kStep) {
    linear.step(x.data(), x_stride, rows, y.data(), scratch_, pool_);
  } else {
    linear.prefill(x.data(), x_stride, rows, y.data(), scratch_, pool_);
  }
}

template <class T>
void DecoderOf<T>::rotate(Activations<T>& a, size_t kept, int64_t rows) {
  const auto half = static_cast<int64_t>(rope_.inverse.size());
  if (half == 0) return;
  const int64_t turned = (heads_ + kv_heads_) * head_size_, stride = turned + kv_heads_ * value_size_;
  for_rows(rows, pool_, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r)
      kernels::rotate(a.projected[kept].data() + r * stride, heads_ + kv_heads_, head_size_, half,
                      a.cosines.data() + r * half, a.sines.data() + r * half,
                      a.rotated[kept].data() + r * turned);
  });
}

template <class T>
void DecoderOf<T>::normalize(const NormWeights<T>& norm, const T* x, int64_t rows, T* y) {
  const double epsilon = model_->config().norm_epsilon;
  for_rows(rows, pool_, [&](int64_t begin, int64_t end) {
    const T* from = x + begin * hidden_;
    T* to = y + begin * hidden_;
    if (model_->family().norm == NormKind::kRms) {
      kernels::rms_norm(from, end - begin, hidden_, norm.gain.data(), epsilon, to);
    } else {
      kernels::layer_norm(from, end - begin, hidden_, norm.gain.data(), norm.bias.data(), epsilon, to);
    }
  });
}

template <class T>
void DecoderOf<T>::activate(Room<T>& inner, int64_t rows) {
  for_rows(rows, pool_, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      T* row = inner.data() + r * inner_;
      if (gated_) {
        kernels::activate_gated(activation_, row, row + inner_ / 2, inner_ / 2);
      } else {
        kernels::activate(activation_, row, inner_);
      }
    }
  });
}

template <class T>
template <class Attend>
void DecoderOf<T>::run_layers(Activations<T>& a, int64_t rows, Stage stage, const Attend& attend) {
  const auto add_delta = [&] {
    for_rows(rows, pool_, [&](int64_t begin, int64_t end) {
      kernels::add(a.hidden.data() + begin * hidden_, a.delta.data() + begin * hidden_,
                   (end - begin) * hidden_);
    });
  };
  embed(a, rows);
  for (size_t i = 0; i < weights_.layers.size(); ++i) {
    LayerWeights<T>& layer = weights_.layers[i];
    const size_t kept = i % a.projected.size();
    normalize(layer.attention_norm, a.hidden.data(), rows, a.normed.data());
    product(layer.qkv, a.normed, hidden_, rows, a.projected[kept], stage);
    rotate(a, kept, rows);
    attend(i, HeadRows<T>{a.mixed.data(), value_size_, heads_ * value_size_});
    product(layer.o, a.mixed, heads_ * value_size_, rows, a.delta, stage);
    add_delta();
    normalize(layer.feed_forward_norm, a.hidden.data(), rows, a.normed.data());
    product(layer.up, a.normed, hidden_, rows, a.inner, stage);
    activate(a.inner, rows);
    product(layer.down, a.inner, inner_, rows, a.delta, stage);
    add_delta();
  }
}

template <class T>
void DecoderOf<T>::finish(const T* x, int64_t rows, Stage stage, float* logits) {
  normed_.plan(rows * hidden_);
  final_.plan(rows * hidden_);
  normalize(weights_.final_norm, x, rows, normed_.data());
  std::copy_n(normed_.data(), rows * hidden_, final_.data());
  final_rows_ = static_cast<size_t>(rows);
  const auto run = [&](T* to) {
    if (stage == Stage::kStep) {
      weights_.head.step(normed_.data(), hidden_, rows, to, scratch_, pool_);
    } else {
      weights_.head.prefill(normed_.data(), hidden_, rows, to, scratch_, pool_);
    }
  };
  if constexpr (std::is_same_v<T, float>) {
    run(logits);
  } else {
    wide_logits_.plan(rows * vocabulary());
    run(wide_logits_.data());
    std::copy_n(wide_logits_.data(), rows * vocabulary(), logits);
  }
}

template <class T>
void DecoderOf<T>::prefill(int slot, std::span<const int32_t> tokens, size_t first, std::span<float> logits) {
  Slot& sequence = slots_[slot];
  check_tokens(tokens, sequence.length + static_cast<int64_t>(tokens.size()));
  const auto chunk = static_cast<size_t>(options_.chunk);
  plan(prefill_, static_cast<int64_t>(std::min(tokens.size(), chunk)), 1);
  stepped_.clear();
  for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const size_t count = std::min(chunk, tokens.size() - begin);
    const auto rows = static_cast<int64_t>(count);
    for (size_t r = 0; r < count; ++r) {
      prefill_.tokens[r] = tokens[begin + r];
      prefill_.positions[r] = sequence.length + static_cast<int64_t>(r);
    }
    run_layers(prefill_, rows, Stage::kPrefill, [&](size_t layer, HeadRows<T> out) {
      weights_.layers[layer].attention->prefill(*sequence.layers[layer], rows_of(prefill_, layer, 0, rows),
                                                out, pool_);
    });
    sequence.length += rows;
    const size_t from = std::max(first, begin);
    if (from >= begin + count) continue;
    finish(prefill_.hidden.data() + static_cast<int64_t>(from - begin) * hidden_,
           static_cast<int64_t>(begin + count - from), Stage::kPrefill,
           logits.data() + (from - first) * static_cast<size_t>(vocabulary()));
  }
}

template <class T>
std::span<const float> DecoderOf<T>::step(std::span<const Branch> branches) {
  stepped_.clear();
  parents_.clear();
  int64_t rows = 0;
  for (const Branch& branch : branches) {
    const auto depths = branch.tree->depths();
    if (depths.empty()) throw Error("step", "an empty tree", "a root at least");
    const int32_t deepest = *std::max_element(depths.begin(), depths.end());
    check_tokens(branch.tree->tokens(), slots_[branch.slot].length + deepest + 1);
    rows += branch.tree->size();
  }
  if (rows > options_.max_nodes)
    throw Error("step", fmt::format("{} nodes", rows), fmt::format("at most {}", options_.max_nodes));
  if (rows == 0) return {};
  for (const Branch& branch : branches) {
    const TokenTree& tree = *branch.tree;
    const Stepped at{branch.slot, static_cast<int32_t>(parents_.size()), tree.size(),
                     slots_[branch.slot].length};
    for (int32_t i = 0; i < tree.size(); ++i) {
      step_.tokens[at.begin + i] = tree.token(i);
      step_.positions[at.begin + i] = at.length + tree.depth(i);
    }
    parents_.insert(parents_.end(), tree.parents().begin(), tree.parents().end());
    stepped_.push_back(at);
  }
  run_layers(step_, rows, Stage::kStep, [&](size_t layer, HeadRows<T> out) {
    for (size_t b = 0; b < branches.size(); ++b) {
      const Stepped& at = stepped_[b];
      HeadRows<T> to = out;
      to.data += at.begin * out.row_stride;
      weights_.layers[layer].attention->attend(*slots_[at.slot].layers[layer], *branches[b].tree,
                                               rows_of(step_, layer, at.begin, at.count), to, pool_);
    }
  });
  finish(step_.hidden.data(), rows, Stage::kStep, logits_.data());
  return {logits_.data(), static_cast<size_t>(rows * vocabulary())};
}

template <class T>
void DecoderOf<T>::commit(int branch, std::span<const int32_t> path) {
  if (branch < 0 || static_cast<size_t>(branch) >= stepped_.size())
    throw Error("commit", fmt::format("branch {}", branch), "one of the last step");
  const Stepped& at = stepped_[static_cast<size_t>(branch)];
  Slot& sequence = slots_[at.slot];
  if (sequence.length != at.length)
    throw Error("commit", "the sequence went on after the step", "one commit a step");
  int32_t last = -1;
  for (int32_t node : path) {
    if (node < 0 || node >= at.count || parents_[at.begin + node] != last)
      throw Error("commit", fmt::format("node {} after {}", node, last), "a path from the tree's root");
    last = node;
  }
  for (size_t layer = 0; layer < weights_.layers.size(); ++layer) {
    weights_.layers[layer].attention->commit(*sequence.layers[layer], path,
                                             rows_of(step_, layer, at.begin, at.count), pool_);
  }
  sequence.length += static_cast<int64_t>(path.size());
}

template <class T>
SlotHeader DecoderOf<T>::header(int64_t length) const {
  if (!fingerprint_) fingerprint_ = fingerprint(*model_);
  return {sizeof(T), *fingerprint_, to_json(model_->attention()).dump(), length,
          static_cast<uint32_t>(weights_.layers.size())};
}

template <class T>
std::vector<std::byte> DecoderOf<T>::save(int slot) const {
  std::vector<std::byte> bytes;
  write_header(header(slots_[slot].length), bytes);
  for (const auto& layer : slots_[slot].layers) layer->save(bytes);
  seal(bytes);
  return bytes;
}

template <class T>
void DecoderOf<T>::load(int slot, std::span<const std::byte> bytes) {
  const SlotBody body = read_header(bytes, header(0));
  Slot loaded{body.length, {}};
  std::span<const std::byte> in = body.states;
  for (const auto& layer : weights_.layers) {
    loaded.layers.push_back(layer.attention->make_state());
    loaded.layers.back()->load(in);
    if (loaded.layers.back()->length() != body.length)
      throw Error("state", "layers of different lengths", fmt::format("{} tokens in each", body.length));
  }
  if (!in.empty())
    throw Error("state", fmt::format("{} bytes too many", in.size()), "a state as it was saved");
  slots_[slot] = std::move(loaded);
}

}  // namespace

ComputeType compute_type(std::string_view name) {
  if (name == "auto") return ComputeType::kAuto;
  if (name == "float32") return ComputeType::kFloat32;
  if (name == "bfloat16") return ComputeType::kBFloat16;
  if (name == "float64") return ComputeType::kFloat64;
  throw Error("--dtype", fmt::format("\"{}\"", name), "auto, float32, bfloat16 or float64");
}

std::unique_ptr<Decoder> Decoder::make(std::shared_ptr<const Model> model, const Options& options,
                                       ThreadPool& pool) {
  if (options.compute == ComputeType::kFloat64)
    return std::make_unique<DecoderOf<double>>(std::move(model), options, pool);
  return std::make_unique<DecoderOf<float>>(std::move(model), options, pool);
}

}  // namespace linnet

#include "model/decoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "attention/rows.h"
#include "attention/state_bytes.h"
#include "base/array.h"
#include "base/count.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "model/cuda_decoder.h"
#include "model/forward.h"
#include "model/slot_file.h"
#include "model/state_size.h"
#include "model/whole_sequences.h"

namespace linnet {
namespace {

constexpr std::array<std::string_view, 4> kComputeTypes{"auto", "float32", "bfloat16",
                                                        "float64"};  // as ComputeType

/// The options that another would compute other numbers with; `auto` by the type that it stands for.
std::string arithmetic_of(const Model& model, const Decoder::Options& options) {
  ComputeType compute = options.compute;
  if (const TensorView* stored = model.tensor(model.family().embedding, "weight");
      compute == ComputeType::kAuto && stored != nullptr)
    compute = stored->type == DType::kBF16 ? ComputeType::kBFloat16 : ComputeType::kFloat32;
  return fmt::format("--dtype {} --weights {} --state-type {}", name_of(compute),
                     options.weights ? kernels::row_of(*options.weights).name : "stored",
                     name_of(model.attention_shape().state));
}

template <class T>
class DecoderOf final : public Decoder {
 public:
  DecoderOf(std::shared_ptr<const Model> model, const Options& options, ThreadPool& pool,
            const MakeAttention<T>& make = make_attention<T>);

  const Info& info() const override { return info_; }
  void reset(int slot) override;
  void read_source(int slot, std::span<const int32_t> tokens) override;
  int64_t length(int slot) const override { return slots_[slot].length; }
  int64_t source_length(int slot) const override {
    return slots_[slot].memories.empty() ? 0 : slots_[slot].memories.front()->length();
  }
  void copy(int from, int to) override;
  size_t state_bytes(int slot) const override;
  Cost cost() const override;
  void prefill(int slot, std::span<const int32_t> tokens, size_t first, std::span<float> logits) override;
  void step(std::span<const Branch> branches) override;
  std::span<const float> logits(int node) const override {
    return {logits_.data() + node * vocabulary(), static_cast<size_t>(vocabulary())};
  }
  int32_t likeliest(int node) const override { return argmax(logits(node)); }
  std::span<const float> hidden(int row) const override {
    const auto size = static_cast<size_t>(model_->config().hidden);
    return forward_.hidden().subspan(static_cast<size_t>(row) * size, size);
  }
  void commit(int branch, std::span<const int32_t> path) override;
  std::vector<std::byte> save(int slot) const override;
  void load(int slot, std::span<const std::byte> bytes) override;

 private:
  struct Slot {
    int64_t length = 0;
    std::vector<std::unique_ptr<State<T>>> layers;
    Memories<T> memories;  // none until a source was read
  };
  /// A branch of the last step, for commit.
  struct Stepped {
    int slot = 0;
    int32_t begin = 0, count = 0;  // its nodes among all
    int64_t length = 0;            // of the slot then
  };

  const std::vector<LayerWeights<T>>& layers() const { return forward_.weights().layers; }
  void check_tokens(std::span<const int32_t> tokens, int64_t end);
  SlotHeader header(int64_t length) const;
  /// Throws Error where the slot has nothing to read, and is to.
  void check_source(const Slot& sequence) const;
  void save_memories(const Memories<T>& memories, std::vector<std::byte>& bytes) const;
  Memories<T> load_memories(std::span<const std::byte>& in) const;
  /// What the layers remember of a source.
  Memories<T> read(std::span<const int32_t> source);

  std::shared_ptr<const Model> model_;
  Options options_;
  ThreadPool& pool_;
  Forward<T> forward_;
  std::optional<WholeSequences<T>> encoder_;  // none: the model has none
  Info info_;
  int64_t positions_ = 0;  // past the last position that the model knows
  bool warned_ = false;    // of being past them
  Memories<T> source_;     // of options_.source
  std::vector<Slot> slots_;
  Activations<T> step_, prefill_;
  std::vector<Stepped> stepped_;
  std::vector<StateTree<T>> attended_;  // the branches as a layer takes them
  std::vector<int32_t> parents_;        // [nodes] of the last step, within each tree
  Room<float> logits_;                  // [max_nodes, vocabulary]
  mutable std::optional<std::array<std::byte, 16>> fingerprint_;
};

Decoder::Info info_of(const Model& model, const Decoder::Options& options) {
  Decoder::Info info;
  info.vocabulary = model.config().vocabulary;
  if (model.family().positions == PositionKind::kLearned) info.positions = model.config().positions;
  info.memory = tokens_that_fit(model);
  info.chunk = options.chunk;
  if (model.encoder()) info.start = static_cast<int32_t>(model.config().start);
  for (const AttentionConfig& layer : model.attention()) {
    if (!layer.grows()) info.tree_depth = std::min(info.tree_depth, layer.group);
  }
  return info;
}

template <class T>
DecoderOf<T>::DecoderOf(std::shared_ptr<const Model> model, const Options& options, ThreadPool& pool,
                        const MakeAttention<T>& make)
    : model_(std::move(model)),
      options_(options),
      pool_(pool),
      forward_(*model_, {options.compute, options.weights}, pool, make),
      info_(info_of(*model_, options)) {
  forward_.tell(options_.profile);
  forward_.tell(options_.inputs);
  if (model_->encoder()) {
    encoder_.emplace(model_->encoder(), WeightOptions{options.compute, options.weights}, pool, make);
  }
  positions_ = model_->config().positions;
  int64_t state = 0;
  for (const auto& layer : layers()) state += layer.attention->layout().bytes;
  check_state_fits(state, options_.slots, machine_memory(), model_->folder().string());
  slots_.resize(static_cast<size_t>(options_.slots));
  for (Slot& slot : slots_) {
    for (const auto& layer : layers()) slot.layers.push_back(layer.attention->make_state());
  }
  if (encoder_ && !options_.source.empty()) source_ = read(options_.source);
  for (Slot& slot : slots_) slot.memories = source_;
  forward_.plan(step_, options_.max_nodes, layers().size());
  forward_.plan_steps(options_.max_nodes);
  const auto nodes = static_cast<size_t>(options_.max_nodes);
  logits_.plan(options_.max_nodes * vocabulary());
  stepped_.reserve(nodes);
  attended_.reserve(nodes);
  parents_.reserve(nodes);
}

template <class T>
void DecoderOf<T>::reset(int slot) {
  for (auto& layer : slots_[slot].layers) layer->reset();
  slots_[slot].length = 0;
  slots_[slot].memories = source_;
}

template <class T>
void DecoderOf<T>::read_source(int slot, std::span<const int32_t> tokens) {
  if (!encoder_) return Decoder::read_source(slot, tokens);
  reset(slot);
  slots_[slot].memories = read(tokens);
}

template <class T>
Memories<T> DecoderOf<T>::read(std::span<const int32_t> source) {
  if (source.empty()) throw Error("source", "empty", "a token at least");
  const Encoder::Sequence whole{.tokens = source};
  return memories_of(forward_, encoder_->run({&whole, 1}), pool_);
}

template <class T>
void DecoderOf<T>::check_source(const Slot& sequence) const {
  if (encoder_ && sequence.memories.empty())
    throw Error(model_->folder().string(), "has an encoder, and this reads its decoder alone",
                "a model of a decoder alone");
}

template <class T>
void DecoderOf<T>::copy(int from, int to) {
  if (from == to) return;
  slots_[to].length = slots_[from].length;
  slots_[to].memories = slots_[from].memories;
  for (size_t layer = 0; layer < layers().size(); ++layer)
    slots_[to].layers[layer] = slots_[from].layers[layer]->clone();
}

template <class T>
size_t DecoderOf<T>::state_bytes(int slot) const {
  size_t sum = 0;
  for (const auto& layer : slots_[slot].layers) sum += layer->bytes();
  for (const auto& memory : slots_[slot].memories) sum += memory->bytes();
  return sum;
}

template <class T>
Decoder::Cost DecoderOf<T>::cost() const {
  Cost cost{forward_.weights().bytes_a_step(), 0, layers().front().qkv.prefill_type()};
  for (const auto& layer : layers()) {
    for (const Linear* linear : {&layer.qkv, &layer.o, &layer.up, &layer.down}) {
      if (linear->in() == 0) continue;  // a gated unit has no feed-forward
      cost.layer_parameters += linear->in() * linear->out();
      cost.prefill = std::min(cost.prefill, linear->prefill_type());
    }
  }
  if (!std::is_same_v<T, float>) cost.prefill = kernels::WeightType::kFloat32;
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
  if (info_.positions > 0)
    throw Error("position", counted(end, "token"),
                fmt::format("at most {}, where the model's learned positions end", positions_));
  const auto& attention = model_->attention();
  if (!warned_ && std::any_of(attention.begin(), attention.end(),
                              [](const auto& layer) { return layer.depends_on_far_positions(); }))
    warn(fmt::format("the sequence is longer than the {} that the model was trained on",
                     counted(positions_, "position")));
  warned_ = true;
}

template <class T>
void DecoderOf<T>::prefill(int slot, std::span<const int32_t> tokens, size_t first, std::span<float> logits) {
  Slot& sequence = slots_[slot];
  check_source(sequence);
  check_tokens(tokens, sequence.length + static_cast<int64_t>(tokens.size()));
  const auto chunk = static_cast<size_t>(options_.chunk);
  forward_.plan(prefill_, static_cast<int64_t>(std::min(tokens.size(), chunk)), 1);
  stepped_.clear();
  for (size_t begin = 0; begin < tokens.size(); begin += chunk) {
    const size_t count = std::min(chunk, tokens.size() - begin);
    const auto rows = static_cast<int64_t>(count);
    for (size_t r = 0; r < count; ++r) {
      prefill_.tokens[r] = tokens[begin + r];
      prefill_.positions[r] = sequence.length + static_cast<int64_t>(r);
    }
    const auto attend = [&](size_t layer, HeadRows<T> out) {
      layers()[layer].attention->prefill(*sequence.layers[layer], forward_.rows_of(prefill_, layer, 0, rows),
                                         out, pool_);
    };
    forward_.run(
        prefill_, rows, Stage::kPrefill, attend, [&](size_t layer, const Rows<T>& queries, HeadRows<T> out) {
          layers()[layer].cross->attention->read_memory(*sequence.memories[layer], queries, out, pool_);
        });
    sequence.length += rows;
    const size_t from = std::max(first, begin);
    if (from >= begin + count) continue;
    const T* ends = forward_.final_rows(prefill_);
    forward_.logits(ends + static_cast<int64_t>(from - begin) * model_->config().hidden,
                    static_cast<int64_t>(begin + count - from), Stage::kPrefill,
                    logits.data() + (from - first) * static_cast<size_t>(vocabulary()));
  }
}

template <class T>
void DecoderOf<T>::step(std::span<const Branch> branches) {
  stepped_.clear();
  parents_.clear();
  int64_t rows = 0;
  for (const Branch& branch : branches) {
    const auto depths = branch.tree->depths();
    if (depths.empty()) throw Error("step", "an empty tree", "a root at least");
    check_source(slots_[branch.slot]);
    const int32_t deepest = *std::max_element(depths.begin(), depths.end());
    check_tokens(branch.tree->tokens(), slots_[branch.slot].length + deepest + 1);
    rows += branch.tree->size();
  }
  if (rows > options_.max_nodes)
    throw Error("step", fmt::format("{} nodes", rows), fmt::format("at most {}", options_.max_nodes));
  if (rows == 0) return;
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
  const auto attend = [&](size_t layer, HeadRows<T> out) {
    attended_.clear();
    for (const Branch& branch : branches)
      attended_.push_back({slots_[branch.slot].layers[layer].get(), branch.tree});
    layers()[layer].attention->attend_all(attended_, forward_.rows_of(step_, layer, 0, rows), out, pool_);
  };
  const auto read = [&](size_t layer, const Rows<T>& queries, HeadRows<T> out) {
    for (const Stepped& at : stepped_) {
      layers()[layer].cross->attention->read_memory(*slots_[at.slot].memories[layer],
                                                    part_of(queries, at.begin, at.count),
                                                    from_row(out, at.begin), pool_);
    }
  };
  forward_.run(step_, rows, Stage::kStep, attend, read);
  forward_.logits(forward_.final_rows(step_), rows, Stage::kStep, logits_.data());
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
  for (size_t layer = 0; layer < layers().size(); ++layer) {
    layers()[layer].attention->commit(*sequence.layers[layer], path,
                                      forward_.rows_of(step_, layer, at.begin, at.count), pool_);
  }
  sequence.length += static_cast<int64_t>(path.size());
}

template <class T>
SlotHeader DecoderOf<T>::header(int64_t length) const {
  if (!fingerprint_) fingerprint_ = fingerprint(*model_);
  return {sizeof(T),     arithmetic_of(*model_, options_),
          *fingerprint_, to_json(model_->all_attention()).dump(),
          length,        static_cast<uint32_t>(layers().size())};
}

/// The source's length, −1 where none was read, then each layer's numbers.
template <class T>
void DecoderOf<T>::save_memories(const Memories<T>& memories, std::vector<std::byte>& bytes) const {
  const int64_t length = memories.empty() ? -1 : memories.front()->length();
  append_numbers(bytes, &length, 1);
  for (const auto& memory : memories)
    append_numbers(bytes, memory->numbers().data(), std::ssize(memory->numbers()));
}

template <class T>
Memories<T> DecoderOf<T>::load_memories(std::span<const std::byte>& in) const {
  int64_t length = 0;
  read_numbers(in, &length, 1);
  Memories<T> memories;
  if (length < 0) return memories;
  for (const auto& layer : layers()) memories.push_back(layer.cross->attention->load_memory(length, in));
  return memories;
}

template <class T>
std::vector<std::byte> DecoderOf<T>::save(int slot) const {
  std::vector<std::byte> bytes;
  write_header(header(slots_[slot].length), bytes);
  for (const auto& layer : slots_[slot].layers) layer->save(bytes);
  if (encoder_) save_memories(slots_[slot].memories, bytes);
  seal(bytes);
  return bytes;
}

template <class T>
void DecoderOf<T>::load(int slot, std::span<const std::byte> bytes) {
  const SlotBody body = read_header(bytes, header(0));
  Slot loaded{body.length, {}, {}};
  std::span<const std::byte> in = body.states;
  for (const auto& layer : layers()) {
    loaded.layers.push_back(layer.attention->make_state());
    loaded.layers.back()->load(in);
    if (loaded.layers.back()->length() != body.length)
      throw Error("state", "layers of different lengths", fmt::format("{} tokens in each", body.length));
  }
  if (encoder_) loaded.memories = load_memories(in);
  if (!in.empty())
    throw Error("state", fmt::format("{} bytes too many", in.size()), "a state as it was saved");
  slots_[slot] = std::move(loaded);
}

}  // namespace

ComputeType compute_type(std::string_view name) {
  const auto found = std::find(kComputeTypes.begin(), kComputeTypes.end(), name);
  if (found != kComputeTypes.end()) return static_cast<ComputeType>(found - kComputeTypes.begin());
  throw Error("--dtype", fmt::format("\"{}\"", name), "auto, float32, bfloat16 or float64");
}

std::string_view name_of(ComputeType type) { return kComputeTypes[static_cast<size_t>(type)]; }

void Decoder::read_source(int, std::span<const int32_t>) {
  throw Error("model", "has no encoder", "one of an encoder and a decoder");
}

int32_t argmax(std::span<const float> logits) {
  float best = -std::numeric_limits<float>::infinity();
  int64_t at = -1;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > best) {
      best = logits[i];
      at = static_cast<int64_t>(i);
    }
  }
  if (at < 0 || std::isinf(best)) {
    throw Error("logits", "the model's output is not a finite number",
                "finite logits (check the weights with `linnet inspect`)", ExitStatus::kFailed);
  }
  return static_cast<int32_t>(at);
}

std::unique_ptr<Decoder> Decoder::make(std::shared_ptr<const Model> model, const Options& options,
                                       ThreadPool& pool) {
  require_decoder(*model);
  if (options.device != "cpu") return make_cuda_decoder(std::move(model), options, pool);
  if (options.compute == ComputeType::kFloat64)
    return std::make_unique<DecoderOf<double>>(std::move(model), options, pool);
  return std::make_unique<DecoderOf<float>>(std::move(model), options, pool);
}

std::unique_ptr<Decoder> Decoder::make(std::shared_ptr<const Model> model, const Options& options,
                                       ThreadPool& pool, const MakeAttention<float>& make) {
  require_decoder(*model);
  return std::make_unique<DecoderOf<float>>(std::move(model), options, pool, make);
}

}  // namespace linnet

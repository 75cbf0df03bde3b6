#include "model/encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "attention/rows.h"
#include "base/count.h"
#include "base/error.h"
#include "model/forward.h"

namespace linnet {
namespace {

template <class T>
class EncoderOf final : public Encoder {
 public:
  EncoderOf(std::shared_ptr<const Model> model, const Options& options, ThreadPool& pool,
            const MakeAttention<T>& make = make_attention<T>)
      : model_(std::move(model)),
        pool_(pool),
        forward_(*model_, {options.compute, options.weights}, pool, make) {
    forward_.tell(options.profile);
  }

  int64_t hidden_size() const override { return model_->config().hidden; }
  int64_t longest() const override {
    const bool learned = model_->family().positions == PositionKind::kLearned;
    return learned ? model_->config().longest() : std::numeric_limits<int64_t>::max();
  }

  void encode(std::span<const Sequence> sequences, std::span<float> out) override;
  void pool(std::span<const float> rows, std::span<float> out) override;
  void logits(std::span<const float> rows, std::span<float> out) override;

 private:
  void check(const Sequence& sequence) const;
  void place(std::span<const Sequence> sequences);
  void attend(const Attention<T>& attention, const Rows<T>& rows, HeadRows<T> out) {
    if (model_->family().is_encoder()) return attention.encode(rows, out, pool_);
    attention.prefill(*attention.make_state(), rows, out, pool_);
  }
  int64_t rows_in(std::span<const float> rows) const {
    return static_cast<int64_t>(rows.size()) / hidden_size();
  }

  std::shared_ptr<const Model> model_;
  ThreadPool& pool_;
  Forward<T> forward_;
  Activations<T> rows_;
  Room<T> ends_, pooled_;
};

template <class T>
void EncoderOf<T>::check(const Sequence& sequence) const {
  const ModelConfig& config = model_->config();
  const auto outside = [](std::span<const int32_t> ids, int64_t end) {
    return std::ranges::find_if(ids, [&](int32_t id) { return id < 0 || id >= end; });
  };
  const auto count = std::ssize(sequence.tokens);
  if (count > longest())
    throw Error("sequence", counted(count, "token"),
                fmt::format("at most {}, the model's positions", longest()));
  if (const auto token = outside(sequence.tokens, config.vocabulary); token != sequence.tokens.end())
    throw Error(fmt::format("token {}", *token), "not in the vocabulary",
                fmt::format("0 to {}", config.vocabulary - 1));
  if (!sequence.types.empty() && sequence.types.size() != sequence.tokens.size())
    throw Error("token types", fmt::format("{}", sequence.types.size()), counted(count, "token"));
  if (const auto type = outside(sequence.types, std::max<int64_t>(config.token_types, 1));
      type != sequence.types.end())
    throw Error(fmt::format("token type {}", *type), "not the model's",
                fmt::format("0 to {}", std::max<int64_t>(config.token_types, 1) - 1));
}

/// Tokens, positions and kinds of all rows.
template <class T>
void EncoderOf<T>::place(std::span<const Sequence> sequences) {
  size_t row = 0;
  for (const Sequence& sequence : sequences) {
    for (size_t i = 0; i < sequence.tokens.size(); ++i, ++row) {
      rows_.tokens[row] = sequence.tokens[i];
      rows_.positions[row] = static_cast<int64_t>(i) + model_->config().first_position;
      if (!rows_.types.empty()) rows_.types[row] = sequence.types.empty() ? 0 : sequence.types[i];
    }
  }
}

template <class T>
void EncoderOf<T>::encode(std::span<const Sequence> sequences, std::span<float> out) {
  int64_t count = 0;
  for (const Sequence& sequence : sequences) {
    check(sequence);
    count += std::ssize(sequence.tokens);
  }
  if (count == 0) return;
  forward_.plan(rows_, count, /*kept_layers=*/1);
  place(sequences);
  forward_.run(rows_, count, Stage::kPrefill, [&](size_t layer, HeadRows<T> mixed) {
    const Attention<T>& attention = *forward_.weights().layers[layer].attention;
    int64_t first = 0;
    for (const Sequence& sequence : sequences) {
      const auto length = std::ssize(sequence.tokens);
      if (length > 0)
        attend(attention, forward_.rows_of(rows_, layer, first, length), from_row(mixed, first));
      first += length;
    }
  });
  ends_.plan(count * hidden_size());
  forward_.final_rows(rows_.hidden.data(), count, ends_.data());
  std::copy_n(ends_.data(), count * hidden_size(), out.data());
}

template <class T>
void EncoderOf<T>::pool(std::span<const float> rows, std::span<float> out) {
  if (!model_->has_pooler())
    throw Error(model_->base_folder().string(), "has no pooler", "a model that pools its first token");
  ends_.plan(std::ssize(rows));
  pooled_.plan(std::ssize(rows));
  std::copy(rows.begin(), rows.end(), ends_.data());
  forward_.pool_rows(ends_.data(), rows_in(rows), pooled_.data());
  std::copy_n(pooled_.data(), rows.size(), out.data());
}

template <class T>
void EncoderOf<T>::logits(std::span<const float> rows, std::span<float> out) {
  if (!model_->has_head())
    throw Error(model_->base_folder().string(), "has no head that predicts tokens",
                fmt::format("a {} folder", model_->family().architecture));
  ends_.plan(std::ssize(rows));
  std::copy(rows.begin(), rows.end(), ends_.data());
  forward_.logits(ends_.data(), rows_in(rows), Stage::kPrefill, out.data());
}

}  // namespace

std::unique_ptr<Encoder> Encoder::make(std::shared_ptr<const Model> model, const Options& options,
                                       ThreadPool& pool) {
  if (options.compute == ComputeType::kFloat64)
    return std::make_unique<EncoderOf<double>>(std::move(model), options, pool);
  return std::make_unique<EncoderOf<float>>(std::move(model), options, pool);
}

std::unique_ptr<Encoder> Encoder::make(std::shared_ptr<const Model> model, const Options& options,
                                       ThreadPool& pool, const MakeAttention<float>& make) {
  return std::make_unique<EncoderOf<float>>(std::move(model), options, pool, make);
}

void require_decoder(const Model& model) {
  if (!model.family().is_encoder()) return;
  throw Error(model.folder().string(),
              fmt::format("{} is an encoder, which predicts no next token", model.config().model_type),
              "a decoder (linnet embed takes both)");
}

}  // namespace linnet

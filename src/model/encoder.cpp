#include "model/encoder.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "base/error.h"
#include "model/whole_sequences.h"

namespace linnet {
namespace {

template <class T>
class EncoderOf final : public Encoder {
 public:
  EncoderOf(std::shared_ptr<const Model> model, const Options& options, ThreadPool& pool,
            const MakeAttention<T>& make = make_attention<T>)
      : model_(std::move(model)),
        pool_(pool),
        stack_(model_, {options.compute, options.weights}, pool, make) {
    stack_.forward().tell(options.profile);
    if (model_->encoder())
      source_.emplace(model_->encoder(), WeightOptions{options.compute, options.weights}, pool, make);
  }

  int64_t hidden_size() const override { return model_->config().hidden; }
  int64_t longest() const override { return stack_.longest(); }

  void encode(std::span<const Sequence> sequences, std::span<float> out) override {
    std::ranges::copy(source_ ? decoded(sequences) : stack_.run(sequences), out.begin());
  }
  void pool(std::span<const float> rows, std::span<float> out) override;
  void logits(std::span<const float> rows, std::span<float> out) override;

 private:
  std::span<const T> decoded(std::span<const Sequence> sequences);
  int64_t rows_in(std::span<const float> rows) const {
    return static_cast<int64_t>(rows.size()) / hidden_size();
  }

  std::shared_ptr<const Model> model_;
  ThreadPool& pool_;
  WholeSequences<T> stack_;
  std::optional<WholeSequences<T>> source_;  // of a model with an encoder, that
  Room<T> ends_, pooled_;
};

/// The decoder's rows of sequences that the encoder reads whole, and it shifted by its start token.
template <class T>
std::span<const T> EncoderOf<T>::decoded(std::span<const Sequence> sequences) {
  const std::span<const T> encoded = source_->run(sequences);
  std::vector<Memories<T>> memories;
  std::vector<std::vector<int32_t>> shifted;
  std::vector<Sequence> read;
  size_t first = 0;
  for (const Sequence& sequence : sequences) {
    const size_t numbers = sequence.tokens.size() * static_cast<size_t>(hidden_size());
    memories.push_back(numbers > 0 ? memories_of(stack_.forward(), encoded.subspan(first, numbers), pool_)
                                   : Memories<T>());
    first += numbers;
    std::vector<int32_t>& tokens = shifted.emplace_back(sequence.tokens.begin(), sequence.tokens.end());
    if (tokens.empty()) continue;
    tokens.insert(tokens.begin(), static_cast<int32_t>(model_->config().start));
    tokens.pop_back();
  }
  for (const auto& tokens : shifted) read.push_back({.tokens = tokens});
  return stack_.run(read, memories);
}

template <class T>
void EncoderOf<T>::pool(std::span<const float> rows, std::span<float> out) {
  if (!model_->has_pooler())
    throw Error(model_->base_folder().string(), "has no pooler", "a model that pools its first token");
  ends_.plan(std::ssize(rows));
  pooled_.plan(std::ssize(rows));
  std::copy(rows.begin(), rows.end(), ends_.data());
  stack_.forward().pool_rows(ends_.data(), rows_in(rows), pooled_.data());
  std::copy_n(pooled_.data(), rows.size(), out.data());
}

template <class T>
void EncoderOf<T>::logits(std::span<const float> rows, std::span<float> out) {
  if (!model_->has_head())
    throw Error(model_->base_folder().string(), "has no head that predicts tokens",
                fmt::format("a {} folder", model_->family().architecture));
  ends_.plan(std::ssize(rows));
  std::copy(rows.begin(), rows.end(), ends_.data());
  stack_.forward().logits(ends_.data(), rows_in(rows), Stage::kPrefill, out.data());
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

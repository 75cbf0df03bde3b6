#include "model/whole_sequences.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "attention/rows.h"
#include "base/count.h"
#include "base/error.h"

namespace linnet {

template <class T>
Memories<T> memories_of(Forward<T>& decoder, std::span<const T> encoded, ThreadPool& pool) {
  Memories<T> memories;
  Room<T> kv;
  for (size_t layer = 0; layer < decoder.weights().layers.size(); ++layer) {
    const Rows<T> rows = decoder.cross_rows(layer, encoded, kv);
    memories.push_back(decoder.weights().layers[layer].cross->attention->summarize(rows, pool));
  }
  return memories;
}

template Memories<float> memories_of(Forward<float>&, std::span<const float>, ThreadPool&);
template Memories<double> memories_of(Forward<double>&, std::span<const double>, ThreadPool&);

template <class T>
WholeSequences<T>::WholeSequences(std::shared_ptr<const Model> model, const WeightOptions& how,
                                  ThreadPool& pool, const MakeAttention<T>& make)
    : model_(std::move(model)), pool_(pool), forward_(*model_, how, pool, make) {}

template <class T>
int64_t WholeSequences<T>::longest() const {
  const bool learned = model_->family().positions == PositionKind::kLearned;
  return learned ? model_->config().longest() : std::numeric_limits<int64_t>::max();
}

template <class T>
void WholeSequences<T>::check(const Sequence& sequence) const {
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
void WholeSequences<T>::place(std::span<const Sequence> sequences) {
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
std::span<const T> WholeSequences<T>::run(std::span<const Sequence> sequences,
                                          std::span<const Memories<T>> sources) {
  int64_t count = 0;
  for (const Sequence& sequence : sequences) {
    check(sequence);
    count += std::ssize(sequence.tokens);
  }
  if (count == 0) return {};
  forward_.plan(rows_, count, /*kept_layers=*/1);
  place(sequences);
  // Calls visit(sequence, its first row, its rows) for each that has tokens.
  const auto each = [&](const auto& visit) {
    int64_t first = 0;
    for (size_t i = 0; i < sequences.size(); ++i) {
      const auto length = std::ssize(sequences[i].tokens);
      if (length > 0) visit(i, first, length);
      first += length;
    }
  };
  const auto attend_all = [&](size_t layer, HeadRows<T> mixed) {
    const Attention<T>& attention = *forward_.weights().layers[layer].attention;
    each([&](size_t, int64_t first, int64_t length) {
      attend(attention, forward_.rows_of(rows_, layer, first, length), from_row(mixed, first));
    });
  };
  const auto read_all = [&](size_t layer, const Rows<T>& queries, HeadRows<T> mixed) {
    const Attention<T>& attention = *forward_.weights().layers[layer].cross->attention;
    each([&](size_t i, int64_t first, int64_t length) {
      attention.read_memory(*sources[i][layer], part_of(queries, first, length), from_row(mixed, first),
                            pool_);
    });
  };
  forward_.run(rows_, count, Stage::kPrefill, attend_all, read_all);
  return {forward_.final_rows(rows_), static_cast<size_t>(count * model_->config().hidden)};
}

template class WholeSequences<float>;
template class WholeSequences<double>;

}  // namespace linnet

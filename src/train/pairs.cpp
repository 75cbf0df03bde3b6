#include "train/pairs.h"

#include <algorithm>
#include <numeric>

#include "base/hash.h"
#include "base/interrupt.h"

namespace linnet::train {

int64_t TokenPairs::longest() const {
  size_t most = 0;
  for (const auto* side : {&sources, &targets})
    for (const auto& tokens : *side) most = std::max(most, tokens.size());
  return static_cast<int64_t>(most);
}

int64_t TokenPairs::to_write(std::span<const int64_t> places) const {
  int64_t tokens = 0;
  for (const int64_t place : places) tokens += std::ssize(targets[place]);
  return tokens;
}

std::string hash_of(const TokenPairs& pairs) {
  std::vector<int32_t> all;
  for (size_t i = 0; i < pairs.sources.size(); ++i) {
    for (const auto* tokens : {&pairs.sources[i], &pairs.targets[i]}) {
      all.push_back(-1);
      all.insert(all.end(), tokens->begin(), tokens->end());
    }
  }
  return linnet::hash_of(std::as_bytes(std::span(all)));
}

TokenPairs span_pairs(std::span<const std::string> texts, const Tokenizer& tokenizer,
                      const SpanTokens& tokens, int64_t window, ThreadPool& pool) {
  std::vector<std::vector<int32_t>> ids(texts.size());
  pool.run(texts.size(), [&](size_t i) { ids[i] = tokenizer.encode(texts[i]); });
  TokenPairs pairs{.start = tokens.start};
  for (const std::vector<int32_t>& text : ids) {
    for (std::span<const int32_t> left = text; left.size() > 1;) {
      const auto piece = left.first(std::min(left.size(), static_cast<size_t>(window)));
      left = left.subspan(piece.size());
      const SpanShape shape(std::ssize(piece));
      const auto index = static_cast<uint64_t>(pairs.size());
      auto& source = pairs.sources.emplace_back(static_cast<size_t>(shape.source()));
      auto& target = pairs.targets.emplace_back(static_cast<size_t>(shape.target()));
      corrupt(piece, tokens, 0, index, source, target);
    }
  }
  return pairs;
}

RowBatch batch_of(const TokenPairs& pairs, std::span<const int64_t> places, at::Device device) {
  const auto count = static_cast<int64_t>(places.size());
  int64_t read = 0, written = 0;
  for (const int64_t place : places) {
    read = std::max(read, std::ssize(pairs.sources[place]));
    written = std::max(written, std::ssize(pairs.targets[place]));
  }
  at::Tensor sources = at::zeros({count, read}, at::kLong), lengths = at::empty({count}, at::kLong);
  at::Tensor targets = at::zeros({count, written}, at::kLong), weights = at::zeros({count, written});
  const double weight = 1.0 / static_cast<double>(pairs.to_write(places));
  for (int64_t row = 0; row < count; ++row) {
    const auto &source = pairs.sources[places[row]], &target = pairs.targets[places[row]];
    std::ranges::copy(source, sources.data_ptr<int64_t>() + row * read);
    std::ranges::copy(target, targets.data_ptr<int64_t>() + row * written);
    std::fill_n(weights.data_ptr<float>() + row * written, target.size(), static_cast<float>(weight));
    lengths.data_ptr<int64_t>()[row] = std::ssize(source);
  }
  RowBatch batch;
  batch.batch.source = sources.to(device, /*non_blocking=*/true);
  batch.batch.source_lengths = lengths;
  batch.targets = targets.to(device, /*non_blocking=*/true);
  batch.weights = weights.to(device, /*non_blocking=*/true);
  batch.batch.tokens = at::cat(
      {at::full({count, 1}, pairs.start, batch.targets.options()), batch.targets.narrow(1, 0, written - 1)},
      1);
  return batch;
}

PairValidation::PairValidation(TokenPairs pairs, std::unordered_set<size_t> documents)
    : pairs_(std::move(pairs)), order_(static_cast<size_t>(pairs_.size())), documents_(std::move(documents)) {
  std::iota(order_.begin(), order_.end(), 0);
  std::ranges::stable_sort(
      order_, {}, [&](int64_t i) { return std::pair(pairs_.sources[i].size(), pairs_.targets[i].size()); });
}

std::optional<double> PairValidation::score(const Module& module, int64_t rows) const {
  at::NoGradGuard no_gradients;
  const at::Device device = module.options().device;
  at::Tensor total = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device));
  for (std::span<const int64_t> left = order_; !left.empty();) {
    if (interrupted()) return std::nullopt;
    const auto places = left.first(std::min(left.size(), static_cast<size_t>(rows)));
    left = left.subspan(places.size());
    const RowBatch batch = batch_of(pairs_, places, device);
    const at::Tensor losses = module.token_losses(module.hidden(batch.batch), batch.targets);
    total += losses.to(at::kDouble).masked_fill(batch.weights == 0, 0.0).sum();
  }
  return total.item<double>() / static_cast<double>(pairs_.to_write(order_));
}

}  // namespace linnet::train

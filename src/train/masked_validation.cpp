#include "train/masked_validation.h"

#include <algorithm>

#include "base/error.h"
#include "base/interrupt.h"

namespace linnet::train {

MaskedValidation::MaskedValidation(HeldOutTexts held, const Tokenizer& tokenizer,
                                   const EncoderTokens& special, int64_t window, ThreadPool& pool)
    : documents_(std::move(held.hashes)) {
  for (const auto& document : tokenizer.encode_documents(held.texts, pool)) {
    for (MaskedText& text : masked_texts(document, special, window, std::ssize(texts_)))
      texts_.push_back(std::move(text));
  }
  if (texts_.empty()) throw Error("--valid", "no token to mask", "documents that have tokens");
  std::ranges::stable_sort(texts_, std::greater(), [](const MaskedText& text) { return text.tokens.size(); });
}

std::optional<double> MaskedValidation::score(const Module& module, int64_t rows) const {
  at::NoGradGuard no_gradients;
  const at::Device device = module.options().device;
  at::Tensor total = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device));
  int64_t asked = 0;
  for (size_t begin = 0; begin < texts_.size(); begin += static_cast<size_t>(rows)) {
    if (interrupted()) return std::nullopt;
    const auto some =
        std::span(texts_).subspan(begin, std::min(texts_.size() - begin, static_cast<size_t>(rows)));
    const auto count = std::ssize(some), length = std::ssize(some.front().tokens);
    at::Tensor ids = at::zeros({count, length}, at::kLong), lengths = at::empty({count}, at::kLong);
    std::vector<int64_t> places, wanted;
    for (int64_t row = 0; row < count; ++row) {
      const MaskedText& text = some[static_cast<size_t>(row)];
      std::ranges::copy(text.tokens, ids.data_ptr<int64_t>() + row * length);
      lengths.data_ptr<int64_t>()[row] = std::ssize(text.tokens);
      for (const int64_t place : text.places) places.push_back(row * length + place);
      wanted.insert(wanted.end(), text.wanted.begin(), text.wanted.end());
    }
    const at::Tensor hidden =
        module.hidden({.tokens = ids.to(device, true), .lengths = lengths}).flatten(0, 1);
    const at::Tensor losses =
        module.token_losses(hidden.index_select(0, at::tensor(places, at::kLong).to(device, true)),
                            at::tensor(wanted, at::kLong).to(device, true));
    total += losses.to(at::kDouble).sum();
    asked += std::ssize(wanted);
  }
  return total.item<double>() / static_cast<double>(asked);
}

}  // namespace linnet::train

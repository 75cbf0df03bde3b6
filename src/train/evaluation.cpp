#include "train/evaluation.h"

#include <algorithm>
#include <numbers>

#include "base/error.h"
#include "base/interrupt.h"
#include "evaluate/windows.h"

namespace linnet::train {
namespace {

/// The longest prefix of at most `limit` bytes that does not split a code point.
std::string_view prefix(std::string_view text, size_t limit) {
  if (text.size() <= limit) return text;
  while (limit > 0 && (static_cast<unsigned char>(text[limit]) & 0xC0) == 0x80) --limit;
  return text.substr(0, limit);
}

size_t hash_of(const Document& document) { return std::hash<std::string>{}(document.text); }

}  // namespace

HeldOutTexts::HeldOutTexts(std::span<const std::filesystem::path> files, int64_t max_bytes,
                           const CorpusOptions& options) {
  for (const auto& file : files) {
    int64_t left = max_bytes > 0 ? max_bytes / static_cast<int64_t>(files.size()) : INT64_MAX;
    // All documents are remembered, also those past the limit: none of them may be trained on.
    for_each_document(file, options, [&](Document&& document) {
      hashes.insert(hash_of(document));
      const std::string_view part = prefix(document.text, static_cast<size_t>(left));
      left -= static_cast<int64_t>(part.size());
      bytes += static_cast<int64_t>(part.size());
      if (!part.empty()) texts.emplace_back(part);
      return true;
    });
  }
  if (texts.empty()) throw Error("--valid", "no text", "at least one document");
}

bool is_among(const Document& document, const std::unordered_set<size_t>& hashes) {
  return hashes.contains(hash_of(document));
}

Validation::Validation(std::span<const std::filesystem::path> files, const Tokenizer& tokenizer,
                       int32_t start_token, int64_t window, int64_t max_bytes, ThreadPool& pool,
                       const CorpusOptions& options) {
  HeldOutTexts held(files, max_bytes, options);
  hashes_ = std::move(held.hashes);
  bytes_ = held.bytes;
  const std::vector<std::string>& texts = held.texts;
  std::vector<std::vector<int32_t>> ids(texts.size());
  pool.run(texts.size(), [&](size_t i) { ids[i] = tokenizer.encode(texts[i]); });
  for (const auto& document : ids) add(document, start_token, window);
  // Windows of one length make batches without padding.
  std::stable_sort(rows_.begin(), rows_.end(),
                   [](const Row& a, const Row& b) { return a.tokens.size() > b.tokens.size(); });
}

void Validation::add(std::span<const int32_t> document, int32_t start_token, int64_t window) {
  std::vector<int32_t> all{start_token};
  all.insert(all.end(), document.begin(), document.end());
  const auto count = static_cast<int64_t>(document.size());
  tokens_ += count;
  for (const Window& w : make_windows(count, window, 0))
    rows_.push_back(
        {.tokens = {all.begin() + w.first_input, all.begin() + w.end + 1}, .scored = w.end - w.first_scored});
}

std::optional<double> Validation::bits_per_byte(const Module& module, int64_t rows, Mode mode) const {
  at::NoGradGuard no_gradients;
  const at::Device device = module.options().device;
  at::Tensor total = at::zeros({}, at::TensorOptions().dtype(at::kDouble).device(device));
  for (size_t begin = 0; begin < rows_.size(); begin += static_cast<size_t>(rows)) {
    if (interrupted()) return std::nullopt;
    const size_t end = std::min(begin + static_cast<size_t>(rows), rows_.size());
    const auto batch = static_cast<int64_t>(end - begin);
    const auto length = static_cast<int64_t>(rows_[begin].tokens.size()) - 1;  // the longest: sorted
    // Shorter windows are filled up behind, where a causal model does not look.
    at::Tensor ids = at::zeros({batch, length + 1}, at::kLong);
    at::Tensor counts = at::zeros({batch, length}, at::kBool);
    for (int64_t row = 0; row < batch; ++row) {
      const Row& row_tokens = rows_[begin + static_cast<size_t>(row)];
      const auto inputs = static_cast<int64_t>(row_tokens.tokens.size()) - 1;
      std::copy(row_tokens.tokens.begin(), row_tokens.tokens.end(),
                ids.data_ptr<int64_t>() + row * (length + 1));
      std::fill_n(counts.data_ptr<bool>() + row * length + inputs - row_tokens.scored, row_tokens.scored,
                  true);
    }
    ids = ids.to(device);
    const at::Tensor hidden = module.hidden({.tokens = ids.narrow(1, 0, length).contiguous()}, mode);
    const at::Tensor losses = module.token_losses(hidden, ids.narrow(1, 1, length).contiguous(), mode);
    total += at::where(counts.to(device), losses.to(at::kDouble), at::zeros_like(total)).sum();
  }
  return total.item<double>() / std::numbers::ln2 / static_cast<double>(bytes_);
}

}  // namespace linnet::train

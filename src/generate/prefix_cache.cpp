#include "generate/prefix_cache.h"

#include <algorithm>
#include <utility>

namespace linnet {
namespace {

size_t common(std::span<const int32_t> a, std::span<const int32_t> b) {
  return static_cast<size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

}  // namespace

size_t PrefixCache::bytes_of(const Entry& entry) {
  return entry.state.size() + entry.tokens.size() * sizeof(int32_t);
}

const PrefixCache::Entry* PrefixCache::find(std::span<const int32_t> tokens) {
  auto best = entries_.end();
  for (auto entry = entries_.begin(); entry != entries_.end(); ++entry) {
    const size_t size = entry->tokens.size();
    const bool fits = size < tokens.size() && common(entry->tokens, tokens) == size;
    if (fits && (best == entries_.end() || size > best->tokens.size())) best = entry;
  }
  if (best == entries_.end()) {
    ++counts_.misses;
    return nullptr;
  }
  ++counts_.hits;
  counts_.tokens += std::ranges::count_if(best->tokens, [](int32_t token) { return token >= 0; });
  entries_.splice(entries_.begin(), entries_, best);
  return &entries_.front();
}

size_t PrefixCache::shared(std::span<const int32_t> tokens) const {
  size_t most = 0;
  for (const Entry& entry : entries_) most = std::max(most, common(entry.tokens, tokens));
  return most;
}

void PrefixCache::keep(std::span<const int32_t> tokens, std::vector<std::byte> state) {
  Entry entry{{tokens.begin(), tokens.end()}, std::move(state)};
  const size_t size = bytes_of(entry);
  if (size > room_) return;
  const auto same = std::find_if(entries_.begin(), entries_.end(),
                                 [&](const Entry& kept) { return kept.tokens == entry.tokens; });
  if (same != entries_.end()) return entries_.splice(entries_.begin(), entries_, same);
  for (; bytes_ + size > room_; entries_.pop_back()) bytes_ -= bytes_of(entries_.back());
  bytes_ += size;
  entries_.push_front(std::move(entry));
}

}  // namespace linnet

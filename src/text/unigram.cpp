#include "text/unigram.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "base/error.h"
#include "text/utf8.h"

namespace linnet {
namespace {

constexpr double kUnkPenalty = 10;  // as in sentencepiece
}  // namespace

Unigram::Unigram(Vocabulary vocabulary, std::vector<double> scores, int64_t unk, bool byte_fallback,
                 std::string where)
    : vocabulary_(std::move(vocabulary)),
      scores_(std::move(scores)),
      byte_fallback_(byte_fallback),
      where_(std::move(where)) {
  if (scores_.empty()) throw Error(where_, "an empty vocabulary", "at least one token");
  if (unk >= vocabulary_.size()) {
    throw Error(where_, fmt::format("unk_id {}", unk),
                fmt::format("less than the {} tokens", vocabulary_.size()));
  }
  unk_ = unk < 0 ? -1 : static_cast<int32_t>(unk);
  for (size_t id = 0; id < scores_.size(); ++id) {
    if (!std::isfinite(scores_[id]))
      throw Error(where_, fmt::format("the score of token {} is no number", id), "a number");
  }
  unk_score_ = std::ranges::min(scores_) - kUnkPenalty;
  for (int byte = 0; byte < 256; ++byte) {
    bytes_[static_cast<size_t>(byte)] = vocabulary_.id_of(fmt::format("<0x{:02X}>", byte)).value_or(-1);
  }
  build_trie();
}

void Unigram::build_trie() {
  std::unordered_map<uint64_t, int32_t> children;
  std::vector<MergeRule> edges;
  ends_.assign(1, -1);
  for (int32_t id = 0; id < vocabulary_.size(); ++id) {
    int32_t node = 0;
    for (const char c : vocabulary_.token(id)) {
      const auto byte = static_cast<uint8_t>(c);
      const auto [edge, fresh] =
          children.try_emplace(static_cast<uint64_t>(node) << 8 | byte, static_cast<int32_t>(ends_.size()));
      if (fresh) {
        edges.push_back({node, byte, edge->second});
        ends_.push_back(-1);
      }
      node = edge->second;
    }
    if (node != 0) ends_[static_cast<size_t>(node)] = id;
  }
  trie_ = MergeTable(edges);
}

void Unigram::encode(std::string_view piece, std::vector<int32_t>& ids, EncodeScratch& scratch) const {
  if (piece.empty()) return;
  WordCache::Entry* entry = WordCache::fits(piece) ? &scratch.cache.slot(piece) : nullptr;
  if (entry != nullptr && WordCache::holds(*entry, piece)) {
    ids.insert(ids.end(), entry->ids.begin(), entry->ids.begin() + entry->count);
    return;
  }
  auto& path = scratch.path;
  viterbi(piece, path);
  // Backwards along the best path, then turned round: each cut keeps where it began.
  std::vector<std::pair<uint32_t, int32_t>> cuts;  // (end, id)
  for (auto end = static_cast<uint32_t>(piece.size()); end > 0; end = path[end].from)
    cuts.emplace_back(end, path[end].id);
  const size_t before = ids.size();
  size_t begin = 0;
  for (size_t i = cuts.size(); i-- > 0;) {
    if (cuts[i].second == unk_ && i > 0 && cuts[i - 1].second == unk_) continue;  // one unknown with the next
    if (cuts[i].second == unk_)
      append_unknown(piece.substr(begin, cuts[i].first - begin), ids);
    else
      ids.push_back(cuts[i].second);
    begin = cuts[i].first;
  }
  if (entry != nullptr) scratch.cache.store(*entry, piece, ids.data() + before, ids.size() - before);
}

void Unigram::viterbi(std::string_view piece, std::vector<ViterbiNode>& path) const {
  path.assign(piece.size() + 1, {0, kNoIndex, -1});
  const auto reach = [&](size_t end, double score, size_t from, int32_t id) {
    ViterbiNode& node = path[end];
    if (node.from == kNoIndex || score > node.score) node = {score, static_cast<uint32_t>(from), id};
  };
  for (size_t begin = 0; begin < piece.size();) {
    size_t next = begin;
    next_code_point(piece, next);
    const double score = path[begin].score;
    bool whole_character = false;
    int32_t node = 0;
    for (size_t end = begin; end < piece.size();) {
      const auto* edge = trie_.find(node, static_cast<uint8_t>(piece[end]));
      if (edge == nullptr) break;
      node = edge->merged;
      ++end;
      const int32_t id = ends_[static_cast<size_t>(node)];
      if (id < 0) continue;
      reach(end, score + scores_[static_cast<size_t>(id)], begin, id);
      whole_character = whole_character || end == next;
    }
    if (!whole_character) {
      if (unk_ < 0)
        throw Error(where_, "text with a character that no token covers", "an unk_id in the tokenizer");
      reach(next, score + unk_score_, begin, unk_);
    }
    begin = next;
  }
}

void Unigram::append_unknown(std::string_view text, std::vector<int32_t>& ids) const {
  if (const auto id = vocabulary_.id_of(text)) return ids.push_back(*id);
  if (byte_fallback_ && std::ranges::all_of(text, [&](char c) { return bytes_[uint8_t(c)] >= 0; })) {
    for (const char c : text) ids.push_back(bytes_[uint8_t(c)]);
    return;
  }
  ids.push_back(unk_);
}

}  // namespace linnet

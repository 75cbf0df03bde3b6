// Trains a byte-level BPE (Sennrich et al., 2016, algorithm 1, on the bytes of GPT-2's words): words are
// counted once, then the commonest pair of neighbours is merged, again and again; a merge touches only the
// words that hold its pair.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/thread_pool.h"

namespace linnet {

/// How often each word of GPT-2's pattern stands in a text.
class WordCounts {
 public:
  /// Adds the words of `texts`, in parallel. The counts do not depend on how texts are grouped or shared out.
  void add(std::span<const std::string> texts, ThreadPool& pool);

  /// Words with their counts, sorted by word.
  std::vector<std::pair<std::string, uint64_t>> sorted() const;

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view word) const { return std::hash<std::string_view>()(word); }
  };
  using Map = std::unordered_map<std::string, uint64_t, Hash, std::equal_to<>>;
  std::vector<Map> maps_;  // one a share of the work
};

struct TrainedBpe {
  std::vector<std::string> tokens;  // by id, in ByteLevel's characters
  std::vector<std::pair<std::string, std::string>> merges;
};

/// `special` tokens take the first ids, the 256 bytes the next, merges the rest up to `vocabulary`; fewer if
/// no pair stands twice any more. Of pairs equally common the one with the smaller ids is merged. `progress`
/// is told how many merges are done. Throws Error if `vocabulary` has no room for the bytes, or on a special
/// token that stands twice.
TrainedBpe train_bpe(const WordCounts& words, int32_t vocabulary, const std::vector<std::string>& special,
                     const std::function<void(size_t)>& progress = {});

/// The text of a tokenizer.json. special[0] is set before a text by the post-processor.
std::string tokenizer_json(const TrainedBpe& trained, const std::vector<std::string>& special);

/// The text of a tokenizer_config.json: BOS is the first special token, EOS the last.
std::string tokenizer_config_json(const std::vector<std::string>& special);

}  // namespace linnet

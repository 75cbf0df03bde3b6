// How a document is cut for scoring. Token t (t = 0 … tokens − 1) is predicted from input t; input 0 is BOS
// and input t the token t − 1.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

namespace linnet {

/// Reads inputs [first_input, end) from the empty state; scores tokens [first_scored, end).
struct Window {
  int64_t first_input = 0, first_scored = 0, end = 0;
  bool operator==(const Window&) const = default;
};

/// At most `window` inputs each, 0: one window over everything. The first scores `window` tokens, each later
/// one the next `stride` (0: `window`), reading the `window` inputs up to its last. Throws Error (--window,
/// --stride) unless 1 ≤ stride ≤ window.
std::vector<Window> make_windows(int64_t tokens, int64_t window, int64_t stride);

/// The windows that score any of the tokens [from, to), cut to them: what else they score is left out, and
/// inputs that no longer matter are not read.
std::vector<Window> clip_windows(std::span<const Window> windows, int64_t from, int64_t to);

/// Where each pair of tokens stood last.
class LastPairs {
 public:
  /// Notes the pair (before, token) at `place`; where it stood last before, −1: nowhere.
  int64_t note(int32_t before, int32_t token, int64_t place);

 private:
  std::unordered_map<uint64_t, int64_t> last_;
};

enum class PairClass : uint8_t { kNotCounted, kFar, kOther };

/// The class of each token that `windows` score, in order (conventions: --far-pairs). A token's pair is (the
/// input before it, itself). Counted are tokens at place ≥ ⌊window/2⌋ of their window; far are those whose
/// pair stood earlier in the same window, the last time more than `far` places before. `inputs` [tokens + 1]:
/// BOS, then the document.
std::vector<PairClass> classify_pairs(std::span<const int32_t> inputs, std::span<const Window> windows,
                                      int64_t window, int64_t far);

}  // namespace linnet

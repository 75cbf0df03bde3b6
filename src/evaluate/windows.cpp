#include "evaluate/windows.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/count.h"
#include "base/error.h"

namespace linnet {

std::vector<Window> make_windows(int64_t tokens, int64_t window, int64_t stride) {
  if (window < 0) throw Error("--window", fmt::format("{} tokens", window), "at least 1");
  if (window == 0 && stride != 0) throw Error("--stride", "given without --window", "both");
  if (stride < 0 || stride > window) {
    throw Error("--stride", counted(stride, "token"), fmt::format("from 1 to --window ({})", window));
  }
  std::vector<Window> windows;
  if (tokens <= 0) return windows;
  if (window == 0) return {{0, 0, tokens}};
  if (stride == 0) stride = window;
  windows.push_back({0, 0, std::min(window, tokens)});
  while (windows.back().end < tokens) {
    const int64_t from = windows.back().end, end = std::min(from + stride, tokens);
    windows.push_back({end - window, from, end});
  }
  return windows;
}

std::vector<Window> clip_windows(std::span<const Window> windows, int64_t from, int64_t to) {
  std::vector<Window> clipped;
  for (Window window : windows) {
    window.first_scored = std::max(window.first_scored, from);
    window.end = std::min(window.end, to);
    if (window.first_scored < window.end) clipped.push_back(window);
  }
  return clipped;
}

int64_t LastPairs::note(int32_t before, int32_t token, int64_t place) {
  const uint64_t pair = (uint64_t{static_cast<uint32_t>(before)} << 32) | static_cast<uint32_t>(token);
  const auto [entry, is_new] = last_.try_emplace(pair, place);
  return is_new ? -1 : std::exchange(entry->second, place);
}

std::vector<PairClass> classify_pairs(std::span<const int32_t> inputs, std::span<const Window> windows,
                                      int64_t window, int64_t far) {
  // The last place of a pair in its window, if it has one there, is its last place in the document.
  LastPairs last;
  std::vector<PairClass> classes;
  int64_t t = 0;
  for (const Window& w : windows) {
    for (; t < w.end; ++t) {
      const auto input = static_cast<size_t>(t);
      const int64_t before = last.note(inputs[input], inputs[input + 1], t);
      if (t < w.first_scored) continue;
      if (t - w.first_input < window / 2) {
        classes.push_back(PairClass::kNotCounted);
      } else {
        classes.push_back(before >= w.first_input && t - before > far ? PairClass::kFar : PairClass::kOther);
      }
    }
  }
  return classes;
}

}  // namespace linnet

#include "attention/kept_tokens.h"

#include <algorithm>
#include <numeric>

#include "base/random.h"
#include "base/scratch.h"

namespace linnet {
namespace {

/// For each of `count` tokens in position order whether it is among the `most` of largest surprise, the older
/// first of equals.
template <class T>
void choose(const T* surprises, int64_t count, int64_t most, bool* chosen) {
  Scratch& scratch = Scratch::of_thread();
  const Scratch::Scope scope(scratch);
  auto* order = scratch.take<int32_t>(count);
  std::iota(order, order + count, 0);
  if (count > most) {
    std::nth_element(order, order + most, order + count, [&](int32_t a, int32_t b) {
      return surprises[a] > surprises[b] || (surprises[a] == surprises[b] && a < b);
    });
  }
  std::fill_n(chosen, count, false);
  for (int64_t i = 0; i < std::min(count, most); ++i) chosen[order[i]] = true;
}

}  // namespace

float random_surprise(int64_t position) {
  return static_cast<float>(uniform(0, 0, static_cast<uint64_t>(position)));
}

template <class T, class S>
int64_t keep_most_surprising(const KeptLayout& layout, int64_t head_size, const Part<T, S>& kept,
                             int64_t held, const TokenBlock<T, S>& block, const T* surprises) {
  Scratch& scratch = Scratch::of_thread();
  const Scratch::Scope scope(scratch);
  const int64_t count = held + block.count;
  T* all = scratch.take<T>(count);
  std::copy_n(surprises, block.count, std::copy_n(kept.numbers + layout.surprises, held, all));
  for (int64_t i = 0; i < count; ++i) all[i] = all[i] > T(0) ? all[i] : T(0);  // no order has a place for NaN
  bool* chosen = scratch.take<bool>(count);
  choose(all, count, layout.tokens, chosen);

  // Each number of a token goes to the next free place: never past the one where it stands.
  auto* from = scratch.take<int64_t>(layout.tokens);
  int64_t stay = 0, total = 0;
  for (int64_t i = 0; i < count; ++i) {
    if (!chosen[i]) continue;
    stay += i < held;
    from[total++] = i;
  }
  int64_t first = 0;  // the first that moves
  while (first < stay && from[first] == first) ++first;
  const auto move = [&](auto* row, const auto* added) {
    for (int64_t i = first; i < stay; ++i) row[i] = row[from[i]];
    for (int64_t i = stay; i < total; ++i) row[i] = added[from[i] - held];
  };
  for (int64_t x = 0; x < head_size; ++x) {
    move(kept.tokens + x * layout.key_row, block.keys + x * block.key_row);
  }
  S* values = kept.tokens + layout.values;
  for (int64_t i = first; i < total; ++i) {
    const S* value = from[i] < held ? values + from[i] * layout.value_row
                                    : block.values + (from[i] - held) * block.value_row;
    std::copy_n(value, layout.value_row, values + i * layout.value_row);
  }
  move(kept.numbers + layout.surprises, all + held);
  for (int64_t i = first; i < total; ++i) {
    const bool old = from[i] < held;
    layout.set_position(kept.numbers, i,
                        old ? layout.position(kept.numbers, from[i]) : block.position + from[i] - held);
  }
  return stay;
}

template int64_t keep_most_surprising(const KeptLayout&, int64_t, const Part<float, float>&, int64_t,
                                      const TokenBlock<float>&, const float*);
template int64_t keep_most_surprising(const KeptLayout&, int64_t, const Part<double, double>&, int64_t,
                                      const TokenBlock<double>&, const double*);
template int64_t keep_most_surprising(const KeptLayout&, int64_t, const Part<float, BFloat16>&, int64_t,
                                      const TokenBlock<float, BFloat16>&, const float*);
template int64_t keep_most_surprising(const KeptLayout&, int64_t, const Part<double, BFloat16>&, int64_t,
                                      const TokenBlock<double, BFloat16>&, const double*);

}  // namespace linnet

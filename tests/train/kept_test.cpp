// Which tokens training keeps, held to the definition: block after block, the M of largest surprise.
#include "train/attention/kept.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <set>
#include <vector>

#include "tests/train/gradients.h"
#include "tests/train/random_rows.h"

namespace linnet::train {
namespace {

/// What readers of group g keep, as places in the row's groups, by folding one block after the other.
std::set<int64_t> kept_by_definition(const at::Tensor& surprises, const at::Tensor& number, int64_t g,
                                     int64_t w, int64_t m) {
  const int64_t c = surprises.size(1), first = g - number[g].item<int64_t>();
  std::vector<std::pair<double, int64_t>> kept;  // what is least surprising last
  for (int64_t b = first; b + w <= g; ++b) {
    for (int64_t i = 0; i < c; ++i) {
      const double e = surprises[b][i].item<double>();
      if (e != -std::numeric_limits<double>::infinity()) kept.emplace_back(-e, b * c + i);
    }
    std::sort(kept.begin(), kept.end());
    if (static_cast<int64_t>(kept.size()) > m) kept.resize(static_cast<size_t>(m));
  }
  std::set<int64_t> places;
  for (const auto& [e, place] : kept) places.insert(place);
  return places;
}

void check_choice(const at::Tensor& surprises, const GroupLayout& layout, int64_t w, int64_t m,
                  int64_t span) {
  const KeptTokens kept = choose_kept(surprises, layout, w, m, span);
  for (int64_t head = 0; head < surprises.size(0); ++head) {
    for (int64_t row = 0; row < surprises.size(1); ++row) {
      const at::Tensor number = layout.number[layout.number.size(0) > 1 ? row : 0];
      for (int64_t g = 0; g < layout.groups; ++g) {
        const at::Tensor places = kept.places[head][row][g / span];
        const at::Tensor own = places.masked_select(kept.hidden[head][row][g / span][g % span].logical_not());
        const std::set<int64_t> actual(own.data_ptr<int64_t>(), own.data_ptr<int64_t>() + own.size(0));
        EXPECT_EQ(static_cast<int64_t>(actual.size()), own.size(0)) << "a token twice";
        EXPECT_EQ(actual, kept_by_definition(surprises[head][row], number, g, w, m))
            << "group " << g << ", W " << w << ", M " << m << ", span " << span;
      }
    }
  }
}

/// Few values, so that many are equal; the first token is never kept.
at::Tensor some_surprises(std::vector<int64_t> shape, uint64_t seed) {
  auto generator = at::detail::createCPUGenerator(seed);
  at::Tensor surprises = at::randint(9, shape, generator, at::kDouble);
  surprises.select(2, 0).select(2, 0).fill_(-std::numeric_limits<double>::infinity());
  return surprises;
}

TEST(KeptTokens, AreThoseOfLargestSurpriseAndTheOlderOfEqualOnes) {
  const Documents documents({}, 2, 43, at::kCPU);
  const GroupLayout& layout = documents.groups(4);
  for (const int64_t w : {2, 5, 10}) {
    for (const int64_t m : {1, 3, 8, 100}) {
      for (const int64_t span : {1, 2, 3, 7, 20})
        check_choice(some_surprises({3, 2, layout.groups - w, 4}, 7), layout, w, m, span);
    }
  }
}

TEST(KeptTokens, StartAnewInEachPackedDocument) {
  at::Tensor ids = at::zeros({2, 60}, at::kInt);
  for (const int64_t start : {1, 9, 40}) ids[0].narrow(0, start, 60 - start).add_(1);
  ids[1].narrow(0, 33, 27).add_(1);
  const Documents documents(ids, 2, 60, at::kCPU);
  const GroupLayout& layout = documents.groups(4);
  for (const int64_t m : {1, 5, 100}) {
    for (const int64_t span : {1, 2, 3, 7})
      check_choice(some_surprises({2, 2, layout.groups - 2, 4}, 11), layout, 2, m, span);
  }
}

TEST(KeptTokens, GetTheirGradientAsOneSumHoweverManyBlocksKeepThem) {
  auto generator = at::detail::createCPUGenerator(3);
  const at::Tensor places = at::randint(12, {2, 2, 5, 7}, generator, at::kLong);
  check_gradients([&](const Tensors& in) { return at_places(in[0], places); },
                  {random_tensor({2, 2, 3, 4, 5}, generator)}, {"x"}, "at_places");
}

}  // namespace
}  // namespace linnet::train

#include "kernels/cpu/instruction_sets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "kernels/cpu/few_rows.h"
#include "tests/kernels/targets.h"

namespace linnet {
namespace {

TEST(InstructionSets, TheOneAskedForIsTheOneThatComputes) {
  std::vector<int64_t> sizes;  // rows prepared for a product are padded by the vectors' size
  on_every_target([&] { sizes.push_back(kernels::prepared_size(kernels::RowType::kFloat32, 1)); });
  EXPECT_EQ(sizes.size(), kernels::instruction_sets().size());
  EXPECT_EQ(sizes.front(), kernels::prepared_size(kernels::RowType::kFloat32, 1));  // the best again
  EXPECT_TRUE(std::is_sorted(sizes.rbegin(), sizes.rend()));
  if (sizes.size() > 2) {
    EXPECT_LT(sizes.back(), sizes.front());
  }
}

TEST(InstructionSets, AnUnknownNameNamesTheKnownOnes) {
  try {
    kernels::use_instruction_set("MMX");
    ADD_FAILURE() << "used";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("\"MMX\", expected one of"));
    EXPECT_THAT(error.what(), testing::HasSubstr(kernels::instruction_sets().back()));
  }
}

}  // namespace
}  // namespace linnet

#include "base/array.h"

#include <gtest/gtest.h>

namespace linnet {
namespace {

TEST(Array, IsAlignedAndZeroAtEverySize) {
  for (int64_t count : {0, 1, 7, 64, 1000, 1 << 20}) {
    const auto array = zeroed<float>(count);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(array.get()) % kAlignment, 0u) << count;
    for (int64_t i = 0; i < count; ++i) ASSERT_EQ(array[i], 0.0f) << i << " of " << count;
    std::fill_n(array.get(), count, 1.0f);
  }
}

TEST(Array, RoomGrowsAndNeverShrinks) {
  Room<double> room;
  room.plan(10);
  double* const first = room.data();
  room.plan(5);
  EXPECT_EQ(room.data(), first);
  EXPECT_EQ(room.size(), 10);
  room.plan(100000);
  EXPECT_EQ(room.size(), 100000);
  EXPECT_EQ(room.data()[99999], 0.0);
}

}  // namespace
}  // namespace linnet

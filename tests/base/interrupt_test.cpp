#include "base/interrupt.h"

#include <gtest/gtest.h>
#include <signal.h>

#include "base/log.h"

namespace linnet {
namespace {

TEST(Interrupt, TheFirstSetsAFlagAndTheSecondKills) {
  EXPECT_EXIT(
      {
        catch_interrupts();
        if (interrupted()) ::_exit(3);
        ::raise(SIGINT);
        if (!interrupted()) ::_exit(4);
        ::raise(SIGINT);
        ::_exit(5);
      },
      testing::KilledBySignal(SIGINT), "");
}

TEST(Log, SaysEachDistinctWarningOnce) {
  testing::internal::CaptureStderr();
  for (int i = 0; i < 3; ++i) warn("past the trained positions");
  warn("another\nthing");
  EXPECT_EQ(testing::internal::GetCapturedStderr(),
            "linnet: warning: past the trained positions\nlinnet: warning: another\\x0athing\n");
}

}  // namespace
}  // namespace linnet

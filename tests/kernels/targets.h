// Every kernel is compiled once per instruction set: a test of one runs on all that this machine has.
#pragma once

#include <gtest/gtest.h>

#include "kernels/cpu/instruction_sets.h"

namespace linnet {

/// Calls `check` once for each instruction set that this machine and this build have.
template <class Check>
void on_every_target(const Check& check) {
  for (const std::string& name : kernels::instruction_sets()) {
    SCOPED_TRACE(name);
    kernels::use_instruction_set(name);
    check();
  }
  kernels::use_instruction_set("");
}

/// A test with TEST_P of a suite that is this, instantiated over kernels::instruction_sets(), runs on each.
class OnEveryTarget : public testing::TestWithParam<std::string> {
 protected:
  OnEveryTarget() { kernels::use_instruction_set(GetParam()); }
  ~OnEveryTarget() override { kernels::use_instruction_set(""); }
};

inline std::string target_name(const testing::TestParamInfo<std::string>& info) { return info.param; }
inline auto every_target() { return testing::ValuesIn(kernels::instruction_sets()); }

}  // namespace linnet

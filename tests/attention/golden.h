// The oracle's golden cases (tests/data/attention/README.md) of the rows that the registry has.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "attention/method.h"

namespace linnet {

/// METHOD.safetensors and METHOD-VARIANT.safetensors of each row. A file without its row is a failure, and so
/// is a file that is gone. A row that the oracle does not know has none: what its page names exists.
inline std::vector<std::filesystem::path> golden_cases() {
  constexpr size_t kLeast = 45;  // how many there were when this was last looked at
  const std::filesystem::path folder = std::filesystem::path(LINNET_TEST_DATA) / "attention";
  std::vector<std::filesystem::path> cases;
  for (const Method* method : methods()) {
    const std::string name(method->name);
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::string stem = entry.path().stem();
      if (entry.path().extension() == ".safetensors" && stem.substr(0, stem.find('-')) == name) {
        cases.push_back(entry.path());
      }
    }
  }
  const std::filesystem::directory_iterator all(folder);
  EXPECT_EQ(static_cast<int64_t>(cases.size()), std::count_if(begin(all), end(all), [](const auto& entry) {
              return entry.path().extension() == ".safetensors";
            }));
  EXPECT_GE(cases.size(), kLeast);
  return cases;
}

}  // namespace linnet

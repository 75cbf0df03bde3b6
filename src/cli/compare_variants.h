// The variants that a grid names in one word: what the paper's augmentation, part by part, is for a method.
#pragma once

#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "attention/method.h"

namespace linnet::cli {

constexpr std::array<std::string_view, 6> kCompareVariants{"plain",      "local",   "conv",
                                                           "local+conv", "budgets", "local+conv+gate+decay"};

/// What a variant sets in a row's attention, or why it is nothing there.
struct Augmented {
  nlohmann::json set = nlohmann::json::object();
  std::string left_out;
};

/// `variant` is one of kCompareVariants; `sizes` holds group, local, local_groups and taps.
Augmented augmented(const Method& method, const std::string& variant, const nlohmann::json& sizes);

}  // namespace linnet::cli

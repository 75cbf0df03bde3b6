// The registry: a row for each attention. A row is data; what it computes of its own stands behind its
// factory functions, in the file of the method's name. Adding a method adds its file, a declaration
// here, a line in registry.cpp and its source in CMake.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "attention/config.h"
#include "attention/summary.h"

namespace linnet {

/// What a summary is made of, as far as config rules ask: decay and a shared denominator need features.
enum class SummaryKind { kNone, kFeatures, kOther };

template <class T>
using MakeSummary = std::unique_ptr<Summary<T>> (*)(const AttentionConfig&, const AttentionShape&,
                                                    const Parameters<T>&);

struct Method {
  std::string_view name;
  std::string_view line;     // what it is, for `linnet methods`
  AttentionConfig defaults;  // the row's own values; alpha, where learned or not is decided by the config
  SummaryKind summary = SummaryKind::kNone;
  bool grows = false;     // keeps every token: softmax
  bool inclusive = true;  // without a local branch, the summary sees the own group's tokens up to the own
  std::vector<std::string_view> options;  // keys of its own beside the common ones

  /// Learned tensors of its own (not alpha, gate, decay, taps, local_gain), or null.
  std::vector<ParameterSpec> (*parameters)(const AttentionConfig&, const AttentionShape&) = nullptr;
  /// The numbers that one of them starts from.
  std::vector<float> (*initial)(const ParameterSpec&, const AttentionConfig&, uint64_t seed,
                                int layer) = nullptr;

  /// Its summary, of either type of number; null where it has none.
  MakeSummary<float> make_float = nullptr;
  MakeSummary<double> make_double = nullptr;
};

/// Every row, in the registry's order.
std::span<const Method* const> methods();

/// Throws Error (where: `where`) on an unknown name, with the known ones and the nearest.
const Method& find_method(std::string_view name, const std::string& where);

// One function a file, in the order of the registry.
const Method& softmax_method();
const Method& relu_method();
const Method& elu1_method();
const Method& hedgehog_method();
const Method& grouped_method();
const Method& flash_local_method();

}  // namespace linnet

// The registry: a row for each attention. A row is data that says everything that is the method's own; shared
// code asks it and compares no names. What it computes of its own stands behind its factory functions, in the
// file of the method's name in methods/. Adding a method adds that file, a line in methods/list.inc, its
// training form in train/attention/forms and its page in docs/methods.
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

/// What φ(q)ᵀS is divided by, of a summary of features.
enum class Division {
  kSum,          // max(φ(q)·z, ε)
  kPositiveSum,  // φ(q)·z of features above 0, which needs no ε
  kCount,        // the number of tokens seen
  kNone,         // not at all
};

/// How the local branch L and the summary's G become one output.
enum class Mix {
  kConvex,    // α L + (1 − α) G, a learned α stored as a logit
  kAdditive,  // L + α G, a learned α stored as it is
};

/// A whole number of the method's own, a key of the `linear_attention` object.
struct Option {
  std::string_view key;
  int least, most, standard;
  std::string_view meaning;  // for `linnet methods`
  /// The tensor of its own that has this size, and in which dimension: what a file of `linnet attention` that
  /// does not name the option means by it. Empty: none has.
  std::string_view tensor = {};
  size_t dimension = 0;
};

template <class T>
using MakeSummary = std::unique_ptr<Summary<T>> (*)(const AttentionConfig&, const AttentionShape&,
                                                    const Parameters<T>&);

struct Method {
  std::string_view name;
  // For `linnet methods`: what it is, and what a token costs without its augmentation, in multiply-adds of
  // one query head on one key-value head.
  std::string_view description, cost;
  Augmentation defaults;  // the row's own values; whether alpha is learned is decided by the config
  SummaryKind summary = SummaryKind::kNone;
  Division division = Division::kSum;
  Mix mix = Mix::kConvex;
  bool gain = false;       // the summary's output is RMS-normalized, with the tensor `gain` [H, e]
  bool unit_rows = false;  // queries and keys are L2-normalized where they enter; scores are their cosines
  bool inclusive = true;   // without a local branch, the summary sees the own group's tokens up to the own
  bool steps = false;      // a step function of queries and keys: their rounding may move an output by a jump
  bool grows = false;      // keeps every token: softmax
  std::vector<Option> options;
  std::string_view first_half;  // `linnet linearize --method` gives this row to the first half of the layers

  /// Tensors of its own (not alpha, gate, decay, taps, gain, local_gain), or null.
  std::vector<ParameterSpec> (*parameters)(const AttentionConfig&, const AttentionShape&) = nullptr;
  /// The numbers that a tensor starts from where they are not what shared code says; empty: they are. Or
  /// null.
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

}  // namespace linnet

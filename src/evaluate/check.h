// Whether a model, with its own weights, is what Linnet promises: causal, the same in every form, of constant
// state, exact on trees, and restored by save and load (mathematics.md, sections 3 to 5).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "model/decoder.h"

namespace linnet {

/// Hears of work as it is done: which check, and how many tokens more the model has read for it.
using CheckProgress = std::function<void(std::string_view check, int64_t tokens)>;

struct CheckOptions {
  ComputeType compute = ComputeType::kFloat32;
  int64_t tokens = 0;  // of the sequence that is tried; 0: past every fold that can happen, at most 2048
  uint64_t seed = 0;
  CheckProgress progress;  // may be empty
};

struct CheckResult {
  std::string name;   // "causality"
  std::string claim;  // what was tried, in words
  double measured = 0, limit = 0;
  std::string unit;                                 // of both
  bool holds() const { return measured <= limit; }  // not if NaN
};

/// Runs all checks on random tokens. `report`, where given, hears each result as it comes.
std::vector<CheckResult> check_model(std::shared_ptr<const Model> model, const CheckOptions& options,
                                     ThreadPool& pool,
                                     const std::function<void(const CheckResult&)>& report = {});

/// An encoder's, which check_model() runs on one: its rows do not depend on what is encoded beside it, all of
/// them on every token, and not on the arithmetic.
std::vector<CheckResult> check_encoder(std::shared_ptr<const Model> model, const CheckOptions& options,
                                       double tolerance, ThreadPool& pool,
                                       const std::function<void(const CheckResult&)>& report);

/// The same on any decoder with two slots that takes kNodes + 1 nodes a step.
struct CheckSubject {
  static constexpr int kNodes = 24, kDepth = 6;  // of the trees that are tried

  Decoder* decoder;
  int64_t vocabulary;
  int64_t tokens;    // of the sequence, at least 8
  int group;         // trees grow around its multiples
  double growth;     // bytes that a state may grow by: 0, what windows hold, infinite for full softmax
  double tolerance;  // relative RMS between forms
  uint64_t seed;
  int64_t window = 0;           // tokens that softmax sees: trees grow around its edge too; 0: no window
  int64_t reach = 0;            // tokens before a token that its logits can depend on; 0: all
  CheckProgress progress = {};  // may be empty
  Decoder* forms = nullptr;     // whose forms are held to each other; null: the decoder's
  int64_t forms_tokens = 0;     // of the sequence, with a decoder of their own
};
std::vector<CheckResult> check_decoder(const CheckSubject& subject,
                                       const std::function<void(const CheckResult&)>& report = {});

}  // namespace linnet

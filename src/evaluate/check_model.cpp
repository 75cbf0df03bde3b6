#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "attention/method.h"
#include "attention/softmax.h"
#include "base/count.h"
#include "base/error.h"
#include "base/random.h"
#include "evaluate/check.h"

namespace linnet {
namespace {

constexpr int64_t kMostTokens = 2048;
/// Of forms in another type than the rest, unless told: float64 reads a token of a small model in 15 ms.
constexpr int64_t kFormsTokens = 512;

/// Not all is rounded to float32 at least.
bool is_narrow(ComputeType compute) {
  return compute != ComputeType::kFloat32 && compute != ComputeType::kFloat64;
}

double tolerance_of(ComputeType compute) {
  // What rounding alone leaves after all layers; an error of substance is orders of magnitude above.
  if (compute == ComputeType::kFloat64) return 1e-6;  // logits are handed out as float32
  return compute == ComputeType::kFloat32 ? 1e-5 : 2e-2;
}

/// The same with this attention. One that jumps takes a key that lies within rounding of the step to its
/// other side in a form that rounds queries and keys otherwise, and a part of a value with it (or keeps the
/// other of two tokens of nearly the same surprise): in float64 none lies so near. ReLA's norm enlarges the
/// rounding of sums that are all but 0: 3.7e-5 in float32 was seen after training.
double tolerance_of(ComputeType compute, const AttentionConfig& layer) {
  if (compute == ComputeType::kFloat32 && layer.jumps()) return 2e-2;
  if (compute != ComputeType::kFloat64 && layer.local == LocalWeight::kRelu)
    return is_narrow(compute) ? 1e-1 : 1e-4;
  return tolerance_of(compute);
}

/// In which forms are held to each other. The rounding of bfloat16 takes so many keys to the other side of a
/// step that nothing but their values would be measured. Rounding to a state's bf16 is such a step too, which
/// float32's takes here and there: in float64 none lies so near.
ComputeType compute_of_forms(ComputeType compute, const std::vector<AttentionConfig>& layers,
                             StateType state) {
  if (compute == ComputeType::kFloat32 && state == StateType::kBFloat16) return ComputeType::kFloat64;
  const bool jumps =
      std::any_of(layers.begin(), layers.end(), [](const auto& layer) { return layer.jumps(); });
  return is_narrow(compute) && jumps ? ComputeType::kFloat32 : compute;
}

/// Of a model with an encoder: what it has read when its decoder is tried.
std::vector<int32_t> source_of(const Model& model, uint64_t seed) {
  constexpr size_t kTokens = 100;  // more than a group, and not whole ones
  std::vector<int32_t> tokens;
  if (!model.encoder()) return tokens;
  for (size_t i = 0; i < kTokens; ++i)
    tokens.push_back(static_cast<int32_t>(
        uniform_integer(seed, 0x736f7572, i, static_cast<uint64_t>(model.config().vocabulary))));
  return tokens;
}

}  // namespace

std::vector<CheckResult> check_model(std::shared_ptr<const Model> model, const CheckOptions& options,
                                     ThreadPool& pool,
                                     const std::function<void(const CheckResult&)>& report) {
  if (model->family().is_encoder() || model->config().is_classifier()) {
    double most = tolerance_of(options.compute);
    for (const AttentionConfig& layer : model->all_attention())
      most = std::max(most, tolerance_of(options.compute, layer));
    return check_encoder(std::move(model), options, most, pool, report);
  }
  const bool learned = model->family().positions == PositionKind::kLearned;
  // Past the first fold that follows a fold, and a little: everything that can happen has happened.
  int64_t enough = 64;
  int group = 0;
  double growth = 0;
  int64_t window = 0, reach = 0;  // of one layer, of all together where every layer has a window
  bool windows_alone = true;
  const AttentionShape shape = model->attention_shape();
  const bool wide = options.compute == ComputeType::kFloat64 && shape.state == StateType::kComputed;
  const auto number_size = wide ? sizeof(double) : static_cast<size_t>(held_bytes(shape));
  const ComputeType compute_forms = compute_of_forms(options.compute, model->attention(), shape.state);
  double tolerance = tolerance_of(compute_forms);
  for (const AttentionConfig& layer : model->attention()) {
    tolerance = std::max(tolerance, tolerance_of(compute_forms, layer));
    if (layer.grows()) {
      windows_alone &= layer.window > 0;
      if (layer.window == 0) {
        growth = std::numeric_limits<double>::infinity();
        continue;
      }
      const size_t most = windowed_state_bytes(shape, layer.window, number_size);
      growth += static_cast<double>(most);
      // Until a state that keeps every token would be too large.
      enough = std::max<int64_t>(enough, 2 * layer.window + 135);
      window = std::max<int64_t>(window, layer.window);
      reach += layer.window - 1;
      continue;
    }
    windows_alone = false;
    group = std::max(group, layer.group);
    enough = std::max<int64_t>(
        enough, int64_t{std::max(layer.local_groups.most(), 2) + 2} * layer.group + layer.kept.most() + 7);
  }
  if (!windows_alone) reach = 0;
  if (reach < kMostTokens) enough = std::max(enough, reach + 8);
  int64_t tokens = options.tokens > 0 ? options.tokens : std::min(enough, kMostTokens);
  if (learned) tokens = std::min(tokens, model->config().positions - CheckSubject::kDepth - 1);
  if (tokens < 8) throw Error("--tokens", counted(tokens, "token"), "at least 8, and positions for them");
  const std::vector<int32_t> source = source_of(*model, options.seed);
  const auto decoder = Decoder::make(
      model,
      {.compute = options.compute, .slots = 2, .max_nodes = CheckSubject::kNodes + 1, .source = source},
      pool);
  const auto forms =
      compute_forms == options.compute
          ? nullptr
          : Decoder::make(model, {.compute = compute_forms, .slots = 1, .max_nodes = 1, .source = source},
                          pool);
  return check_decoder({decoder.get(), model->config().vocabulary, tokens, group > 0 ? group : 16, growth,
                        tolerance, options.seed, window, reach, options.progress, forms.get(),
                        options.tokens > 0 ? tokens : std::min(tokens, kFormsTokens)},
                       report);
}

}  // namespace linnet

#include "train/learning.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "attention/sight.h"
#include "base/count.h"
#include "base/error.h"
#include "base/log.h"

namespace linnet::train {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

/// What a layer can learn from rows of so many tokens.
struct Sight {
  bool summary;         // it reads one
  bool exact;           // within its local branch and the teacher's window it is the teacher's attention
  bool same;            // it is the teacher's at any length
  int64_t window;       // tokens that the teacher sees
  int64_t past_local;   // the first position that its local branch does not see whole
  bool through_all;     // it has tensors that learn from every token: taps, local_gain
  bool through_global;  // it has some that learn only where a token is seen globally: the rest

  bool sees_globally(int64_t context) const { return summary && context > past_local; }
  bool is_teacher(int64_t context) const {
    return same || (exact && context <= std::min(past_local, window));
  }
};

int64_t count_trained(const AttentionConfig& config, const AttentionShape& shape) {
  const auto specs = parameter_specs(config, shape);
  return std::count_if(specs.begin(), specs.end(), [](const ParameterSpec& spec) { return spec.trained; });
}

/// `window`: the teacher's in this layer; 0 is all. An encoder's local branch is over the own group; without
/// one its summary is of all tokens.
Sight sight_of(const AttentionConfig& config, const AttentionShape& shape, int window, bool encoder) {
  const int64_t through_all = (config.taps > 0 ? 1 : 0) + (config.local == LocalWeight::kRelu ? 1 : 0);
  Sight sight{.summary = config.has_summary(),
              .exact = config.grows() || (config.local == LocalWeight::kSoftmax && !config.method->unit_rows),
              .same = config.grows() && config.window == window,
              .window = window > 0 ? window : kNever,
              .past_local = config.window > 0 ? config.window : kNever,
              .through_all = through_all > 0,
              .through_global = count_trained(config, shape) > through_all};
  if (!config.grows())
    sight.past_local = !encoder ? first_past_local(config) : config.has_local() ? config.group : 0;
  return sight;
}

bool can_learn(const Phase& phase, const std::vector<Sight>& layers) {
  const int64_t context = phase.rows.context;
  const bool is_teacher = std::all_of(layers.begin(), layers.end(),
                                      [&](const Sight& layer) { return layer.is_teacher(context); });
  const bool by_teacher = phase.objective == Objective::kTransfer || phase.objective == Objective::kDistill;
  if (by_teacher && is_teacher) return false;
  return phase.trainable.what != Train::kNew ||
         std::any_of(layers.begin(), layers.end(), [&](const Sight& layer) {
           return layer.through_all || (layer.through_global && layer.sees_globally(context));
         });
}

}  // namespace

bool learns_tensors(const AttentionConfig& config, const AttentionShape& shape) {
  return count_trained(config, shape) > 0;
}

void check_learning(const Module& module, std::vector<Phase> phases, const std::string& option,
                    std::optional<int64_t> longest_document) {
  if (std::all_of(phases.begin(), phases.end(), [](const Phase& p) { return p.schedule.peak == 0; }))
    throw Error(phases.back().objective == Objective::kTransfer ? "--transfer-lr" : "--lr",
                "0: nothing can learn", "a rate above 0");
  int64_t context = 0;  // most tokens of which one may see the others
  bool apart = false;   // that is a document, shorter than the row
  for (Phase& phase : phases) {
    apart |= longest_document && *longest_document < phase.rows.context;
    if (apart) phase.rows.context = *longest_document;
    context = std::max(context, phase.rows.context);
  }
  // What an encoder's and a cross-attention's summaries learn, they learn from rows of any length.
  if (module.family().encoder != nullptr) return;
  std::vector<Sight> layers;
  size_t blind = 0;           // layers whose summary no token of these rows reads
  int64_t shortest = kNever;  // tokens per row up to which none of those is read
  bool blind_learns = false;
  for (size_t i = 0; i < module.attention().size(); ++i) {
    const Sight& layer =
        layers.emplace_back(sight_of(module.attention()[i], module.attention_shape(),
                                     module.config().windows[i], module.family().is_encoder()));
    if (!layer.summary || layer.sees_globally(context)) continue;
    ++blind;
    shortest = std::min(shortest, layer.past_local);
    blind_learns |= layer.through_global;
  }
  const std::string_view where = apart ? "--packing" : "--context", rows = apart ? "documents" : "rows";
  const std::string longer =
      fmt::format("{} {}{}", apart ? "stream, or documents of more than" : "more than", shortest,
                  option.empty() ? "" : ", or smaller groups (--set group=16)");
  if (std::any_of(phases.begin(), phases.end(), [&](const Phase& p) { return can_learn(p, layers); })) {
    if (blind_learns)
      warn(fmt::format(
          "in {} of {} {} of {} see all in their local branch, and what their "
          "summaries learn stays untrained; {}: {}",
          rows, counted(context, "token"), blind, counted(std::ssize(layers), "layer"), where, longer));
    return;
  }
  if (blind > 0)
    throw Error(std::string(where),
                fmt::format("{}{}: every layer sees all of such {} in its local branch: nothing can learn",
                            apart ? "documents of at most " : "", context, rows),
                longer);
  if (std::all_of(layers.begin(), layers.end(), [](const Sight& l) { return l.exact && !l.summary; }))
    throw Error(option.empty() ? "--train" : option, "every layer's attention is exact: nothing to learn",
                "at least one layer with a summary");
  throw Error("--train", "nothing to train: this attention learns no tensors of its own",
              "lora, attention or all; or --tokens 0, which writes the model untrained");
}

}  // namespace linnet::train

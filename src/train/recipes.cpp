#include "train/recipes.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace linnet::train {
namespace {

/// Rows at once that keep a CPU's caches warm and its memory small; a GPU wants them all.
constexpr int64_t kCpuTokensAtOnce = 4096, kCudaTokensAtOnce = 98304;

struct Shape {
  int64_t batch, context;
};

/// A phase with what all recipes share: the shape of its batches, AdamW and the clip.
Phase phase_of(std::string name, const Hyperparameters& numbers, const Place& place, const Shape& shape,
               double weight_decay) {
  Phase phase{.name = std::move(name)};
  phase.rows.context = numbers.context.value_or(place.positions > 0 ? std::min(shape.context, place.positions)
                                                                    : shape.context);
  phase.batch = numbers.batch.value_or(shape.batch);
  const int64_t at_once = (place.cuda ? kCudaTokensAtOnce : kCpuTokensAtOnce) / phase.rows.context;
  phase.micro_batch = rows_at_once(numbers, phase.batch, at_once);
  phase.adamw = {.beta1 = numbers.beta1.value_or(0.9),
                 .beta2 = numbers.beta2.value_or(0.95),
                 .epsilon = numbers.epsilon.value_or(1e-8),
                 .weight_decay = numbers.weight_decay.value_or(weight_decay)};
  phase.clip = numbers.clip.value_or(1.0);
  phase.rows.repeats = numbers.repeats;
  return phase;
}

/// The phase's schedule over `tokens` of text. The recipe's own warm-up is at most a tenth of the steps: a
/// short run would never leave it.
void schedule(Phase& phase, double tokens, const std::optional<int64_t>& warmup, const Schedule& shape) {
  phase.schedule = shape;
  phase.schedule.steps =
      std::max<int64_t>(1, static_cast<int64_t>(tokens / static_cast<double>(phase.tokens_a_step())));
  phase.schedule.warmup = warmup.value_or(std::min(shape.warmup, phase.schedule.steps / 10));
}

/// The same phase on rows of `long_context` tokens, as many tokens per step and at once as before.
Phase on_long_rows(Phase phase, const Hyperparameters& numbers, int64_t longest) {
  const int64_t before = phase.rows.context;
  phase.name = "long context";
  phase.rows.context = numbers.long_context.value_or(longest > before ? longest : 8 * before);
  const auto rows = [&](int64_t count) { return std::max<int64_t>(1, count * before / phase.rows.context); };
  phase.batch = rows(phase.batch);
  phase.micro_batch = std::min(phase.batch, rows(phase.micro_batch));
  return phase;
}

Shape linearize_shape(const Place& place) { return place.cuda ? Shape{48, 1024} : Shape{4, 512}; }

}  // namespace

int64_t rows_at_once(const Hyperparameters& numbers, int64_t batch, int64_t otherwise) {
  if (numbers.micro_batch && *numbers.micro_batch > batch)
    throw Error("--micro-batch",
                fmt::format("{} rows at once of the {} of a step", *numbers.micro_batch, batch),
                fmt::format("at most {}, or a larger --batch", batch));
  return numbers.micro_batch.value_or(std::clamp<int64_t>(otherwise, 1, batch));
}

std::vector<Phase> pretrain_recipe(const Hyperparameters& numbers, const Place& place) {
  Phase phase = phase_of("pretrain", numbers, place, {.batch = 96, .context = 1024}, 0.1);
  phase.trainable.what = Train::kAll;
  phase.rows.repeats = 0.0;  // what stands thousands of tokens ago is for long rows
  const Schedule shape{.decay = numbers.decay.value_or(RateShape::kCosine),
                       .peak = numbers.learning_rate.value_or(1.5e-3),
                       .floor = numbers.floor.value_or(0.1),
                       .warmup = 200};
  const auto tokens = static_cast<double>(numbers.tokens);
  schedule(phase, tokens * (1.0 - numbers.long_share), numbers.warmup, shape);
  if (numbers.long_share <= 0) return {phase};
  Phase last = on_long_rows(phase, numbers, place.positions);
  last.goes_on = true;
  last.rows.long_documents = true;
  last.rows.repeats = numbers.repeats;
  schedule(last, tokens * numbers.long_share, phase.schedule.warmup, shape);
  last.schedule.before = phase.schedule.steps;
  phase.schedule.after = last.schedule.steps;
  return {phase, last};
}

std::vector<Phase> finetune_recipe(const Hyperparameters& numbers, const Place& place,
                                   const Trainable& trainable) {
  Phase phase = phase_of("finetune", numbers, place, linearize_shape(place), 0.0);
  phase.trainable = trainable;
  schedule(phase, static_cast<double>(numbers.tokens), numbers.warmup,
           {.decay = numbers.decay.value_or(RateShape::kConstant),
            .peak = numbers.learning_rate.value_or(2e-5),
            .floor = numbers.floor.value_or(0.1),
            .warmup = 20});
  return {phase};
}

std::vector<Phase> heads_recipe(const Hyperparameters& numbers, const Place& place) {
  Phase phase = phase_of("heads", numbers, place, {.batch = place.cuda ? 64 : 8, .context = 512}, 0.0);
  schedule(phase, static_cast<double>(numbers.tokens), numbers.warmup,
           {.decay = numbers.decay.value_or(RateShape::kCosine),
            .peak = numbers.learning_rate.value_or(1e-3),
            .floor = numbers.floor.value_or(0.0),
            .warmup = INT64_MAX});
  return {phase};
}

std::vector<Phase> transfer_recipe(const Hyperparameters& numbers, const Place& place,
                                   const Trainable& trainable) {
  const auto tokens = static_cast<double>(numbers.tokens);
  const double share = numbers.transfer_share.value_or(3.0 / 8.0);
  std::vector<Phase> phases;
  if (share > 0) {
    Phase phase = phase_of("transfer", numbers, place, linearize_shape(place), 0.0);
    phase.objective = Objective::kTransfer;
    phase.trainable.what = Train::kNew;
    schedule(
        phase, tokens * share * (1.0 - numbers.long_share), 0,
        {.decay = RateShape::kCosine, .peak = numbers.transfer_learning_rate.value_or(1e-2), .floor = 0.0});
    phases.push_back(phase);
  }
  const double rate = numbers.learning_rate.value_or(1e-3);
  if (share < 1) {
    Phase phase = phase_of("distill", numbers, place, linearize_shape(place), 0.0);
    phase.objective = Objective::kDistill;
    phase.trainable = trainable;
    phase.trainable.keep_teacher = true;
    schedule(phase, tokens * (1.0 - share) * (1.0 - numbers.long_share), numbers.warmup,
             {.decay = numbers.decay.value_or(RateShape::kCosine),
              .peak = rate,
              .floor = numbers.floor.value_or(0.1),
              .warmup = 20});
    phases.push_back(phase);
  }
  if (numbers.long_share > 0) {
    Phase phase =
        on_long_rows(phase_of("long context", numbers, place, linearize_shape(place), 0.0), numbers, 0);
    phase.trainable = trainable;
    schedule(phase, tokens * numbers.long_share, numbers.warmup,
             {.decay = RateShape::kCosine, .peak = 0.1 * rate, .floor = 0.1, .warmup = 20});
    phases.push_back(phase);
  }
  return phases;
}

double kept_for_backward(const ModelConfig& config, const std::vector<Phase>& phases,
                         at::ScalarType compute) {
  int64_t tokens = 0;
  for (const Phase& phase : phases)
    if (phase.objective != Objective::kTransfer)
      tokens = std::max(tokens, phase.micro_batch * phase.rows.context);
  const int64_t heads = (config.heads + config.kv_heads) * config.head_size;
  const int64_t numbers = 6 * config.hidden + 4 * heads + 3 * config.intermediate;
  return static_cast<double>(tokens) * static_cast<double>(config.layers * numbers) *
         static_cast<double>(at::elementSize(compute));
}

nlohmann::json identity_of(const std::vector<Phase>& phases) {
  nlohmann::json identity = nlohmann::json::object();
  for (const Phase& phase : phases) {
    const auto set = [&](const char* key, nlohmann::json value) {
      identity[phase.name + "." + key] = std::move(value);
    };
    set("train", static_cast<int>(phase.trainable.what));
    set("lora_rank", phase.trainable.lora_rank);
    set("lora_alpha", phase.trainable.lora_alpha);
    set("lora_targets", phase.trainable.lora_targets);
    set("steps", phase.schedule.steps);
    set("schedule", name_of(phase.schedule.decay));
    set("lr", phase.schedule.peak);
    set("floor", phase.schedule.floor);
    set("warmup", phase.schedule.warmup);
    set("beta1", phase.adamw.beta1);
    set("beta2", phase.adamw.beta2);
    set("epsilon", phase.adamw.epsilon);
    set("weight_decay", phase.adamw.weight_decay);
    set("clip", phase.clip);
    set("batch", phase.batch);
    set("micro_batch", phase.micro_batch);
    set("context", phase.rows.context);
    set("long_documents", phase.rows.long_documents);
    set("repeats", phase.rows.repeats);
  }
  return identity;
}

}  // namespace linnet::train

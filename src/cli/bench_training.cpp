// The workshop's side of `linnet bench --training`: how fast a model trains, and what that is of the
// machine's matrix products.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/interrupt.h"
#include "base/thread_pool.h"
#include "cli/bench.h"
#include "cli/bench_text.h"
#include "cli/commands.h"
#include "cli/output.h"
#include "cli/training.h"
#include "kernels/cpu/machine_rate.h"
#include "train/tensor_memory.h"

namespace linnet::cli {
namespace {

struct TrainingBenchOptions {
  TrainingOptions training;
  BenchTrainingOptions bench;
};

/// Operations a second of large products where and as the model is trained.
double matrix_rate(const train::Module::Options& how, int threads) {
  if (!how.device.is_cpu()) return train::matrix_rate(how.device, how.compute);
  ThreadPool pool(threads);
  const double float32 = kernels::matrix_rate(kernels::WeightType::kFloat32, pool);
  if (how.compute != at::kBFloat16) return float32;
  return std::max(float32, kernels::matrix_rate(kernels::WeightType::kBFloat16, pool));
}

ExitStatus bench_training(const TrainingOptions& options, int64_t steps) {
  const SharedOptions& shared = options.shared;
  train::set_threads(shared.threads);
  const JsonResult json(shared);
  const auto model = open_model(shared);
  std::vector<train::Phase> phases =
      train::finetune_recipe(options.numbers, place_of(options, model->config()), {});
  const train::Module::Options how = module_options(options, model->config(), phases);
  train::Module module(model, how);
  train::Phase& phase = phases.front();
  const train::TokenizedText text{
      .tokens = random_tokens(steps * phase.tokens_a_step(), model->config().vocabulary, shared.seed),
      .starts = {0}};
  const auto run = [&](int64_t count) {
    phase.schedule.steps = count;
    const auto result = train::run_phases(module, text, nullptr, phases, {.log_every = count});
    if (result.interrupted) stop_if_interrupted();
    return result;
  };
  run(1);  // the first starts threads, finds kernels and takes memory
  const train::RunResult result = run(steps);

  const double machine = matrix_rate(how, shared.threads);
  const int64_t parameters = count_parameters(module);
  const double fraction = 6.0 * static_cast<double>(parameters) * result.tokens_per_second / machine;
  const nlohmann::ordered_json out = {{"model", shared.model},
                                      {"device", shared.device},
                                      {"dtype", train::compute_name(how.compute)},
                                      {"parameters", parameters},
                                      {"steps", steps},
                                      {"batch", phase.batch},
                                      {"micro_batch", phase.micro_batch},
                                      {"context", phase.rows.context},
                                      {"training_tokens_per_second", result.tokens_per_second},
                                      {"matrix_operations_per_second", machine},
                                      {"training_fraction_of_matrix_rate", fraction},
                                      {"peak_memory_bytes", result.peak_memory},
                                      {"kept_memory_bytes", train::kept_tensor_memory()},
                                      {"peak_device_memory_bytes", result.peak_device_memory}};
  print(bench_training_text(out) + fmt::format("memory      {}\n", memory_of(result)));
  json.write(out);
  return ExitStatus::kDone;
}

}  // namespace

void describe_bench_training(CLI::App& app, Work& work) {
  const auto options = std::make_shared<TrainingBenchOptions>();
  add_runtime(app, options->training.shared);
  add_bench_training(app, options->bench);
  app.callback([options, &work] {
    const BenchTrainingOptions& bench = options->bench;
    TrainingOptions& training = options->training;
    training.numbers.batch = bench.batch;
    training.numbers.micro_batch = bench.micro_batch;
    training.numbers.context = bench.context;
    training.activation_checkpointing = bench.activation_checkpointing;
    work = [options] { return bench_training(options->training, options->bench.steps); };
  });
}

}  // namespace linnet::cli

// linnet pretrain: a model from nothing.
#include <fmt/format.h>

#include <memory>

#include "base/count.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/commands.h"
#include "cli/training.h"
#include "model/teacher.h"
#include "train/output.h"

namespace linnet::cli {
namespace {

struct PretrainOptions {
  TrainingOptions training;
  std::filesystem::path config, tokenizer;
};

/// config.json as it will be written: special tokens from the tokenizer where it names none.
nlohmann::json read_config(const PretrainOptions& options) {
  std::filesystem::path file = options.config;
  if (std::filesystem::is_directory(file)) file /= "config.json";
  nlohmann::json config = read_json(file);
  if (!config.is_object()) throw Error(file.string(), "is no object", "a config.json");
  const Tokenizer tokenizer = Tokenizer::load(options.tokenizer);
  const auto type = config.find("model_type");
  const bool encoder = type != config.end() && type->is_string() &&
                       family_of(type->get<std::string>(), file.string()).is_encoder();
  if (encoder && !config.contains("pad_token_id")) {
    for (const char* name : {"[PAD]", "<pad>"}) {
      if (const auto pad = tokenizer.special_id_of(name)) config["pad_token_id"] = *pad;
    }
  }
  const auto bos = tokenizer.bos() ? tokenizer.bos() : tokenizer.eos();
  const auto eos = tokenizer.eos() ? tokenizer.eos() : tokenizer.bos();
  if (encoder) return config;  // texts begin and end by the tokenizer's own tokens
  if (!config.contains("bos_token_id") && bos) config["bos_token_id"] = *bos;
  if (!config.contains("eos_token_id") && eos) config["eos_token_id"] = *eos;
  return config;
}

ExitStatus pretrain(const PretrainOptions& options) {
  const TrainingOptions& training = options.training;
  check_training(training);
  if (training.numbers.long_share <= 0)
    refuse_given(*training.shared.app, {"--repeats"}, "given without --long-share", "--long-share too");
  train::set_threads(training.shared.threads);
  const nlohmann::json json = read_config(options);
  const ModelConfig config = ModelConfig::parse(json, options.config.string());
  if (config.is_classifier())
    throw Error(options.config.string(), "is a classifier's, which has no head over the vocabulary",
                "a language model's; of one that is trained, linnet finetune --task makes a classifier");
  std::vector<train::Phase> phases = train::pretrain_recipe(numbers_of(training), place_of(training, config));
  train::Module module(config, training.shared.seed, module_options(training, config, phases));
  if (const auto linear = json.find("linear_attention"); linear != json.end())
    module.set_attention(attention_over(config, *linear, options.config.string()), training.shared.seed);
  TrainingRun run{.title = "linnet pretrain",
                  .tokenizer = options.tokenizer,
                  .phases = std::move(phases),
                  .identity = {{"command", "pretrain"}, {"config", json}}};
  run.write = [&](bool) -> std::vector<std::string> {
    train::write_pretrained(training.out, module, json, options.tokenizer,
                            static_cast<size_t>(training.shard_bytes));
    return {fmt::format("wrote {}: a model of {}", training.out.string(),
                        counted(count_parameters(module), "parameter"))};
  };
  return run_training(training, module, run);
}

}  // namespace

void describe_pretrain(CLI::App& app, Work& work) {
  const auto options = std::make_shared<PretrainOptions>();
  app.add_option("--config", options->config, "config.json of the model, or a folder with one")
      ->required()
      ->type_name("FILE");
  app.add_option("--tokenizer", options->tokenizer, "tokenizer.json or tokenizer.model, or a folder with one")
      ->required()
      ->type_name("FILE");
  train::Hyperparameters& numbers = options->training.numbers;
  add_long_rows(app, numbers, "that come in long rows, of long documents, at the end",
                "the model's positions, else 8 times --context");
  add_training(app, options->training);
  app.callback([options, &work] { work = [options] { return pretrain(*options); }; });
}

}  // namespace linnet::cli

#include "cli/training.h"
#include "cli/output.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <optional>

#include "base/count.h"
#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/remove_folder.h"
#include "base/temporary.h"
#include "evaluate/perplexity.h"
#include "train/checkpoint.h"
#include "train/data.h"
#include "train/learning.h"
#include "train/masked_validation.h"
#include "train/output.h"
#include "train/pairs.h"

namespace linnet::cli {
namespace {

namespace fs = std::filesystem;

/// What each document begins with: as `linnet perplexity` begins it.
int32_t start_token(const Tokenizer& tokenizer, const TrainingRun& run) {
  if (run.model != nullptr) return first_input(*run.model, tokenizer);
  if (tokenizer.bos()) return *tokenizer.bos();
  if (tokenizer.eos()) return *tokenizer.eos();
  throw Error(run.tokenizer.string(), "has neither a BOS nor an EOS token", "one to begin documents with");
}

struct Prepared {
  train::TokenizedText text;
  std::unique_ptr<train::HeldOut> validation;
  std::optional<train::Learner> learner;
  std::optional<SpanTokens> spans;
  std::optional<EncoderTokens> special;  // of an encoder
};

/// An encoder learns of masked tokens where a decoder learns of the next ones; what only the latter can is
/// refused. Throws Error where the model has no head for that.
std::vector<train::Phase> phases_of(const TrainingOptions& options, const TrainingRun& run,
                                    const train::Module& module) {
  std::vector<train::Phase> phases = run.phases;
  if (!module.family().is_encoder()) return phases;
  const std::string& family = module.config().model_type;
  if (!options.valid.empty() && !run.learner && !module.has_head())
    throw Error(
        "--valid",
        fmt::format("given, and {} has no head that predicts tokens", run.model->base_folder().string()),
        fmt::format("none, or a {} folder", module.family().architecture));
  if (options.packing == "documents")
    throw Error("--packing", fmt::format("documents, and {} is an encoder", family), "stream");
  for (train::Phase& phase : phases) {
    if (phase.rows.context < 4)
      throw Error("--context", fmt::format("{}", phase.rows.context),
                  "at least 4 tokens, of which two frame them");
    if (phase.objective != train::Objective::kNextToken) continue;
    phase.objective = train::Objective::kMasked;
    if (!run.learner && !module.has_head())
      throw Error(run.model->base_folder().string(), "has no head that predicts tokens",
                  fmt::format("a {} folder, or `linnet linearize` by --recipe transfer",
                              module.family().architecture));
  }
  return phases;
}

/// A row that is longer than all of the text holds it again and again, and teaches to repeat it.
void warn_of_short_text(int64_t tokens, const std::vector<train::Phase>& phases) {
  int64_t longest = 0;
  for (const train::Phase& phase : phases) longest = std::max(longest, phase.rows.context);
  if (tokens < longest)
    warn(
        fmt::format("--data has {}, and a row of {} holds them again and again; more text, or a smaller "
                    "--context",
                    counted(tokens, "token"), longest));
}

/// What rows of a model with an encoder are made with. Throws Error on what such a model has not.
std::optional<SpanTokens> spans_of(const TrainingOptions& options, const TrainingRun& run,
                                   const train::Module& module, const Tokenizer& tokenizer) {
  if (module.family().encoder == nullptr) return std::nullopt;
  const std::string why =
      fmt::format("given for {}, which learns spans of its rows", module.config().model_type);
  refuse_given(*options.shared.app, {"--packing"}, why, "none: a row is one text");
  SpanTokens tokens = SpanTokens::of(module.config(), tokenizer, run.tokenizer.string());
  for (const train::Phase& phase : run.phases) tokens.check(phase.rows.context, "--context");
  return tokens;
}

/// Tokens of an encoder's held-out texts at most: as far as its positions reach unless they are asked for,
/// and of a model from nothing as far as its rows do, past which positions learn nothing.
int64_t masked_window(const TrainingOptions& options, const TrainingRun& run, const train::Module& module) {
  const int64_t longest = module.config().longest();
  if (options.shared.app->count("--valid-window") == 0) {
    int64_t learned = run.model == nullptr ? 0 : longest;
    for (const train::Phase& phase : run.phases) learned = std::max(learned, phase.rows.context);
    return std::min({MaskedText::kWindow, longest, learned});
  }
  EncoderTokens::check_window(options.valid_window, longest, "--valid-window");
  return options.valid_window;
}

/// What is scored while training: windows of text, of an encoder masked tokens of it, of a model with an
/// encoder spans.
std::unique_ptr<train::HeldOut> held_out(const TrainingOptions& options, const TrainingRun& run,
                                         const train::Module& module, const Tokenizer& tokenizer,
                                         int32_t start, const Prepared& prepared, ThreadPool& pool) {
  const auto& spans = prepared.spans;
  if (prepared.special)
    return std::make_unique<train::MaskedValidation>(
        train::HeldOutTexts(options.valid, options.valid_bytes, options.shared.texts), tokenizer,
        *prepared.special, masked_window(options, run, module), pool);
  if (!spans)
    return std::make_unique<train::Validation>(options.valid, tokenizer, start, options.valid_window,
                                               options.valid_bytes, pool, options.shared.texts);
  const int64_t window =
      options.shared.app->count("--valid-window") > 0 ? options.valid_window : SpanShape::kWindow;
  spans->check(window, "--valid-window");
  train::HeldOutTexts held(options.valid, options.valid_bytes, options.shared.texts);
  train::TokenPairs pairs = train::span_pairs(held.texts, tokenizer, *spans, window, pool);
  if (pairs.size() == 0)
    throw Error("--valid", "no text to take spans from", "documents of 2 tokens and more");
  return std::make_unique<train::PairValidation>(std::move(pairs), std::move(held.hashes));
}

/// Pairs stand ready.
Prepared prepare_pairs(const train::TokenPairs& pairs) {
  std::vector<int64_t> all(static_cast<size_t>(pairs.size()));
  std::iota(all.begin(), all.end(), 0);
  note(fmt::format("{}, {} tokens to write; the longest text of {}", counted(pairs.size(), "pair"),
                   short_number(static_cast<double>(pairs.to_write(all))), pairs.longest()));
  return {};
}

bool is_masked(const std::vector<train::Phase>& phases) {
  return std::any_of(phases.begin(), phases.end(),
                     [](const train::Phase& phase) { return phase.objective == train::Objective::kMasked; });
}

/// Reads and encodes --valid and --data. The pool's threads are gone when libtorch's begin.
Prepared prepare(const TrainingOptions& options, const TrainingRun& run, const train::Module& module) {
  if (run.pairs != nullptr) return prepare_pairs(*run.pairs);
  check_data(options);
  const Tokenizer tokenizer = Tokenizer::load(run.tokenizer);
  if (tokenizer.vocabulary() > module.config().vocabulary)
    throw Error(run.tokenizer.string(), fmt::format("{} tokens", tokenizer.vocabulary()),
                fmt::format("at most the model's vocabulary of {}", module.config().vocabulary));
  Prepared prepared;
  prepared.spans = spans_of(options, run, module, tokenizer);
  if (module.family().is_encoder()) {
    prepared.special = EncoderTokens::of(tokenizer, run.tokenizer.string());
    if (is_masked(run.phases) || !options.valid.empty())
      prepared.special->require_mask(run.tokenizer.string());
  }
  const int32_t start = prepared.special ? prepared.special->separator : start_token(tokenizer, run);
  ThreadPool pool(options.shared.threads);
  if (!options.valid.empty())
    prepared.validation = held_out(options, run, module, tokenizer, start, prepared, pool);
  prepared.text = train::tokenize_files(
      options.data, tokenizer, start, pool,
      [&](const Document& document) {
        return prepared.validation && prepared.validation->contains(document);
      },
      options.shared.texts);
  if (prepared.text.dropped > 0) warn(left_out(prepared.text.dropped));
  note(fmt::format("{}, {} bytes, {} tokens", counted(prepared.text.documents(), "document"),
                   short_number(static_cast<double>(prepared.text.bytes)),
                   short_number(static_cast<double>(prepared.text.tokens.size()))));
  warn_of_short_text(std::ssize(prepared.text.tokens), run.phases);
  if (run.learner) prepared.learner = run.learner(prepared.text, tokenizer, pool);
  return prepared;
}

/// What will be trained: --tokens is split over the phases and rounded down to whole steps, at least one.
std::string plan_of(const std::vector<train::Phase>& phases, int64_t asked, const std::string& arithmetic) {
  int64_t tokens = 0;
  std::string list;
  for (const train::Phase& phase : phases) {
    tokens += phase.schedule.steps * phase.tokens_a_step();
    list += fmt::format("{}{}, {} of {} × {} tokens", list.empty() ? "" : "; ", phase.name,
                        counted(phase.schedule.steps, "step"), phase.batch, phase.rows.context);
  }
  return fmt::format("training on {}{} in {}: {}", counted(tokens, "token"),
                     tokens == asked ? "" : fmt::format(" of the {} asked for", asked), arithmetic, list);
}

/// Of pairs: --epochs times through them is rounded down to whole steps too.
std::string plan_of_pairs(const train::Phase& phase, int64_t pairs, const std::string& arithmetic) {
  const int64_t read = phase.schedule.steps * phase.batch;
  return fmt::format("training on {}, each {:.3g} times, in {}: {} of {}", counted(pairs, "pair"),
                     static_cast<double>(read) / static_cast<double>(pairs), arithmetic,
                     counted(phase.schedule.steps, "step"), phase.batch);
}

train::RunOptions run_options(const TrainingOptions& options, const TrainingRun& run,
                              const train::TokenizedText& text, const train::Module& module) {
  train::RunOptions result{
      .out = options.out,
      .title = run.title,
      .resume = options.resume,
      .checkpoint_every = options.checkpoint_every,
      .evaluate_every = options.evaluate_every,
      .log_every = module.options().device.is_cuda() ? options.log_every : 1,
      .seed = options.shared.seed,
      .packing = options.packing == "documents" ? train::Packing::kDocuments : train::Packing::kStream,
      .identity = run.identity};
  result.identity.update(train::identity_of(run.phases));
  result.identity["seed"] = options.shared.seed;
  result.identity["packing"] = options.packing;
  result.identity["dtype"] = train::compute_name(module.options().compute);
  result.identity["data"] = run.pairs != nullptr ? train::hash_of(*run.pairs) : train::hash_of(text);
  return result;
}

/// `in_nats`: what held-out text was scored in.
nlohmann::ordered_json result_json(const TrainingOptions& options, const train::Module& module,
                                   const train::RunResult& result, bool in_nats) {
  const auto number = [](const std::optional<double>& value) {
    return value ? nlohmann::ordered_json(*value) : nlohmann::ordered_json();
  };
  const std::string validation = in_nats ? "validation_nats_per_token" : "validation_bits_per_byte";
  return {{"out", options.out.string()},
          {"dtype", train::compute_name(module.options().compute)},
          {"steps", result.steps},
          {"tokens", result.tokens},
          {"trained_parameters", result.trained_parameters},
          {"loss", result.loss},
          {validation + "_before", number(result.validation_before)},
          {validation, number(result.validation_after)},
          {"acceptance", result.acceptance},
          {"tokens_per_second", result.tokens_per_second},
          {"seconds", result.seconds},
          {"peak_memory_bytes", result.peak_memory},
          {"peak_device_memory_bytes", result.peak_device_memory}};
}

std::string text_of(const train::RunResult& result, bool in_nats) {
  std::string text =
      fmt::format("{} tokens in {}, {}: {} tokens/s; {} parameters trained; loss {:.4f}\n",
                  short_number(static_cast<double>(result.tokens)), counted(result.steps, "step"),
                  short_time(result.seconds), short_number(result.tokens_per_second),
                  short_number(static_cast<double>(result.trained_parameters)), result.loss);
  text += fmt::format("memory: {}\n", memory_of(result));
  if (!result.acceptance.empty())
    text += fmt::format("held-out text: right at depth 1, 2, …: {:.3f}\n", fmt::join(result.acceptance, " "));
  if (result.validation_before && result.validation_after)
    text += fmt::format("validation: {:.4f} {} before, {:.4f} after\n", *result.validation_before,
                        train::unit_of(in_nats), *result.validation_after);
  else if (result.validation_after)
    text += fmt::format("validation: {:.4f} {}\n", *result.validation_after, train::unit_of(in_nats));
  return text;
}

/// A folder made for what is to be written, and taken away again if nothing was.
class NewFolder {
 public:
  explicit NewFolder(const fs::path& path) : path_(path), made_(fs::create_directories(path)) {}
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;
  ~NewFolder() {
    std::error_code not_empty;
    if (made_) fs::remove(path_, not_empty);
  }

 private:
  fs::path path_;
  bool made_;
};

/// Whether a folder is empty but for the log of a run that ended before its first checkpoint.
bool holds_no_more_than_a_log(const fs::path& folder) {
  const auto is_log = [](const fs::directory_entry& entry) {
    const fs::path name = entry.path().filename();
    return name == "training.jsonl" || name == kWrittenText || name == "training.svg" ||
           train::is_unfinished(name) ||
           (name == "checkpoints" && !train::Checkpoints(entry.path(), {}).newest());
  };
  return std::all_of(fs::directory_iterator(folder), fs::directory_iterator(), is_log);
}

/// Writes the trained model. Where that fails, the error says where the training is kept.
std::vector<std::string> write_model(const TrainingRun& run, const train::RunResult& result) {
  const fs::path& checkpoint = result.checkpoint;
  try {
    return run.write(result.steps > 0);
  } catch (const std::exception& failure) {
    if (checkpoint.empty()) throw;
    const auto* error = dynamic_cast<const Error*>(&failure);
    throw Error(failure.what(),
                fmt::format("what was trained is kept in {}; the same command with --resume goes on from it",
                            checkpoint.string()),
                {}, error != nullptr ? error->status() : ExitStatus::kBadInput);
  }
}

/// Refuses --floor where no phase's rate decays to it.
void check_floor(const TrainingOptions& options, const std::vector<train::Phase>& phases) {
  const auto decays = [&](const train::Phase& phase) {
    return phase.schedule.decay != train::RateShape::kConstant &&
           phase.schedule.floor == options.numbers.floor.value_or(phase.schedule.floor);
  };
  if (std::none_of(phases.begin(), phases.end(), decays))
    refuse_given(*options.shared.app, {"--floor"}, "given, and the rate stays constant",
                 "--schedule linear or cosine");
}

void check_out(const TrainingOptions& options) {
  std::error_code error;
  const fs::file_status status = fs::status(options.out, error);
  if (fs::exists(status) && !fs::is_directory(status))
    throw Error(options.out.string(), "is a file", "a folder's name");
  for (const char* name : {"training.jsonl", "training.svg", kWrittenText})
    remove_left_beside(options.out / name);
  if (options.resume) {
    train::Checkpoints(options.out / "checkpoints", {}).to_resume();
  } else if (fs::exists(status) && !holds_no_more_than_a_log(options.out)) {
    throw Error(options.out.string(), "is not empty", "a new folder, or --resume to go on with a run");
  }
  check_writable(options.out);
  // Of a run that was killed while it wrote its first: nothing of it is this run's.
  if (!options.resume) remove_folder(options.out / "checkpoints");
}

}  // namespace

void check_training(const TrainingOptions& options) {
  const CLI::App& app = *options.shared.app;
  std::vector<fs::path> texts = options.data;
  texts.insert(texts.end(), options.valid.begin(), options.valid.end());
  if (!texts.empty()) check_field(options.shared, texts);
  if (options.valid.empty())
    refuse_given(app, {"--evaluate-every", "--valid-bytes", "--valid-window"}, "given without --valid",
                 "--valid FILE too");
  if (options.numbers.long_share <= 0)
    refuse_given(app, {"--long-context"}, "given without --long-share", "--long-share too");
  check_out(options);
  // Refused before minutes of measuring what a model's heads need, not after them.
  train::parse_device(options.shared.device);
  if (options.shared.dtype != "auto") train::parse_compute(options.shared.dtype);
  numbers_of(options);
}

void check_data(const TrainingOptions& options) {
  if (options.data.empty()) throw Error("--data", "is missing", "at least one file of text");
  for (const fs::path& file : options.valid)
    if (std::find(options.data.begin(), options.data.end(), file) != options.data.end())
      throw Error(file.string(), "stands in --data and in --valid", "held-out text in --valid alone");
  for (const fs::path& file : options.valid)
    if (file != "-") MappedFile{file};  // throws where it is not there: it is read long after --data
}

void check_lora(const TrainingOptions& options, const std::string& train, bool has_lora) {
  if (train == "lora" && !has_lora) return;
  refuse_given(*options.shared.app, {"--lora-rank", "--lora-alpha", "--lora-targets"},
               train == "lora" ? "given, and the model has a LoRA, which is trained on as it is"
                               : fmt::format("given with --train {}", train),
               train == "lora" ? "a model without one" : "--train lora too");
}

void check_mergeable(const Model& model, train::Train what) {
  if (model.is_quantized() && what == train::Train::kLora)
    throw Error(model.base_folder().string(),
                "its matrices are in integers, which LoRA cannot be merged into, and what is written is a "
                "full folder",
                "--train new, or the model that was quantized");
}

void check_shard_size(const TrainingOptions& options, bool full) {
  if (!full)
    refuse_given(*options.shared.app, {"--shard-size"},
                 "given, and what is written is one file, of the new tensors or a LoRA alone",
                 "--train attention or all");
}

std::string left_out(int64_t documents) {
  return counted(documents, "document of --data stands in --valid too and is left out of training",
                 "documents of --data stand in --valid too and are left out of training");
}

int64_t count_parameters(const train::Module& module) {
  int64_t count = 0;
  for (const train::Parameter& parameter : module.tensors()) count += parameter.tensor.numel();
  return count;
}

std::string memory_of(const train::RunResult& result) {
  const std::string host = fmt::format("peak {:.0f} MB", static_cast<double>(result.peak_memory) * 1e-6);
  if (result.peak_device_memory == 0) return host;
  return host +
         fmt::format(", on the device {:.0f} MB", static_cast<double>(result.peak_device_memory) * 1e-6);
}

ExitStatus run_training(const TrainingOptions& options, train::Module& module, const TrainingRun& asked) {
  TrainingRun run = asked;
  run.phases = phases_of(options, asked, module);
  check_floor(options, run.phases);
  const JsonResult json(options.shared);
  train::RunResult result;
  bool in_nats = false;
  std::optional<NewFolder> untrained;  // training makes its own
  stop_if_interrupted();
  if (options.numbers.tokens > 0) {
    if (!run.learner) train::check_learning(module, run.phases, run.attention_option);
    const Prepared prepared = prepare(options, run, module);
    stop_if_interrupted();
    if (options.packing == "documents" && !run.learner)
      train::check_learning(module, run.phases, run.attention_option, prepared.text.longest_document());
    const std::string arithmetic = arithmetic_of(options, module);
    note(run.pairs != nullptr ? plan_of_pairs(run.phases.front(), run.pairs->size(), arithmetic)
                              : plan_of(run.phases, options.numbers.tokens, arithmetic));
    train::warn_of_slow_products(module.options());
    train::RunOptions how = run_options(options, run, prepared.text, module);
    how.learner = prepared.learner;
    how.spans = prepared.spans;
    how.pairs = run.pairs;
    how.special = prepared.special;
    const train::HeldOut* validation = run.learner            ? nullptr
                                       : run.pairs != nullptr ? run.held_out_pairs
                                                              : prepared.validation.get();
    in_nats = validation != nullptr && validation->in_nats();
    result = train::run_phases(module, prepared.text, validation, run.phases, how);
    if (result.interrupted) {
      note(fmt::format("interrupted after step {}; saved in {}; --resume goes on", result.steps,
                       result.checkpoint.string()));
      return ExitStatus::kInterrupted;
    }
  } else {
    untrained.emplace(options.out);
  }
  const KeepWorking keep;
  const std::vector<std::string> lines = write_model(run, result);
  train::remove_checkpoints(options.out);
  json.write(result_json(options, module, result, in_nats));
  if (options.numbers.tokens > 0) print(text_of(result, in_nats));
  for (const std::string& line : lines) print(line + "\n");
  return ExitStatus::kDone;
}

}  // namespace linnet::cli

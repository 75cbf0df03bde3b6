// linnet train-heads: draft heads on the hidden rows of a frozen model, on text that it writes itself and on
// text that it is given.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/training.h"
#include "evaluate/perplexity.h"
#include "train/draft_heads.h"
#include "train/written_text.h"

namespace linnet::cli {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kHeldOut = 64;   // texts that the model writes from --valid
constexpr int64_t kListed = 2048;  // tokens that a recursive head guesses, unless told

struct TrainHeadsOptions {
  TrainingOptions training;
  train::HeadsForm form;
  std::string kind = "recursive";
  std::optional<int64_t> listed;
  bool shared_vocabulary = false;
  double written = 0.75, greedy = 0.5, epochs = 1;
};

/// A run of the command: its parts refer to each other.
struct HeadsRun {
  const TrainHeadsOptions& options;
  std::shared_ptr<const Model> model;
  train::Module& module;
  int64_t context;
  std::unique_ptr<train::TrainedHeads> heads;

  std::string identity_of(const train::TokenizedText& text, const char* what, int64_t count) const {
    return nlohmann::json{{"model", model_hash(*model)},
                          {"text", train::hash_of(text)},
                          {"what", what},
                          {"count", count},
                          {"context", context},
                          {"greedy", options.greedy},
                          {"seed", options.training.shared.seed}}
        .dump();
  }

  /// The model's own text from the beginnings of rows.
  train::TokenizedText written(const train::TokenRows& rows, int64_t first, int64_t count, double greedy,
                               const Tokenizer& tokenizer, ThreadPool& pool) const {
    const train::Written how{.context = context,
                             .greedy = greedy,
                             .start_token = first_input(*model, tokenizer),
                             .seed = options.training.shared.seed};
    auto made = train::write_text(model, tokenizer, rows, first, count, how, pool);
    stop_if_interrupted();
    return made;
  }

  /// Makes of the text what is trained on: rows of it as they stand, and what the model writes from others.
  void mix(train::TokenizedText& text, const Tokenizer& tokenizer, ThreadPool& pool) const {
    const int64_t all =
        std::max<int64_t>(1, std::llround(static_cast<double>(options.training.numbers.tokens) /
                                          options.epochs / static_cast<double>(context)));
    const auto own = std::llround(options.written * static_cast<double>(all));
    const train::TokenRows rows(text, {.context = context}, options.training.shared.seed);
    train::TokenizedText mixed;
    if (own > 0) {
      const fs::path file = options.training.out / kWrittenText;
      const std::string identity = identity_of(text, "training", own);
      if (auto kept = train::read_written(file, identity)) {
        note(fmt::format("what the model wrote before is read from {}", file.string()));
        mixed = std::move(*kept);
      } else {
        mixed = written(rows, all - own, own, options.greedy, tokenizer, pool);
        fs::create_directories(options.training.out);
        train::keep_written(file, mixed, identity);
      }
    }
    std::vector<int32_t> row(static_cast<size_t>(context) + 1), documents(row.size() - 1);
    for (int64_t i = 0; i < all - own; ++i) {
      rows.row(i, row, documents);
      mixed.starts.push_back(std::ssize(mixed.tokens));
      mixed.tokens.insert(mixed.tokens.end(), row.begin(), row.end() - 1);
    }
    mixed.bytes = text.bytes;
    text = std::move(mixed);
  }

  /// Rows [texts, context] that the model writes greedily from --valid, on the module's device.
  at::Tensor held_out(const Tokenizer& tokenizer, ThreadPool& pool) const {
    const train::TokenizedText text =
        train::tokenize_files(options.training.valid, tokenizer, first_input(*model, tokenizer), pool, {},
                              options.training.shared.texts);
    const train::TokenRows rows(text, {.context = context}, options.training.shared.seed);
    const int64_t count = std::min(kHeldOut, rows.rows_per_epoch());
    const auto own = written(rows, 0, count, /*greedy=*/1, tokenizer, pool);
    at::Tensor ids = at::empty({count, context}, at::kLong);
    std::copy(own.tokens.begin(), own.tokens.end(), ids.data_ptr<int64_t>());
    return ids.to(module.options().device);
  }

  /// Of what the model wrote there; its prompts, at most a quarter of a row, do not count.
  std::vector<double> acceptance(const at::Tensor& held) const {
    constexpr int64_t kAtOnce = 8;
    at::NoGradGuard no_gradients;
    std::vector<train::TrainedHeads::Depth> depths;
    for (int64_t first = 0; first < held.size(0); first += kAtOnce) {
      const at::Tensor tokens = held.narrow(0, first, std::min(kAtOnce, held.size(0) - first));
      const at::Tensor hidden = module.hidden({.tokens = tokens.narrow(1, 0, context - 1).contiguous()});
      const int64_t begin = context / 4;
      heads->accept(hidden.narrow(1, begin, context - 1 - begin), tokens.narrow(1, begin, context - begin),
                    depths);
    }
    std::vector<double> shares;
    for (const auto& depth : depths)
      shares.push_back(
          depth.reached > 0 ? static_cast<double>(depth.accepted) / static_cast<double>(depth.reached) : 0);
    return shares;
  }

  train::Learner learner(train::TokenizedText& text, const Tokenizer& tokenizer, ThreadPool& pool) {
    mix(text, tokenizer, pool);
    std::vector<int32_t> listed;
    if (options.form.listed > 0) listed = train::frequent_tokens(text, options.form.listed);
    if (std::ssize(listed) >= model->config().vocabulary) listed.clear();
    heads = std::make_unique<train::TrainedHeads>(*model, options.form, std::move(listed), module.options(),
                                                  options.training.shared.seed);
    train::Learner learner{.parameters = heads->parameters()};
    learner.loss = [this](const train::RowBatch& rows) {
      at::Tensor hidden;
      {
        at::NoGradGuard frozen;
        hidden = module.hidden(rows.batch);
      }
      return heads->loss(hidden, at::cat({rows.batch.tokens, rows.targets.narrow(1, context - 1, 1)}, 1));
    };
    if (!options.training.valid.empty())
      learner.acceptance = [this, held = held_out(tokenizer, pool)] { return acceptance(held); };
    return learner;
  }
};

/// Refuses what would do nothing, and completes the form.
void check(TrainHeadsOptions& options) {
  const CLI::App& app = *options.training.shared.app;
  options.form.kind = options.kind == "medusa" ? HeadKind::kMedusa : HeadKind::kRecursive;
  options.form.own_vocabulary = !options.shared_vocabulary;
  if (options.form.kind == HeadKind::kMedusa) {
    refuse_given(app, {"--inner"}, "given with --kind medusa", "--kind recursive");
  } else {
    refuse_given(app, {"--blocks"}, "given with --kind recursive", "--kind medusa");
  }
  options.form.listed = options.listed.value_or(options.form.kind == HeadKind::kRecursive ? kListed : 0);
  if (options.written <= 0)
    refuse_given(app, {"--greedy"}, "given with --written 0", "a share of written text");
  if (options.form.count == 1)
    refuse_given(app, {"--drafted"}, "given for one token, which nothing stands above", "--heads 2 or more");
  if (options.training.numbers.tokens < 1) throw Error("--tokens", "0", "at least 1");
  refuse_given(app, {"--shard-size", "--valid-window", "--activation-checkpointing"},
               "given, and heads have no use for it", "the command without it");
}

ExitStatus train_heads(TrainHeadsOptions& options) {
  check(options);
  const TrainingOptions& training = options.training;
  check_training(training);
  train::set_threads(training.shared.threads);
  const auto model = open_model(training.shared);
  std::vector<train::Phase> phases =
      train::heads_recipe(numbers_of(training), place_of(training, model->config()));
  const int64_t context = phases.front().rows.context;
  if (context < options.form.count + 8)
    throw Error("--context", fmt::format("{} tokens", context),
                fmt::format("at least {} for {} tokens guessed in a row", options.form.count + 8,
                            options.form.count));
  train::Module module(model, module_options(training));
  HeadsRun heads{options, model, module, context, nullptr};
  TrainingRun run{.title = fmt::format("linnet train-heads {}", training.shared.model),
                  .tokenizer = model->tokenizer_folder(),
                  .model = model.get(),
                  .phases = std::move(phases),
                  .identity = {{"command", "train-heads"},
                               {"model", model_hash(*model)},
                               {"kind", options.kind},
                               {"heads", options.form.count},
                               {"blocks", options.form.blocks},
                               {"inner", options.form.inner},
                               {"list", options.form.listed},
                               {"own", options.form.own_vocabulary},
                               {"drafted", options.form.drafted}}};
  run.learner = [&](train::TokenizedText& text, const Tokenizer& tokenizer, ThreadPool& pool) {
    return heads.learner(text, tokenizer, pool);
  };
  run.write = [&](bool) -> std::vector<std::string> {
    heads.heads->write(training.out, *model);
    std::error_code error;
    fs::remove(training.out / kWrittenText, error);
    return {fmt::format("wrote {}: generate --speculative heads --heads {}", training.out.string(),
                        training.out.string())};
  };
  return run_training(training, module, run);
}

}  // namespace

void describe_train_heads(CLI::App& app, Work& work) {
  const auto options = std::make_shared<TrainHeadsOptions>();
  add_model(app, options->training.shared);
  app.add_option("--kind", options->kind,
                 "recursive: one head that is fed with the token it guessed last; medusa: a head for each "
                 "place, from the hidden row alone")
      ->check(one_of_words({"recursive", "medusa"}));
  app.add_option("--heads", options->form.count, "Tokens guessed in a row")->transform(whole(1, 64));
  app.add_option("--inner", options->form.inner,
                 "Of a recursive head: width of its block (default: twice the hidden size)")
      ->transform(whole(1, 1 << 20));
  app.add_option("--blocks", options->form.blocks, "Of a Medusa head: residual blocks")
      ->transform(whole(1, 16));
  app.add_option("--list", options->listed,
                 "Guess only so many tokens, the most frequent of the text; 0: all (default: 2048, of Medusa "
                 "heads all)")
      ->transform(whole(0, 1 << 24));
  app.add_flag("--shared-vocabulary", options->shared_vocabulary,
               "Use the model's vocabulary matrix as it is, not one of the heads' own");
  app.add_option("--written", options->written,
                 "Share of the tokens that the model writes itself, from beginnings cut out of --data")
      ->check(from_to(0, 1));
  app.add_option("--greedy", options->greedy,
                 "Share of what it writes with the likeliest token always; the rest at temperature 0.8")
      ->check(from_to(0, 1));
  app.add_option("--drafted", options->form.drafted,
                 "How far a place counts by how likely the heads' own drafts come to it: 0, all alike; 1, by "
                 "that alone, as no guess below a wrong one is ever asked for")
      ->check(from_to(0, 1));
  app.add_option("--epochs", options->epochs, "How often each token is trained on")->check(from_to(1, 1000));
  add_training(app, options->training);
  app.callback([options, &work] { work = [options] { return train_heads(*options); }; });
}

}  // namespace linnet::cli

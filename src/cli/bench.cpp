// `linnet bench MODEL`: how fast, and how far that is from what this machine can do.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/count.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/progress.h"
#include "base/random.h"
#include "base/thread_pool.h"
#include "base/timing.h"
#include "cli/bench.h"
#include "cli/bench_encoder.h"
#include "cli/bench_machine.h"
#include "cli/bench_profile.h"
#include "cli/bench_text.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/output.h"
#include "kernels/cpu/machine_rate.h"
#include "model/decoder.h"
#include "model/state_size.h"

namespace linnet::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kSource = 512;  // T5's rows

struct BenchOptions : SharedOptions {
  std::vector<int64_t> contexts = {0, 1024, 16384};  // 0: after BOS alone
  std::vector<int64_t> prefill_tokens = {2048};
  int windows = 9;                 // each context is measured in turn, so many times
  int window_tokens = 32;          // decoded in one
  std::string config;              // a config.json in place of MODEL
  std::string beside;              // another model, or a config.json, measured in turns with it
  std::vector<int64_t> rows;       // nodes of a step that are measured beside one
  std::vector<int64_t> sequences;  // likewise of plain steps
  bool profile = false;
  std::optional<int64_t> source;  // tokens that an encoder has read
  std::string plot;
  BenchTrainingOptions training;
};

/// Decodes greedily from `token` on and returns the last one chosen.
int32_t decode(Decoder& decoder, int slot, int32_t token, int count) {
  const int32_t root = 0;
  TokenTree tree;
  for (int i = 0; i < count; ++i) {
    tree.clear();
    tree.add(token, -1);
    const Decoder::Branch branch{slot, &tree};
    decoder.step({&branch, 1});
    token = decoder.likeliest(0);
    decoder.commit(0, {&root, 1});
  }
  return token;
}

/// A model that is measured, and what was seen of it.
struct Measured {
  std::shared_ptr<const Model> model;
  Decoder::Options how;
  std::unique_ptr<Decoder> decoder;
  std::vector<int64_t> contexts;
  Json result;
};

/// Contexts that the model can hold, with what will be decoded there.
std::vector<int64_t> usable_contexts(const BenchOptions& options, const Model& model) {
  std::vector<int64_t> usable;
  const int64_t more = int64_t{options.windows + 1} * options.window_tokens;
  for (int64_t context : options.contexts) {
    if (model.family().positions == PositionKind::kLearned && context + more > model.config().positions) {
      note(fmt::format("context {} left out: the model's learned positions end at {}", context,
                       model.config().positions));
    } else if (context + more > tokens_that_fit(model)) {
      note(fmt::format("context {} left out: its state does not fit into memory", context));
    } else {
      usable.push_back(context);
    }
  }
  return usable;
}

constexpr int kPrefills = 6;            // at most; the first, which packs weights, does not count
constexpr double kPrefillSeconds = 10;  // after which no more of a size are measured

/// Sizes of prefills that the model can hold.
std::vector<int64_t> prefill_sizes(const BenchOptions& options, const Model& model) {
  std::vector<int64_t> sizes = options.prefill_tokens;
  if (model.family().positions == PositionKind::kLearned) {
    for (int64_t& size : sizes) size = std::min(size, model.config().positions);
  }
  return sizes;
}

/// What is done, counted in tokens, and shown where it takes long.
class ShownWork {
 public:
  ShownWork(const BenchOptions& options, const std::vector<Measured>& all)
      : progress_("bench", "tokens", tokens(options, all), 0, Progress::Output::standard_error(kPatience)) {}
  ~ShownWork() { progress_.clear(); }
  ShownWork(const ShownWork&) = delete;
  ShownWork& operator=(const ShownWork&) = delete;

  void add(int64_t tokens, const char* what) {
    stop_if_interrupted();
    progress_.update(static_cast<double>(done_ += tokens), what);
  }

 private:
  static double tokens(const BenchOptions& options, const std::vector<Measured>& all) {
    int64_t sum = 0;
    for (const Measured& one : all) {
      for (const int64_t size : prefill_sizes(options, *one.model)) sum += kPrefills * size;
      for (const int64_t context : one.contexts)
        sum += context + int64_t{options.windows + 1} * options.window_tokens;
    }
    return static_cast<double>(sum);
  }

  int64_t done_ = 0;
  Progress progress_;
};

/// Seconds of a prefill of so many tokens, the median.
double prefill_seconds(Decoder& decoder, int64_t count, uint64_t seed, ShownWork& work) {
  const auto tokens = random_tokens(count, decoder.vocabulary(), seed);
  std::vector<float> logits(static_cast<size_t>(decoder.vocabulary()));
  std::vector<double> seconds;
  const Stopwatch all;
  for (int i = 0; i < kPrefills && (i < 2 || all.seconds() < kPrefillSeconds); ++i) {
    work.add(0, "prefill");
    decoder.reset(0);
    const Stopwatch watch;
    decoder.prefill(0, tokens, tokens.size() - 1, logits);
    if (i > 0) seconds.push_back(watch.seconds());
    work.add(count, "prefill");
  }
  return median(seconds);
}

/// Every size; the first is held against the machine.
Json measure_prefill(Decoder& decoder, const Model& model, const BenchOptions& options, ShownWork& work) {
  Json result, all = Json::array();
  for (const int64_t count : prefill_sizes(options, model)) {
    const double rate = static_cast<double>(count) / prefill_seconds(decoder, count, options.seed, work);
    all.push_back({{"tokens", count}, {"tokens_per_second", rate}});
    if (all.size() == 1) result = {{"prefill_tokens", count}, {"prefill_tokens_per_second", rate}};
  }
  result["prefill"] = all;
  return result;
}

/// The slot has read `tokens` and nothing else.
void read(Decoder& decoder, int slot, std::span<const int32_t> tokens, ShownWork& work) {
  constexpr size_t kPart = 1024;
  decoder.reset(slot);
  for (; !tokens.empty(); tokens = tokens.subspan(std::min(kPart, tokens.size()))) {
    const auto part = tokens.first(std::min(kPart, tokens.size()));
    decoder.prefill(slot, part, part.size(), {});
    work.add(static_cast<int64_t>(part.size()), "reading contexts");
  }
}

/// The token that stands for BOS: which one it is changes no speed.
int32_t first_token(const Model& model) {
  return model.config().bos ? static_cast<int32_t>(*model.config().bos) : 0;
}

/// What a step computes: so many sequences of BOS alone, each with a root and its children.
struct StepSize {
  int64_t sequences = 1, rows = 1;
};

/// Seconds of a step; the states stay.
double step_seconds(Decoder& decoder, const StepSize& size, int steps) {
  TokenTree tree;
  tree.add(1, -1);
  for (int64_t i = 1; i < size.rows; ++i) tree.add(static_cast<int32_t>(i % decoder.vocabulary()), 0);
  std::vector<Decoder::Branch> branches;
  for (int64_t slot = 0; slot < size.sequences; ++slot) branches.push_back({static_cast<int>(slot), &tree});
  const Stopwatch watch;
  for (int i = 0; i < steps; ++i) decoder.step(branches);
  return watch.seconds() / steps;
}

/// Steps of several rows, and of several sequences, beside plain ones of one, in turns.
Json measure_steps(Decoder& decoder, const Model& model, const BenchOptions& options,
                   const std::vector<StepSize>& sizes, ShownWork& work) {
  constexpr int kSteps = 4;
  std::vector<std::vector<double>> seconds(sizes.size());
  const auto most = std::max_element(sizes.begin(), sizes.end(),
                                     [](const auto& a, const auto& b) { return a.sequences < b.sequences; });
  for (int64_t slot = 0; slot < most->sequences; ++slot)
    read(decoder, static_cast<int>(slot), std::vector<int32_t>{first_token(model)}, work);
  for (int window = -1; window < options.windows; ++window) {
    for (size_t i = 0; i < sizes.size(); ++i) {
      work.add(0, "steps");
      const double now = step_seconds(decoder, sizes[i], kSteps);
      if (window >= 0) seconds[i].push_back(now);
    }
  }
  Json all = Json::array();
  for (size_t i = 0; i < sizes.size(); ++i) {
    const double now = median(seconds[i]);
    all.push_back({{"sequences", sizes[i].sequences},
                   {"rows", sizes[i].rows},
                   {"seconds_per_step", now},
                   {"of_one_row", now / median(seconds[0])}});
  }
  return all;
}

/// The plain step, and what is held against it.
std::vector<StepSize> step_sizes(const std::vector<int64_t>& counts, int64_t StepSize::*field) {
  std::vector<StepSize> sizes(1);
  for (const int64_t count : counts) {
    if (count != 1) sizes.emplace_back().*field = count;
  }
  return sizes;
}

/// Plain decoding after BOS alone, by a decoder that tells where time goes.
Json measure_profile(const std::shared_ptr<const Model>& model, Decoder::Options how, ThreadPool& pool,
                     const BenchOptions& options, ShownWork& work) {
  Profile profile;
  how.profile = &profile, how.slots = 1;
  const auto made = Decoder::make(model, how, pool);
  Decoder& decoder = *made;
  read(decoder, 0, std::vector<int32_t>{first_token(*model)}, work);
  decode(decoder, 0, 1, options.window_tokens);
  read(decoder, 0, std::vector<int32_t>{first_token(*model)}, work);
  profile.clear();
  pool.watch();
  const Stopwatch watch;
  decode(decoder, 0, 1, options.window_tokens);
  const double seconds = watch.seconds();
  return profile_json(profile, pool.watched(), options.window_tokens, seconds, decoder.state_bytes(0));
}

/// How fast the source is read, into memories of all layers.
Json measure_source(Decoder& decoder, const std::vector<int32_t>& source, const BenchOptions& options) {
  std::vector<double> seconds;
  for (int i = 0; i < options.windows; ++i) {
    const Stopwatch watch;
    decoder.read_source(0, source);
    seconds.push_back(watch.seconds());
  }
  return {{"tokens", source.size()},
          {"tokens_per_second", static_cast<double>(source.size()) / median(seconds)},
          {"memory_bytes", decoder.state_bytes(0)}};
}

/// Decoding at a context, window after window.
class DecodeRow {
 public:
  DecodeRow(Measured& of, size_t index, const BenchOptions& options, ShownWork& work)
      : decoder_(*of.decoder),
        slot_(static_cast<int>(index)),
        context_(of.contexts[index]),
        bos_{first_token(*of.model)},
        options_(options),
        work_(work) {
    read(decoder_, slot_, context_ == 0 ? bos_ : random_tokens(context_, decoder_.vocabulary(), options.seed),
         work);
    state_ = decoder_.state_bytes(slot_);
  }

  void window(bool counts) {
    if (context_ == 0) read(decoder_, slot_, bos_, work_);  // empty again
    work_.add(0, "decode");
    const Stopwatch watch;
    token_ = decode(decoder_, slot_, token_, options_.window_tokens);
    if (counts) seconds_.push_back(watch.seconds() / options_.window_tokens);
    work_.add(options_.window_tokens, "decode");
  }

  Json result() const {
    return {{"context", context_},
            {"decode_tokens_per_second", 1 / median(seconds_)},
            {"best_window_tokens_per_second", 1 / *std::min_element(seconds_.begin(), seconds_.end())},
            {"state_bytes", state_},
            {"bytes_per_token", decoder_.cost().step_weight_bytes + state_}};
  }

 private:
  Decoder& decoder_;
  int slot_;
  int64_t context_;
  std::vector<int32_t> bos_;
  const BenchOptions& options_;
  ShownWork& work_;
  size_t state_ = 0;  // bytes
  int32_t token_ = 1;
  std::vector<double> seconds_;
};

/// All contexts of all models in turns: a slow spell hits them alike.
void measure_decode(std::vector<Measured>& all, const BenchOptions& options, ShownWork& work) {
  std::vector<std::pair<Measured*, DecodeRow>> rows;
  for (Measured& one : all) {
    for (size_t c = 0; c < one.contexts.size(); ++c)
      rows.emplace_back(&one, DecodeRow(one, c, options, work));
  }
  for (int window = -1; window < options.windows; ++window) {
    for (auto& [one, row] : rows) row.window(window >= 0);
  }
  for (Measured& one : all) one.result["decode"] = Json::array();
  for (const auto& [one, row] : rows) one->result["decode"].push_back(row.result());
}

/// Reading at the sizes that the model's steps read.
void measure_reading(const Json& rows, Ruler& ruler) {
  ruler.measure(0);
  for (const Json& row : rows) ruler.measure(row["bytes_per_token"].get<size_t>());
}

/// What the machine can do: its part of the result.
Json machine_json(ThreadPool& pool, const Ruler& ruler) {
  using kernels::WeightType;
  return {{"read_bytes_per_second", ruler.of_memory().bytes_per_second},
          {"reading", ruler.to_json()},
          {"float32_operations_per_second", kernels::matrix_rate(WeightType::kFloat32, pool)},
          {"bfloat16_operations_per_second", kernels::matrix_rate(WeightType::kBFloat16, pool)},
          {"int8_operations_per_second", kernels::matrix_rate(WeightType::kInt8, pool)}};
}

/// Adds to a model's numbers what part they are of what the machine can do.
void hold_against_machine(const Json& machine, const Ruler& ruler, Measured& one) {
  using kernels::WeightType;
  const Decoder::Cost& cost = one.decoder->cost();
  const char* const of_prefill = cost.prefill == WeightType::kInt8       ? "int8_operations_per_second"
                                 : cost.prefill == WeightType::kBFloat16 ? "bfloat16_operations_per_second"
                                                                         : "float32_operations_per_second";
  one.result["prefill_fraction_of_matrix_rate"] = 2.0 * static_cast<double>(cost.layer_parameters) *
                                                  one.result["prefill_tokens_per_second"].get<double>() /
                                                  machine[of_prefill].get<double>();
  for (Json& row : one.result["decode"]) {
    const double bytes = row["bytes_per_token"].get<double>();
    const double most = ruler.of(static_cast<size_t>(bytes)).bytes_per_second;
    row["roofline_bytes_per_second"] = most;
    row["fraction_of_roofline"] = bytes * row["decode_tokens_per_second"].get<double>() / most;
  }
}

/// MODEL or --config; options that would do nothing.
void check_given(const BenchOptions& options) {
  if (options.config.empty() && options.model.empty())
    throw Error("MODEL", "not given", "a model folder, or --config with a config.json");
  if (!options.config.empty()) {
    if (!options.model.empty()) throw Error("--config", "given beside MODEL", "one of the two");
    refuse_given(*options.app, {"--base", "--verify-weights"}, "given with --config",
                 "a MODEL, whose files it is about");
  }
  refuse_given(*options.app,
               {"--batch", "--micro-batch", "--context", "--steps", "--activation-checkpointing",
                "--no-activation-checkpointing"},
               "given without --training", "--training too");
}

/// A folder, or a config.json with random weights.
std::shared_ptr<const Model> model_at(const BenchOptions& options, const std::string& name, bool is_config) {
  SharedOptions folder = options;
  folder.model = name;
  return is_config ? Model::random(name, options.seed, state_type(options))
                   : open_any_model(folder, Stacks::kTwo);
}

/// The table of an encoder or a classifier, which decode nothing: whole sequences per second.
ExitStatus bench_encoder(const BenchOptions& options, const std::shared_ptr<const Model>& model,
                         ThreadPool& pool, const JsonResult& json) {
  refuse_given(*options.app,
               {"--contexts", "--source", "--window-tokens", "--rows", "--sequences", "--profile", "--plot",
                "--beside"},
               fmt::format("given, and {}, which decodes nothing",
                           model->config().is_classifier()
                               ? "this is a classifier"
                               : fmt::format("{} is an encoder", model->config().model_type)),
               "--prefill-tokens, lengths of its sequences");
  const bool given = options.app->get_option("--prefill-tokens")->count() > 0;
  Json result = {{"model", options.config.empty() ? options.model : options.config},
                 {"dtype", options.dtype},
                 {"weights", options.weights},
                 {"threads", pool.size()}};
  result.update(measure_encoder(model,
                                {.compute = compute_type(options.dtype), .weights = weight_type(options)},
                                {.lengths = given ? options.prefill_tokens : std::vector<int64_t>(),
                                 .windows = options.windows,
                                 .seed = options.seed},
                                pool));
  result["peak_memory_bytes"] = peak_memory();
  print(encoder_table(result));
  json.write(result);
  return ExitStatus::kDone;
}

/// Brings a model, which was opened `start` ago, up to its first token.
Measured opened(const BenchOptions& options, const std::string& name, std::shared_ptr<const Model> model,
                const Stopwatch& start, ThreadPool& pool) {
  const ComputeType compute = compute_type(options.dtype);
  const auto most = [](const std::vector<int64_t>& counts) {
    return counts.empty() ? 1 : *std::max_element(counts.begin(), counts.end());
  };
  const int slots = static_cast<int>(std::max(std::ssize(options.contexts), most(options.sequences)));
  const int64_t nodes = std::max(most(options.rows), most(options.sequences));
  Measured one;
  one.how = {.compute = compute,
             .slots = slots,
             .max_nodes = static_cast<int>(nodes),
             .weights = weight_type(options)};
  one.model = std::move(model);
  if (one.model->encoder())
    one.how.source =
        random_tokens(options.source.value_or(kSource), one.model->config().vocabulary, options.seed);
  one.decoder = Decoder::make(one.model, one.how, pool);
  std::vector<float> logits(static_cast<size_t>(one.decoder->vocabulary()));
  const auto prompt = random_tokens(12, one.decoder->vocabulary(), options.seed);
  one.decoder->prefill(0, prompt, prompt.size() - 1, logits);
  const double first_token = start.seconds();
  one.contexts = usable_contexts(options, *one.model);
  one.result = {{"model", name},
                {"dtype", options.dtype},
                {"weights", options.weights},
                {"state_type",
                 compute == ComputeType::kFloat64 ? "float64" : name_of(one.model->attention_shape().state)},
                {"threads", pool.size()},
                {"load_to_first_token_seconds", first_token},
                {"step_weight_bytes", one.decoder->cost().step_weight_bytes}};
  return one;
}

/// All but decoding, which is measured in turns.
void measure_rest(Measured& one, const BenchOptions& options, ThreadPool& pool, ShownWork& work) {
  const auto beside_plain = [&](const std::vector<int64_t>& counts, int64_t StepSize::*field) {
    return measure_steps(*one.decoder, *one.model, options, step_sizes(counts, field), work);
  };
  if (!options.rows.empty()) one.result["rows"] = beside_plain(options.rows, &StepSize::rows);
  if (!options.sequences.empty())
    one.result["sequences"] = beside_plain(options.sequences, &StepSize::sequences);
  if (options.profile) one.result["profile"] = measure_profile(one.model, one.how, pool, options, work);
}

ExitStatus bench(const BenchOptions& options) {
  check_given(options);
  check_device(options);
  const JsonResult json(options);
  ThreadPool pool(options.threads);
  std::vector<Measured> all;
  const bool is_config = !options.config.empty();
  const std::string& name = is_config ? options.config : options.model;
  const Stopwatch start;
  auto model = model_at(options, name, is_config);
  if (model->family().is_encoder() || model->config().is_classifier())
    return bench_encoder(options, model, pool, json);
  all.push_back(opened(options, name, std::move(model), start, pool));
  if (!options.beside.empty()) {
    const Stopwatch again;
    model = model_at(options, options.beside, !std::filesystem::is_directory(options.beside));
    if (model->family().is_encoder() || model->config().is_classifier())
      throw Error("--beside", "an encoder or a classifier, which decodes nothing", "a model that decodes");
    all.push_back(opened(options, options.beside, std::move(model), again, pool));
  }
  if (std::ranges::none_of(all, [](const Measured& one) { return one.model->encoder() != nullptr; }))
    refuse_given(*options.app, {"--source"}, "given for a model without an encoder",
                 "one that has one, as T5");
  Ruler ruler(pool);
  {
    ShownWork work(options, all);
    for (Measured& one : all) {
      if (one.model->encoder()) one.result["encoder"] = measure_source(*one.decoder, one.how.source, options);
    }
    for (Measured& one : all) one.result.update(measure_prefill(*one.decoder, *one.model, options, work));
    measure_decode(all, options, work);
    for (Measured& one : all) measure_rest(one, options, pool, work);
  }
  all.front().result["peak_memory_bytes"] =
      peak_memory();  // before the machine's own measurements take theirs
  for (const Measured& one : all) measure_reading(one.result["decode"], ruler);
  const Json machine = machine_json(pool, ruler);
  for (Measured& one : all) hold_against_machine(machine, ruler, one);
  Json result = std::move(all.front().result);
  result.update(machine);
  if (all.size() > 1) result["beside"] = std::move(all.back().result);
  print(bench_text(result));
  if (!options.plot.empty()) write_file(options.plot, bench_picture(result));
  json.write(result);
  return ExitStatus::kDone;
}

}  // namespace

void describe_bench(CLI::App& app, Work& work) {
  const auto options = std::make_shared<BenchOptions>();
  options->app = &app;
  add_runtime(app, *options);
  add_weights(app, *options);
  add_state_type(app, *options);
  app.get_option("MODEL")->required(false);
  app.get_option("--dtype")->description(
      "Arithmetic: auto (the weights' own type; with --training as `linnet finetune`), float32, bfloat16 or "
      "float64 (slow)");
  app.add_option("--config", options->config,
                 "A config.json in place of MODEL: its shape with random weights, which are not written")
      ->type_name("FILE");
  app.add_option("--beside", options->beside,
                 "Another model measured in turns with it: a folder, or a config.json with random weights")
      ->type_name("MODEL");
  comma_list(
      app.add_option("--contexts", options->contexts, "Contexts to decode at, tokens; 0: after BOS alone"))
      ->transform(count(0, 1 << 24))
      ->type_name("TOKENS,…");
  comma_list(
      app.add_option("--prefill-tokens", options->prefill_tokens,
                     "Tokens of the prefills that are measured; the first is held against the machine"))
      ->transform(count(1, 1 << 24))
      ->type_name("TOKENS,…");
  app.add_option("--source", options->source,
                 fmt::format("Of a model with an encoder: tokens that it has read (default: {})", kSource))
      ->transform(count(1, 1 << 24))
      ->type_name("TOKENS");
  app.add_option("--windows", options->windows, "Windows of decoding at each context; their median counts")
      ->transform(whole(1, 10000));
  app.add_option("--window-tokens", options->window_tokens, "Tokens decoded in a window")
      ->transform(count(1, 100000))
      ->type_name("TOKENS");
  comma_list(app.add_option("--rows", options->rows,
                            "Steps of several rows (nodes of a tree) to hold against steps of one"))
      ->transform(whole(1, 64))
      ->type_name("ROWS,…");
  comma_list(app.add_option("--sequences", options->sequences,
                            "Plain steps of several sequences to hold against steps of one"))
      ->transform(whole(1, 64))
      ->type_name("SEQUENCES,…");
  app.add_flag("--profile", options->profile, "Where a step's time goes, by operation and layer");
  output_file(app.add_option("--plot", options->plot, "Draw decode by context into this file as SVG"))
      ->type_name("FILE");
  add_bench_training(app, options->training);
  app.callback([options, &work] {
    work = [options] {
      refuse_repeated("--contexts", options->contexts);
      refuse_repeated("--prefill-tokens", options->prefill_tokens);
      refuse_repeated("--rows", options->rows);
      refuse_repeated("--sequences", options->sequences);
      return bench(*options);
    };
  });
}

std::vector<int32_t> random_tokens(int64_t count, int64_t vocabulary, uint64_t seed) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<int32_t>(uniform_integer(seed, 0, i, static_cast<uint64_t>(vocabulary)));
  return tokens;
}

void add_bench_training(CLI::App& app, BenchTrainingOptions& options) {
  constexpr const char* kGroup = "Training (next-token loss on all parameters, random tokens)";
  app.add_flag("--training", options.training, "Measure training instead")->group(kGroup);
  app.add_option("--batch", options.batch, "Rows a step (default: as `linnet finetune`)")
      ->transform(whole(1, 1000000))
      ->group(kGroup);
  app.add_option("--micro-batch", options.micro_batch, "Rows at once (default: as `linnet finetune`)")
      ->transform(whole(1, 1000000))
      ->group(kGroup);
  app.add_option("--context", options.context, "Tokens a row (default: as `linnet finetune`)")
      ->transform(count(2, 1 << 20))
      ->type_name("TOKENS")
      ->group(kGroup);
  app.add_option("--steps", options.steps, "Steps that are measured, after one that is not")
      ->transform(whole(1, 1000000))
      ->group(kGroup);
  add_checkpointing(app, options.activation_checkpointing, kGroup);
}

}  // namespace linnet::cli

#include "cli/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>

#include "base/count.h"
#include "base/error.h"
#include "base/log.h"
#include "base/nearest.h"
#include "base/progress.h"
#include "kernels/cpu/instruction_sets.h"
#include "model/checks.h"

namespace linnet::cli {
namespace {

/// What was given, in an error.
std::string shown(const std::string& text) { return text.empty() ? "\"\"" : printable(text, 60); }

/// Refuses a text that is no number, or one that `allowed` does not want; NaN is never wanted.
CLI::Validator number_where(std::function<bool(double)> allowed, std::string range) {
  return {[=](const std::string& text) -> std::string {
            double number = 0;
            const char* const end = text.data() + text.size();
            const auto [rest, code] = std::from_chars(text.data(), end, number);
            const bool is_number = code == std::errc() && rest == end;
            if (is_number && allowed(number)) return "";
            return fmt::format("{}, expected {}{}", shown(text), is_number ? "" : "a number ", range);
          },
          range};
}

}  // namespace

CLI::Validator from_to(double low, double high) {
  return number_where([=](double x) { return x >= low && x <= high; }, fmt::format("{} to {}", low, high));
}

CLI::Validator at_least(double low) {
  return number_where([=](double x) { return x >= low && std::isfinite(x); },
                      fmt::format("at least {}", low));
}

CLI::Validator positive() {
  return number_where([](double x) { return x > 0 && std::isfinite(x); }, "above 0");
}

CLI::Validator whole(uint64_t low, uint64_t high) {
  const bool bounded = high < uint64_t{std::numeric_limits<int64_t>::max()};
  const std::string range = bounded ? fmt::format("{} to {}", low, high) : fmt::format("at least {}", low);
  const auto read = [=](std::string& text) -> std::string {
    const size_t digits = text.starts_with('-') ? 1 : 0;
    const bool is_whole = text.size() > digits && text.find_first_not_of("0123456789", digits) == text.npos;
    uint64_t number = 0;
    const auto code = std::from_chars(text.data(), text.data() + text.size(), number).ec;
    if (!is_whole || code != std::errc() || number < low || number > high)
      return fmt::format("{}, expected {}{}", shown(text), is_whole ? "" : "a whole number ", range);
    text = fmt::format("{}", number);
    return "";
  };
  return {read, range};
}

CLI::Validator count(int64_t low, int64_t high) {
  const bool bounded = high < std::numeric_limits<int64_t>::max();
  const std::string range = bounded ? fmt::format("{} to {}", low, high) : fmt::format("at least {}", low);
  const auto read = [=](std::string& text) -> std::string {
    const auto number = parse_count(text);
    if (!number || *number < low || *number > high)
      return fmt::format("{}, expected {}{}", shown(text), range,
                         number ? "" : ": a whole number such as 8192, 512K, 1e6 or 4MiB");
    text = fmt::format("{}", *number);
    return "";
  };
  return {read, range};
}

CLI::Validator not_empty() {
  return {[](const std::string& text) -> std::string { return text.empty() ? "\"\", expected a name" : ""; },
          ""};
}

CLI::Validator one_of_words(std::vector<std::string> words) {
  const std::string list = fmt::format("{}", fmt::join(words, ", "));
  return {[=](const std::string& text) -> std::string {
            if (std::find(words.begin(), words.end(), text) != words.end()) return "";
            const std::vector<std::string_view> candidates(words.begin(), words.end());
            return fmt::format("\"{}\", expected {}", printable(text, 60), one_of(text, candidates));
          },
          list};
}

CLI::Option* comma_list(CLI::Option* option) { return option->delimiter(',')->allow_extra_args(false); }

void add_model(CLI::App& app, SharedOptions& options, const char* kinds) {
  app.add_option("MODEL", options.model, kinds)->required();
  app.add_option("--base", options.base, "Where the base of a sidecar or LoRA lies (default: beside it)")
      ->capture_default_str();
  app.add_flag("--verify-weights", options.verify_weights,
               "Read all weights, even of files that were checked before and have not changed since");
}

void add_device(CLI::App& app, SharedOptions& options) {
  app.add_option("--device", options.device, "Where to compute: cpu; in training cuda or cuda:N too");
}

void add_dtype(CLI::App& app, SharedOptions& options) {
  app.add_option("--dtype", options.dtype,
                 "Arithmetic: auto (the weights' own type), float32, bfloat16 or float64 (slow)");
}

void add_weights(CLI::App& app, SharedOptions& options) {
  app.add_option("--weights", options.weights,
                 "Matrices as they are stored, or turned on loading into integers with a scale for each 32")
      ->check(one_of_words({"stored", "int8", "int4"}));
}

void add_state_type(CLI::App& app, SharedOptions& options) {
  app.add_option(
         "--state-type", options.state,
         "Type in which a state holds keys and values (windows, kept tokens, softmax's cache), rounded "
         "where they enter (default: as --dtype; under auto as the weights)")
      ->check(one_of_words({"float32", "bf16"}));
}

void add_threads(CLI::App& app, SharedOptions& options) {
  app.add_option("--threads", options.threads, "Threads; 0 is one for each processor")
      ->transform(whole(0, 1024));
}

void add_instructions(CLI::App& app) {
  app.add_option_function<std::string>(
         "--instructions", kernels::use_instruction_set,
         "Compute with this instruction set instead of the machine's best: for tests of lesser machines")
      ->check(one_of_words(kernels::instruction_sets()));
}

void add_seed(CLI::App& app, SharedOptions& options) {
  app.add_option("--seed", options.seed, "Seed of every random number")->transform(whole(0));
}

void add_checkpointing(CLI::App& app, std::optional<bool>& checkpointing, const char* group) {
  CLI::Option* const on = app.add_flag_callback(
      "--activation-checkpointing", [&checkpointing] { checkpointing = true; },
      "Keep each layer's input alone and compute the rest again, a third more work: less memory (default: on "
      "a "
      "CPU where a step would keep more than 0.75 GB)");
  CLI::Option* const off = app.add_flag_callback(
      "--no-activation-checkpointing", [&checkpointing] { checkpointing = false; },
      "Compute each layer once, whatever it keeps");
  on->group(group);
  off->group(group)->excludes(on);
}

void add_json(CLI::App& app, SharedOptions& options) {
  output_file(
      app.add_option("--json", options.json,
                     "Write the result to this file as JSON; -: to standard output, with nothing else there"))
      ->type_name("FILE");
}

void check_new_folder(const std::filesystem::path& out) {
  std::error_code error;
  if (std::filesystem::exists(out, error) && !std::filesystem::is_empty(out, error))
    throw Error(out.string(), "already exists", "a new folder's name");
  check_writable(out);
}

void add_shard_size(CLI::App& app, int64_t& bytes) {
  app.add_option("--shard-size", bytes, "Bytes of a weight file before another is begun, such as 5GB")
      ->transform(count(1))
      ->type_name("BYTES");
}

CLI::Option* add_texts(CLI::App& app, const char* name, std::vector<std::filesystem::path>& files,
                       const std::string& what) {
  return app
      .add_option(name, files,
                  what +
                      ": .txt or .md (one document), .jsonl or .json (records), plain or packed (.xz, .gz, "
                      ".zst); - is standard input")
      ->type_name("FILE");
}

void add_field(CLI::App& app, SharedOptions& options) {
  options.app = &app;
  app.add_option("--field", options.texts.field,
                 "The field of records that holds the text (default: text); given, standard input is one "
                 "record per line, else one document")
      ->type_name("NAME")
      ->check(not_empty());
}

void add_evaluation(CLI::App& app, SharedOptions& options) {
  add_model(app, options);
  add_device(app, options);
  add_dtype(app, options);
  add_threads(app, options);
  add_instructions(app);
  add_json(app, options);
}

void add_runtime(CLI::App& app, SharedOptions& options) {
  add_evaluation(app, options);
  add_seed(app, options);
}

void refuse_given(const CLI::App& app, std::initializer_list<const char*> options, const std::string& why,
                  const std::string& expected) {
  for (const char* name : options) {
    const CLI::Option* option = app.get_option_no_throw(name);
    if (option != nullptr && option->count() > 0) throw Error(name, why, expected);
  }
}

void check_field(const SharedOptions& options, const std::vector<std::filesystem::path>& files) {
  if (options.texts.field.empty()) return;
  const auto with_records = [&](const auto& file) { return has_records(file, options.texts); };
  if (std::none_of(files.begin(), files.end(), with_records))
    throw Error("--field", "given, and no FILE has records", "a .jsonl or .json file, or standard input");
}

void check_device(const SharedOptions& options) { linnet::check_device(options.device); }

Model::OpenOptions open_options(const SharedOptions& options) {
  Model::OpenOptions how;
  how.state = state_type(options);
  if (!options.base.empty()) how.base = options.base;
  how.reading = {.threads = options.threads, .verify = options.verify_weights, .cache = cache_folder()};
  how.reading.report = [bar = std::shared_ptr<Progress>()](double done, double total) mutable {
    if (!bar) {
      bar = std::make_shared<Progress>("checking weights", "bytes", total, 0,
                                       Progress::Output::standard_error(kPatience));
    }
    bar->update(done);
    if (done >= total) bar.reset();
  };
  return how;
}

std::shared_ptr<const Model> open_model(const SharedOptions& options, Stacks most) {
  auto model = open_any_model(options, most);
  if (model->config().is_classifier())
    throw Error(options.model, "is a classifier, which has no head over the vocabulary",
                "a language model; of a classifier, linnet classify or finetune --task");
  return model;
}

void require_one_stack(const SharedOptions& options, const Model& model) {
  if (!model.encoder()) return;
  throw Error(options.model,
              fmt::format("{} has an encoder, which this command does not read", model.config().model_type),
              "a model of a decoder alone");
}

std::shared_ptr<const Model> open_any_model(const SharedOptions& options, Stacks most) {
  auto model = Model::open(options.model, open_options(options));
  if (most == Stacks::kOne) require_one_stack(options, *model);
  std::vector<std::string> unused = model->unused_tensors();
  std::erase_if(unused, is_buffer);
  if (!unused.empty())
    warn(fmt::format("{}: {} not used by this config: \"{}\"{} (linnet inspect lists them)",
                     model->base_folder().string(), counted(std::ssize(unused), "tensor is", "tensors are"),
                     printable(unused.front(), 100), unused.size() == 1 ? "" : ", …"));
  return model;
}

std::optional<StateType> state_type(const SharedOptions& options) {
  const bool given = !options.state.empty();
  if (!given && options.dtype == "auto") return {};
  const bool narrow = given ? options.state == "bf16" : options.dtype == "bfloat16";
  return narrow ? StateType::kBFloat16 : StateType::kComputed;
}

std::optional<kernels::WeightType> weight_type(const SharedOptions& options) {
  if (options.weights == "int8") return kernels::WeightType::kInt8;
  if (options.weights == "int4") return kernels::WeightType::kInt4;
  return {};
}

Runtime open_runtime(const SharedOptions& options, Decoder::Options how, Stacks most) {
  check_device(options);
  return make_runtime(options, how, open_model(options, most));
}

Runtime make_runtime(const SharedOptions& options, Decoder::Options how, std::shared_ptr<const Model> model) {
  how.compute = compute_type(options.dtype);
  how.weights = weight_type(options);
  how.device = options.device;
  Runtime runtime;
  runtime.model = std::move(model);
  runtime.pool = std::make_unique<ThreadPool>(options.threads);
  runtime.decoder = Decoder::make(runtime.model, how, *runtime.pool);
  return runtime;
}

}  // namespace linnet::cli

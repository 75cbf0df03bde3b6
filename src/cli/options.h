// Options that several commands share, each described once: name, type, range, default, help. A command takes
// those it needs; errors and --help derive from here.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/thread_pool.h"
#include "cli/output.h"
#include "model/decoder.h"
#include "model/model.h"
#include "text/corpus.h"

namespace linnet::cli {

struct SharedOptions {
  std::string model;               // MODEL
  std::string base;                // --base; empty: beside the sidecar
  bool verify_weights = false;     // --verify-weights
  std::string device = "cpu";      // --device
  std::string dtype = "auto";      // --dtype; a command may set its own default before add_dtype
  std::string weights = "stored";  // --weights
  std::string state;               // --state-type; empty: as --dtype
  int threads = 0;                 // --threads; 0: every processor
  uint64_t seed = 0;               // --seed
  std::string json;                // --json; empty: none
  CorpusOptions texts;             // --field
  const CLI::App* app = nullptr;  // what was given, for refuse_given(); set by add_field() and add_sampling()
};

// MODEL, --base and --verify-weights; `kinds` are the folders that the command takes.
void add_model(CLI::App& app, SharedOptions& options,
               const char* kinds = "Model folder: plain, linearized, a sidecar or a LoRA");
void add_device(CLI::App& app, SharedOptions& options);
void add_dtype(CLI::App& app, SharedOptions& options);
void add_weights(CLI::App& app, SharedOptions& options);     // --weights
void add_state_type(CLI::App& app, SharedOptions& options);  // --state-type
void add_threads(CLI::App& app, SharedOptions& options);
void add_instructions(CLI::App& app);  // --instructions
void add_seed(CLI::App& app, SharedOptions& options);
/// --activation-checkpointing and --no-activation-checkpointing.
void add_checkpointing(CLI::App& app, std::optional<bool>& checkpointing, const char* group = "Options");
void add_json(CLI::App& app, SharedOptions& options);
/// An option or argument that takes text files (text/corpus.h); `what` they are begins its help.
CLI::Option* add_texts(CLI::App& app, const char* name, std::vector<std::filesystem::path>& files,
                       const std::string& what);
void add_field(CLI::App& app, SharedOptions& options);
/// All of the above but --seed, for commands that run a model and draw nothing.
void add_evaluation(CLI::App& app, SharedOptions& options);
/// A folder to write is not there yet, or empty, and can be made. Before anything is read: a large model
/// takes minutes.
void check_new_folder(const std::filesystem::path& out);
/// --shard-size, of the commands that write weights.
void add_shard_size(CLI::App& app, int64_t& bytes);
/// All of the above, for commands that run a model.
void add_runtime(CLI::App& app, SharedOptions& options);

/// A number from `low` to `high`, both allowed, or at least `low`; --help shows it. NaN and infinity are out.
CLI::Validator from_to(double low, double high);
CLI::Validator at_least(double low);
/// A number above 0.
CLI::Validator positive();
/// A whole number in plain digits; for transform(), as CLI11 would read 010 as 8.
CLI::Validator whole(uint64_t low, uint64_t high = std::numeric_limits<uint64_t>::max());
/// A count of tokens or bytes, as parse_count() reads it, from `low` to `high`; for transform(): the option
/// gets its digits.
CLI::Validator count(int64_t low, int64_t high = std::numeric_limits<int64_t>::max());
CLI::Validator not_empty();
/// One of these words.
CLI::Validator one_of_words(std::vector<std::string> words);

/// A list in one argument, such as 1024,16384; the option may be repeated.
CLI::Option* comma_list(CLI::Option* option);

/// Refuses the first of the options that was given though it would do nothing; `why`: "given without
/// --valid".
void refuse_given(const CLI::App& app, std::initializer_list<const char*> options, const std::string& why,
                  const std::string& expected);
/// Refuses a value that stands twice in an option's list.
template <class T>
void refuse_repeated(const char* option, const std::vector<T>& values) {
  std::set<T> seen;
  for (const T& value : values) {
    if (!seen.insert(value).second) throw Error(option, fmt::format("{} twice", value), "each once");
  }
}
/// Refuses --field where none of the files has records.
void check_field(const SharedOptions& options, const std::vector<std::filesystem::path>& files);

/// A device that is not there, or an unknown name, is an Error: called first, before anything is read.
void check_device(const SharedOptions& options);

constexpr double kPatience = 1.0;  // seconds that work goes on before its progress is shown

/// How MODEL is opened, with --base, --verify-weights and --threads; a long reading of its weights shows
/// progress.
Model::OpenOptions open_options(const SharedOptions& options);
/// Which models a command takes: a stack alone, or one that reads another's rows too (T5).
enum class Stacks { kOne, kTwo };

/// Opens MODEL so; one warning where weights in it are not used. Throws Error on one of two stacks where one
/// is taken.
std::shared_ptr<const Model> open_any_model(const SharedOptions& options, Stacks most = Stacks::kOne);
/// What Stacks::kOne asks for.
void require_one_stack(const SharedOptions& options, const Model& model);
/// open_any_model(); refuses a classifier, which has no head over the vocabulary.
std::shared_ptr<const Model> open_model(const SharedOptions& options, Stacks most = Stacks::kOne);

/// What --state-type asks for, else as --dtype; empty: as the weights.
std::optional<StateType> state_type(const SharedOptions& options);
/// What --weights asks for; empty: as they are stored.
std::optional<kernels::WeightType> weight_type(const SharedOptions& options);

/// A model ready to run.
struct Runtime {
  std::shared_ptr<const Model> model;
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<Decoder> decoder;
};
/// Opens MODEL on --device with --threads and --dtype, which takes the place of how.compute.
Runtime open_runtime(const SharedOptions& options, Decoder::Options how = {}, Stacks most = Stacks::kOne);
/// The same of a model that is open.
Runtime make_runtime(const SharedOptions& options, Decoder::Options how, std::shared_ptr<const Model> model);

}  // namespace linnet::cli

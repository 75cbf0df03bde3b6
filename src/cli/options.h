// Options that several commands share, each described once: name, type, range, default, help. A command takes
// those it needs; errors and --help derive from here.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/thread_pool.h"
#include "model/decoder.h"
#include "model/model.h"

namespace linnet::cli {

struct SharedOptions {
  std::string model;           // MODEL
  std::string base;            // --base; empty: beside the sidecar
  std::string device = "cpu";  // --device
  std::string dtype = "auto";  // --dtype; a command may set its own default before add_dtype
  int threads = 0;             // --threads; 0: every processor
  uint64_t seed = 0;           // --seed
  std::string json;            // --json; empty: none
};

void add_model(CLI::App& app, SharedOptions& options);  // MODEL and --base
void add_device(CLI::App& app, SharedOptions& options);
void add_dtype(CLI::App& app, SharedOptions& options);
void add_threads(CLI::App& app, SharedOptions& options);
void add_seed(CLI::App& app, SharedOptions& options);
void add_json(CLI::App& app, SharedOptions& options);
/// All of the above, for commands that run a model.
void add_runtime(CLI::App& app, SharedOptions& options);

/// A number from `low` to `high`, both allowed, or at least `low`; --help shows it. NaN is out.
CLI::Validator from_to(double low, double high);
CLI::Validator at_least(double low);
/// A number above 0.
CLI::Validator positive();
/// One of these words.
CLI::Validator one_of_words(std::vector<std::string> words);

/// A device that is not there, or an unknown name, is an Error: called first, before anything is read.
void check_device(const SharedOptions& options);

/// Opens MODEL with --base.
std::shared_ptr<const Model> open_model(const SharedOptions& options);

/// A model ready to run.
struct Runtime {
  std::shared_ptr<const Model> model;
  std::unique_ptr<ThreadPool> pool;
  std::unique_ptr<Decoder> decoder;
};
/// Opens MODEL on --device with --threads and --dtype, which takes the place of how.compute.
Runtime open_runtime(const SharedOptions& options, Decoder::Options how = {});

/// Writes to standard output now; throws Error if that fails: a full disk, or nobody who reads (kNoReader).
void print(std::string_view text);

/// The result file of --json: checked for a writable place when made, so that no work is lost; written whole
/// by write(), or not at all. Does nothing where --json is absent.
class JsonResult {
 public:
  explicit JsonResult(const SharedOptions& options);
  void write(const nlohmann::ordered_json& result) const;

 private:
  std::string path_;
};

}  // namespace linnet::cli

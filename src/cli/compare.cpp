// linnet compare: a grid of linearized models, each trained and measured, as one table (docs/compare.md).
// A cell is the commands that a user would type, run one after the other in this process.
#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <set>

#include "base/count.h"
#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/remove_folder.h"
#include "base/timing.h"
#include "cli/commands.h"
#include "cli/compare_folder.h"
#include "cli/compare_grid.h"
#include "cli/compare_table.h"
#include "cli/options.h"
#include "cli/output.h"
#include "evaluate/recall.h"
#include "model/encoder.h"
#include "model/teacher.h"
#include "train/module.h"

namespace linnet::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

struct CompareOptions : SharedOptions {
  std::string grid, only, shard;
  std::vector<fs::path> data, valid;
  fs::path out;
  bool list = false, table = false, anew = false, keep_models = false;
};

constexpr Command kCellCommands[] = {
    {"linearize", "", describe_linearize},
    {"perplexity", "", describe_perplexity},
    {"recall", "", describe_recall},
    {"bench", "", describe_bench},
};

/// The share of the cells that --shard I/N takes.
struct Shard {
  size_t index = 0, count = 1;
};

Shard shard_of(const std::string& text) {
  if (text.empty()) return {};
  const size_t slash = std::min(text.find('/'), text.size());
  const auto index = parse_count(text.substr(0, slash));
  const auto count = parse_count(text.substr(std::min(slash + 1, text.size())));
  if (!index || !count || *index < 1 || *index > *count)
    throw Error("--shard", printable(text, 60), "I/N, the I-th of N shares, such as 1/4");
  return {static_cast<size_t>(*index) - 1, static_cast<size_t>(*count)};
}

/// A comparison over one folder: what is asked for and what is there.
class Comparison {
 public:
  explicit Comparison(const CompareOptions& options);

  void list() const;
  ExitStatus run();

 private:
  using Found = CompareFolder::Found;

  bool is_asked(const Cell& cell) const;
  void check_lines(const Cell& cell) const;
  size_t count_finished();
  void run_all();
  Found run_cell(const Cell& cell);
  void compute(const Cell& cell);
  void run_command(const Cell& cell, const CellCommand& command);
  Json collect(const Cell& cell) const;
  nlohmann::json window_of(const Cell& cell) const;
  void say_done(const Cell& cell, const Json& result);
  Json results(size_t& missing) const;
  void write_table() const;

  const CompareOptions& options_;
  std::shared_ptr<const Model> base_;
  CompareGrid grid_;
  CompareFolder folder_;
  std::vector<const Cell*> asked_;
  std::set<const Cell*> finished_;  // of them; a result that is there is read once
  fs::file_time_type begin_ = fs::file_time_type::clock::now();
  Stopwatch watch_;
  size_t finished_before_ = 0, busy_ = 0;
  bool failed_ = false;
};

nlohmann::json grid_object(const std::string& file) {
  if (file.empty()) return nlohmann::json::object();
  nlohmann::json object = read_json(file);
  if (!object.is_object()) throw Error(file, "not a JSON object", "one object, the grid");
  return object;
}

std::shared_ptr<const Model> open_base(const CompareOptions& options) {
  const auto base = open_model(options);
  require_decoder(*base);
  if (base->is_sidecar() || base->config().raw.contains("linear_attention"))
    throw Error(options.model, "is linearized, or a LoRA", "a softmax model with its own weights");
  return base;
}

Comparison::Comparison(const CompareOptions& options)
    : options_(options),
      base_(open_base(options)),
      grid_(read_grid(grid_object(options.grid), options.grid.empty() ? "the grid" : options.grid,
                      base_->config(), base_->attention_shape())),
      folder_(options.out, {options.model, options.texts.field, options.data, options.valid},
              base_->weights_hash()) {
  const Shard shard = shard_of(options.shard);
  for (size_t i = 0; i < grid_.cells.size(); ++i)
    if (i % shard.count == shard.index && is_asked(grid_.cells[i])) asked_.push_back(&grid_.cells[i]);
  if (asked_.empty() && shard.count == 1)
    throw Error("--only", fmt::format("no cell is named {}", printable(options.only, 60)),
                "a pattern such as 'hedgehog.*' (--list shows the names)");
}

bool Comparison::is_asked(const Cell& cell) const {
  return options_.only.empty() || ::fnmatch(options_.only.c_str(), cell.name.c_str(), 0) == 0;
}

void Comparison::list() const {
  std::string text;
  for (const Cell* cell : asked_) {
    text += cell->name + "\n";
    for (const std::string& line : folder_.lines(*cell)) text += "  " + line + "\n";
  }
  for (const auto& [name, why] : grid_.left_out) text += fmt::format("left out: {}: {}\n", name, why);
  print(text);
}

/// Refuses an option or number of the grid that a command does not take, before anything long is begun.
void Comparison::check_lines(const Cell& cell) const {
  for (const CellCommand& command : cell.commands) {
    std::vector<std::string> arguments = folder_.filled_in(cell, command.arguments);
    const bool is_model = command.product == "model";
    const auto outputs = std::find(arguments.begin(), arguments.end(), is_model ? "-o" : "--json");
    arguments.erase(outputs, arguments.end());  // in folders that are not there yet
    if (is_model) arguments.insert(arguments.end(), {"-o", "anywhere"});
    try {
      parse_command(kCellCommands, arguments);
    } catch (const Error& error) {
      throw Error(fmt::format("cell {}", cell.name), error.what());
    }
  }
}

/// By this process and others.
size_t Comparison::count_finished() {
  for (const Cell* cell : asked_) {
    if (!finished_.contains(cell) && folder_.find(*cell) != Found::kNone) finished_.insert(cell);
  }
  return finished_.size();
}

void Comparison::run_command(const Cell& cell, const CellCommand& command) {
  const fs::path product = folder_.work(cell) / command.product;
  std::error_code error;
  const bool is_model = command.product == "model";
  if (fs::exists(is_model ? product / "config.json" : product, error)) return;
  std::vector<std::string> arguments = folder_.filled_in(cell, command.arguments);
  if (is_model && fs::is_directory(product / "checkpoints", error) &&
      !fs::is_empty(product / "checkpoints", error))
    arguments.emplace_back("--resume");
  if (is_model) arguments.insert(arguments.end(), {"--device", options_.device});
  arguments.insert(arguments.end(), {"--threads", fmt::format("{}", options_.threads)});
  const QuietOutput quiet;
  const Work work = parse_command(kCellCommands, arguments);
  if (work() == ExitStatus::kInterrupted) throw Error(cell.name, "interrupted", {}, ExitStatus::kInterrupted);
}

/// Points of the training's log at which the held-out text was scored: [tokens, bits per byte].
Json curve_of(const fs::path& log) {
  Json curve = Json::array();
  std::ifstream lines(log);
  for (std::string line; std::getline(lines, line);) {
    const auto entry = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!entry.is_object()) continue;
    const auto bits = entry.find("validation_bits_per_byte");
    if (bits != entry.end() && bits->is_number()) curve.push_back({entry["tokens"], *bits});
  }
  return curve;
}

Json Comparison::collect(const Cell& cell) const {
  Json result = {{"cell", cell.name}, {"about", cell.about}};
  for (const CellCommand& command : cell.commands) {
    const fs::path product = folder_.work(cell) / command.product;
    if (command.product == "model") {
      const fs::path numbers = folder_.work(cell) / "training.json";
      std::error_code error;
      if (fs::exists(numbers, error)) result["training"] = read_json(numbers);
      result["training"]["curve"] = curve_of(product / "training.jsonl");
      result["attention"] = read_json(product / "config.json").value("linear_attention", nlohmann::json());
    } else {
      result[product.stem().string()] = read_json(product);
    }
  }
  return result;
}

/// The attention of the window alone that holds what the cell's trained state does; null for softmax.
nlohmann::json Comparison::window_of(const Cell& cell) const {
  if (cell.commands.front().product != "model" || cell.about["method"] == "window") return nullptr;
  Model::OpenOptions how{.state = std::nullopt};
  const auto& measure = cell.commands.back().arguments;
  if (std::find(measure.begin(), measure.end(), "--base") != measure.end()) how.base = options_.model;
  const auto model = Model::open(folder_.work(cell) / "model", how);
  return attention_object(model->config(), window_alone(*model)->attention());
}

void Comparison::say_done(const Cell& cell, const Json& result) {
  const size_t finished = count_finished(), left = asked_.size() - finished;
  const size_t now = finished - std::min(finished_before_, finished);
  std::string text = cell.name + ": ";
  if (result.contains("failed")) {
    text += "failed: " + result["failed"].get<std::string>();
  } else {
    text += result.contains("rows")
                ? fmt::format("{:.4f} bits per byte", result["rows"]["bits_per_byte"].get<double>())
                : "done";
  }
  text += fmt::format(", {}; {} of {} cells left", short_time(result["seconds"]), left, asked_.size());
  if (left > 0 && now > 0)
    text += fmt::format(", about {}",
                        short_time(watch_.seconds() / static_cast<double>(now) * static_cast<double>(left)));
  note(text);
}

/// Trains and measures; keeps an error as the result. Throws Error on Ctrl-C alone.
void Comparison::compute(const Cell& cell) {
  const fs::path work = folder_.work(cell), made_for = work / "identity.json";
  const nlohmann::json own = folder_.identity(cell);
  std::error_code error;
  if (!fs::exists(made_for, error) || read_json(made_for) != own) remove_folder(work);
  fs::create_directories(work);
  write_file(made_for, own.dump());
  note(fmt::format("{} …", cell.name));
  const Stopwatch watch;
  Json result;
  try {
    for (const CellCommand& command : cell.commands) {
      stop_if_interrupted();
      run_command(cell, command);
    }
    result = collect(cell);
    const nlohmann::json attention = window_of(cell);
    if (!attention.is_null()) {
      result["window"] = window_cell(attention, grid_.measures).name;
      result["window_attention"] = attention;
    }
  } catch (const std::exception& failure) {
    const auto* known = dynamic_cast<const Error*>(&failure);
    if (known != nullptr && known->status() == ExitStatus::kInterrupted) throw;
    const std::string_view text = failure.what();
    result = {{"cell", cell.name}, {"about", cell.about}};
    result["failed"] = printable(text.substr(0, text.find('\n')), 400);
    failed_ = true;
  }
  const KeepWorking keep;
  result["seconds"] = watch.seconds();
  result["device"] = options_.device;
  result["commands"] = folder_.lines(cell);
  result["identity"] = own;
  folder_.write(cell, result);
  if (!options_.keep_models || result.contains("failed")) remove_folder(work);
  if (!cell.name.starts_with("window.")) say_done(cell, result);
}

/// Computes a cell unless another process is at it, or has been.
Comparison::Found Comparison::run_cell(const Cell& cell) {
  stop_if_interrupted();
  if (folder_.find(cell) == Found::kDone) return Found::kDone;
  const CellLock lock(folder_, cell);
  if (!lock.held()) {
    ++busy_;
    return Found::kNone;
  }
  const Found found = folder_.find(cell);  // now that nobody else is at it
  if (found == Found::kDone) return found;
  if (found == Found::kFailed && fs::last_write_time(folder_.result_file(cell.name)) > begin_)
    return found;  // just now
  compute(cell);
  return folder_.find(cell);
}

void Comparison::run_all() {
  for (const Cell* cell : asked_) {
    if (run_cell(*cell) != Found::kDone) continue;
    const nlohmann::json result = folder_.read(cell->name);
    if (result.contains("window_attention"))
      run_cell(window_cell(result["window_attention"], grid_.measures));
  }
}

/// All results of the grid that are there, and the windows that they name.
Json Comparison::results(size_t& missing) const {
  Json results = Json::array();
  std::vector<std::string> windows;
  missing = 0;
  for (const Cell& cell : grid_.cells) {
    if (folder_.find(cell) == Found::kNone) {
      ++missing;
      continue;
    }
    results.push_back(Json(folder_.read(cell.name)));
    const std::string window = results.back().value("window", std::string());
    if (!window.empty() && std::find(windows.begin(), windows.end(), window) == windows.end())
      windows.push_back(window);
  }
  for (const std::string& window : windows) {
    std::error_code error;
    if (fs::exists(folder_.result_file(window), error)) results.push_back(Json(folder_.read(window)));
  }
  return results;
}

void Comparison::write_table() const {
  size_t missing = 0;
  const Json cells = results(missing);
  Json about = {{"base", options_.model}, {"identity", folder_.texts()}, {"data", Json::array()},
                {"valid", Json::array()}, {"measures", grid_.measures},  {"missing", missing}};
  for (const fs::path& file : options_.data) about["data"].push_back(file.filename().string());
  for (const fs::path& file : options_.valid) about["valid"].push_back(file.filename().string());
  for (const auto& [name, why] : grid_.left_out) about["left_out"].push_back({name, why});
  const Json comparison = compare_json(about, cells);
  const std::string markdown = compare_markdown(comparison);
  write_file(options_.out / "compare.json", comparison.dump(1) + "\n");
  write_file(options_.out / "compare.md", markdown);
  write_file(options_.out / "compare.html", compare_page(comparison));
  print(markdown);
}

ExitStatus Comparison::run() {
  if (!options_.anew)
    for (const Cell& cell : grid_.cells) folder_.refuse_changed(cell);
  for (const Cell* cell : asked_) check_lines(*cell);
  check_writable(options_.out);
  folder_.make();
  finished_before_ = count_finished();
  bool stopped = false;
  if (!options_.table) {
    note(fmt::format("{}, {} of them there", counted(std::ssize(asked_), "cell"), finished_before_));
    try {
      run_all();
    } catch (const Error& error) {
      if (error.status() != ExitStatus::kInterrupted) throw;
      stopped = true;
    }
  }
  const KeepWorking keep;
  if (busy_ == 0) folder_.tidy();
  write_table();
  if (busy_ > 0)
    note(fmt::format("{} left to other processes", counted(static_cast<int64_t>(busy_), "cell")));
  if (stopped) {
    note(fmt::format("interrupted; what is finished stands in {}, and the same command goes on",
                     folder_.results().string()));
    return ExitStatus::kInterrupted;
  }
  return failed_ ? ExitStatus::kFailed : ExitStatus::kDone;
}

ExitStatus compare(const CompareOptions& options) {
  train::parse_device(options.device);  // refuses one that is not there
  if (options.table && options.list) throw Error("--table", "given with --list", "one of the two");
  if (options.table && options.anew) throw Error("--anew", "given with --table", "one of the two");
  if (options.table && !fs::is_directory(options.out))
    throw Error(options.out.string(), "not there", "a folder that linnet compare has filled");
  for (const auto* files : {&options.data, &options.valid})
    if (std::find(files->begin(), files->end(), "-") != files->end())
      throw Error(files == &options.data ? "--data" : "--valid", "standard input, which can be read once",
                  "files");
  for (const fs::path& file : options.valid)
    if (std::find(options.data.begin(), options.data.end(), file) != options.data.end())
      throw Error(file.string(), "stands in --data and in --valid", "held-out text in --valid alone");
  Comparison comparison(options);
  if (options.list) {
    comparison.list();
    return ExitStatus::kDone;
  }
  return comparison.run();
}

}  // namespace

void describe_compare(CLI::App& app, Work& work) {
  const auto options = std::make_shared<CompareOptions>();
  add_model(app, *options, "Model folder with softmax attention and weights of its own");
  app.add_option("--grid", options->grid,
                 "What is compared: a JSON object, every key of which has a default (docs/compare.md)")
      ->type_name("FILE")
      ->check(not_empty());
  add_texts(app, "--data", options->data, "Training text")->required();
  add_texts(app, "--valid", options->valid, "Held-out text, on which everything is measured")->required();
  add_field(app, *options);
  output_folder(
      app.add_option("-o,--out", options->out,
                     "Folder for the cells' results and the table; what is finished there is not done again"))
      ->required()
      ->type_name("FOLDER");
  app.add_option("--only", options->only, "Cells whose name matches this pattern alone (* ? [])")
      ->type_name("PATTERN")
      ->check(not_empty());
  app.add_option("--shard", options->shard,
                 "The I-th of N shares of the cells, for machines that share no folder")
      ->type_name("I/N")
      ->check(not_empty());
  app.add_flag("--list", options->list, "Print the cells and their commands, and run nothing");
  app.add_flag("--table", options->table, "Make the table of what is there, and train nothing");
  app.add_flag("--anew", options->anew, "Compute results of another base, text or setting anew");
  app.add_flag("--keep-models", options->keep_models, "Keep the trained models, in OUT/work");
  add_device(app, *options);
  add_threads(app, *options);
  app.callback([options, &work] { work = [options] { return compare(*options); }; });
}

}  // namespace linnet::cli

// linnet compare: a grid of linearized models, each trained and measured, as one table (docs/compare.md).
// A cell is the commands that a user would type, run one after the other in this process.
#include <fcntl.h>
#include <fmt/format.h>
#include <fnmatch.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>

#include "base/count.h"
#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/interrupt.h"
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/timing.h"
#include "cli/commands.h"
#include "cli/compare_grid.h"
#include "cli/compare_table.h"
#include "cli/options.h"
#include "cli/output.h"
#include "evaluate/recall.h"
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

/// A lock on a cell that other processes over the same folder see; gone with the process.
class CellLock {
 public:
  explicit CellLock(const fs::path& file)
      : file_(file), descriptor_(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)) {
    if (descriptor_ < 0) throw Error(file.string(), "cannot be written", "a folder to write into");
    held_ = ::flock(descriptor_, LOCK_EX | LOCK_NB) == 0;
  }
  ~CellLock() {
    std::error_code error;
    if (held_) fs::remove(file_, error);
    ::close(descriptor_);
  }
  CellLock(const CellLock&) = delete;
  CellLock& operator=(const CellLock&) = delete;
  bool held() const { return held_; }

 private:
  fs::path file_;
  int descriptor_;
  bool held_ = false;
};

std::string hash_of_files(const std::vector<fs::path>& files) {
  Hash hash;
  for (const fs::path& file : files) hash.add(MappedFile(file).bytes());
  return hash.text();
}

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
  enum class Found { kNone, kFailed, kDone };

  fs::path result_file(const Cell& cell) const { return options_.out / "cells" / (cell.name + ".json"); }
  fs::path folder(const Cell& cell) const { return options_.out / "work" / cell.name; }
  nlohmann::json identity(const Cell& cell) const;
  std::vector<std::string> filled_in(const Cell& cell, const std::vector<std::string>& arguments) const;
  std::vector<std::string> lines(const Cell& cell) const;
  bool is_asked(const Cell& cell) const;
  void check_lines(const Cell& cell) const;

  Found find(const Cell& cell) const;
  void refuse_changed(const Cell& cell) const;
  size_t count_finished() const;
  void run_all();
  bool run_free(const Cell& cell);
  void compute(const Cell& cell);
  void run_command(const Cell& cell, const CellCommand& command);
  Json collect(const Cell& cell, double seconds) const;
  nlohmann::json window_of(const Cell& cell) const;
  void write_result(const Cell& cell, const Json& result) const;
  void say_done(const Cell& cell, const Json& result) const;
  void write_table() const;

  const CompareOptions& options_;
  std::shared_ptr<const Model> base_;
  CompareGrid grid_;
  nlohmann::json texts_;  // hashes of all that cells are made of
  std::vector<const Cell*> asked_;
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

Comparison::Comparison(const CompareOptions& options) : options_(options) {
  SharedOptions opened = options;
  opened.dtype = "auto";
  base_ = open_model(opened);
  if (base_->config().raw.contains("linear_attention") || base_->lora())
    throw Error(options.model, "is linearized, or a LoRA", "a softmax model with its own weights");
  const std::string where = options.grid.empty() ? "the grid" : options.grid;
  grid_ = read_grid(grid_object(options.grid), where, base_->config(), base_->attention_shape());
  texts_ = {{"base", base_->weights_hash()},
            {"data", hash_of_files(options.data)},
            {"valid", hash_of_files(options.valid)}};
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

/// What makes a result another: the base, the texts and the commands, wherever they lie.
nlohmann::json Comparison::identity(const Cell& cell) const {
  nlohmann::json identity = texts_;
  for (const CellCommand& command : cell.commands) identity["commands"].push_back(command.arguments);
  return identity;
}

std::vector<std::string> Comparison::filled_in(const Cell& cell,
                                               const std::vector<std::string>& arguments) const {
  std::vector<std::string> filled;
  for (const std::string& argument : arguments) {
    if (argument == "{base}") {
      filled.push_back(options_.model);
    } else if (argument == "{data}" || argument == "{valid}") {
      const auto& files = argument == "{data}" ? options_.data : options_.valid;
      for (const fs::path& file : files) filled.push_back(file.string());
    } else if (argument.starts_with("{cell}")) {
      filled.push_back(folder(cell).string() + argument.substr(6));
    } else {
      filled.push_back(argument);
    }
  }
  if (!options_.texts.field.empty() &&
      std::any_of(arguments.begin(), arguments.end(),
                  [](const std::string& argument) { return argument == "{valid}"; }))
    filled.insert(filled.end(), {"--field", options_.texts.field});
  return filled;
}

std::vector<std::string> Comparison::lines(const Cell& cell) const {
  std::vector<std::string> lines;
  for (const CellCommand& command : cell.commands)
    lines.push_back(shell_line(filled_in(cell, command.arguments)));
  return lines;
}

void Comparison::list() const {
  std::string text;
  for (const Cell* cell : asked_) {
    text += cell->name + "\n";
    for (const std::string& line : lines(*cell)) text += "  " + line + "\n";
  }
  for (const auto& [name, why] : grid_.left_out) text += fmt::format("left out: {}: {}\n", name, why);
  print(text);
}

/// Refuses an option or number of the grid that a command does not take, before anything long is begun.
void Comparison::check_lines(const Cell& cell) const {
  for (const CellCommand& command : cell.commands) {
    std::vector<std::string> arguments = filled_in(cell, command.arguments);
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

Comparison::Found Comparison::find(const Cell& cell) const {
  const fs::path file = result_file(cell);
  std::error_code error;
  if (!fs::exists(file, error)) return Found::kNone;
  const nlohmann::json result = read_json(file);
  if (!result.is_object() || result.value("identity", nlohmann::json()) != identity(cell))
    return Found::kNone;
  return result.contains("failed") ? Found::kFailed : Found::kDone;
}

/// A result of another base, text or setting is not computed over unasked.
void Comparison::refuse_changed(const Cell& cell) const {
  const fs::path file = result_file(cell);
  std::error_code error;
  if (options_.anew || !fs::exists(file, error)) return;
  const nlohmann::json result = read_json(file), own = identity(cell);
  const nlohmann::json old =
      result.is_object() ? result.value("identity", nlohmann::json()) : nlohmann::json();
  if (old == own) return;
  const std::pair<const char*, const char*> parts[] = {
      {"base", "base model"}, {"data", "--data"}, {"valid", "--valid"}, {"commands", "setting of the grid"}};
  std::string changed;
  for (const auto& [key, what] : parts)
    if (!old.is_object() || old.value(key, nlohmann::json()) != own[key])
      changed += fmt::format("{}{}", changed.empty() ? "another " : ", ", what);
  throw Error(file.string(), fmt::format("is a result of {}", changed),
              "--anew to compute it anew, or another -o");
}

size_t Comparison::count_finished() const {
  return static_cast<size_t>(std::count_if(asked_.begin(), asked_.end(), [&](const Cell* cell) {
    std::error_code error;
    return fs::exists(result_file(*cell), error) && find(*cell) != Found::kNone;
  }));
}

void Comparison::run_command(const Cell& cell, const CellCommand& command) {
  const fs::path product = folder(cell) / command.product;
  std::error_code error;
  const bool is_model = command.product == "model";
  if (fs::exists(is_model ? product / "config.json" : product, error)) return;
  std::vector<std::string> arguments = filled_in(cell, command.arguments);
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

Json Comparison::collect(const Cell& cell, double seconds) const {
  Json result = {{"cell", cell.name}, {"about", cell.about}};
  for (const CellCommand& command : cell.commands) {
    const fs::path product = folder(cell) / command.product;
    if (command.product == "model") {
      const fs::path numbers = folder(cell) / "training.json";
      std::error_code error;
      if (fs::exists(numbers, error)) result["training"] = read_json(numbers);
      result["training"]["curve"] = curve_of(product / "training.jsonl");
      result["attention"] = read_json(product / "config.json").value("linear_attention", nlohmann::json());
    } else {
      result[product.stem().string()] = read_json(product);
    }
  }
  result["seconds"] = seconds;
  return result;
}

/// The attention of the window alone that holds what the cell's trained state does; null for softmax.
nlohmann::json Comparison::window_of(const Cell& cell) const {
  if (cell.commands.front().product != "model" || cell.about["method"] == "window") return nullptr;
  Model::OpenOptions how{.state = std::nullopt};
  const auto& measure = cell.commands.back().arguments;
  if (std::find(measure.begin(), measure.end(), "--base") != measure.end()) how.base = options_.model;
  const auto model = Model::open(folder(cell) / "model", how);
  return attention_object(model->config(), window_alone(*model)->attention());
}

void Comparison::write_result(const Cell& cell, const Json& result) const {
  write_file(result_file(cell), result.dump(1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

void Comparison::say_done(const Cell& cell, const Json& result) const {
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
  const fs::path work = folder(cell), made_for = work / "identity.json";
  const nlohmann::json own = identity(cell);
  std::error_code error;
  if (!fs::exists(made_for, error) || read_json(made_for) != own) fs::remove_all(work);
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
    result = collect(cell, watch.seconds());
    const nlohmann::json attention = window_of(cell);
    if (!attention.is_null()) {
      result["window"] = window_cell(attention, grid_.measures).name;
      result["window_attention"] = attention;
    }
  } catch (const std::exception& failure) {
    const auto* known = dynamic_cast<const Error*>(&failure);
    if (known != nullptr && known->status() == ExitStatus::kInterrupted) throw;
    const std::string_view text = failure.what();
    result = {{"cell", cell.name}, {"about", cell.about}, {"seconds", watch.seconds()}};
    result["failed"] = printable(text.substr(0, text.find('\n')), 400);
    failed_ = true;
  }
  const KeepWorking keep;
  result["device"] = options_.device;
  result["commands"] = lines(cell);
  result["identity"] = own;
  write_result(cell, result);
  if (!options_.keep_models || result.contains("failed")) fs::remove_all(work);
  if (!cell.name.starts_with("window.")) say_done(cell, result);
}

/// Computes a cell unless another process is at it, or has been. False: another is.
bool Comparison::run_free(const Cell& cell) {
  const CellLock lock(options_.out / "work" / (cell.name + ".lock"));
  if (!lock.held()) return false;
  const Found found = find(cell);
  if (found == Found::kDone) return true;
  if (found == Found::kFailed && fs::last_write_time(result_file(cell)) > begin_) return true;  // just now
  compute(cell);
  return true;
}

void Comparison::run_all() {
  const auto run = [&](const Cell& cell) {
    stop_if_interrupted();
    if (find(cell) != Found::kDone && !run_free(cell)) ++busy_;
  };
  for (const Cell* cell : asked_) {
    run(*cell);
    if (find(*cell) != Found::kDone) continue;
    const nlohmann::json result = read_json(result_file(*cell));
    if (result.contains("window_attention")) run(window_cell(result["window_attention"], grid_.measures));
  }
}

/// All results of the grid that are there, the windows that they name among them.
void Comparison::write_table() const {
  Json results = Json::array();
  std::vector<std::string> windows;
  size_t missing = 0;
  for (const Cell& cell : grid_.cells) {
    if (find(cell) == Found::kNone) {
      ++missing;
      continue;
    }
    results.push_back(Json(read_json(result_file(cell))));
    const std::string window = results.back().value("window", std::string());
    if (!window.empty() && std::find(windows.begin(), windows.end(), window) == windows.end())
      windows.push_back(window);
  }
  for (const std::string& window : windows) {
    const fs::path file = options_.out / "cells" / (window + ".json");
    std::error_code error;
    if (fs::exists(file, error)) results.push_back(Json(read_json(file)));
  }
  Json about = {{"base", options_.model}, {"identity", texts_},         {"data", Json::array()},
                {"valid", Json::array()}, {"measures", grid_.measures}, {"missing", missing}};
  for (const fs::path& file : options_.data) about["data"].push_back(file.filename().string());
  for (const fs::path& file : options_.valid) about["valid"].push_back(file.filename().string());
  for (const auto& [name, why] : grid_.left_out) about["left_out"].push_back({name, why});
  const Json comparison = compare_json(about, results);
  const std::string markdown = compare_markdown(comparison);
  write_file(options_.out / "compare.json", comparison.dump(1) + "\n");
  write_file(options_.out / "compare.md", markdown);
  write_file(options_.out / "compare.html", compare_page(comparison));
  print(markdown);
}

ExitStatus Comparison::run() {
  for (const Cell& cell : grid_.cells) refuse_changed(cell);
  for (const Cell* cell : asked_) check_lines(*cell);
  fs::create_directories(options_.out / "cells");
  fs::create_directories(options_.out / "work");
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
  std::error_code error;
  fs::remove(options_.out / "work", error);  // where nothing is left in it
  write_table();
  if (busy_ > 0)
    note(fmt::format("{} left to other processes", counted(static_cast<int64_t>(busy_), "cell")));
  if (stopped) {
    note(fmt::format("interrupted; what is finished stands in {}, and the same command goes on",
                     (options_.out / "cells").string()));
    return ExitStatus::kInterrupted;
  }
  return failed_ ? ExitStatus::kFailed : ExitStatus::kDone;
}

ExitStatus compare(const CompareOptions& options) {
  train::parse_device(options.device);  // refuses one that is not there
  if (options.table && options.list) throw Error("--table", "given with --list", "one of the two");
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
  add_model(app, *options);
  app.add_option("--grid", options->grid,
                 "What is compared: a JSON object, every key of which has a default (docs/compare.md)")
      ->type_name("FILE");
  add_texts(app, "--data", options->data, "Training text")->required();
  add_texts(app, "--valid", options->valid, "Held-out text, on which everything is measured")->required();
  add_field(app, *options);
  app.add_option("-o,--out", options->out,
                 "Folder for the cells' results and the table; what is finished there is not done again")
      ->required()
      ->type_name("FOLDER");
  app.add_option("--only", options->only, "Cells whose name matches this pattern alone (* ? [])")
      ->type_name("PATTERN");
  app.add_option("--shard", options->shard,
                 "The I-th of N shares of the cells, for machines that share no folder")
      ->type_name("I/N");
  app.add_flag("--list", options->list, "Print the cells and their commands, and run nothing");
  app.add_flag("--table", options->table, "Make the table of what is there, and train nothing");
  app.add_flag("--anew", options->anew, "Compute results of another base, text or setting anew");
  app.add_flag("--keep-models", options->keep_models, "Keep the trained models, in OUT/work");
  add_device(app, *options);
  add_threads(app, *options);
  app.callback([options, &work] { work = [options] { return compare(*options); }; });
}

}  // namespace linnet::cli

#include "train/log.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"

namespace linnet::train {
namespace {

constexpr const char *kBits = "validation_bits_per_byte", *kNats = "validation_nats_per_token";

LogLine parse_line(const std::string& text, const std::string& where) {
  const nlohmann::json json = parse_json(text, where);
  const auto number = [&](const char* key) {
    const nlohmann::json& value = json.at(key);
    return value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
  };
  try {
    LogLine line{.step = json.at("step").get<int64_t>(),
                 .tokens = json.at("tokens").get<int64_t>(),
                 .phase = json.at("phase").get<std::string>(),
                 .loss = number("loss"),
                 .learning_rate = number("learning_rate"),
                 .gradient_norm = number("gradient_norm"),
                 .tokens_per_second = number("tokens_per_second"),
                 .seconds = json.at("seconds").get<double>()};
    if (json.contains(kBits)) line.validation_bits_per_byte = json.at(kBits).get<double>();
    if (json.contains(kNats)) line.validation_nats_per_token = json.at(kNats).get<double>();
    return line;
  } catch (const nlohmann::json::exception& error) {
    throw Error(where, error.what(), "a line of a training log");
  }
}

}  // namespace

std::string_view unit_of(bool in_nats) { return in_nats ? "nats per token" : "bits per byte"; }

std::optional<double> validation_of(const LogLine& line) {
  return line.validation_nats_per_token ? line.validation_nats_per_token : line.validation_bits_per_byte;
}

std::string to_json_line(const LogLine& line) {
  nlohmann::ordered_json json{{"step", line.step},
                              {"tokens", line.tokens},
                              {"phase", line.phase},
                              {"loss", line.loss},
                              {"learning_rate", line.learning_rate},
                              {"gradient_norm", line.gradient_norm},
                              {"tokens_per_second", line.tokens_per_second},
                              {"seconds", line.seconds}};
  if (line.validation_bits_per_byte) json[kBits] = *line.validation_bits_per_byte;
  if (line.validation_nats_per_token) json[kNats] = *line.validation_nats_per_token;
  for (const auto& [name, value] : line.scores) json["validation"][name] = value;
  if (!line.acceptance.empty()) json["acceptance"] = line.acceptance;
  return json.dump() + "\n";
}

void attempt(const std::function<void()>& write) {
  try {
    write();
  } catch (const Error& error) {
    warn(error.what());
  }
}

TrainingLog::TrainingLog(const std::filesystem::path& folder, std::string title,
                         std::optional<int64_t> resume_after)
    : folder_(folder),
      title_(std::move(title)),
      rate_{.name = "learning rate"},
      norm_{.name = "gradient norm"},
      validation_{.name = "validation"} {
  const std::filesystem::path path = folder / "training.jsonl";
  std::string kept;
  if (resume_after && std::filesystem::exists(path)) {
    std::ifstream old(path);
    std::string text;
    // A line that the interrupted run left half-written belongs to a step after the checkpoint.
    for (int number = 1; std::getline(old, text) && !old.eof(); ++number) {
      const LogLine line = parse_line(text, fmt::format("{}:{}", path.string(), number));
      if (line.step > *resume_after) break;
      remember(line);
      kept += text + "\n";
    }
  }
  write_file(path, kept);
  open();
}

void TrainingLog::open() {
  const std::filesystem::path path = folder_ / "training.jsonl";
  file_.open(path, std::ios::app);
  if (!file_)
    throw Error(path.string(), fmt::format("cannot write ({})", std::strerror(errno)),
                "a file that can be written");
}

void TrainingLog::remember(const LogLine& line) {
  const auto tokens = static_cast<double>(line.tokens);
  if (phases_.empty() || phases_.back() != line.phase) {
    phases_.push_back(line.phase);
    losses_.push_back({.title = fmt::format("loss, {}", line.phase), .curves = {{.name = line.phase}}});
  }
  losses_.back().curves[0].points.push_back({tokens, line.loss});
  rate_.points.push_back({tokens, line.learning_rate});
  norm_.points.push_back({tokens, line.gradient_norm});
  last_ = line;
  remember_score(line);
}

void TrainingLog::remember_score(const LogLine& line) {
  in_nats_ |= line.validation_nats_per_token.has_value();
  const std::optional<double> score = validation_of(line);
  if (!score) return;
  validation_.points.push_back({static_cast<double>(line.tokens), *score});
  if (line.step == 0) first_validation_ = score;
}

void TrainingLog::write(const std::vector<LogLine>& lines) {
  for (const LogLine& line : lines) {
    remember(line);
    file_ << to_json_line(line);
  }
  flush();
}

void TrainingLog::score_last(const LogLine& scored) {
  const std::filesystem::path path = folder_ / "training.jsonl";
  std::string text = read_whole(path.string());
  // The newline before the last line, if any.
  const size_t before = text.size() < 2 ? std::string::npos : text.rfind('\n', text.size() - 2);
  text.resize(before == std::string::npos ? 0 : before + 1);
  file_.close();
  write_file(path, text + to_json_line(scored));
  open();
  last_ = scored;
  remember_score(scored);
}

void TrainingLog::flush() {
  file_.flush();
  if (!file_)
    throw Error((folder_ / "training.jsonl").string(), fmt::format("cannot write ({})", std::strerror(errno)),
                "space on the disk");
}

void TrainingLog::plot() const {
  std::vector<Panel> panels = losses_;
  panels.push_back(
      {.title = fmt::format("validation, {}", unit_of(in_nats_)), .curves = {validation_}, .dots = true});
  panels.push_back({.title = "learning rate", .curves = {rate_}});
  panels.push_back({.title = "gradient norm before clipping", .curves = {norm_}, .logarithmic = true});
  write_file(folder_ / "training.svg", plot_svg(title_, {.title = "tokens seen"}, panels));
}

}  // namespace linnet::train

#include "base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "base/timing.h"

namespace linnet {
namespace {

constexpr double kRedraw = 0.1;  // seconds between two drawings of the bar
constexpr int kBarWidth = 24;

}  // namespace

std::string short_number(double number) {
  constexpr std::pair<double, const char*> kUnits[] = {{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
  for (const auto& [size, letter] : kUnits) {
    if (std::abs(number) >= size) return fmt::format("{:.3g}{}", number / size, letter);
  }
  return fmt::format("{:.3g}", number);
}

std::string short_time(double seconds) {
  if (!(seconds >= 0 && seconds < 1e8)) return "?";
  const auto whole = static_cast<long>(std::lround(seconds));
  if (whole < 60) return fmt::format("{}s", whole);
  if (whole < 3600) return fmt::format("{}m{:02}s", whole / 60, whole % 60);
  return fmt::format("{}h{:02}m", whole / 3600, whole / 60 % 60);
}

Progress::Output Progress::Output::standard_error(std::optional<double> first) {
  const char* term = std::getenv("TERM");
  const char* no_color = std::getenv("NO_COLOR");
  Output output;
  output.first = first;
  output.terminal = ::isatty(STDERR_FILENO) == 1 && term != nullptr && std::string_view(term) != "dumb";
  output.color = output.terminal && (no_color == nullptr || *no_color == '\0');
  output.write = [](std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stderr);
    std::fflush(stderr);
  };
  output.now = steady_seconds;
  return output;
}

Progress::Progress(std::string what, std::string unit, double total, double done, Output output)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(total),
      first_(done),
      done_(done),
      start_(output.now()),
      shown_(start_),
      output_(std::move(output)) {}

Progress::~Progress() { finish(); }

std::string Progress::line(double elapsed) const {
  const double rate = elapsed > 0 ? (done_ - first_) / elapsed : 0;
  std::string text = what_ + ": ";
  if (total_ > 0) {
    const double part = std::clamp(done_ / total_, 0.0, 1.0);
    if (output_.terminal) {
      const int full = static_cast<int>(part * kBarWidth);
      text += fmt::format("{}{}{}{} ", output_.color ? "\x1b[36m" : "",
                          std::string(static_cast<size_t>(full), '#'), output_.color ? "\x1b[0m" : "",
                          std::string(static_cast<size_t>(kBarWidth - full), '.'));
    }
    text += fmt::format("{:.0f}% {}/{} {}", std::floor(100 * part), short_number(done_), short_number(total_),
                        unit_);
  } else {
    text += fmt::format("{} {}", short_number(done_), unit_);
  }
  text += fmt::format(", {} {}/s", short_number(rate), unit_);
  if (total_ > done_ && rate > 0) text += fmt::format(", {} left", short_time((total_ - done_) / rate));
  if (!note_.empty()) text += ", " + note_;
  return text;
}

void Progress::update(double done, std::string_view note) {
  done_ = done;
  note_ = note;
  const double now = output_.now();
  double wait = output_.terminal ? kRedraw : output_.interval;
  if (shown_ == start_) wait = output_.first.value_or(wait);  // nothing was shown yet
  if (now - shown_ < wait) return;
  shown_ = now;
  const std::string text = line(now - start_);
  if (!output_.terminal) return output_.write("linnet: " + text + "\n");
  const std::string rest(width_ > text.size() ? width_ - text.size() : 0, ' ');  // of a longer line before
  output_.write("\r" + text + rest);
  width_ = text.size();
  drawn_ = true;
}

void Progress::finish() {
  if (!std::exchange(drawn_, false)) return;
  const std::string text = line(output_.now() - start_);
  output_.write("\r" + text + std::string(width_ > text.size() ? width_ - text.size() : 0, ' ') + "\n");
  width_ = 0;
}

void Progress::clear() {
  if (!std::exchange(drawn_, false)) return;
  output_.write(fmt::format("\r{:{}}\r", "", width_));
  width_ = 0;
}

}  // namespace linnet

// How far long work is: a bar on a terminal, plain lines at intervals elsewhere; to standard error.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace linnet {

/// Not thread-safe: one thread reports.
class Progress {
 public:
  /// Where lines go and how they may look. The default is standard error as it is: a bar if it is a terminal
  /// that understands one, colour unless NO_COLOR is set.
  struct Output {
    bool terminal = false, color = false;
    double interval = 10.0;  // seconds between plain lines
    std::function<void(std::string_view)> write;
    std::function<double()> now;       // seconds, from any start
    std::optional<double> first = {};  // seconds until anything is shown, where not as between two showings
    static Output standard_error(std::optional<double> first = {});
  };

  /// `total` of `unit`s are to do; 0 if that is not known. Rates count from here, without what `done` had
  /// been at the start (a resumed run).
  Progress(std::string what, std::string unit, double total, double done = 0,
           Output output = Output::standard_error());
  ~Progress();  // finish()
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` units are done in all; `note` stands at the line's end ("loss 3.21").
  void update(double done, std::string_view note = {});
  /// Ends the bar's line, so that other text can follow. Further updates draw it anew.
  void finish();
  /// Takes the bar away instead: what follows stands in its place.
  void clear();

 private:
  std::string line(double elapsed) const;

  std::string what_, unit_, note_;
  double total_, first_, done_, start_, shown_;
  bool drawn_ = false;
  size_t width_ = 0;  // of the bar's last line
  Output output_;
};

/// 1234567 as "1.23M", for rates and counts.
std::string short_number(double number);
/// Seconds as "42s", "3m12s", "1h05m".
std::string short_time(double seconds);

}  // namespace linnet

// The training log: OUT/training.jsonl, one JSON object per step, and OUT/training.svg, the same as curves.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/plot.h"

namespace linnet::train {

/// A step's numbers; of step 0, before training, all that a step has are NaN (null in the file).
struct LogLine {
  int64_t step = 0;    // 1 is the first
  int64_t tokens = 0;  // seen after this step
  std::string phase;   // "pretrain", "transfer", "distill", …
  double loss = 0;     // in the units of the phase's loss: nats a token, or a sum of relative errors
  double learning_rate = 0;
  double gradient_norm = 0;  // before clipping
  double tokens_per_second = 0;
  double seconds = 0;  // since the run began, pauses between resumed parts not counted
  std::optional<double> validation_bits_per_byte, validation_nats_per_token;  // one of the two, or none
  std::vector<std::pair<std::string, double>> scores;  // of a classifier on held-out texts, by name
  std::vector<double> acceptance;  // of draft heads on held-out text, by depth; empty: not measured
};

/// The one of the two that there is.
std::optional<double> validation_of(const LogLine& line);
std::string to_json_line(const LogLine& line);
/// What a score of held-out text is in.
std::string_view unit_of(bool in_nats);

/// Writes what is not worth losing a trained model for: where that fails, there is a warning.
void attempt(const std::function<void()>& write);

class TrainingLog {
 public:
  /// A fresh log; or the lines up to step `resume_after` of the one that stands, later ones dropped.
  /// Throws Error where the file cannot be written, or a line to keep is malformed.
  TrainingLog(const std::filesystem::path& folder, std::string title, std::optional<int64_t> resume_after);

  /// Appends and flushes. Throws Error on a full disk.
  void write(const std::vector<LogLine>& lines);
  /// The step that was logged last; of a resumed run without scores and acceptance. None: no line.
  const std::optional<LogLine>& last() const { return last_; }
  /// Puts the last line's scores of held-out text behind it, which Ctrl-C had cut off.
  void score_last(const LogLine& scored);
  /// Writes training.svg anew.
  void plot() const;
  /// The validation's score before training.
  std::optional<double> first_validation() const { return first_validation_; }

 private:
  void remember(const LogLine& line);
  void remember_score(const LogLine& line);
  void open();
  void flush();

  std::filesystem::path folder_;
  std::string title_;
  std::ofstream file_;
  std::optional<LogLine> last_;
  std::vector<std::string> phases_;
  std::vector<Panel> losses_;  // one a phase
  Curve rate_, norm_, validation_;
  std::optional<double> first_validation_;
  bool in_nats_ = false;  // the validation
};

}  // namespace linnet::train

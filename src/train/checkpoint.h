// Checkpoints: what a run needs to go on with the same losses. A checkpoint is a folder step-NNNNNNNN with
//   tensors.safetensors   parameter/NAME, first/NAME, second/NAME: masters and AdamW's moments
//   checkpoint.json       step, tokens, seconds, the run's identity, the hash of tensors.safetensors and its
//   own
// checkpoint.json is written last and makes the folder valid. No random state is kept: every random number is
// a function of the seed and the step.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "train/optimizer.h"

namespace linnet::train {

struct RunProgress {
  int64_t step = 0;    // done, over all phases
  int64_t tokens = 0;  // seen
  double seconds = 0;  // spent
};

class Checkpoints {
 public:
  /// `identity` is what two runs must share for one to go on where the other stopped: an object of
  /// numbers and strings.
  Checkpoints(std::filesystem::path folder, nlohmann::json identity);

  /// Writes a checkpoint and removes all but the newest two. Returns its folder. Throws Error on a full disk,
  /// leaving the earlier ones and nothing half-written.
  std::filesystem::path save(const RunProgress& progress, const AdamW& optimizer) const;

  /// The newest valid one.
  std::optional<std::filesystem::path> newest() const;
  /// The one that --resume goes on from. Throws Error where there is none.
  std::filesystem::path to_resume() const;

  /// Of the run that saved `folder`. Throws Error where it is damaged.
  static nlohmann::json read_identity(const std::filesystem::path& folder);
  /// What `folder` was saved at. Throws Error where it is damaged or of another run (naming what differs).
  RunProgress read_progress(const std::filesystem::path& folder) const;
  /// Fills the optimizer's parameters and moments. Throws Error, with nothing changed, where the tensors are
  /// damaged or not these.
  void load(const std::filesystem::path& folder, AdamW& optimizer, int64_t optimizer_steps) const;

  void remove_all() const;

 private:
  std::filesystem::path folder_;
  nlohmann::json identity_;
};

}  // namespace linnet::train

// The folder of `linnet compare`: OUT/cells/NAME.json for each finished cell, OUT/work/NAME while one is
// computed. Several processes may use one folder.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/compare_grid.h"

namespace linnet::cli {

/// What cells are made of, as the user named it.
struct CompareInputs {
  std::string model, field;  // MODEL and --field
  std::vector<std::filesystem::path> data, valid;
};

class CompareFolder {
 public:
  /// Reads the texts' bytes, which make a result what it is. Throws Error on a file that cannot be read.
  CompareFolder(std::filesystem::path out, CompareInputs inputs, const std::string& base_hash);

  enum class Found { kNone, kFailed, kDone };

  const std::filesystem::path& path() const { return out_; }
  std::filesystem::path results() const { return out_ / "cells"; }
  std::filesystem::path result_file(const std::string& name) const { return results() / (name + ".json"); }
  std::filesystem::path work(const Cell& cell) const { return out_ / "work" / cell.name; }

  /// Hashes of the base's weights, --data and --valid.
  const nlohmann::json& texts() const { return texts_; }
  /// What makes a result another: these and the commands, wherever base, texts and folder lie.
  nlohmann::json identity(const Cell& cell) const;
  /// A command's arguments with names in place of what stands for them; as a user would type all of them.
  std::vector<std::string> filled_in(const Cell& cell, const std::vector<std::string>& arguments) const;
  std::vector<std::string> lines(const Cell& cell) const;

  /// The cell's result, if there is one of its identity.
  Found find(const Cell& cell) const;
  /// Throws Error, saying what has changed, where there is one of another.
  void refuse_changed(const Cell& cell) const;
  /// Throws Error on a file that holds no result.
  nlohmann::json read(const std::string& name) const;
  void write(const Cell& cell, const nlohmann::ordered_json& result) const;

  void make() const;
  /// Takes OUT/work away, if nothing is left in it.
  void tidy() const;

 private:
  std::filesystem::path out_;
  CompareInputs inputs_;
  nlohmann::json texts_;
};

/// A cell taken by this process, until the object or the process is gone.
class CellLock {
 public:
  CellLock(const CompareFolder& folder, const Cell& cell);
  ~CellLock();
  CellLock(const CellLock&) = delete;
  CellLock& operator=(const CellLock&) = delete;

  /// False: another process has it.
  bool held() const { return held_; }

 private:
  std::filesystem::path file_;
  int descriptor_ = -1;
  bool held_ = false;
};

}  // namespace linnet::cli

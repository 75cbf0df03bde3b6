// The grid of `linnet compare`: which cells a grid file asks for, and the commands that each of them is
// (docs/compare.md lists the keys).
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "model/model.h"

namespace linnet::cli {

/// One command of a cell. Of its arguments "{base}", "{data}" and "{valid}" stand for what the user named,
/// and
/// "{cell}" for the cell's folder, so that a cell is the same wherever these lie.
struct CellCommand {
  std::string product;  // what it leaves in the cell's folder: "model", "rows.json", …
  std::vector<std::string> arguments;
};

struct Cell {
  std::string name;              // also its files'
  nlohmann::ordered_json about;  // method, variant, keys set, recipe, what is trained, seed, tokens
  std::vector<CellCommand> commands;
};

struct CompareGrid {
  std::vector<Cell> cells;                                    // the base first; names differ
  std::vector<std::pair<std::string, std::string>> left_out;  // cells that say nothing, and why
  nlohmann::json measures;
};

/// The grid of an object, whose keys all have defaults. Throws Error (where: `where`) on an unknown key and
/// on whatever cannot be: a method, key or number that linearize would refuse.
CompareGrid read_grid(const nlohmann::json& object, const std::string& where, const ModelConfig& config,
                      const AttentionShape& shape);

/// The window alone that holds no more bytes than a trained model's state: its weights are the base's. Its
/// name tells its attention.
Cell window_cell(const nlohmann::json& attention, const nlohmann::json& measures);

/// As a shell takes it: what holds more than plain characters stands in single quotes.
std::string shell_line(const std::vector<std::string>& arguments);

}  // namespace linnet::cli

// What `linnet recall` says of several models' readings of the same rows: JSON, tables and a picture.
#pragma once

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "evaluate/recall.h"

namespace linnet::cli {

/// One model's reading of all rows.
struct Measured {
  std::string name;
  std::shared_ptr<const Model> model;
  int64_t context = 0;
  RecallOptions how;
  std::vector<RecallRow> rows;
  std::vector<RecallScores> scores;
  size_t state_bytes = 0;

  /// Where a distance stands among this model's; none where it does not read so far.
  std::optional<size_t> place(int64_t distance) const {
    const auto at = std::find(how.distances.begin(), how.distances.end(), distance);
    if (at == how.distances.end()) return std::nullopt;
    return static_cast<size_t>(at - how.distances.begin());
  }
  template <class Read>
  std::vector<double> each(Read&& read) const {
    std::vector<double> values;
    for (const RecallScores& row : scores) values.push_back(read(row));
    return values;
  }
  std::vector<double> gains(size_t place) const {
    return each([&](const RecallScores& row) { return row.first - row.again[place]; });
  }
};

/// The models are the base, its windows alone and the model, or the model alone; `distances` the model's.
nlohmann::ordered_json recall_json(const std::vector<Measured>& subjects, uint64_t seed);
std::string recall_text(const nlohmann::ordered_json& result, const std::vector<int64_t>& distances);
std::string recall_picture(const std::string& title, const nlohmann::ordered_json& result);

}  // namespace linnet::cli

// What `linnet compare` makes of its cells' results: rows, JSON, Markdown and a page.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace linnet::cli {

/// `results` holds what each cell wrote. Cells that differ in nothing but their seed are one row, means and
/// their standard errors over the seeds; beside each stand the base and the window alone at as many bytes.
nlohmann::ordered_json compare_json(const nlohmann::ordered_json& about,
                                    const nlohmann::ordered_json& results);
/// One column of the table: what it says of a row.
struct CompareColumn {
  std::string title;
  bool is_number;
  std::function<std::string(const nlohmann::ordered_json& row)> text;
};
std::vector<CompareColumn> compare_columns(const nlohmann::ordered_json& comparison);
/// The row's method, or what stands beside the methods.
std::string row_name(const nlohmann::ordered_json& row);
/// What was measured, in a few sentences.
std::string compare_description(const nlohmann::ordered_json& comparison);
/// What is missing, failed or left out, each line between `begin` and `end`.
std::string compare_notes(const nlohmann::ordered_json& comparison, const char* begin, const char* end);

std::string compare_markdown(const nlohmann::ordered_json& comparison);
/// Self-contained HTML: the table and three plots.
std::string compare_page(const nlohmann::ordered_json& comparison);

}  // namespace linnet::cli

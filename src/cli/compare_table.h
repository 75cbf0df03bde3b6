// What `linnet compare` makes of its cells' results: rows, JSON, Markdown and a page.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace linnet::cli {

/// `results` holds what each cell wrote. Cells that differ in nothing but their seed are one row, means and
/// their standard errors over the seeds; beside each stand the base and the window alone at as many bytes.
nlohmann::ordered_json compare_json(const nlohmann::ordered_json& about,
                                    const nlohmann::ordered_json& results);
std::string compare_markdown(const nlohmann::ordered_json& comparison);
/// Self-contained HTML: the table and three plots.
std::string compare_page(const nlohmann::ordered_json& comparison);

}  // namespace linnet::cli

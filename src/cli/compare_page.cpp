// The page of `linnet compare`: the table and its plots in one file.
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/plot.h"
#include "cli/compare_table.h"

namespace linnet::cli {
namespace {

using Json = nlohmann::ordered_json;

/// The mean of a row's value, if it has one.
std::optional<double> mean_at(const Json& row, const std::string& name) {
  const Json::json_pointer at("/values/" + name + "/mean");
  return row.contains(at) ? std::optional(row[at].get<double>()) : std::nullopt;
}

std::string html_text(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

/// A click on a column's head sorts the rows by it, and back.
constexpr const char* kSorting = R"(<script>
document.querySelectorAll("th").forEach((head, column) => head.onclick = () => {
  const body = head.closest("table").tBodies[0];
  const up = head.dataset.up = head.dataset.up ? "" : "1";
  const key = row => {
    const text = row.cells[column].textContent, number = parseFloat(text);
    return isNaN(number) ? text : number;
  };
  const order = (a, b) => typeof a !== typeof b ? (typeof a === "number" ? -1 : 1) : (up ? 1 : -1) * (a < b ? -1 : a > b);
  [...body.rows].sort((a, b) => order(key(a), key(b))).forEach(row => body.append(row));
});
</script>
)";

/// What a point says of itself.
std::string point_text(const Json& row) {
  std::string text = row_name(row);
  for (const char* key : {"variant", "recipe", "train", "label"})
    if (const std::string word = row.value(key, std::string()); !word.empty()) text += " " + word;
  return text;
}

bool is_plain(const Json& row) { return row.value("variant", std::string()) == "plain"; }

Scatter points_of(const Json& comparison, const std::string& across, const std::string& up) {
  Scatter scatter;
  for (const Json& row : comparison["rows"]) {
    const auto x = mean_at(row, across), y = mean_at(row, up);
    if (!x || !y) continue;
    scatter.series.push_back({.name = row_name(row),
                              .points = {{*x, *y}},
                              .texts = {fmt::format("{}: {:.4g}, {:.4g}", point_text(row), *x, *y)},
                              .light = is_plain(row)});
  }
  return scatter;
}

std::vector<Scatter> plots_of(const Json& comparison) {
  std::vector<Scatter> plots;
  Scatter curves{.title = "Bits per byte against tokens trained",
                 .across = "tokens trained",
                 .up = "bits per byte, held-out text while training",
                 .series = {}};
  for (const Json& row : comparison["rows"]) {
    if (!row.contains("curve")) continue;
    Scatter::Series series{
        .name = row_name(row), .points = {}, .texts = {}, .joined = true, .light = is_plain(row)};
    for (const Json& point : row["curve"]) {
      series.points.push_back({point[0].get<double>(), point[1].get<double>()});
      series.texts.push_back(fmt::format("{}: {:.4f}", point_text(row), point[1].get<double>()));
    }
    curves.series.push_back(std::move(series));
  }
  plots.push_back(std::move(curves));
  for (const Json& distance : comparison["distances"]) {
    Scatter recall = points_of(comparison, "state_bytes", "kept_" + distance.dump());
    recall.title = fmt::format("Recall after {} tokens against state bytes", distance.dump());
    recall.across = "bytes of state", recall.up = "share of what the base gains", recall.logarithmic = true;
    plots.push_back(std::move(recall));
  }
  Scatter speed = points_of(comparison, "decode", "bits");
  speed.title = "Quality against decode speed";
  speed.across = "tokens decoded a second", speed.up = "bits per byte";
  plots.push_back(std::move(speed));
  std::erase_if(plots, [](const Scatter& plot) { return plot.series.empty(); });
  std::vector<std::string> names;
  for (const Json& row : comparison["rows"])
    if (std::find(names.begin(), names.end(), row_name(row)) == names.end()) names.push_back(row_name(row));
  for (Scatter& plot : plots) {
    plot.names = names;
    plot.title += " (rings: plain)";
  }
  return plots;
}

}  // namespace

std::string compare_page(const Json& comparison) {
  const std::vector<CompareColumn> columns = compare_columns(comparison);
  std::string table = "<table><thead><tr>";
  for (const CompareColumn& column : columns)
    table += fmt::format("<th{}>{}", column.is_number ? "" : " class=t", html_text(column.title));
  table += "</tr></thead>\n<tbody>\n";
  for (const Json& row : comparison["rows"]) {
    table += "<tr>";
    for (const CompareColumn& column : columns)
      table += fmt::format("<td{}>{}", column.is_number ? "" : " class=t", html_text(column.text(row)));
    table += "</tr>\n";
  }
  table += "</tbody></table>\n";
  std::string plots;
  for (const Scatter& plot : plots_of(comparison)) plots += scatter_svg(plot);
  const std::string notes = compare_notes(comparison, "<li>", "\n");
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width\"><title>linnet compare</title>\n"
      "<style>body{{font:14px system-ui,sans-serif;margin:2em;color:#222}}p{{max-width:60em}}"
      "table{{border-collapse:collapse}}th,td{{padding:3px 9px;text-align:right;border-bottom:1px solid #ddd;"
      "white-space:nowrap}}th{{cursor:pointer;position:sticky;top:0;background:#fff;white-space:normal;"
      "vertical-align:"
      "bottom}}"
      ".t{{text-align:left}}tbody tr:hover{{background:#f3f6fb}}svg{{display:block;margin:1.5em 0}}</style>\n"
      "<h1>linnet compare</h1>\n<p>{}</p>\n{}{}{}{}</html>\n",
      html_text(compare_description(comparison)), table, plots,
      notes.empty() ? "" : "<ul>\n" + notes + "</ul>\n", kSorting);
}

}  // namespace linnet::cli

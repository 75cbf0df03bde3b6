#include "cli/compare_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <optional>

#include "base/count.h"
#include "base/progress.h"
#include "base/statistics.h"

namespace linnet::cli {
namespace {

using Json = nlohmann::ordered_json;
using Number = std::optional<double>;

/// The number at a path of keys and indices such as /rows/bits_per_byte, if there is one.
Number number_at(const Json& object, const std::string& path) {
  const Json::json_pointer pointer(path);
  if (!object.contains(pointer) || !object[pointer].is_number()) return std::nullopt;
  return object[pointer].get<double>();
}

const Json* passage_at(const Json& result, int64_t distance) {
  const Json::json_pointer list("/recall/models/model/distances");
  if (!result.contains(list)) return nullptr;
  for (const Json& entry : result[list])
    if (entry.at("distance") == distance) return &entry;
  return nullptr;
}

/// Nats per token that the base gains at a distance, and what share of it another keeps.
Number kept(const Json& result, const Json* base, int64_t distance) {
  if (base == nullptr) return std::nullopt;
  const Json *own = passage_at(result, distance), *whole = passage_at(*base, distance);
  if (own == nullptr || whole == nullptr) return std::nullopt;
  const Number gain = number_at(*own, "/gain/mean"), most = number_at(*whole, "/gain/mean"),
               error = number_at(*whole, "/gain/standard_error");
  // Of nothing but noise no share is kept.
  if (!gain || !most || *most <= 2 * error.value_or(0)) return std::nullopt;
  return *gain / *most;
}

/// Nats of all tokens whose pair stood far back.
Number far_nats(const Json& result) {
  const Json::json_pointer list("/recall/far_pairs");
  if (!result.contains(list)) return std::nullopt;
  double nats = 0, tokens = 0;
  for (const Json& bin : result[list]) {
    const Number mean = number_at(bin, "/model/mean"), count = number_at(bin, "/tokens");
    if (!mean || !count) return std::nullopt;
    nats += *mean * *count, tokens += *count;
  }
  return tokens > 0 ? Number(nats / tokens) : std::nullopt;
}

Number won_back(const Number& base, const Number& window, const Number& model) {
  if (!base || !window || !model || *window - *base <= 0) return std::nullopt;
  return (*window - *model) / (*window - *base);
}

/// What one cell says, beside the base and its window alone (null where these are not there).
std::map<std::string, Number> values_of(const Json& result, const Json* base, const Json* window,
                                        const std::vector<int64_t>& distances) {
  const auto at = [](const Json* from, const char* path) { return from ? number_at(*from, path) : Number(); };
  std::map<std::string, Number> values;
  values["bits"] = at(&result, "/rows/bits_per_byte");
  values["stream"] = at(&result, "/stream/bits_per_byte");
  values["state_bytes"] = at(&result, "/recall/models/model/state_bytes");
  if (!values["state_bytes"]) values["state_bytes"] = at(&result, "/decode/decode/0/state_bytes");
  values["decode"] = at(&result, "/decode/decode/0/decode_tokens_per_second");
  values["trained_tokens"] = at(&result, "/training/tokens");  // asked for, rounded down to whole steps
  values["trained_parameters"] = at(&result, "/training/trained_parameters");
  values["train_rate"] = at(&result, "/training/tokens_per_second");
  values["window_bits"] = at(window, "/rows/bits_per_byte");
  values["window_stream"] = at(window, "/stream/bits_per_byte");
  if (const Number own = values["bits"], whole = at(base, "/rows/bits_per_byte"); own && whole)
    values["bits_change"] = *own / *whole - 1;
  if (base != nullptr && window != nullptr)
    values["far_won_back"] = won_back(far_nats(*base), far_nats(*window), far_nats(result));
  for (const int64_t distance : distances) {
    const std::string name = fmt::format("kept_{}", distance);
    values[name] = kept(result, base, distance);
    if (window != nullptr) values["window_" + name] = kept(*window, base, distance);
    if (const Json* entry = passage_at(result, distance))
      values[fmt::format("needle_{}", distance)] = number_at(*entry, "/needle/exact/mean");
  }
  return values;
}

std::vector<int64_t> distances_of(const Json& results) {
  std::vector<int64_t> distances;
  for (const Json& result : results) {
    const Json::json_pointer list("/recall/models/model/distances");
    if (!result.contains(list)) continue;
    for (const Json& entry : result[list]) {
      const auto distance = entry.at("distance").get<int64_t>();
      if (std::find(distances.begin(), distances.end(), distance) == distances.end())
        distances.push_back(distance);
    }
  }
  std::sort(distances.begin(), distances.end());
  return distances;
}

const Json* result_named(const Json& results, const std::string& name) {
  for (const Json& result : results)
    if (result.at("cell") == name && !result.contains("failed")) return &result;
  return nullptr;
}

/// What cells of one row share: all but the seed; a result without one is a row of its own.
std::string key_of(const Json& result) {
  Json about = result.at("about");
  return about.erase("seed") > 0 ? about.dump() : result.at("cell").get<std::string>();
}

Json mean_over_seeds(const std::vector<double>& values) {
  const Mean mean = mean_of(values);
  return {{"mean", mean.mean}, {"standard_error", mean.error}, {"count", values.size()}};
}

/// One row of several seeds' results.
Json row_over_seeds(const std::vector<const Json*>& results, const Json& all,
                    const std::vector<int64_t>& distances) {
  Json row = results.front()->at("about");
  row.erase("seed");
  std::map<std::string, std::vector<double>> numbers;
  for (const Json* result : results) {
    if (result->at("about").contains("seed")) row["seeds"].push_back(result->at("about")["seed"]);
    row["cells"].push_back(result->at("cell"));
    const std::string window = result->value("window", std::string());
    for (const auto& [name, value] :
         values_of(*result, result_named(all, "base"), result_named(all, window), distances))
      if (value && std::isfinite(*value)) numbers[name].push_back(*value);
  }
  const Json& first = *results.front();
  if (first.contains("window")) row["window"] = first["window"];
  for (const auto& [name, values] : numbers) row["values"][name] = mean_over_seeds(values);
  if (first.contains("training") && !first.at("training").at("curve").empty())
    row["curve"] = first.at("training").at("curve");
  return row;
}

// Text.

std::string mean_text(const Json& row, const std::string& name,
                      const std::function<std::string(double)>& text) {
  const Json::json_pointer at("/values/" + name);
  if (!row.contains(at)) return "–";
  const Json& value = row[at];
  std::string out = text(value["mean"].get<double>());
  if (value["count"] > 1) out += " ± " + text(value["standard_error"].get<double>());
  return out;
}

std::string plain_mean(const Json& row, const std::string& name, int digits) {
  return mean_text(row, name, [&](double x) { return fmt::format("{:.{}f}", x, digits); });
}
std::string percent_text(const Json& row, const std::string& name) {
  return mean_text(row, name, [](double x) { return fmt::format("{:.0f}%", 100 * x); });
}
std::string change(const Json& row) {
  const Json::json_pointer at("/values/bits_change/mean");
  return row.contains(at) ? fmt::format("{:+.2f}%", 100 * row[at].get<double>()) : "–";
}

/// What was trained, of how many numbers, by what, on how many tokens.
std::string trained_text(const Json& row) {
  if (!row.contains("tokens")) return "nothing";
  std::string text = row["train"].get<std::string>();
  const Json::json_pointer at("/values/trained_parameters/mean");
  if (row.contains(at)) text += fmt::format(" ({})", short_number(row[at].get<double>()));
  const Json::json_pointer tokens("/values/trained_tokens/mean");
  text += fmt::format(", {} tokens",
                      short_number((row.contains(tokens) ? row[tokens] : row["tokens"]).get<double>()));
  return text;
}

}  // namespace

std::string row_name(const Json& row) {
  if (row["method"] == "base") return "base";
  if (row["method"] == "window") return "window alone";
  return row["method"].get<std::string>();
}

std::vector<CompareColumn> compare_columns(const Json& comparison) {
  const auto word = [](const char* key) {
    return [key](const Json& row) { return row.value(key, std::string("–")); };
  };
  const auto mean = [](std::string name, int digits) {
    return [name, digits](const Json& row) { return plain_mean(row, name, digits); };
  };
  std::vector<CompareColumn> columns = {
      {"method", false, row_name},
      {"variant", false,
       [](const Json& row) {
         const std::string label = row.value("label", std::string());
         return row.value("variant", std::string("–")) + (label.empty() ? "" : ", " + label);
       }},
      {"recipe", false, word("recipe")},
      {"trained", false, trained_text},
      {"seeds", true,
       [](const Json& row) { return row.contains("seeds") ? fmt::format("{}", row["seeds"].size()) : "–"; }},
      {"bits per byte", true, mean("bits", 4)},
      {"against base", true, change},
      {"its window alone", true, mean("window_bits", 4)},
      {"stream", true, mean("stream", 4)},
      {"its window alone", true, mean("window_stream", 4)},
  };
  for (const Json& distance : comparison["distances"]) {
    const std::string name = "kept_" + distance.dump();
    columns.push_back({fmt::format("recalled after {}", distance.dump()), true,
                       [name](const Json& row) { return percent_text(row, name); }});
    columns.push_back(
        {"its window alone", true, [name](const Json& row) { return percent_text(row, "window_" + name); }});
  }
  columns.push_back(
      {"far pairs won back", true, [](const Json& row) { return percent_text(row, "far_won_back"); }});
  columns.push_back({"state, MB", true, [](const Json& row) {
                       return mean_text(row, "state_bytes",
                                        [](double x) { return fmt::format("{:.2f}", x * 1e-6); });
                     }});
  columns.push_back({"decode, tokens/s", true, mean("decode", 0)});
  return columns;
}

std::string compare_description(const Json& comparison) {
  const Json& about = comparison["about"];
  const auto list = [](const Json& names) {
    std::string text;
    for (const Json& name : names) text += (text.empty() ? "" : ", ") + name.get<std::string>();
    return text;
  };
  std::string text = fmt::format("Base {}, trained on {}, measured on {}.", about["base"].get<std::string>(),
                                 list(about["data"]), list(about["valid"]));
  const Json& measures = about["measures"];
  if (measures["rows"] != false)
    text += fmt::format(" Bits per byte: windows of {} tokens, the first {} of each text.",
                        measures["rows"]["window"].dump(), measures["rows"]["to"].dump());
  if (measures["stream"] != false)
    text += fmt::format(" Stream: bits per byte of tokens {} to {} of each text, read as one context.",
                        measures["stream"]["from"].dump(), measures["stream"]["to"].dump());
  if (measures["recall"] != false)
    text += fmt::format(
        " Recalled: of what the base gains on a passage of {} tokens that comes again in rows of {}; far "
        "pairs: "
        "of what the window alone loses on them.",
        measures["recall"]["passage"].dump(), measures["recall"]["context"].dump());
  if (measures["decode"] != false)
    text += fmt::format(" Decoding after {} tokens, beside whatever else the machine did.",
                        measures["decode"]["context"].dump());
  text +=
      " The window alone: the base's own weights with exact attention over as many last tokens as the row's "
      "state has bytes for. ± is one standard error over seeds.";
  return text;
}

/// Cells by the type that they were trained in, where they differ: what one machine chose and another did
/// not.
std::string mixed_arithmetic(const Json& cells) {
  std::map<std::string, int64_t> types;
  for (const Json& cell : cells) {
    const auto training = cell.find("training");
    if (training == cell.end() || !training->contains("dtype")) continue;
    ++types[(*training)["dtype"].get<std::string>()];
  }
  if (types.size() < 2) return {};
  std::string list;
  for (const auto& [type, count] : types)
    list += fmt::format("{}{} in {}", list.empty() ? "" : ", ", counted(count, "cell"), type);
  return fmt::format("Trained in different arithmetic: {} (\"options\": {{\"dtype\": …}} sets one).", list);
}

std::string compare_notes(const Json& comparison, const char* begin, const char* end) {
  std::string text;
  const auto say = [&](const std::string& line) { text += begin + line + end; };
  if (comparison["about"]["missing"] > 0)
    say(counted(comparison["about"]["missing"].get<int64_t>(), "cell of the grid is not there yet.",
                "cells of the grid are not there yet."));
  for (const Json& failure : comparison["failed"])
    say(fmt::format("{} failed: {}", failure["cell"].get<std::string>(),
                    failure["error"].get<std::string>()));
  if (const std::string mixed = mixed_arithmetic(comparison["cells"]); !mixed.empty()) say(mixed);
  for (const Json& left : comparison["about"].value("left_out", Json::array()))
    say(fmt::format("{} is left out: {}.", left[0].get<std::string>(), left[1].get<std::string>()));
  return text;
}

Json compare_json(const Json& about, const Json& results) {
  Json comparison = {{"about", about},
                     {"distances", distances_of(results)},
                     {"rows", Json::array()},
                     {"failed", Json::array()},
                     {"cells", results}};
  std::vector<std::pair<std::string, std::vector<const Json*>>> rows;
  for (const Json& result : results) {
    if (result.contains("failed")) {
      comparison["failed"].push_back({{"cell", result.at("cell")}, {"error", result["failed"]}});
      continue;
    }
    const std::string key = key_of(result);
    const auto at = std::find_if(rows.begin(), rows.end(), [&](const auto& row) { return row.first == key; });
    if (at == rows.end()) {
      rows.push_back({key, {&result}});
    } else {
      at->second.push_back(&result);
    }
  }
  const auto distances = comparison["distances"].get<std::vector<int64_t>>();
  for (const auto& [key, own] : rows) comparison["rows"].push_back(row_over_seeds(own, results, distances));
  return comparison;
}

std::string compare_markdown(const Json& comparison) {
  const std::vector<CompareColumn> columns = compare_columns(comparison);
  std::string head = "|", line = "|";
  for (const CompareColumn& column : columns) {
    head += " " + column.title + " |";
    line += column.is_number ? " ---: |" : " --- |";
  }
  std::string text = compare_description(comparison) + "\n\n" + head + "\n" + line + "\n";
  for (const Json& row : comparison["rows"]) {
    text += "|";
    for (const CompareColumn& column : columns) text += " " + column.text(row) + " |";
    text += "\n";
  }
  const std::string notes = compare_notes(comparison, "- ", "\n");
  return notes.empty() ? text : text + "\n" + notes;
}

}  // namespace linnet::cli

#include "cli/recall_result.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/plot.h"
#include "base/statistics.h"
#include "cli/output.h"

namespace linnet::cli {
namespace {

using Json = nlohmann::ordered_json;

/// The share that `parts` are of `wholes`, row by row; null where the wholes may be nothing but noise.
Json share_json(const std::vector<double>& parts, const std::vector<double>& wholes) {
  const Mean whole = mean_of(wholes);
  if (whole.mean <= 2 * whole.error) return nullptr;
  return json_of(ratio_of(parts, wholes));
}

Json asked_json(const Measured& subject, const std::function<const Asked&(const RecallScores&)>& asked) {
  return {{"answer_nats", json_of(mean_of(subject.each([&](const auto& row) { return asked(row).nats; })))},
          {"exact",
           json_of(mean_of(subject.each([&](const auto& row) { return asked(row).exact ? 1.0 : 0.0; })))}};
}

/// What one model says of a distance; `base` is null where there is none to be held to.
Json distance_json(const Measured& subject, const Measured* base, int64_t distance) {
  const auto place = subject.place(distance);
  if (!place) return nullptr;
  Json out = {{"again", json_of(mean_of(subject.each([&](const auto& row) { return row.again[*place]; })))},
              {"gain", json_of(mean_of(subject.gains(*place)))}};
  if (const auto at = base ? base->place(distance) : std::nullopt)
    out["kept"] = share_json(subject.gains(*place), base->gains(*at));
  out["needle"] =
      asked_json(subject, [&](const RecallScores& row) -> const Asked& { return row.asked[*place]; });
  return out;
}

std::string bin_name(size_t bin) {
  const auto name = [](int64_t bound) {
    return bound % 1024 == 0 ? fmt::format("{}K", bound / 1024) : fmt::format("{}", bound);
  };
  return fmt::format("{}-{}", name(kFarBounds[bin]), name(kFarBounds[bin + 1]));
}

/// Far pairs of one bin for each model that reads the whole rows; won back is of what the window alone loses.
Json far_json(const std::vector<Measured>& subjects, size_t bin) {
  const Measured& whole = subjects.back();
  int64_t tokens = 0;
  for (const RecallScores& row : whole.scores) tokens += row.far_tokens[bin];
  if (tokens == 0) return nullptr;
  Json out = {{"distance", bin_name(bin)}, {"tokens", tokens}};
  const auto nats = [&](const Measured& subject) {
    return subject.each([&](const RecallScores& row) { return row.far_nats[bin]; });
  };
  const auto counts =
      whole.each([&](const RecallScores& row) { return static_cast<double>(row.far_tokens[bin]); });
  bool all = subjects.size() == 3;
  for (const Measured& subject : subjects) {
    const bool same = subject.context == whole.context;
    out[subject.name] = same ? json_of(ratio_of(nats(subject), counts)) : Json();
    all &= same;
  }
  if (!all) return out;
  const auto base = nats(subjects[0]), window = nats(subjects[1]), model = nats(subjects[2]);
  std::vector<double> won(base.size()), lost(base.size());
  for (size_t i = 0; i < base.size(); ++i) won[i] = window[i] - model[i], lost[i] = window[i] - base[i];
  out["won_back"] = share_json(won, lost);
  return out;
}

std::string cell(const Json& mean) {
  if (mean.is_null()) return "-";
  return text_of(Mean{mean["mean"].get<double>(), mean["standard_error"].get<double>()}, 3);
}
std::string percent(const Json& mean) {
  if (mean.is_null()) return "-";
  return fmt::format("{:.0f} ± {:.0f}%", 100 * mean["mean"].get<double>(),
                     100 * mean["standard_error"].get<double>());
}

/// Cells in columns as wide as ± needs; it is two bytes and one place.
std::string line_of(const std::vector<std::string>& cells) {
  std::string line;
  for (size_t i = 0; i < cells.size(); ++i) {
    const size_t places = cells[i].size() - (cells[i].find("±") != std::string::npos ? 1 : 0);
    const size_t width = i == 0 ? 10 : 17;
    if (i == 0) line += cells[i];
    if (places < width) line += std::string(width - places, ' ');
    if (i > 0) line += cells[i];
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

/// The entry of a model's distance, or null.
Json entry_of(const Json& own, int64_t distance) {
  for (const Json& entry : own.value("distances", Json::array()))
    if (entry["distance"] == distance) return entry;
  return nullptr;
}

std::string passages_table(const Json& result, const std::vector<int64_t>& distances) {
  const Json& models = result["models"];
  std::vector<std::string> head = {"after"}, never = {"never"};
  for (const auto& [name, own] : models.items()) {
    head.insert(head.end(), {name, name == "base" || models.size() == 1 ? "gains" : "keeps"});
    never.insert(never.end(), {cell(own["never"]), ""});
  }
  std::string table = line_of(head) + line_of(never);
  for (const int64_t distance : distances) {
    std::vector<std::string> cells = {fmt::format("{}", distance)};
    for (const auto& [name, own] : models.items()) {
      const Json entry = entry_of(own, distance);
      const bool here = !entry.is_null();
      cells.push_back(here ? cell(entry["again"]) : "-");
      cells.push_back(!here                                  ? "-"
                      : entry.contains("kept")               ? percent(entry["kept"])
                      : models.size() == 1 || name == "base" ? cell(entry["gain"])
                                                             : "-");
    }
    table += line_of(cells);
  }
  return table;
}

std::string needle_table(const Json& result, const std::vector<int64_t>& distances) {
  std::vector<std::string> head = {"after"}, never = {"never"};
  const auto add = [](std::vector<std::string>& cells, const Json& asked) {
    cells.push_back(asked.is_null() ? "-" : cell(asked["answer_nats"]));
    cells.push_back(asked.is_null() ? "-" : percent(asked["exact"]));
  };
  for (const auto& [name, own] : result["models"].items()) {
    head.insert(head.end(), {name, "exact"});
    add(never, own["needle_never"]);
  }
  std::string table = line_of(head) + line_of(never);
  for (const int64_t distance : distances) {
    std::vector<std::string> cells = {fmt::format("{}", distance)};
    for (const auto& [name, own] : result["models"].items()) {
      const Json entry = entry_of(own, distance);
      add(cells, entry.is_null() ? Json() : entry["needle"]);
    }
    table += line_of(cells);
  }
  return table;
}

std::string far_table(const Json& result) {
  std::vector<std::string> head = {"back"};
  for (const auto& [name, own] : result["models"].items()) head.push_back(name);
  const bool compared = result["models"].size() > 1;
  if (compared) head.emplace_back("won back");
  head.emplace_back("tokens");
  std::string table = line_of(head);
  for (const Json& far : result["far_pairs"]) {
    std::vector<std::string> cells = {far["distance"].get<std::string>()};
    for (const auto& [name, own] : result["models"].items()) cells.push_back(cell(far[name]));
    if (compared) cells.push_back(percent(far.value("won_back", Json())));
    cells.push_back(far["tokens"].dump());
    table += line_of(cells);
  }
  return table;
}

}  // namespace

Json recall_json(const std::vector<Measured>& subjects, uint64_t seed) {
  const Measured& model = subjects.back();
  const Measured* base = subjects.size() > 1 ? &subjects.front() : nullptr;
  Json out = {{"context", model.context},
              {"rows", model.rows.size()},
              {"seed", seed},
              {"passage", {{"tokens", model.how.passage}, {"scored", model.how.scored()}}}};
  for (const Measured& subject : subjects) {
    const auto per_token = [](const RecallScores& row) { return row.nats / static_cast<double>(row.tokens); };
    Json& own = out["models"][subject.name] = {
        {"context", subject.context},
        {"state_bytes", subject.state_bytes},
        {"text_nats", json_of(mean_of(subject.each(per_token)))},
        {"never", json_of(mean_of(subject.each([](const auto& row) { return row.first; })))},
        {"needle_never",
         asked_json(subject, [](const RecallScores& row) -> const Asked& { return row.never; })}};
    for (const int64_t distance : model.how.distances) {
      Json entry = distance_json(subject, &subject == base ? nullptr : base, distance);
      if (entry.is_null()) continue;
      Json numbered = {{"distance", distance}};
      numbered.update(entry);
      own["distances"].push_back(std::move(numbered));
    }
  }
  out["far_pairs"] = Json::array();
  for (size_t bin = 0; bin < kFarBins; ++bin)
    if (Json far = far_json(subjects, bin); !far.is_null()) out["far_pairs"].push_back(std::move(far));
  return out;
}

std::string recall_text(const Json& result, const std::vector<int64_t>& distances) {
  std::string text = fmt::format(
      "A passage of {} tokens that comes again: nats per token of its last {} (± one standard error over {} "
      "rows of {} tokens)\n",
      result["passage"]["tokens"].dump(), result["passage"]["scored"].dump(), result["rows"].dump(),
      result["context"].dump());
  text += passages_table(result, distances);
  text += "\nA number that was told once and is asked for: nats of the answer, answered exactly\n";
  text += needle_table(result, distances);
  if (!result["far_pairs"].empty()) {
    text += "\nTokens of the text whose pair with the token before stood last so far back: nats per token\n";
    text += far_table(result);
  }
  text += "\nState of one row:";
  for (const auto& [name, own] : result["models"].items())
    text += fmt::format(" {} {:.1f} MB of {} tokens;", name, own["state_bytes"].get<double>() / 1e6,
                        own["context"].dump());
  text.back() = '\n';
  return text;
}

std::string recall_picture(const std::string& title, const Json& result) {
  Panel passage{.title = "a passage again, nats per token", .curves = {}, .dots = true};
  Panel needle{.title = "a needle, answered exactly", .curves = {}, .dots = true};
  for (const auto& [name, own] : result["models"].items()) {
    Curve again{.name = name, .points = {}}, exact = again;
    for (const Json& entry : own.value("distances", Json::array())) {
      const double x = entry["distance"];
      again.points.push_back({x, entry["again"]["mean"]});
      exact.points.push_back({x, entry["needle"]["exact"]["mean"]});
    }
    passage.curves.push_back(std::move(again));
    needle.curves.push_back(std::move(exact));
  }
  Curve never{.name = "first time", .points = passage.curves.back().points};
  for (auto& point : never.points) point.y = result["models"]["model"]["never"]["mean"];
  passage.curves.push_back(std::move(never));
  return plot_svg(title, {.title = "tokens before", .logarithmic = true}, {passage, needle});
}

}  // namespace linnet::cli

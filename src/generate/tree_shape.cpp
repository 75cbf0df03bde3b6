#include "generate/tree_shape.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"

namespace linnet {
namespace {

constexpr int32_t kMostInShape = 1024, kMostRanks = 1024;

Error malformed(const std::string& where, const std::string& what) {
  return Error(
      where, what,
      "a tree: paths of ranks as in [[0], [1], [0, 0]], or {\"parents\": [0, 0, 1], \"ranks\": [0, 1, 0]}");
}

int32_t number_of(const nlohmann::json& json, int32_t end, const std::string& where,
                  const std::string& what) {
  if (!json.is_number_integer() || json < 0 || json >= end)
    throw malformed(where, fmt::format("{} is {}", what, json.dump()));
  return json.get<int32_t>();
}

void check_size(size_t nodes, const std::string& where) {
  if (nodes < kMostInShape) return;
  throw Error(where, fmt::format("a tree of {} nodes", nodes), fmt::format("at most {}", kMostInShape - 1));
}

TreeShape from_paths(const nlohmann::json& json, const std::string& where) {
  check_size(json.size(), where);
  std::vector<std::vector<int32_t>> paths;
  for (const auto& path : json) {
    const std::string what = fmt::format("path {}", paths.size());
    if (!path.is_array() || path.empty()) throw malformed(where, fmt::format("{} is {}", what, path.dump()));
    paths.emplace_back();
    for (const auto& rank : path)
      paths.back().push_back(number_of(rank, kMostRanks, where, "a rank of " + what));
  }
  std::stable_sort(paths.begin(), paths.end(),
                   [](const auto& a, const auto& b) { return a.size() < b.size(); });
  TreeShape shape;
  for (const auto& path : paths) {
    int32_t node = 0;
    for (size_t i = 0; i + 1 < path.size(); ++i) {
      node = shape.child(node, path[i]);
      if (node < 0)
        throw Error(where,
                    fmt::format("path [{}] without [{}]", fmt::join(path, ", "),
                                fmt::join(std::span(path).first(i + 1), ", ")),
                    "the parent of every node");
    }
    if (shape.child(node, path.back()) >= 0)
      throw Error(where, fmt::format("path [{}] twice", fmt::join(path, ", ")), "every node once");
    shape.add(node, path.back());
  }
  return shape;
}

TreeShape from_parents(const nlohmann::json& json, const std::string& where) {
  for (const auto& [key, value] : json.items()) {
    if (key != "parents" && key != "ranks") throw malformed(where, fmt::format("unknown key \"{}\"", key));
    if (!value.is_array()) throw malformed(where, fmt::format("\"{}\" is no list", key));
  }
  if (!json.contains("parents") || !json.contains("ranks") || json["parents"].size() != json["ranks"].size())
    throw malformed(where, "\"parents\" and \"ranks\" of different length");
  const size_t nodes = json["parents"].size();
  check_size(nodes, where);
  std::vector<std::pair<int32_t, int32_t>> given;  // parent and rank
  for (size_t i = 0; i < nodes; ++i) {
    given.emplace_back(number_of(json["parents"][i], static_cast<int32_t>(nodes) + 1, where,
                                 fmt::format("parent of node {}", i + 1)),
                       number_of(json["ranks"][i], kMostRanks, where, fmt::format("rank of node {}", i + 1)));
  }
  TreeShape shape;
  std::vector<int32_t> places(nodes + 1, -1);  // in the shape; −1: not there yet
  places[0] = 0;
  for (bool more = true; std::exchange(more, false);) {  // parents may stand behind their nodes
    for (size_t i = 0; i < nodes; ++i) {
      const auto [parent, rank] = given[i];
      const int32_t place = places[static_cast<size_t>(parent)];
      if (places[i + 1] >= 0 || place < 0) continue;
      if (shape.child(place, rank) >= 0)
        throw Error(where, fmt::format("node {} has the parent and rank of another", i + 1),
                    "every node once");
      places[i + 1] = shape.add(place, rank);
      more = true;
    }
  }
  const auto lost = std::find(places.begin(), places.end(), -1);
  if (lost != places.end())
    throw Error(where, fmt::format("node {} has no path from the root: a cycle", lost - places.begin()),
                "parents that lead to node 0");
  return shape;
}

/// The widths of a name like "4x2x1", whatever their size; nothing where it is none.
std::optional<std::vector<int32_t>> widths_of(std::string_view name) {
  std::vector<int32_t> widths;
  while (true) {
    int32_t width = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), width);
    if (error == std::errc::invalid_argument || name.front() == '-') return {};
    widths.push_back(error == std::errc() ? width : INT32_MAX);
    name.remove_prefix(static_cast<size_t>(end - name.data()));
    if (name.empty()) return widths;
    if (name.front() != 'x') return {};
    name.remove_prefix(1);
  }
}

/// A published tree: how many children each node has, breadth first; the last ones have none.
struct NamedShape {
  std::string_view name;
  std::vector<int32_t> children;
};

const std::vector<NamedShape>& named_shapes() {
  // Of the code of the Medusa paper (FasterDecoding/Medusa, medusa/model/medusa_choices.py): 63 nodes.
  static const std::vector<NamedShape> shapes = {
      {"mc_sim_7b_63",
       {10,                                                                                   //
        10, 7, 3, 2, 1, 1, 1, 1, 1, 1,                                                        //
        10, 3, 2, 1, 1, 1, 1, 1, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  //
        2}}};
  return shapes;
}

}  // namespace

TreeShape TreeShape::open(const std::string& name_or_file) {
  for (const NamedShape& named : named_shapes()) {
    if (named.name != name_or_file) continue;
    TreeShape shape;
    for (size_t node = 0; node < named.children.size(); ++node) {
      for (int32_t rank = 0; rank < named.children[node]; ++rank) shape.add(static_cast<int32_t>(node), rank);
    }
    return shape;
  }
  const auto widths = widths_of(name_or_file);
  if (std::error_code error; !widths && name_or_file != "-" && !std::filesystem::exists(name_or_file, error))
    throw Error(name_or_file, "no such tree", "a file, widths such as 4x2x1, or mc_sim_7b_63");
  if (!widths) return from_json(read_whole(name_or_file), name_or_file);
  TreeShape shape;
  int32_t begin = 0, end = 1;  // of the nodes of a depth
  for (const int32_t width : *widths) {
    if (width == 0) throw Error(name_or_file, "a width of 0", "at least one node at every depth");
    check_size(static_cast<size_t>(end) + static_cast<size_t>(end - begin) * static_cast<size_t>(width) - 1,
               name_or_file);
    for (int32_t node = begin; node < end; ++node) {
      for (int32_t rank = 0; rank < width; ++rank) shape.add(node, rank);
    }
    begin = std::exchange(end, shape.size());
  }
  return shape;
}

TreeShape TreeShape::from_json(std::string_view text, const std::string& where) {
  const auto json = parse_json(text, where, {.bytes = size_t{1} << 20});
  if (json.is_array()) return from_paths(json, where);
  if (json.is_object()) return from_parents(json, where);
  throw malformed(where, "neither a list nor an object");
}

int32_t TreeShape::add(int32_t parent, int32_t rank) {
  parents_.push_back(parent);
  ranks_.push_back(rank);
  return size() - 1;
}

int32_t TreeShape::depth() const {
  std::vector<int32_t> depths(parents_.size(), 0);
  for (size_t node = 1; node < depths.size(); ++node)
    depths[node] = depths[static_cast<size_t>(parents_[node])] + 1;
  return *std::max_element(depths.begin(), depths.end());
}

int32_t TreeShape::child(int32_t node, int32_t rank) const {
  for (int32_t i = node + 1; i < size(); ++i) {
    if (parent(i) == node && this->rank(i) == rank) return i;
  }
  return -1;
}

std::vector<int32_t> ranks_of(const Draft& draft) {
  const auto size = static_cast<size_t>(draft.tree.size());
  std::vector<int32_t> order, ranks(size, 0), seen(size, 0);  // seen: of a node's children
  for (int32_t node = 1; node < draft.tree.size(); ++node) order.push_back(node);
  if (!draft.reached.empty())
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return draft.reached[static_cast<size_t>(a)] > draft.reached[static_cast<size_t>(b)];
    });
  for (const int32_t node : order)
    ranks[static_cast<size_t>(node)] = seen[static_cast<size_t>(draft.tree.parent(node))]++;
  return ranks;
}

std::vector<int32_t> TreeShape::places_of(const Draft& draft) const {
  std::vector<int32_t> places = ranks_of(draft);
  for (int32_t node = 1; node < draft.tree.size(); ++node) {
    const int32_t parent = places[static_cast<size_t>(draft.tree.parent(node))];
    int32_t& place = places[static_cast<size_t>(node)];
    place = parent < 0 ? -1 : child(parent, place);
  }
  return places;
}

std::string TreeShape::to_json() const {
  std::vector<std::vector<int32_t>> paths(1);
  for (int32_t node = 1; node < size(); ++node) {
    paths.push_back(paths[static_cast<size_t>(parent(node))]);
    paths.back().push_back(rank(node));
  }
  paths.erase(paths.begin());
  return nlohmann::json(paths).dump();
}

}  // namespace linnet

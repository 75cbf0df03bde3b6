// Which guesses a tree may hold, whatever they are: the likeliest after the root, the second likeliest after
// that one, … A shape is found by measuring once (`linnet tune-tree`) or given by name or file.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "generate/drafter.h"

namespace linnet {

/// [nodes] each one's place among its siblings, the likeliest first; 0 of the root.
std::vector<int32_t> ranks_of(const Draft& draft);

class TreeShape {
 public:
  /// The root alone.
  TreeShape() = default;
  /// "4x2x1": each node has four guesses at depth 1, two below each of these, one below each of those (the
  /// Cartesian trees of the Medusa paper). "mc_sim_7b_63": the tree of its code. Anything else is a file.
  static TreeShape open(const std::string& name_or_file);
  /// A list of paths as Medusa's, [[0], [1], [0, 0]]: ranks from the root on, 0 the likeliest; or
  /// {"parents": […], "ranks": […]} of the nodes 1, 2, …, of which 0, the root, is none. Throws Error (where:
  /// `where`) on anything else: a path whose beginning is not there, one that comes twice, a cycle.
  static TreeShape from_json(std::string_view text, const std::string& where);

  /// Adds a node and returns its index; node 0 is the root.
  int32_t add(int32_t parent, int32_t rank);
  int32_t size() const { return static_cast<int32_t>(parents_.size()); }  // the root included
  int32_t parent(int32_t node) const { return parents_[static_cast<size_t>(node)]; }
  int32_t rank(int32_t node) const { return ranks_[static_cast<size_t>(node)]; }
  int32_t depth() const;
  /// The child of `node` of this rank; −1: none.
  int32_t child(int32_t node, int32_t rank) const;

  /// [nodes] for each of a draft's nodes its place in the shape; −1: none.
  std::vector<int32_t> places_of(const Draft& draft) const;
  /// As a list of paths.
  std::string to_json() const;

  bool operator==(const TreeShape&) const = default;

 private:
  std::vector<int32_t> parents_ = {-1}, ranks_ = {0};
};

}  // namespace linnet

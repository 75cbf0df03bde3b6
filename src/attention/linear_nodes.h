// Outputs of tree nodes for one key-value head: the routine behind attend and prefill.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "attention/linear_layer.h"
#include "attention/paths.h"

namespace linnet {

/// A tree's nodes by the group they stand in: made once for all heads.
struct NodePlan {
  struct Bucket {
    int64_t group;
    int32_t first, count;  // in `order`
  };

  Paths paths;
  std::vector<int32_t> order;  // nodes by group, then index
  std::vector<Bucket> buckets;
  int64_t first_row = 0;  // where the tree's rows begin among those of a step

  /// Allocates only when the tree is larger than any before.
  void assign(const TokenTree& tree, int64_t length, int64_t group);
  /// A chain of `nodes` nodes that all stand in `group`.
  void assign_chain(int32_t nodes, int64_t group);
};

/// Row i of `rows` and `out` is node i; `order` and `buckets` list the nodes by group, `paths` their
/// ancestors (of more nodes than there are rows, where it is a chain that is longer). `part` is the head's
/// part of the state at committed length `length`.
template <class T, class S>
void attend_nodes(const LinearLayer<T>& layer, int64_t kv_head, const Part<const T, const S>& part,
                  int64_t length, const Paths& paths, std::span<const int32_t> order,
                  std::span<const NodePlan::Bucket> buckets, const Rows<T>& rows, HeadRows<T> out);

}  // namespace linnet

// Any bytes as a tree's file: an Error, or a shape that is written as it was read, whose parents stand before
// their nodes, and that holds any draft.
#include <cstdint>
#include <cstdlib>

#include "base/error.h"
#include "generate/tree_shape.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto shape = linnet::TreeShape::from_json({reinterpret_cast<const char*>(data), size}, "tree.json");
    if (linnet::TreeShape::from_json(shape.to_json(), "written").size() != shape.size()) std::abort();
    for (int32_t node = 1; node < shape.size(); ++node) {
      if (shape.parent(node) < 0 || shape.parent(node) >= node) std::abort();
    }
    linnet::Draft draft;
    draft.add(1, -1, 1);
    for (int32_t node = 1; node < 32; ++node) draft.add(node, (node - 1) / 2, 1.0 / node);
    for (const int32_t place : shape.places_of(draft)) {
      if (place >= shape.size()) std::abort();
    }
  } catch (const linnet::Error&) {
  }
  return 0;
}

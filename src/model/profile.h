// Where the time of a forward pass goes: by operation and by layer. Filled by Forward where a Decoder's
// options give one; it costs two looks at the clock per operation.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace linnet {

enum class Operation {
  kEmbed,      // rows of the embedding, rotary angles
  kNorm,       // sums into the residual stream, each with the norm of what the next block reads
  kQkv,        // product to queries, keys and values
  kRotate,     // rotary positions
  kAttention,  // on the state, which it reads
  kOutput,     // product of what attention gives
  kUp,         // product to gate and up
  kActivate,   // activation, gating
  kDown,       // product back
  kHead,       // product to the logits
};
inline constexpr std::array<std::string_view, 10> kOperationNames = {
    "embed",          "residuals, norms", "q k v product", "rotate",       "attention",
    "output product", "up product",       "activation",    "down product", "head product"};

class Profile {
 public:
  struct Entry {
    double seconds = 0;
    size_t weight_bytes = 0;  // read by products
  };
  using Operations = std::array<Entry, kOperationNames.size()>;

  /// For what is of no layer.
  static constexpr size_t kNoLayer = ~size_t{0};

  void add(Operation operation, size_t layer, double seconds, size_t weight_bytes) {
    Operations& of = layer == kNoLayer ? outside_ : at(layer);
    Entry& entry = of[static_cast<size_t>(operation)];
    entry.seconds += seconds;
    entry.weight_bytes += weight_bytes;
  }
  void clear() {
    layers_.clear();
    outside_ = {};
  }

  const std::vector<Operations>& layers() const { return layers_; }
  const Operations& outside() const { return outside_; }

 private:
  Operations& at(size_t layer) {
    if (layers_.size() <= layer) layers_.resize(layer + 1);
    return layers_[layer];
  }

  std::vector<Operations> layers_;
  Operations outside_{};
};

}  // namespace linnet

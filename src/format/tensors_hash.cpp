#define XXH_INLINE_ALL
#include <fmt/format.h>
#include <xxhash.h>

#include <memory>

#include "base/interrupt.h"
#include "format/safetensors.h"

namespace linnet {

std::string tensors_hash(const TensorStore& store) {
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), &XXH3_freeState);
  XXH3_128bits_reset(state.get());
  // A string's bytes and the NUL that ends them.
  const auto add = [&](const std::string& text) {
    XXH3_128bits_update(state.get(), text.c_str(), text.size() + 1);
  };
  for (const auto& [name, tensor] : store.tensors()) {
    stop_if_interrupted();
    add(name);
    add(std::string(name_of(tensor.type)));
    add(fmt::format("{}", fmt::join(tensor.shape, ",")));
    XXH3_128bits_update(state.get(), tensor.bytes.data(), tensor.bytes.size());
  }
  const XXH128_hash_t hash = XXH3_128bits_digest(state.get());
  return fmt::format("xxh3-128:{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace linnet

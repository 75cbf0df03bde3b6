// A sequence's state as bytes: kept, sent elsewhere, continued later, bit for bit.
//
// Layout, little-endian: "linnet state", uint32 version, uint32 bytes of one number of the state (4 or 8),
// uint32 length and the text of the arithmetic, 16 bytes of the model's fingerprint, uint32 length and the
// text of the attention's config, int64 committed tokens, uint32 layers, each layer's state (State::save), 8
// bytes XXH3-64 of all that stands before.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "model/model.h"

namespace linnet {

struct SlotHeader {
  uint32_t number_bytes = 4;
  std::string
      arithmetic;  // options that change numbers: "--dtype float32 --weights stored --state-type bf16"
  std::array<std::byte, 16> fingerprint{};
  std::string attention;  // JSON
  int64_t length = 0;
  uint32_t layers = 0;
};

/// XXH3-128 over everything that a state depends on: the base's tensors, what of its config changes rows,
/// LoRA, the new tensors.
std::array<std::byte, 16> fingerprint(const Model& model);

/// Begins a slot's bytes; layers' states are appended, then seal() ends them.
void write_header(const SlotHeader& header, std::vector<std::byte>& out);
void seal(std::vector<std::byte>& bytes);

/// Checks bytes against what the running model expects (header.length is ignored) and returns the committed
/// length and the layers' part. Throws Error saying what differs.
struct SlotBody {
  int64_t length;
  std::span<const std::byte> states;
};
SlotBody read_header(std::span<const std::byte> bytes, const SlotHeader& expected);

}  // namespace linnet

// A text on its way as a file: its tokens, and the state of those that are committed. Read with the same
// model it goes on as if it had never stopped.
//
// Layout, little-endian: "linnet text", uint32 version, uint64 tokens, int32 each; the state (Decoder::save);
// 8 bytes XXH3-64 of all that stands before.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "model/decoder.h"

namespace linnet {

/// The text `tokens`, of which the slot's state holds the first ones.
std::vector<std::byte> write_text_state(const Decoder& decoder, int slot, std::span<const int32_t> tokens);

/// Makes the slot hold what was written and returns all tokens of the text. Throws Error (where: `where`) on
/// what is no such file, whole, or of another model; the slot stays as it was then.
std::vector<int32_t> read_text_state(std::span<const std::byte> bytes, const std::string& where,
                                     Decoder& decoder, int slot);

}  // namespace linnet

// XXH3-128 (seed 0) of bytes, for checkpoints and for telling two runs apart. Not cryptographic.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace linnet::train {

/// "xxh3-128:" and 32 hexadecimal digits.
std::string hash_of(std::span<const std::byte> bytes);

}  // namespace linnet::train

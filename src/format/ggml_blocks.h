// The types of numbers that a GGUF file holds: blocks of quantized numbers that share a scale, and how each
// becomes floats again. A type that is known by name alone (`dequantize` is null) is refused where it is met.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace linnet {

struct GgmlType {
  uint32_t number;  // in the file
  std::string_view name;
  size_t block = 0;  // numbers in a block
  size_t bytes = 0;  // of a block
  void (*dequantize)(const std::byte* blocks, size_t count, float* numbers) = nullptr;
};

std::span<const GgmlType> ggml_types();
/// Null where no type has this number.
const GgmlType* find_ggml_type(uint32_t number);
/// "F32, F16, …": those that can be read, for messages.
std::string readable_ggml_types();

/// numbers.size() is a whole number of blocks, `blocks` exactly their bytes, at any address.
void dequantize(const GgmlType& type, std::span<const std::byte> blocks, std::span<float> numbers);

}  // namespace linnet

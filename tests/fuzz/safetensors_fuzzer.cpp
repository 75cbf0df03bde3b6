// Any bytes as a safetensors file: an Error, or tensors that cover the data exactly and can be read.
#include <cstdint>
#include <cstdlib>

#include "base/error.h"
#include "format/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    const auto file = linnet::SafetensorsFile::parse(bytes, "input");
    size_t covered = 0;
    for (const auto& [name, tensor] : file.tensors()) {
      covered += tensor.bytes.size();
      if (tensor.bytes.size() != static_cast<uint64_t>(tensor.numbers()) * size_of(tensor.type)) std::abort();
      try {
        linnet::to_float(tensor, name);
      } catch (const linnet::Error&) {  // integers
      }
    }
    if (covered + 10 > size) std::abort();  // 8 bytes of length and a header of at least {}
  } catch (const linnet::Error&) {
  }
  return 0;
}

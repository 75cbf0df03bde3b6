// Any bytes as a GGUF file: an Error, or a model whose tensors can be made, each as long as it says, and
// whose config and tokenizer Linnet reads.
#include <cstdint>
#include <cstdlib>

#include "base/error.h"
#include "base/json.h"
#include "format/model_config.h"
#include "model/import_gguf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span bytes(reinterpret_cast<const std::byte*>(data), size);
  try {
    const auto file = linnet::GgufFile::parse(bytes, "input");
    for (const auto& [name, tensor] : file.tensors()) {
      if (tensor.bytes.data() < bytes.data() || tensor.bytes.size() > size) std::abort();
      std::vector<float> numbers(tensor.bytes.size() / tensor.type->bytes * tensor.type->block);
      linnet::dequantize(*tensor.type, tensor.bytes, numbers);
    }
    const linnet::ImportedModel model = linnet::import_gguf(file);
    linnet::ModelConfig::parse(linnet::parse_json(model.files.at("config.json"), "config"), "config");
    for (const linnet::NamedTensor& one : model.tensors) {
      try {
        if (one.make().size() != one.bytes()) std::abort();
      } catch (const linnet::Error&) {  // NaN
      }
    }
  } catch (const linnet::Error&) {
  }
  return 0;
}

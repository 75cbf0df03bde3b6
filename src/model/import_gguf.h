// A Hugging Face folder from a GGUF file: config.json, the tokenizer's files, generation_config.json and the
// weights in BF16 (docs/formats.md says what becomes of what).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "format/gguf.h"
#include "format/safetensors.h"

namespace linnet {

/// What the folder will hold.
struct ImportedModel {
  std::map<std::string, std::string> files;  // all but the weights, by name
  std::vector<NamedTensor> tensors;          // made of the GgufFile, which must outlive them
};

/// Throws Error on an architecture that Linnet does not compute, on metadata that would change what is
/// computed, and on tensors that are missing, of another shape, or not the architecture's.
ImportedModel import_gguf(const GgufFile& file);

/// The whole folder, or nothing. `report` is told how many numbers of how many are written. Throws Error on
/// weights whose numbers are not sound (format/tensor.h).
void write_imported(const std::filesystem::path& out, const ImportedModel& model, size_t shard_bytes,
                    const std::function<void(double done, double total)>& report = {});

}  // namespace linnet

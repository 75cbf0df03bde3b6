#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/file.h"
#include "base/interrupt.h"
#include "format/safetensors.h"

namespace linnet {
namespace {

using Json = nlohmann::json;

constexpr size_t kEntryBytes = 256;  // more than a tensor's entry in the header takes, its name apart

// A shard: indices of the tensors to write, and at least the bytes that they take in the file.
struct Shard {
  std::vector<size_t> members;
  size_t bytes = 0;
};

std::vector<Shard> split(std::span<const NamedTensor> tensors, size_t shard_bytes) {
  std::vector<Shard> shards;
  for (size_t i = 0; i < tensors.size(); ++i) {
    const size_t size = tensors[i].bytes() + tensors[i].name.size() + kEntryBytes;
    if (shards.empty() || (shards.back().bytes > 0 && shards.back().bytes + size > shard_bytes)) {
      shards.emplace_back();
    }
    shards.back().members.push_back(i);
    shards.back().bytes += size;
  }
  return shards;
}

std::vector<NamedTensor> gather(std::span<const NamedTensor> tensors, const std::vector<size_t>& members) {
  std::vector<NamedTensor> out;
  for (size_t i : members) out.push_back(tensors[i]);
  return out;
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  // Wide types first, so that every tensor stands at a multiple of its number's size.
  std::vector<const NamedTensor*> order;
  for (const NamedTensor& one : tensors) order.push_back(&one);
  std::stable_sort(order.begin(), order.end(), [](const NamedTensor* a, const NamedTensor* b) {
    return size_of(a->tensor.type) > size_of(b->tensor.type);
  });
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  size_t offset = 0;
  for (const NamedTensor* one : order) {
    const TensorView& tensor = one->tensor;
    if (header.contains(one->name)) {
      throw Error(path.string(), fmt::format("tensor \"{}\" given twice", one->name), "it once");
    }
    const size_t end = offset + one->bytes();
    header[one->name] = {
        {"dtype", name_of(tensor.type)}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  // The data begins at a cache line: vectors of weights that cross lines are read a tenth slower.
  constexpr size_t kLine = 64, kLength = 8;
  text.append((kLine - (kLength + text.size()) % kLine) % kLine, ' ');

  AtomicFile file(path);
  std::string length(8, '\0');
  for (size_t i = 0; i < 8; ++i) length[i] = static_cast<char>(text.size() >> (8 * i) & 0xFF);
  file.write(length + text);
  for (const NamedTensor* one : order) {
    stop_if_interrupted();
    if (one->make)
      file.write(one->make());
    else
      file.write(one->tensor.bytes);
  }
  file.commit();
}

void write_sharded(const std::filesystem::path& folder, std::span<const NamedTensor> tensors,
                   size_t shard_bytes, const std::map<std::string, std::string>& metadata) {
  const std::vector<Shard> shards = split(tensors, shard_bytes);
  if (shards.size() <= 1) return write_safetensors(folder / "model.safetensors", tensors, metadata);
  Json map = Json::object();
  size_t total = 0;
  for (size_t i = 0; i < shards.size(); ++i) {
    const std::string name = fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
    write_safetensors(folder / name, gather(tensors, shards[i].members), metadata);
    for (size_t member : shards[i].members) {
      map[tensors[member].name] = name;
      total += tensors[member].bytes();
    }
  }
  const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", map}};
  write_file(folder / "model.safetensors.index.json", index.dump(2) + "\n");
}

}  // namespace linnet

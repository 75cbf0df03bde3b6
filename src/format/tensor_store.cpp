// All tensors of a folder: one file, or shards by an index that is not believed but checked.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/json.h"
#include "format/safetensors.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

bool is_pickle(const fs::path& file) {
  const auto extension = file.extension();
  return extension == ".bin" || extension == ".pt" || extension == ".pth" || extension == ".ckpt";
}

[[noreturn]] void refuse_pickle(const fs::path& file) {
  throw Error(file.string(), "a pickle file, which can run any code when it is read",
              "safetensors (transformers' save_pretrained writes them)");
}

[[noreturn]] void no_weights(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> files;  // of weights, under names that no model folder has
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const fs::path& file = entry.path();
    if (is_pickle(file) && file.filename() != "training_args.bin") refuse_pickle(file);
    const bool part_of_adapter =
        file.filename() == "adapter_model.safetensors" || file.filename() == "linear_attention.safetensors";
    if (file.extension() == ".safetensors" && !part_of_adapter) files.push_back(file);
  }
  const fs::path* first = files.empty() ? nullptr : &*std::min_element(files.begin(), files.end());
  if (files.size() == 1)
    throw Error(first->string(), "weights under a name that no index lists",
                fmt::format("the name {} (rename the file, or link it)", kSingle));
  if (first != nullptr)
    throw Error(first->string(), fmt::format("one of {} files of weights without an index", files.size()),
                fmt::format("{} beside them, as the model was published", kIndex));
  throw Error(folder.string(), "no weights", fmt::format("{} or {}", kSingle, kIndex));
}

// A shard is a plain name in the index's own folder. That it may be a link is its owner's business: Hugging
// Face's cache is made of links into another folder.
fs::path shard_path(const fs::path& folder, const std::string& name, const std::string& where) {
  const auto refuse = [&](std::string_view what) {
    throw Error(where, fmt::format("shard \"{}\" {}", printable(name, 80), what),
                "the plain name of a file in the same folder");
  };
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
      name.find('\\') != std::string::npos || name.find('\0') != std::string::npos) {
    refuse("is no plain file name");
  }
  const fs::path path = folder / name;
  if (is_pickle(path)) refuse_pickle(path);
  std::error_code error;
  if (!fs::exists(path, error)) refuse("is missing");
  return path;
}

const Json& weight_map(const Json& index, const std::string& where) {
  const auto found = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || found == index.end() || !found->is_object() || found->empty()) {
    throw Error(where, "no \"weight_map\"", "an object from tensor names to file names");
  }
  for (const auto& [name, file] : found->items()) {
    if (!file.is_string()) {
      throw Error(where, fmt::format("tensor \"{}\" has no file name", printable(name)), "a string");
    }
  }
  return *found;
}

}  // namespace

const SafetensorsFile& TensorStore::open(const fs::path& path) {
  files_.push_back(SafetensorsFile::open(path));
  identities_.emplace_back(path, files_.back().identity());
  metadata_.insert(files_.back().metadata().begin(), files_.back().metadata().end());
  return files_.back();
}

TensorStore TensorStore::open_file(const fs::path& file) {
  if (is_pickle(file)) refuse_pickle(file);
  TensorStore store;
  store.tensors_ = store.open(file).tensors();
  for (const auto& [name, tensor] : store.tensors_) store.file_of_.emplace(name, file.string());
  return store;
}

TensorStore TensorStore::open_folder(const fs::path& folder) {
  std::error_code error;
  if (fs::exists(folder / kSingle, error)) return open_file(folder / kSingle);
  if (!fs::exists(folder / kIndex, error)) no_weights(folder);
  const std::string where = (folder / kIndex).string();
  const Json index = read_json(folder / kIndex, {.bytes = 100'000'000, .depth = 16});
  const Json& map = weight_map(index, where);

  TensorStore store;
  std::map<std::string, bool> opened;
  for (const auto& [listed, file] : map.items()) {
    const auto& shard = file.get_ref<const std::string&>();
    if (!opened.emplace(shard, true).second) continue;
    const fs::path path = shard_path(folder, shard, where);
    for (const auto& [name, tensor] : store.open(path).tensors()) {
      if (!store.tensors_.emplace(name, tensor).second) {
        throw Error(path.string(),
                    fmt::format("tensor \"{}\" stands in {} too", printable(name), store.file_of_[name]),
                    "each tensor in one shard");
      }
      store.file_of_.emplace(name, path.string());
      const auto entry = map.find(name);
      if (entry == map.end() || *entry != shard) {
        throw Error(where, fmt::format("tensor \"{}\" stands in {}", printable(name), shard),
                    entry == map.end() ? "the index to list it" : "it in " + entry->get<std::string>());
      }
    }
  }
  for (const auto& [name, file] : map.items()) {
    if (store.find(name) == nullptr) {
      throw Error(where, fmt::format("tensor \"{}\" is not in {}", printable(name), file.get<std::string>()),
                  "every tensor where the index says");
    }
  }
  return store;
}

TensorStore TensorStore::of(std::vector<NamedTensor> tensors, std::shared_ptr<const void> owner) {
  TensorStore store;
  for (NamedTensor& tensor : tensors) store.tensors_.emplace(std::move(tensor.name), tensor.tensor);
  store.owner_ = std::move(owner);
  return store;
}

const TensorView* TensorStore::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

void TensorStore::rename_ends(std::string_view old_end, std::string_view end) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors_) {
    if (name.ends_with(old_end)) names.push_back(name);
  }
  for (const std::string& name : names) {
    const std::string now = name.substr(0, name.size() - old_end.size()).append(end);
    if (tensors_.contains(now)) continue;
    auto tensor = tensors_.extract(name);
    tensor.key() = now;
    tensors_.insert(std::move(tensor));
    if (auto file = file_of_.extract(name); !file.empty()) {
      file.key() = now;
      file_of_.insert(std::move(file));
    }
  }
}

std::string TensorStore::where(std::string_view name) const {
  const auto found = file_of_.find(name);
  return fmt::format("{}: tensor \"{}\"", found == file_of_.end() ? "model" : found->second, name);
}

}  // namespace linnet

#include "train/checkpoint.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/remove_folder.h"
#include "format/safetensors.h"
#include "train/tensor_io.h"

namespace linnet::train {
namespace {

namespace fs = std::filesystem;
constexpr const char* kTensors = "tensors.safetensors";
constexpr const char* kManifest = "checkpoint.json";
constexpr int kFormat = 1;

/// Of the manifest without its own hash.
std::string manifest_hash(nlohmann::json manifest) {
  manifest.erase("hash");
  const std::string text = manifest.dump();
  return linnet::hash_of(std::as_bytes(std::span(text)));
}

/// Valid checkpoints, oldest first.
std::vector<fs::path> list(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error))
    if (entry.path().filename().string().starts_with("step-") && fs::exists(entry.path() / kManifest))
      found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  return found;
}

nlohmann::json read_manifest(const fs::path& folder) {
  const fs::path file = folder / kManifest;
  nlohmann::json manifest = read_json(file);
  if (!manifest.is_object() || manifest.value("format", nlohmann::json()) != kFormat)
    throw Error(file.string(), "not a checkpoint of this version", fmt::format("\"format\": {}", kFormat));
  if (manifest.value("hash", nlohmann::json()) != manifest_hash(manifest))
    throw Error(file.string(), "damaged: its hash does not fit", "the file as it was written");
  return manifest;
}

void check_identity(const fs::path& folder, const nlohmann::json& saved, const nlohmann::json& wanted) {
  for (const auto& [key, value] : wanted.items()) {
    const nlohmann::json before = saved.value(key, nlohmann::json());
    if (before != value)
      throw Error(folder.string(),
                  fmt::format("is of another run: {} was {}, now {}", key, printable(before.dump()),
                              printable(value.dump())),
                  "the options, model and data that the run began with");
  }
}

/// One of an optimizer's tensors by the name it has in a checkpoint.
struct Entry {
  std::string name;
  at::Tensor tensor;
};

std::vector<Entry> entries(const AdamW& optimizer) {
  std::vector<Entry> result;
  for (size_t i = 0; i < optimizer.parameters().size(); ++i) {
    const Parameter& parameter = optimizer.parameters()[i];
    result.push_back({"parameter/" + parameter.name, parameter.tensor});
    result.push_back({"first/" + parameter.name, optimizer.first()[i]});
    result.push_back({"second/" + parameter.name, optimizer.second()[i]});
  }
  return result;
}

}  // namespace

Checkpoints::Checkpoints(fs::path folder, nlohmann::json identity)
    : folder_(std::move(folder)), identity_(std::move(identity)) {}

fs::path Checkpoints::save(const RunProgress& progress, const AdamW& optimizer) const {
  const fs::path target = folder_ / fmt::format("step-{:08d}", progress.step);
  std::error_code error;
  remove_folder(target);
  fs::create_directories(target, error);
  if (error)
    throw Error(target.string(), fmt::format("cannot write: {}", error.message()), "a writable folder");
  try {
    std::vector<at::Tensor> held;
    std::vector<NamedTensor> tensors;
    for (const Entry& entry : entries(optimizer)) {
      held.push_back(for_file(entry.tensor, entry.tensor.scalar_type()));
      tensors.push_back({entry.name, view_of(held.back())});
    }
    write_safetensors(target / kTensors, tensors);
    nlohmann::json manifest{
        {"format", kFormat},         {"step", progress.step},
        {"tokens", progress.tokens}, {"seconds", progress.seconds},
        {"run", identity_},          {"tensors", linnet::hash_of(MappedFile(target / kTensors).bytes())}};
    manifest["hash"] = manifest_hash(manifest);
    write_file(target / kManifest, manifest.dump(2) + "\n");
  } catch (...) {
    remove_folder(target);
    throw;
  }
  std::vector<fs::path> all = list(folder_);
  for (size_t i = 0; i + 2 < all.size(); ++i) {
    fs::remove(all[i] / kManifest, error);  // what makes it valid goes first
    remove_folder(all[i]);
  }
  return target;
}

std::optional<fs::path> Checkpoints::newest() const {
  const std::vector<fs::path> all = list(folder_);
  return all.empty() ? std::nullopt : std::optional(all.back());
}

std::filesystem::path Checkpoints::to_resume() const {
  const auto saved = newest();
  if (!saved)
    throw Error(folder_.string(), "no checkpoint", "one to --resume from; without --resume the run begins");
  return *saved;
}

nlohmann::json Checkpoints::read_identity(const fs::path& folder) { return read_manifest(folder).at("run"); }

RunProgress Checkpoints::read_progress(const fs::path& folder) const {
  const nlohmann::json manifest = read_manifest(folder);
  check_identity(folder, manifest.at("run"), identity_);
  return {.step = manifest.at("step").get<int64_t>(),
          .tokens = manifest.at("tokens").get<int64_t>(),
          .seconds = manifest.at("seconds").get<double>()};
}

void Checkpoints::load(const fs::path& folder, AdamW& optimizer, int64_t optimizer_steps) const {
  const fs::path file = folder / kTensors;
  const nlohmann::json manifest = read_manifest(folder);
  if (manifest.at("tensors") != linnet::hash_of(MappedFile(file).bytes()))
    throw Error(file.string(), "damaged: its hash does not fit", "the file as it was written");
  const SafetensorsFile saved = SafetensorsFile::open(file);
  const std::vector<Entry> wanted = entries(optimizer);
  for (const Entry& entry : wanted) {
    const auto found = saved.tensors().find(entry.name);
    if (found == saved.tensors().end())
      throw Error(file.string(), fmt::format("no tensor {}", entry.name), "a checkpoint of this model");
    if (found->second.shape != entry.tensor.sizes().vec() ||
        found->second.type != dtype_of(entry.tensor.scalar_type()))
      throw Error(
          file.string(),
          fmt::format("{} is {} {}", entry.name, name_of(found->second.type), to_string(found->second.shape)),
          fmt::format("{} {}", name_of(dtype_of(entry.tensor.scalar_type())),
                      to_string(entry.tensor.sizes().vec())));
  }
  if (saved.tensors().size() != wanted.size())
    throw Error(file.string(), fmt::format("{} tensors", saved.tensors().size()),
                fmt::format("{}: a checkpoint of this model", wanted.size()));
  at::NoGradGuard no_gradients;
  for (const Entry& entry : wanted) {
    const TensorView& view = saved.tensors().find(entry.name)->second;
    at::Tensor copy = at::empty(view.shape, at::TensorOptions().dtype(entry.tensor.scalar_type()));
    std::memcpy(copy.data_ptr(), view.bytes.data(), view.bytes.size());
    at::Tensor target = entry.tensor;
    target.copy_(copy);
  }
  optimizer.set_steps(optimizer_steps);
}

void Checkpoints::remove_all() const { remove_folder(folder_); }

}  // namespace linnet::train

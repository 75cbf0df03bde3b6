// safetensors files. Layout: 8 bytes N (little-endian), N bytes of JSON header, then the tensors' bytes; the
// header gives each tensor's dtype, shape and [begin, end) after the header. Checked wholly before use by the
// rules of docs/formats.md, so that nothing past open() can meet a lying offset.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "format/tensor.h"

namespace linnet {

/// One mapped file.
class SafetensorsFile {
 public:
  /// Throws Error (where: the file) on anything that breaks a rule.
  static SafetensorsFile open(const std::filesystem::path& path);
  /// The same checks on bytes in memory, which must outlive the result. For tests and fuzzing.
  static SafetensorsFile parse(std::span<const std::byte> bytes, std::string_view where);

  const std::map<std::string, TensorView, std::less<>>& tensors() const { return tensors_; }
  const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }
  /// Of bytes in memory: nothing.
  const FileIdentity& identity() const { return identity_; }

 private:
  std::shared_ptr<const void> owner_;  // keeps the mapping alive
  FileIdentity identity_;
  std::map<std::string, TensorView, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> metadata_;
};

/// A tensor to write.
struct NamedTensor {
  std::string name;
  TensorView tensor;
  /// Where given: makes the bytes (`tensor` has none) when it is their turn, so that one tensor at a time is
  /// in memory. Exactly as many as type and shape say.
  std::function<std::vector<std::byte>()> make = {};

  size_t bytes() const {
    return make ? static_cast<size_t>(tensor.numbers()) * size_of(tensor.type) : tensor.bytes.size();
  }
};

/// All tensors of a model folder: model.safetensors, or the shards of model.safetensors.index.json.
class TensorStore {
 public:
  static TensorStore open_folder(const std::filesystem::path& folder);
  static TensorStore open_file(const std::filesystem::path& file);
  /// Tensors in memory, which `owner` keeps.
  static TensorStore of(std::vector<NamedTensor> tensors, std::shared_ptr<const void> owner);

  const std::map<std::string, TensorView, std::less<>>& tensors() const { return tensors_; }
  const TensorView* find(std::string_view name) const;  // nullptr if absent
  /// Tensors whose names end in `old_end` go by `end` from now on, where no other has that name.
  void rename_ends(std::string_view old_end, std::string_view end);
  /// The file that holds the tensor, for messages.
  std::string where(std::string_view name) const;
  /// The files, in the order in which they were opened.
  const std::vector<std::pair<std::filesystem::path, FileIdentity>>& files() const { return identities_; }
  /// Of all files together; of a key that several have, the first file's.
  const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }

 private:
  const SafetensorsFile& open(const std::filesystem::path& path);

  std::vector<SafetensorsFile> files_;
  std::vector<std::pair<std::filesystem::path, FileIdentity>> identities_;
  std::map<std::string, std::string, std::less<>> metadata_;
  std::map<std::string, TensorView, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> file_of_;
  std::shared_ptr<const void> owner_;  // of tensors in memory
};

/// Writes one file atomically: a temporary beside it, flush, rename. Throws Error on a full disk, leaving
/// what was there before.
void write_safetensors(const std::filesystem::path& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {});

/// Writes model.safetensors, or shards of at most `shard_bytes` with an index, into a folder; `metadata` into
/// every file.
void write_sharded(const std::filesystem::path& folder, std::span<const NamedTensor> tensors,
                   size_t shard_bytes,
                   const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

/// The hash of all tensors (format/store_reading.h), which are read for it.
std::string tensors_hash(const TensorStore& store);

}  // namespace linnet

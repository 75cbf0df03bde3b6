// GGUF files, versions 2 and 3. Layout, all little-endian: "GGUF", version (4 bytes), number of tensors,
// number of metadata (8 bytes each); each metadatum: key, type (4), value; each tensor: name, number of
// dimensions (4), dimensions (8 each, the fastest first), type (4), offset (8); zeros up to a multiple of the
// alignment; the tensors' bytes, each from its offset on. A string is its length (8) and UTF-8; an array its
// elements' type (4), their number (8), the elements. Everything is checked by the rules of docs/formats.md
// before a value is handed out, and nothing is allocated that the file's own bytes do not pay for.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "format/ggml_blocks.h"

namespace linnet {

/// As numbered in the file.
enum class GgufType : uint32_t {
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kF32,
  kBool,
  kString,
  kArray,
  kU64,
  kI64,
  kF64
};

struct GgufTensor {
  const GgmlType* type = nullptr;    // one that can be dequantized
  std::vector<int64_t> shape;        // row-major: the slowest dimension first, as in safetensors
  std::span<const std::byte> bytes;  // exactly its blocks; a row is a whole number of them
};

class GgufFile {
 public:
  /// Throws Error (where: the file) on anything that breaks a rule.
  static GgufFile open(const std::filesystem::path& path);
  /// The same on bytes in memory, which must outlive the result.
  static GgufFile parse(std::span<const std::byte> bytes, std::string_view where);

  const std::string& where() const { return where_; }
  const std::map<std::string, GgufTensor, std::less<>>& tensors() const { return tensors_; }
  const GgufTensor* find(std::string_view name) const;  // nullptr if absent

  // Metadata: nothing where the key is absent. Each throws Error on a value of another type. Texts lie in the
  // file, and need not be UTF-8.
  bool has(std::string_view key) const { return metadata_.contains(key); }
  std::optional<int64_t> integer(std::string_view key, int64_t low, int64_t high) const;
  /// A float32 is the shortest decimal number that it stands for: 1e-5, not 9.99999974738e-06.
  std::optional<double> number(std::string_view key) const;
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string_view> string(std::string_view key) const;
  std::optional<std::vector<std::string_view>> strings(std::string_view key) const;
  std::optional<std::vector<int64_t>> integers(std::string_view key) const;
  std::optional<std::vector<float>> floats(std::string_view key) const;
  std::optional<std::span<const std::byte>> octets(std::string_view key) const;

 private:
  struct Value {
    GgufType type = GgufType::kU8;     // of an array: its elements'
    std::optional<uint64_t> count;     // an array's
    std::span<const std::byte> bytes;  // all elements
  };
  class Reader;

  const Value* value(std::string_view key, bool array, std::string_view expected) const;
  [[noreturn]] void refuse(std::string_view key, const Value& value, std::string_view expected) const;
  void read_metadata(Reader& reader, uint64_t count);
  void read_tensors(Reader& reader, uint64_t count);

  std::shared_ptr<const void> owner_;  // keeps the mapping alive
  std::string where_;
  std::map<std::string, Value, std::less<>> metadata_;
  std::map<std::string, GgufTensor, std::less<>> tensors_;
};

}  // namespace linnet

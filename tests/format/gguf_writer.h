// GGUF files made by hand, for tests.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace linnet {

struct GgufWriter {
  uint32_t version = 3;
  uint64_t alignment = 32;  // of the tensors' places; metadata says it only where a test adds the key
  uint64_t keys = 0, tensors = 0;
  std::string metadata, entries, data;

  template <class T>
  static std::string raw(T value) {
    std::string out(sizeof(T), '\0');
    std::memcpy(out.data(), &value, sizeof(T));
    return out;
  }
  static std::string text(std::string_view value) { return raw(uint64_t{value.size()}).append(value); }

  /// A key with the bytes of its value, of any type number.
  GgufWriter& add(std::string_view key, uint32_t type, std::string_view value) {
    metadata += text(key) + raw(type) + std::string(value);
    ++keys;
    return *this;
  }
  GgufWriter& add(std::string_view key, uint32_t value) { return add(key, 4, raw(value)); }
  GgufWriter& add(std::string_view key, float value) { return add(key, 6, raw(value)); }
  GgufWriter& add(std::string_view key, bool value) { return add(key, 7, raw(value)); }
  GgufWriter& add(std::string_view key, const char* value) { return add(key, 8, text(value)); }
  GgufWriter& add(std::string_view key, const std::vector<std::string>& values) {
    std::string all;
    for (const std::string& value : values) all += text(value);
    return array(key, 8, values.size(), all);
  }
  GgufWriter& add(std::string_view key, const std::vector<int32_t>& values) {
    std::string all;
    for (int32_t value : values) all += raw(value);
    return array(key, 5, values.size(), all);
  }
  GgufWriter& add(std::string_view key, const std::vector<float>& values) {
    std::string all;
    for (float value : values) all += raw(value);
    return array(key, 6, values.size(), all);
  }
  GgufWriter& array(std::string_view key, uint32_t type, uint64_t count, std::string_view values) {
    return add(key, 9, raw(type) + raw(count) + std::string(values));
  }

  /// An entry alone; `shape` row-major, as everywhere but in the file.
  GgufWriter& entry(std::string_view name, const std::vector<int64_t>& shape, uint32_t type,
                    uint64_t offset) {
    entries += text(name) + raw(static_cast<uint32_t>(shape.size()));
    for (auto size = shape.rbegin(); size != shape.rend(); ++size)
      entries += raw(static_cast<uint64_t>(*size));
    entries += raw(type) + raw(offset);
    ++tensors;
    return *this;
  }
  GgufWriter& tensor(std::string_view name, const std::vector<int64_t>& shape, uint32_t type,
                     std::string_view bytes) {
    data.append((alignment - data.size() % alignment) % alignment, '\0');
    entry(name, shape, type, data.size());
    data += bytes;
    return *this;
  }

  std::string file() const {
    std::string out = "GGUF" + raw(version) + raw(tensors) + raw(keys) + metadata + entries;
    out.append((alignment - out.size() % alignment) % alignment, '\0');
    return out + data;
  }
};

}  // namespace linnet

#include "format/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <tuple>

#include "base/error.h"
#include "base/file.h"
#include "format/tensor.h"

namespace linnet {
namespace {

constexpr size_t kMaxKey = 65535, kMaxTensorName = 64;  // bytes, by the format
constexpr uint32_t kMaxGgufDimensions = 4;
constexpr uint64_t kDefaultAlignment = 32;
constexpr int kMaxNesting = 8;  // of arrays

// The types of metadata, in the order of GgufType; a size of 0: it varies.
struct TypeRow {
  std::string_view name;
  size_t size;
};
constexpr TypeRow kValueTypes[] = {{"UINT8", 1},  {"INT8", 1},    {"UINT16", 2}, {"INT16", 2},  {"UINT32", 4},
                                   {"INT32", 4},  {"FLOAT32", 4}, {"BOOL", 1},   {"STRING", 0}, {"ARRAY", 0},
                                   {"UINT64", 8}, {"INT64", 8},   {"FLOAT64", 8}};

const TypeRow& row_of(GgufType type) { return kValueTypes[static_cast<size_t>(type)]; }

template <class T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

/// A whole number of any of the integer types; nothing where it is of another type or too large.
std::optional<int64_t> integer_at(GgufType type, const std::byte* from) {
  switch (type) {
    case GgufType::kU8:
      return load<uint8_t>(from);
    case GgufType::kI8:
      return load<int8_t>(from);
    case GgufType::kU16:
      return load<uint16_t>(from);
    case GgufType::kI16:
      return load<int16_t>(from);
    case GgufType::kU32:
      return load<uint32_t>(from);
    case GgufType::kI32:
      return load<int32_t>(from);
    case GgufType::kI64:
      return load<int64_t>(from);
    case GgufType::kU64: {
      const auto value = load<uint64_t>(from);
      if (value > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    case GgufType::kF32:
    case GgufType::kF64:
    case GgufType::kBool:
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  return std::nullopt;
}

double shortest(float value) {
  char text[32];
  const auto [end, error] = std::to_chars(text, text + sizeof(text), value);
  double out = value;
  if (error == std::errc()) std::from_chars(text, end, out);
  return out;
}

bool is_key(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) { return c > ' ' && c <= '~'; });
}

}  // namespace

/// Takes the file's parts one after another; no part is longer than what is left.
class GgufFile::Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::string_view where) : bytes_(bytes), where_(where) {}

  size_t at() const { return at_; }
  std::span<const std::byte> rest() const { return bytes_.subspan(at_); }

  std::span<const std::byte> take(uint64_t count, std::string_view what) {
    if (count > bytes_.size() - at_) {
      throw Error(where_, fmt::format("cut short in {}, at byte {}", what, at_),
                  fmt::format("{} bytes where {} are left", count, bytes_.size() - at_));
    }
    const auto part = bytes_.subspan(at_, count);
    at_ += count;
    return part;
  }
  template <class T>
  T number(std::string_view what) {
    return load<T>(take(sizeof(T), what).data());
  }
  std::string_view string(std::string_view what) {
    const auto part = take(number<uint64_t>(what), what);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }
  GgufType type(const std::string& what) {
    const auto number = this->number<uint32_t>(what);
    if (number >= std::size(kValueTypes)) {
      throw Error(where_, fmt::format("{} has type {}", what, number),
                  fmt::format("0 to {}", std::size(kValueTypes) - 1));
    }
    return static_cast<GgufType>(number);
  }
  /// Passes over `count` values.
  void skip(GgufType type, uint64_t count, const std::string& what, int depth) {
    const size_t size = row_of(type).size;
    // A string is at least its length, an array its type and its number.
    const size_t least = size > 0 ? size : type == GgufType::kString ? 8 : 12;
    if (count > (bytes_.size() - at_) / least) {
      throw Error(where_, fmt::format("{} has {} values of type {}", what, count, row_of(type).name),
                  fmt::format("at most the {} bytes that follow", bytes_.size() - at_));
    }
    if (size > 0) {
      const auto values = take(count * size, what);
      if (type == GgufType::kBool &&
          std::ranges::any_of(values, [](std::byte b) { return b > std::byte{1}; }))
        throw Error(where_, fmt::format("{} has a truth value that is neither 0 nor 1", what), "0 or 1");
      return;
    }
    for (uint64_t i = 0; i < count; ++i) {
      if (type == GgufType::kString) {
        string(what);
        continue;
      }
      if (depth == kMaxNesting) {
        throw Error(where_, fmt::format("{} has arrays nested too deeply", what),
                    fmt::format("at most {} levels", kMaxNesting));
      }
      const GgufType inner = this->type(what);
      skip(inner, number<uint64_t>(what), what, depth + 1);
    }
  }

 private:
  std::span<const std::byte> bytes_;
  std::string where_;
  size_t at_ = 0;
};

void GgufFile::read_metadata(Reader& reader, uint64_t count) {
  for (uint64_t i = 0; i < count; ++i) {
    const std::string_view key = reader.string("a key");
    if (!is_key(key) || key.size() > kMaxKey) {
      throw Error(where_, fmt::format("metadata {} has the key \"{}\"", i, printable(key, 40)),
                  fmt::format("1 to {} letters of ASCII", kMaxKey));
    }
    const std::string what = fmt::format("\"{}\"", printable(key));
    Value value;
    value.type = reader.type(what);
    if (value.type == GgufType::kArray) {
      value.type = reader.type(what);
      value.count = reader.number<uint64_t>(what);
    }
    const size_t begin = reader.at();
    Reader values = reader;
    values.skip(value.type, value.count.value_or(1), what, 1);
    value.bytes = reader.take(values.at() - begin, what);
    if (!metadata_.emplace(key, value).second) throw Error(where_, what + " stands twice", "each key once");
  }
}

namespace {

/// A tensor as its entry has it, before its bytes are found.
struct Entry {
  std::string_view name;
  GgufTensor tensor;
  uint64_t offset = 0, bytes = 0;
};

/// Type and bytes of a tensor, from its shape. As float32 its numbers' bytes can be counted too.
void set_bytes(Entry& entry, uint32_t number, const std::string& where) {
  const GgmlType* type = find_ggml_type(number);
  if (type == nullptr || type->dequantize == nullptr) {
    throw Error(
        where,
        fmt::format("numbers of type {}{}", number, type == nullptr ? "" : fmt::format(" ({})", type->name)),
        "one of " + readable_ggml_types());
  }
  int64_t numbers = 1, total = 0;
  for (const int64_t size : entry.tensor.shape) {
    if (__builtin_mul_overflow(numbers, size, &numbers) ||
        __builtin_mul_overflow(numbers, int64_t{sizeof(float)}, &total)) {
      throw Error(where, fmt::format("shape {} overflows", to_string(entry.tensor.shape)),
                  "a tensor that fits in memory");
    }
  }
  const auto block = static_cast<int64_t>(type->block);
  if (entry.tensor.shape.back() % block != 0) {
    throw Error(where, fmt::format("rows of {} numbers in {}", entry.tensor.shape.back(), type->name),
                fmt::format("a multiple of {}", block));
  }
  entry.tensor.type = type;
  entry.bytes = static_cast<uint64_t>(numbers / block) * type->bytes;  // below the 4 bytes of a float32 each
}

void check_apart(const std::map<std::string, GgufTensor, std::less<>>& tensors, std::string_view where) {
  std::vector<std::tuple<const std::byte*, const std::byte*, std::string_view>> ranges;
  for (const auto& [name, tensor] : tensors)
    ranges.emplace_back(tensor.bytes.data(), tensor.bytes.data() + tensor.bytes.size(), name);
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (std::get<0>(ranges[i]) < std::get<1>(ranges[i - 1])) {
      throw Error(tensor_at(where, std::get<2>(ranges[i])),
                  fmt::format("overlaps \"{}\"", printable(std::get<2>(ranges[i - 1]))), "ranges apart");
    }
  }
}

}  // namespace

void GgufFile::read_tensors(Reader& reader, uint64_t count) {
  std::vector<Entry> entries;
  for (uint64_t i = 0; i < count; ++i) {
    Entry entry;
    entry.name = reader.string("a tensor's name");
    if (!is_key(entry.name) || entry.name.size() > kMaxTensorName) {
      throw Error(where_, fmt::format("tensor {} has the name \"{}\"", i, printable(entry.name, 40)),
                  fmt::format("1 to {} letters of ASCII", kMaxTensorName));
    }
    const std::string where = tensor_at(where_, entry.name);
    const auto dimensions = reader.number<uint32_t>("a tensor's dimensions");
    if (dimensions < 1 || dimensions > kMaxGgufDimensions)
      throw Error(where, fmt::format("{} dimensions", dimensions),
                  fmt::format("1 to {}", kMaxGgufDimensions));
    for (uint32_t d = 0; d < dimensions; ++d) {
      const auto size = reader.number<uint64_t>("a tensor's dimensions");
      if (size < 1 || size > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
        throw Error(where, fmt::format("a dimension of {}", size), "1 to 2^63 − 1");
      entry.tensor.shape.insert(entry.tensor.shape.begin(), static_cast<int64_t>(size));
    }
    set_bytes(entry, reader.number<uint32_t>("a tensor's type"), where);
    entry.offset = reader.number<uint64_t>("a tensor's offset");
    entries.push_back(std::move(entry));
  }
  const auto alignment = static_cast<uint64_t>(
      integer("general.alignment", 1, std::numeric_limits<uint32_t>::max()).value_or(kDefaultAlignment));
  if (alignment % 8 != 0)
    throw Error(where_, fmt::format("\"general.alignment\" is {}", alignment), "a multiple of 8");
  const uint64_t padding = (alignment - reader.at() % alignment) % alignment;
  if (!entries.empty()) reader.take(padding, "the tensors' bytes");
  const std::span<const std::byte> data = reader.rest();
  for (Entry& entry : entries) {
    const std::string where = tensor_at(where_, entry.name);
    if (entry.offset % alignment != 0)
      throw Error(where, fmt::format("offset {}", entry.offset), fmt::format("a multiple of {}", alignment));
    if (entry.offset > data.size() || entry.bytes > data.size() - entry.offset) {
      throw Error(where, fmt::format("{} bytes from offset {} on", entry.bytes, entry.offset),
                  fmt::format("a place in the {} bytes of tensors", data.size()));
    }
    entry.tensor.bytes = data.subspan(entry.offset, entry.bytes);
    if (!tensors_.emplace(entry.name, std::move(entry.tensor)).second)
      throw Error(where, "stands twice", "each name once");
  }
  check_apart(tensors_, where_);
}

GgufFile GgufFile::parse(std::span<const std::byte> bytes, std::string_view where) {
  GgufFile file;
  file.where_ = where;
  Reader reader(bytes, where);
  const auto magic = reader.take(4, "the first 4 bytes");
  if (std::memcmp(magic.data(), "GGUF", 4) != 0)
    throw Error(where, "not a GGUF file", "\"GGUF\" at its start");
  const auto version = reader.number<uint32_t>("the version");
  if (version == 0x02000000 || version == 0x03000000)
    throw Error(where, "a big-endian GGUF file", "a little-endian one");
  if (version != 2 && version != 3) throw Error(where, fmt::format("GGUF version {}", version), "2 or 3");
  const auto tensors = reader.number<uint64_t>("the number of tensors");
  file.read_metadata(reader, reader.number<uint64_t>("the number of metadata"));
  file.read_tensors(reader, tensors);
  return file;
}

GgufFile GgufFile::open(const std::filesystem::path& path) {
  auto mapped = std::make_shared<const MappedFile>(path);
  GgufFile file = parse(mapped->bytes(), path.string());
  file.owner_ = std::move(mapped);
  return file;
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

void GgufFile::refuse(std::string_view key, const Value& value, std::string_view expected) const {
  throw Error(
      where_,
      fmt::format("\"{}\" is of type {}{}", key, value.count ? "ARRAY of " : "", row_of(value.type).name),
      expected);
}

const GgufFile::Value* GgufFile::value(std::string_view key, bool array, std::string_view expected) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return nullptr;
  if (found->second.count.has_value() != array) refuse(key, found->second, expected);
  return &found->second;
}

std::optional<int64_t> GgufFile::integer(std::string_view key, int64_t low, int64_t high) const {
  const std::string expected = fmt::format("a whole number from {} to {}", low, high);
  const Value* found = value(key, false, expected);
  if (found == nullptr) return std::nullopt;
  const bool whole = row_of(found->type).size > 0 && found->type != GgufType::kBool &&
                     found->type != GgufType::kF32 && found->type != GgufType::kF64;
  if (!whole) refuse(key, *found, expected);
  const auto number = integer_at(found->type, found->bytes.data());
  if (!number || *number < low || *number > high) {
    throw Error(where_,
                fmt::format("\"{}\" is {}", key, number ? fmt::to_string(*number) : "more than 2^63 − 1"),
                expected);
  }
  return number;
}

std::optional<double> GgufFile::number(std::string_view key) const {
  const Value* found = value(key, false, "a number");
  if (found == nullptr) return std::nullopt;
  double number = 0;
  if (found->type == GgufType::kF32) {
    number = shortest(load<float>(found->bytes.data()));
  } else if (found->type == GgufType::kF64) {
    number = load<double>(found->bytes.data());
  } else {
    const auto whole = integer_at(found->type, found->bytes.data());
    if (!whole) refuse(key, *found, "a number");
    number = static_cast<double>(*whole);
  }
  if (!std::isfinite(number))
    throw Error(where_, fmt::format("\"{}\" is {}", key, number), "a finite number");
  return number;
}

std::optional<bool> GgufFile::boolean(std::string_view key) const {
  const Value* found = value(key, false, "BOOL");
  if (found == nullptr) return std::nullopt;
  if (found->type != GgufType::kBool) refuse(key, *found, "BOOL");
  return found->bytes[0] != std::byte{0};
}

std::optional<std::string_view> GgufFile::string(std::string_view key) const {
  const Value* found = value(key, false, "STRING");
  if (found == nullptr) return std::nullopt;
  if (found->type != GgufType::kString) refuse(key, *found, "STRING");
  return Reader(found->bytes, where_).string(key);
}

std::optional<std::vector<std::string_view>> GgufFile::strings(std::string_view key) const {
  const Value* found = value(key, true, "ARRAY of STRING");
  if (found == nullptr) return std::nullopt;
  if (found->type != GgufType::kString) refuse(key, *found, "ARRAY of STRING");
  std::vector<std::string_view> out;
  Reader reader(found->bytes, where_);
  for (uint64_t i = 0; i < *found->count; ++i) out.push_back(reader.string(key));
  return out;
}

std::optional<std::vector<int64_t>> GgufFile::integers(std::string_view key) const {
  const Value* found = value(key, true, "ARRAY of whole numbers");
  if (found == nullptr) return std::nullopt;
  std::vector<int64_t> out;
  const size_t size = row_of(found->type).size;
  for (uint64_t i = 0; i < *found->count; ++i) {
    const auto number = size == 0 ? std::nullopt : integer_at(found->type, found->bytes.data() + i * size);
    if (!number) refuse(key, *found, "ARRAY of whole numbers");
    out.push_back(*number);
  }
  return out;
}

std::optional<std::vector<float>> GgufFile::floats(std::string_view key) const {
  const Value* found = value(key, true, "ARRAY of FLOAT32");
  if (found == nullptr) return std::nullopt;
  if (found->type != GgufType::kF32) refuse(key, *found, "ARRAY of FLOAT32");
  std::vector<float> out(*found->count);
  if (!out.empty()) std::memcpy(out.data(), found->bytes.data(), found->bytes.size());
  return out;
}

std::optional<std::span<const std::byte>> GgufFile::octets(std::string_view key) const {
  constexpr std::string_view kExpected = "ARRAY of UINT8 or INT8";
  const Value* found = value(key, true, kExpected);
  if (found == nullptr) return std::nullopt;
  if (row_of(found->type).size != 1 || found->type == GgufType::kBool) refuse(key, *found, kExpected);
  return found->bytes;
}

}  // namespace linnet

#include "format/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "base/file.h"
#include "base/json.h"
#include "format/dtypes.h"

namespace linnet {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMaxHeader = 100'000'000;
constexpr size_t kMaxDimensions = 64;

uint64_t header_length(std::span<const std::byte> bytes, std::string_view where) {
  if (bytes.size() < 8) {
    throw Error(where, fmt::format("a file of {} bytes", bytes.size()), "safetensors: 8 bytes and a header");
  }
  uint64_t length = 0;
  for (int i = 7; i >= 0; --i)
    length = length << 8 | std::to_integer<uint64_t>(bytes[static_cast<size_t>(i)]);
  if (length > kMaxHeader) {
    throw Error(where, fmt::format("header length {}", length), fmt::format("at most {}", kMaxHeader));
  }
  if (length > bytes.size() - 8) {
    throw Error(where, fmt::format("header length {}", length),
                fmt::format("at most the {} bytes that follow", bytes.size() - 8));
  }
  return length;
}

int64_t natural(const Json& value, const std::string& where, std::string_view what) {
  if (!value.is_number_unsigned() ||
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    throw Error(where, fmt::format("{} {}", what, printable(value.dump(), 40)),
                "a whole number, not negative");
  }
  return value.get<int64_t>();
}

const Json& array_of(const Json& entry, const char* key, const std::string& where) {
  const auto found = entry.find(key);
  if (found == entry.end() || !found->is_array()) {
    throw Error(where, fmt::format("no array \"{}\"", key), "dtype, shape and data_offsets");
  }
  return *found;
}

DType dtype_of(const Json& entry, const std::string& where) {
  const auto found = entry.find("dtype");
  if (found == entry.end() || !found->is_string()) {
    throw Error(where, "no string \"dtype\"", "dtype, shape and data_offsets");
  }
  const auto& name = found->get_ref<const std::string&>();
  for (const DTypeRow& row : kDTypes) {
    if (row.name == name) return row.type;
  }
  throw Error(where, fmt::format("dtype \"{}\"", printable(name, 40)), "F32, BF16 or another known type");
}

std::vector<int64_t> shape_of(const Json& entry, const std::string& where) {
  const Json& array = array_of(entry, "shape", where);
  if (array.size() > kMaxDimensions) {
    throw Error(where, fmt::format("{} dimensions", array.size()), fmt::format("at most {}", kMaxDimensions));
  }
  std::vector<int64_t> shape;
  for (const Json& size : array) shape.push_back(natural(size, where, "shape with"));
  return shape;
}

// Signed, like TensorView::numbers(): no product of leading sizes overflows there, whatever follows them.
uint64_t bytes_of(const std::vector<int64_t>& shape, DType type, const std::string& where) {
  auto product = static_cast<int64_t>(size_of(type));
  for (int64_t size : shape) {
    if (__builtin_mul_overflow(product, size, &product)) {
      throw Error(where, fmt::format("shape {} overflows", to_string(shape)), "a tensor that fits in memory");
    }
  }
  return static_cast<uint64_t>(product);
}

TensorView read_entry(const Json& entry, std::span<const std::byte> data, const std::string& where) {
  if (!entry.is_object()) throw Error(where, "not an object", "dtype, shape and data_offsets");
  TensorView tensor;
  tensor.type = dtype_of(entry, where);
  tensor.shape = shape_of(entry, where);
  const Json& offsets = array_of(entry, "data_offsets", where);
  if (offsets.size() != 2) {
    throw Error(where, fmt::format("{} data_offsets", offsets.size()), "two: begin and end");
  }
  const auto begin = static_cast<uint64_t>(natural(offsets[0], where, "offset"));
  const auto end = static_cast<uint64_t>(natural(offsets[1], where, "offset"));
  if (begin > end) throw Error(where, fmt::format("offsets [{}, {}]", begin, end), "begin not after end");
  if (end > data.size()) {
    throw Error(where, fmt::format("offsets [{}, {}] past the end", begin, end),
                fmt::format("at most {}", data.size()));
  }
  const uint64_t expected = bytes_of(tensor.shape, tensor.type, where);
  if (end - begin != expected) {
    throw Error(where, fmt::format("{} bytes", end - begin),
                fmt::format("{} for {} {}", expected, name_of(tensor.type), to_string(tensor.shape)));
  }
  tensor.bytes = data.subspan(begin, end - begin);
  return tensor;
}

// Every byte of the data belongs to exactly one tensor.
void check_cover(const std::map<std::string, TensorView, std::less<>>& tensors,
                 std::span<const std::byte> data, std::string_view where) {
  struct Range {
    size_t begin, end;
    std::string_view name;
  };
  std::vector<Range> ranges;
  for (const auto& [name, tensor] : tensors) {
    const auto begin = static_cast<size_t>(tensor.bytes.data() - data.data());
    ranges.push_back({begin, begin + tensor.bytes.size(), name});
  }
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  size_t reached = 0;
  for (const Range& range : ranges) {
    if (range.begin < reached) {
      throw Error(tensor_at(where, range.name), fmt::format("overlaps the tensor before byte {}", reached),
                  "ranges apart");
    }
    if (range.begin > reached) {
      throw Error(tensor_at(where, range.name),
                  fmt::format("a hole of {} bytes before it", range.begin - reached), "ranges without gaps");
    }
    reached = range.end;
  }
  if (reached != data.size()) {
    throw Error(where, fmt::format("{} trailing bytes", data.size() - reached),
                "the last tensor to end the file");
  }
}

std::map<std::string, std::string, std::less<>> read_metadata(const Json& object, std::string_view where) {
  std::map<std::string, std::string, std::less<>> metadata;
  if (!object.is_object()) throw Error(where, "__metadata__ is not an object", "an object of strings");
  for (const auto& [key, value] : object.items()) {
    if (!value.is_string()) {
      throw Error(where, fmt::format("__metadata__ \"{}\" is not a string", printable(key, 40)),
                  "an object of strings");
    }
    metadata.emplace(key, value.get<std::string>());
  }
  return metadata;
}

}  // namespace

SafetensorsFile SafetensorsFile::parse(std::span<const std::byte> bytes, std::string_view where) {
  const uint64_t length = header_length(bytes, where);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, length);
  if (text.empty() || text.front() != '{')
    throw Error(where, "the header does not begin with {", "a JSON object");
  const Json header = parse_json(text, fmt::format("{}: header", where), {.bytes = kMaxHeader, .depth = 4});
  const auto data = bytes.subspan(8 + length);
  SafetensorsFile file;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      file.metadata_ = read_metadata(entry, where);
      continue;
    }
    if (name.empty()) throw Error(where, "a tensor without a name", "a name");
    if (name.find('\0') != std::string::npos) {
      throw Error(tensor_at(where, name), "NUL in the name", "a name without NUL");
    }
    file.tensors_.emplace(name, read_entry(entry, data, tensor_at(where, name)));
  }
  check_cover(file.tensors_, data, where);
  return file;
}

SafetensorsFile SafetensorsFile::open(const std::filesystem::path& path) {
  auto mapped = std::make_shared<const MappedFile>(path);
  SafetensorsFile file = parse(mapped->bytes(), path.string());
  file.identity_ = mapped->identity();
  file.owner_ = std::move(mapped);
  return file;
}

}  // namespace linnet

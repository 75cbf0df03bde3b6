#include "format/safetensors.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "base/file.h"
#include "base/json.h"
#include "tests/format/files.h"

namespace linnet {
namespace {

using testing::HasSubstr;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

SafetensorsFile parse(std::string_view file) {
  return SafetensorsFile::parse(bytes_of(file), "x.safetensors");
}

std::string entry(std::string_view shape, std::string_view offsets, std::string_view dtype = "\"U8\"") {
  return fmt::format("{{\"dtype\":{},\"shape\":{},\"data_offsets\":{}}}", dtype, shape, offsets);
}

std::string one(std::string_view shape, std::string_view offsets, std::string_view dtype = "\"U8\"") {
  return fmt::format("{{\"a\":{}}}", entry(shape, offsets, dtype));
}

std::string two(std::string_view first, std::string_view second, const char* name = "b") {
  return fmt::format("{{\"a\":{},\"{}\":{}}}", first, name, second);
}

TEST(Safetensors, RefusesEveryBrokenFileWithItsReason) {
  const std::string ok = one("[4]", "[0,4]");
  std::string many = "[";
  for (int i = 0; i < 1'000'000; ++i) many += i ? ",1" : "1";
  many += "]";
  const struct {
    std::string file;
    const char* message;
  } rows[] = {
      {"", "x.safetensors: a file of 0 bytes"},
      {"1234567", "a file of 7 bytes"},
      {safetensors("", "", 0), "does not begin with {"},
      {safetensors(ok, "abcd", ~uint64_t{0}), "header length 18446744073709551615"},
      {safetensors(ok, "abcd", ok.size() + 5), "expected at most the"},
      {safetensors(ok, "abcd", 100'000'001), "header length 100000001, expected at most 100000000"},
      {safetensors("[]", ""), "does not begin with {"},
      {safetensors(" {}", ""), "does not begin with {"},
      {safetensors("{\"\xff\":1}", ""), "not JSON at byte"},
      {safetensors(fmt::format("{{\"a\":{:[>1000000}", ""), ""), "nested too deeply"},
      {safetensors("{\"a\":[[[[0]]]]}", ""), "nested too deeply"},
      {safetensors(two(entry("[4]", "[0,4]"), entry("[4]", "[0,4]"), "a"), "abcd"), "key \"a\" stands twice"},
      {safetensors(one("[4]", "[0,4]", "\"F7\""), "abcd"), "tensor \"a\": dtype \"F7\""},
      {safetensors(one("[4]", "[0,4]", "8"), "abcd"), "no string \"dtype\""},
      {safetensors("{\"a\":1}", ""), "tensor \"a\": not an object"},
      {safetensors("{\"a\":{\"dtype\":\"U8\",\"shape\":[0]}}", ""), "no array \"data_offsets\""},
      {safetensors(one("4", "[0,4]"), "abcd"), "no array \"shape\""},
      {safetensors(one("[-4]", "[0,4]"), "abcd"), "shape with -4"},
      {safetensors(one("[4.0]", "[0,4]"), "abcd"), "shape with 4.0"},
      {safetensors(one("[\"4\"]", "[0,4]"), "abcd"), "shape with \"4\""},
      {safetensors(one("[1e400]", "[0,4]"), "abcd"), "header: "},
      {safetensors(one("[18446744073709551615]", "[0,4]"), "abcd"), "shape with 18446744073709551615"},
      {safetensors(one("[8589934592,8589934592]", "[0,4]"), "abcd"), "overflows"},
      {safetensors(one("[9223372036854775807,2,0]", "[0,0]"), ""), "overflows"},
      {safetensors(one(many, "[0,4]"), "abcd"), "1000000 dimensions"},
      {safetensors(one("[4]", "[4,0]"), "abcd"), "offsets [4, 0], expected begin not after end"},
      {safetensors(one("[4]", "[0,5]"), "abcd"), "past the end"},
      {safetensors(one("[5]", "[0,4]"), "abcd"), "4 bytes, expected 5 for U8 [5]"},
      {safetensors(one("[4]", "[0,4,8]"), "abcd"), "3 data_offsets"},
      {safetensors(one("[4]", "[0,-4]"), "abcd"), "offset -4"},
      {safetensors(two(entry("[4]", "[0,4]"), entry("[4]", "[3,7]")), "abcdefg"), "tensor \"b\": overlaps"},
      {safetensors(two(entry("[4]", "[0,4]"), entry("[2]", "[5,7]")), "abcdefg"),
       "a hole of 1 bytes before it"},
      {safetensors(one("[4]", "[0,4]"), "abcdXY"), "2 trailing bytes"},
      {safetensors("{}", "abcd"), "4 trailing bytes"},
      {safetensors("{\"\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", "abcd"),
       "a tensor without a name"},
      {safetensors(two(entry("[0]", "[0,0]"), entry("[4]", "[0,4]"), "a\\u0000b"), "abcd"),
       "NUL in the name"},
      {safetensors("{\"__metadata__\":{\"a\":1}}", ""), "__metadata__ \"a\" is not a string"},
      {safetensors("{\"__metadata__\":[]}", ""), "__metadata__ is not an object"},
  };
  for (const auto& row : rows) {
    EXPECT_THAT(error_of([&] { parse(row.file); }), HasSubstr(row.message)) << row.file.substr(0, 100);
  }
}

TEST(Safetensors, ReadsTensorsInAnyOrderWithMetadataAndEmptyOnes) {
  const std::string file =
      safetensors(fmt::format("{{\"__metadata__\":{{\"format\":\"pt\"}},\"b\":{},\"empty\":{},\"a\":{}}}   ",
                              entry("[2]", "[0,2]"), entry("[0,8589934592]", "[2,2]"), entry("[]", "[2,3]")),
                  "xyz");
  const SafetensorsFile parsed = parse(file);
  EXPECT_EQ(parsed.metadata().at("format"), "pt");
  EXPECT_EQ(static_cast<char>(parsed.tensors().at("a").bytes[0]), 'z');
  EXPECT_EQ(parsed.tensors().at("b").shape, std::vector<int64_t>{2});
  EXPECT_EQ(parsed.tensors().at("empty").numbers(), 0);
}

TEST(Safetensors, EveryTruncationOfAFileIsRefused) {
  const std::string file = safetensors(one("[4]", "[0,4]"), "abcd");
  for (size_t n = 0; n < file.size(); ++n) {
    EXPECT_NE(error_of([&] { parse(std::string_view(file).substr(0, n)); }), "") << n;
  }
  EXPECT_EQ(parse(file).tensors().size(), 1u);
}

TEST(Safetensors, AFileTruncatedWhileItIsMappedEndsWithStatusTwo) {
  TemporaryFolder folder;
  const size_t size = 1 << 20;
  const auto path = folder.write("a", safetensors(one("[1048576]", "[0,1048576]"), std::string(size, 'x')));
  EXPECT_EXIT(
      {
        install_truncation_handler();
        const SafetensorsFile file = SafetensorsFile::open(path);
        std::filesystem::resize_file(path, 4096);
        volatile char last = static_cast<char>(file.tensors().at("a").bytes[size - 1]);
        ::_exit(last);
      },
      testing::ExitedWithCode(2), "linnet: error: input: a mapped file became shorter");
}

TensorView view(DType type, std::vector<int64_t> shape, std::string_view bytes) {
  return {type, std::move(shape), bytes_of(bytes)};
}

TEST(Safetensors, WritesWhatItReads) {
  TemporaryFolder folder;
  const std::vector<NamedTensor> tensors = {{"a", view(DType::kU8, {3}, "abc")},
                                            {"b", view(DType::kF32, {1, 2}, "01234567")},
                                            {"c", view(DType::kBF16, {}, "xy")}};
  write_safetensors(folder.path / "m", tensors, {{"k", "v"}});
  const SafetensorsFile file = SafetensorsFile::open(folder.path / "m");
  EXPECT_EQ(file.metadata().at("k"), "v");
  for (const NamedTensor& one : tensors) {
    const TensorView& read = file.tensors().at(one.name);
    EXPECT_EQ(read.type, one.tensor.type);
    EXPECT_EQ(read.shape, one.tensor.shape);
    EXPECT_TRUE(std::ranges::equal(read.bytes, one.tensor.bytes)) << one.name;
    EXPECT_EQ(reinterpret_cast<uintptr_t>(read.bytes.data()) % size_of(read.type), 0u) << one.name;
  }
  const std::vector<NamedTensor> twice = {tensors[0], tensors[0]};
  EXPECT_THAT(error_of([&] { write_safetensors(folder.path / "n", twice); }), HasSubstr("given twice"));
  EXPECT_EQ(folder.entries(), 1u);
}

TEST(Safetensors, ShardsStayUnderTheLimitAndHashAsOneFile) {
  TemporaryFolder whole, shards;
  std::string data(4000, 'x');
  for (size_t i = 0; i < data.size(); ++i) data[i] = static_cast<char>(i * 37);
  std::vector<NamedTensor> tensors;
  for (int i = 0; i < 10; ++i) {
    tensors.push_back(
        {fmt::format("t{}", i),
         view(DType::kU8, {1000 + i},
              std::string_view(data).substr(static_cast<size_t>(i), 1000 + static_cast<size_t>(i)))});
  }
  write_sharded(whole.path, tensors, 1 << 20);
  write_sharded(shards.path, tensors, 4000);
  EXPECT_EQ(whole.entries(), 1u);
  EXPECT_GT(shards.entries(), 3u);
  for (const auto& file : std::filesystem::directory_iterator(shards.path)) {
    EXPECT_LE(file.file_size(), 4000u) << file.path();
  }
  const TensorStore one = TensorStore::open_folder(whole.path), many = TensorStore::open_folder(shards.path);
  EXPECT_EQ(many.tensors().size(), 10u);
  EXPECT_EQ(tensors_hash(one), tensors_hash(many));
  EXPECT_EQ(read_json(shards.path / "model.safetensors.index.json")["metadata"]["total_size"], 10045);
  tensors[3].tensor.bytes = bytes_of(std::string_view(data).substr(4, 1003));
  TemporaryFolder other;
  write_sharded(other.path, tensors, 4000);
  EXPECT_NE(tensors_hash(one), tensors_hash(TensorStore::open_folder(other.path)));
}

TEST(Safetensors, TheHashKeepsNamesAndTypesApart) {
  TemporaryFolder folder;
  const NamedTensor narrow{"aB", view(DType::kF16, {1}, "xy")}, brain{"a", view(DType::kBF16, {1}, "xy")};
  write_safetensors(folder.path / "1", {&narrow, 1});
  write_safetensors(folder.path / "2", {&brain, 1});
  EXPECT_NE(tensors_hash(TensorStore::open_file(folder.path / "1")),
            tensors_hash(TensorStore::open_file(folder.path / "2")));
}

TEST(Tensor, RoundsToNearestAndTiesToEven) {
  const struct {
    DType type;
    float number;
    uint16_t bits;
  } rows[] = {
      {DType::kF16, 1 + 0x1p-11f, 0x3C00},
      {DType::kF16, 1 + 3 * 0x1p-11f, 0x3C02},
      {DType::kF16, -(1 + 0x1.8p-11f), 0xBC01},
      {DType::kF16, 65519, 0x7BFF},
      {DType::kF16, 65520, 0x7C00},
      {DType::kF16, -INFINITY, 0xFC00},
      {DType::kF16, 0x1.8p-24f, 0x0002},
      {DType::kF16, 0x1p-25f, 0x0000},
      {DType::kF16, NAN, 0x7E00},
      {DType::kBF16, 1 + 0x1p-8f, 0x3F80},
      {DType::kBF16, 1 + 3 * 0x1p-8f, 0x3F82},
      {DType::kBF16, -(1 + 0x1.8p-8f), 0xBF81},
      {DType::kBF16, 0x1.FFp127f, 0x7F80},
      {DType::kBF16, NAN, 0x7FC0},
  };
  for (const auto& row : rows) {
    const auto bytes = from_float({&row.number, 1}, row.type);
    uint16_t bits = 0;
    std::memcpy(&bits, bytes.data(), sizeof(bits));
    EXPECT_EQ(bits, row.bits) << row.number << " as " << name_of(row.type);
  }
}

TEST(Tensor, ConvertsEveryFloatingTypeWhereverItStands) {
  // 1.5, −2, the smallest half, infinity.
  const double values[] = {1.5, -2.0, 0x1p-24, INFINITY};
  const std::string_view half("\x00\x3e\x00\xc0\x01\x00\x00\x7c", 8);
  const std::string_view brain("\xc0\x3f\x00\xc0\x80\x33\x80\x7f", 8);
  std::string floats, doubles;
  for (double x : values) {
    const float narrow = static_cast<float>(x);
    floats.append(reinterpret_cast<const char*>(&narrow), 4);
    doubles.append(reinterpret_cast<const char*>(&x), 8);
  }
  const std::pair<DType, std::string_view> rows[] = {
      {DType::kF16, half}, {DType::kBF16, brain}, {DType::kF32, floats}, {DType::kF64, doubles}};
  for (const auto& [type, bytes] : rows) {
    for (size_t shift = 0; shift < 8; ++shift) {
      const std::string moved = std::string(shift, 'x') + std::string(bytes);
      const TensorView tensor = view(type, {4}, std::string_view(moved).substr(shift));
      EXPECT_THAT(to_double(tensor, "a"), testing::ElementsAreArray(values)) << name_of(type);
      EXPECT_THAT(to_float(tensor, "a"), testing::ElementsAreArray(values)) << name_of(type);
    }
  }
  const TensorView nan = view(DType::kF16, {1}, std::string_view("\x01\x7e", 2));
  EXPECT_TRUE(std::isnan(to_float(nan, "a")[0]));
  EXPECT_THAT(error_of([] { to_float({DType::kI32, {0}, {}}, "w"); }), HasSubstr("w: numbers of type I32"));
}

}  // namespace
}  // namespace linnet

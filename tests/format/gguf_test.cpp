#include "format/gguf.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "format/safetensors.h"
#include "tests/format/files.h"
#include "tests/format/gguf_writer.h"

namespace linnet {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string raw64(uint64_t value) { return GgufWriter::raw(value); }

GgufFile parse(std::string_view file) {
  return GgufFile::parse(std::as_bytes(std::span(file.data(), file.size())), "x.gguf");
}

TEST(Gguf, DequantizesEveryTypeAsAnotherProgramDoes) {
  const TensorStore golden =
      TensorStore::open_file(std::string(LINNET_TEST_DATA) + "/gguf/blocks.safetensors");
  int seen = 0;
  for (const GgmlType& type : ggml_types()) {
    if (type.dequantize == nullptr) continue;
    SCOPED_TRACE(type.name);
    const TensorView* blocks = golden.find(fmt::format("{}.blocks", type.name));
    const TensorView* numbers = golden.find(fmt::format("{}.numbers", type.name));
    ASSERT_TRUE(blocks != nullptr && numbers != nullptr);
    const std::vector<float> expected = to_float(*numbers, "numbers");
    ASSERT_EQ(blocks->bytes.size() / type.bytes * type.block, expected.size());
    std::vector<float> own(expected.size());
    dequantize(type, blocks->bytes, own);
    for (size_t i = 0; i < own.size(); ++i) {
      // A multiplication and an addition may be one rounding on some machines.
      EXPECT_NEAR(own[i], expected[i], 1e-6 * (std::abs(expected[i]) + 1)) << i;
    }
    ++seen;
  }
  EXPECT_EQ(seen, 11);
}

TEST(Gguf, ReadsMetadataOfEveryTypeAndTensorsRowMajor) {
  GgufWriter writer;
  writer.add("u8", 0, GgufWriter::raw(uint8_t{200})).add("i8", 1, GgufWriter::raw(int8_t{-3}));
  writer.add("u16", 2, GgufWriter::raw(uint16_t{60000})).add("i16", 3, GgufWriter::raw(int16_t{-300}));
  writer.add("i32", 5, GgufWriter::raw(int32_t{-70000})).add("u32", uint32_t{4000000000});
  writer.add("u64", 10, raw64(5)).add("i64", 11, GgufWriter::raw(int64_t{-5}));
  writer.add("f32", 1e-5f).add("f64", 12, GgufWriter::raw(0.1)).add("yes", true).add("s", "text");
  writer.add("strings", std::vector<std::string>{"a", "", "bc"}).add("ints", std::vector<int32_t>{1, -2});
  writer.add("floats", std::vector<float>{0.5f}).array("bytes", 0, 2, "ab");
  writer.array("nested", 9, 1, GgufWriter::raw(uint32_t{8}) + raw64(1) + GgufWriter::text("deep"));
  const std::string numbers(2 * 3 * 4, '\1');
  for (const uint32_t version : {2u, 3u}) {
    writer.version = version;
    const std::string bytes = GgufWriter(writer).tensor("t", {2, 3}, 0, numbers).file();
    const GgufFile file = parse(bytes);
    constexpr int64_t kLow = INT64_MIN, kHigh = INT64_MAX;
    EXPECT_EQ(file.integer("u8", kLow, kHigh), 200);
    EXPECT_EQ(file.integer("i8", kLow, kHigh), -3);
    EXPECT_EQ(file.integer("u16", kLow, kHigh), 60000);
    EXPECT_EQ(file.integer("i16", kLow, kHigh), -300);
    EXPECT_EQ(file.integer("i32", kLow, kHigh), -70000);
    EXPECT_EQ(file.integer("u32", kLow, kHigh), 4000000000);
    EXPECT_EQ(file.integer("u64", kLow, kHigh), 5);
    EXPECT_EQ(file.number("i64"), -5);
    EXPECT_EQ(file.number("f32"), 1e-5);  // not the float32's own 9.99999974738e-06
    EXPECT_EQ(file.number("f64"), 0.1);
    EXPECT_EQ(file.boolean("yes"), true);
    EXPECT_EQ(file.string("s"), "text");
    EXPECT_THAT(*file.strings("strings"), ElementsAre("a", "", "bc"));
    EXPECT_THAT(*file.integers("ints"), ElementsAre(1, -2));
    EXPECT_THAT(*file.floats("floats"), ElementsAre(0.5f));
    EXPECT_EQ(file.octets("bytes")->size(), 2u);
    EXPECT_TRUE(file.has("nested"));
    EXPECT_EQ(file.integer("absent", 0, 1), std::nullopt);
    EXPECT_THAT(file.find("t")->shape, ElementsAre(2, 3));
    EXPECT_EQ(file.find("t")->bytes.size(), numbers.size());
    EXPECT_THAT(error_of([&] { file.string("u8"); }), HasSubstr("\"u8\" is of type UINT8, expected STRING"));
    EXPECT_THAT(error_of([&] { file.integer("strings", 0, 9); }), HasSubstr("is of type ARRAY of STRING"));
    EXPECT_THAT(error_of([&] { file.integer("u8", 0, 9); }), HasSubstr("\"u8\" is 200, expected"));
    EXPECT_THAT(error_of([&] { file.strings("ints"); }), HasSubstr("expected ARRAY of STRING"));
  }
}

TEST(Gguf, RefusesEveryBeginningOfAFile) {
  GgufWriter writer;
  writer.add("s", "text").add("strings", std::vector<std::string>{"a", "bc"});
  const std::string bytes = writer.tensor("t", {2, 32}, 2, std::string(36, '\1')).file();
  parse(bytes);
  for (size_t size = 0; size < bytes.size(); ++size)
    EXPECT_NE(error_of([&] { parse(std::string(bytes, 0, size)); }), "") << size;
}

TEST(Gguf, RefusesEveryBrokenFileWithItsReason) {
  constexpr uint64_t kHuge = uint64_t{1} << 62;
  const auto writer = [] { return GgufWriter(); };
  const auto counts = [](uint64_t tensors, uint64_t keys) {
    return "GGUF" + GgufWriter::raw(uint32_t{3}) + raw64(tensors) + raw64(keys);
  };
  const auto version = [&](uint32_t number) {
    GgufWriter out;
    out.version = number;
    return out.file();
  };
  const std::string four(4, '\0'), block(18, '\0');
  std::string nested = GgufWriter::raw(uint32_t{9}) + raw64(1);
  for (int i = 0; i < 6; ++i) nested += nested.substr(0, 12);
  const struct {
    std::string file;
    const char* message;
  } rows[] = {
      {"", "x.gguf: cut short in the first 4 bytes"},
      {"GGML....................", "not a GGUF file"},
      {version(1), "GGUF version 1, expected 2 or 3"},
      {version(0x03000000), "a big-endian GGUF file"},
      {counts(0, ~uint64_t{0}), "cut short in a key"},
      {counts(~uint64_t{0}, 0), "cut short in a tensor's name"},
      {counts(0, 1) + raw64(~uint64_t{0}), "cut short in a key"},
      {counts(0, 1) + raw64(kHuge), "cut short in a key"},
      {writer().add("", uint32_t{1}).file(), "metadata 0 has the key \"\""},
      {writer().add("a\nb", uint32_t{1}).file(), "has the key \"a\\x0ab\""},
      {writer().add("a", uint32_t{1}).add("a", uint32_t{1}).file(), "\"a\" stands twice"},
      {writer().add("a", 13, four).file(), "\"a\" has type 13, expected 0 to 12"},
      {writer().add("a", 7, "\2").file(), "neither 0 nor 1"},
      {writer().add("a", 8, raw64(kHuge)).file(), "cut short in \"a\""},
      {writer().array("a", 4, kHuge, four).file(), "\"a\" has 4611686018427387904 values of type UINT32"},
      {writer().array("a", 8, 1000, four).file(), "\"a\" has 1000 values of type STRING"},
      {writer().array("a", 13, 1, four).file(), "\"a\" has type 13"},
      {writer().array("a", 9, 1, nested + nested).file(), "nested too deeply"},
      {writer().add("general.alignment", uint32_t{0}).file(), "\"general.alignment\" is 0"},
      {writer().add("general.alignment", uint32_t{12}).tensor("t", {1}, 0, four).file(), "a multiple of 8"},
      {writer().add("general.alignment", "32").tensor("t", {1}, 0, four).file(), "is of type STRING"},
      {writer().tensor("", {1}, 0, four).file(), "tensor 0 has the name \"\""},
      {writer().tensor(std::string(65, 'a'), {1}, 0, four).file(), "expected 1 to 64 letters"},
      {writer().tensor("t", {}, 0, four).file(), "tensor \"t\": 0 dimensions"},
      {writer().tensor("t", {1, 1, 1, 1, 1}, 0, four).file(), "tensor \"t\": 5 dimensions"},
      {writer().tensor("t", {0}, 0, four).file(), "a dimension of 0"},
      {writer().tensor("t", {-1}, 0, four).file(), "a dimension of 18446744073709551615"},
      {writer().tensor("t", {1LL << 33, 1LL << 33}, 0, four).file(), "overflows"},
      {writer().tensor("t", {1LL << 62}, 0, four).file(), "overflows"},
      {writer().tensor("t", {1LL << 40}, 0, four).file(), "4398046511104 bytes from offset 0 on"},
      {writer().tensor("t", {2}, 0, four).file(), "8 bytes from offset 0 on"},
      {writer().tensor("t", {32}, 99, block).file(),
       "numbers of type 99, expected one of F32, F16, BF16, Q8_0"},
      {writer().tensor("t", {256}, 23, block).file(), "numbers of type 23 (IQ4_XS), expected one of"},
      {writer().tensor("t", {48}, 2, block + block).file(),
       "rows of 48 numbers in Q4_0, expected a multiple of 32"},
      {writer().tensor("t", {32, 1}, 2, block).file(), "rows of 1 numbers in Q4_0"},
      {writer().entry("t", {1}, 0, 4).file() + block, "offset 4, expected a multiple of 32"},
      {writer().entry("t", {1}, 0, ~uint64_t{31}).file() + block, "from offset 18446744073709551584 on"},
      {writer().tensor("t", {1}, 0, four).tensor("t", {1}, 0, four).file(), "tensor \"t\": stands twice"},
      {writer().tensor("t", {1}, 0, four).entry("u", {1}, 0, 0).file(), "tensor \"u\": overlaps \"t\""},
      {writer().tensor("t", {16}, 0, std::string(64, '\0')).entry("u", {1}, 0, 32).file(), "overlaps \"t\""},
  };
  for (const auto& row : rows) {
    const std::string error = error_of([&] { parse(row.file); });
    EXPECT_THAT(error, HasSubstr(row.message));
    EXPECT_THAT(error, testing::StartsWith("x.gguf: "));
  }
}

}  // namespace
}  // namespace linnet

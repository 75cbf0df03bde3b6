#include "text/corpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "base/error.h"
#include "base/file.h"
#include "base/remove_folder.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

std::string xz(std::string_view text) {
  std::string packed(lzma_stream_buffer_bound(text.size()), '\0');
  size_t size = 0;
  EXPECT_EQ(
      lzma_easy_buffer_encode(0, LZMA_CHECK_CRC32, nullptr, reinterpret_cast<const uint8_t*>(text.data()),
                              text.size(), reinterpret_cast<uint8_t*>(packed.data()), &size, packed.size()),
      LZMA_OK);
  return packed.substr(0, size);
}

std::string gzip(std::string_view text) {
  z_stream stream = {};
  EXPECT_EQ(deflateInit2(&stream, 1, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, text.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = static_cast<uInt>(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

std::string zstd(std::string_view text) {
  ZSTD_CCtx* context = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1);
  std::string packed(ZSTD_compressBound(text.size()), '\0');
  packed.resize(ZSTD_compress2(context, packed.data(), packed.size(), text.data(), text.size()));
  ZSTD_freeCCtx(context);
  return packed;
}

/// How texts are packed: the ending, what is said of a file that is none, and how.
const struct Packing {
  const char *ending, *another;
  std::string (*pack)(std::string_view);
} kPackings[] = {
    {".xz", "not an xz file", &xz}, {".gz", "not a gzip file", &gzip}, {".zst", "not a zstd file", &zstd}};

const fs::path kPacked = LINNET_TEST_DATA "/tokenizers/encodings.jsonl.xz";  // its records have `text`

class Corpus : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) /
              ("linnet_" + std::string(testing::UnitTest::GetInstance()->current_test_info()->name()));
    fs::create_directories(folder_);
  }
  void TearDown() override { remove_folder(folder_); }

  fs::path file(const std::string& name, std::string_view content) {
    write_file(folder_ / name, content);
    return folder_ / name;
  }
  static std::vector<Document> read(const fs::path& path, const CorpusOptions& options = {}) {
    return read_documents(std::span(&path, 1), options);
  }
  static std::vector<std::string> texts(const fs::path& path, const CorpusOptions& options = {}) {
    std::vector<std::string> texts;
    for (const Document& document : read(path, options)) texts.push_back(document.text);
    return texts;
  }
  static std::string message(const fs::path& path, const CorpusOptions& options = {}) {
    try {
      read(path, options);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
  fs::path folder_;
};

TEST_F(Corpus, ATextFileIsOneDocument) {
  const auto documents = read(file("a.txt", "one\n\ntwo"));
  ASSERT_EQ(documents.size(), 1u);
  EXPECT_EQ(documents[0].text, "one\n\ntwo");
  EXPECT_EQ(documents[0].source, "a.txt");
}

TEST_F(Corpus, AByteOrderMarkIsNoPartOfAText) {
  EXPECT_EQ(read(file("a.txt", "\xEF\xBB\xBFone"))[0].text, "one");
  EXPECT_EQ(read(file("a.md", "\xEF\xBB\xBF# one"))[0].text, "# one");
  EXPECT_THAT(message(file("b.txt", "\xEF\xBB")), HasSubstr("b.txt:1: bytes that are no UTF-8"));
  const auto records = read(file("a.jsonl", "\xEF\xBB\xBF{\"text\": \"one\"}\n{\"text\": \"two\"}"));
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].text, "one");
  EXPECT_EQ(read(file("b.jsonl", "\xEF\xBB\xBF\n{\"text\": \"one\"}")).size(), 1u);
}

TEST_F(Corpus, EveryKindOfTextReadsThePackedAsThePlain) {
  std::string text = "\xEF\xBB\xBF";  // a byte-order mark; then more than two parts of 1 MiB
  for (int i = 0; text.size() < (5 << 19); ++i) text += std::to_string(i) + " ";
  const std::string kinds[][2] = {{"a.txt", text},
                                  {"a.md", ""},
                                  {"a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"two\"}"},
                                  {"a.json", "[{\"text\": \"one\"}, \"two\"]"}};
  for (const auto& [name, content] : kinds) {
    const auto plain = texts(file(name, content));
    for (const Packing& packing : kPackings) {
      const std::string packed = packing.pack(content);
      EXPECT_TRUE(texts(file(name + packing.ending, packed)) == plain) << name << packing.ending;
    }
  }
}

TEST_F(Corpus, ArchivesThatWereJoinedAreReadToTheEnd) {
  for (const Packing& packing : kPackings) {
    const std::string one = packing.pack("{\"text\": \"one\"}\n"),
                      two = packing.pack("{\"text\": \"two\"}\n");
    EXPECT_EQ(texts(file(std::string("a.jsonl") + packing.ending, one + two)),
              (std::vector<std::string>{"one", "two"}))
        << packing.ending;
  }
}

TEST_F(Corpus, AJsonFileIsAListOfRecordsOrStringsOrOneRecord) {
  using Texts = std::vector<std::string>;
  const struct {
    const char* json;
    Texts expected;
  } rows[] = {
      {"[]", {}},
      {" [ ] \n", {}},
      {"{\"text\": \"one\"}", {"one"}},
      {"[\"one\", \"t,w]o\\\"\", {\"text\": \"th{r[ee\", \"more\": [1, {\"text\": \"x\"}]}]",
       {"one", "t,w]o\"", "th{r[ee"}},
      {"[\n  {\"text\": \"\"},\n  {\"text\": \"\\\\\"}\n]\n", {"", "\\"}},
  };
  for (const auto& row : rows) EXPECT_EQ(texts(file("a.json", row.json)), row.expected) << row.json;
  const auto documents =
      read(file("b.json", "[\"one\", {\"text\": \"two\", \"id\": \"i\", \"source\": \"s\"}]"));
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_THAT(documents[0].id, HasSubstr("b.json, record 1"));
  EXPECT_EQ(documents[0].source, "b.json");
  EXPECT_EQ(documents[1].id, "i");
  EXPECT_EQ(documents[1].source, "s");
}

TEST_F(Corpus, TheFieldOfARecordIsTheOneThatIsNamed) {
  const auto lines = file("a.jsonl", "{\"text\": \"one\", \"content\": \"1\"}\n");
  const auto list = file("a.json", "[{\"content\": \"1\"}, \"2\"]");
  EXPECT_EQ(texts(lines, {.field = "content"}), std::vector<std::string>{"1"});
  EXPECT_EQ(texts(list, {.field = "content"}), (std::vector<std::string>{"1", "2"}));
  EXPECT_THAT(
      message(lines, {.field = "body"}),
      HasSubstr("a.jsonl:1: no string `body` in the record, expected a record with the field `body`"));
}

TEST_F(Corpus, ARecordIsADocument) {
  const auto path =
      file("a.jsonl", "{\"text\": \"x\\ny\", \"id\": \"i\", \"source\": \"s\"}\r\n\n{\"text\": \"\"}");
  const auto documents = read(path);
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_EQ(documents[0].text, "x\ny");
  EXPECT_EQ(documents[0].id, "i");
  EXPECT_EQ(documents[0].source, "s");
  EXPECT_EQ(documents[1].id, path.string() + ":3") << "a record without id is named by its line";
  EXPECT_EQ(documents[1].source, "a.jsonl");
}

TEST_F(Corpus, ReadingStopsWhenTold) {
  int taken = 0;
  for_each_document(kPacked, {}, [&](Document&&) { return ++taken < 3; });
  EXPECT_EQ(taken, 3);
}

TEST_F(Corpus, ALongRecordIsReadInPartsAndWhole) {
  std::string text;  // longer than two parts of 1 MiB
  for (int i = 0; text.size() < (5 << 19); ++i) text += std::to_string(i);
  const auto documents = read(file("a.jsonl", "{\"text\": \"" + text + "\"}\n{\"text\": \"b\"}\n"));
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_TRUE(documents[0].text == text);
  EXPECT_EQ(documents[1].text, "b");
}

TEST_F(Corpus, AnArchiveCutShortOrDamagedIsAnError) {
  for (const Packing& packing : kPackings) {
    const std::string name = std::string("a.jsonl") + packing.ending;
    std::string text;
    for (int i = 0; i < 1000; ++i) text += "{\"text\": \"" + std::to_string(i) + "\"}\n";
    const std::string whole = packing.pack(text);
    ASSERT_EQ(read(file(name, whole)).size(), 1000u);
    for (const size_t size : {size_t{0}, size_t{1}, size_t{5}, whole.size() / 2, whole.size() - 1}) {
      EXPECT_THAT(message(file(name, whole.substr(0, size))), HasSubstr("damaged or cut short"))
          << packing.ending << " of " << size << " bytes";
    }
    std::string flipped = whole;
    flipped[whole.size() / 2] ^= 1;
    EXPECT_THAT(message(file(name, flipped)), HasSubstr("damaged or cut short")) << packing.ending;
    EXPECT_THAT(message(file(name, whole + "more")), HasSubstr(packing.ending)) << "bytes behind the archive";
    EXPECT_THAT(message(file(name, text)), HasSubstr(packing.another));
  }
}

TEST_F(Corpus, WhatUnpacksToMoreThanIsAllowedIsAnError) {
  const std::string zeros(size_t{4} << 20, '0'), deep(size_t{4} << 20, '[');
  const CorpusOptions options = {.most = size_t{1} << 20};
  for (const Packing& packing : kPackings) {
    const auto packed = [&](const char* name, const std::string& text) {
      return file(std::string(name) + packing.ending, packing.pack(text));
    };
    EXPECT_THAT(message(packed("a.txt", zeros), options), HasSubstr("more than 1048576 bytes of text"));
    EXPECT_THAT(message(packed("a.json", zeros), options), HasSubstr("more than 1048576 bytes of text"));
    EXPECT_THAT(message(packed("a.jsonl", zeros), options),
                HasSubstr(":1: a line of more than 1048576 bytes"));
    EXPECT_THAT(message(packed("b.json", deep)), HasSubstr("the list does not end"));
    EXPECT_THAT(message(packed("b.jsonl", deep)), HasSubstr("nested too deeply"));
  }
  // A frame of one empty block whose window is 2 GiB.
  EXPECT_THAT(message(file("a.txt.zst", std::string_view("\x28\xB5\x2F\xFD\x00\xA8\x01\x00\x00", 9))),
              HasSubstr("unpacking needs too much memory"));
}

TEST_F(Corpus, WhatIsNoRecordIsAnErrorThatNamesTheLine) {
  const struct {
    const char *line, *expected;
  } rows[] = {
      {"{\"text\": 1}", "no string `text`"},
      {"{}", "no string `text`"},
      {"[1]", "no JSON object"},
      {"{\"text\": ", "not JSON"},
      {"\"text\"", "no JSON object"},
      {"{\"text\": \"\xFF\"}", "not JSON"},
  };
  for (const auto& row : rows) {
    const std::string text =
        message(file("a.jsonl", std::string("{\"text\": \"fine\"}\n") + row.line + "\n"));
    EXPECT_THAT(text, HasSubstr("a.jsonl:2")) << row.line;
    EXPECT_THAT(text, HasSubstr(row.expected)) << row.line;
  }
}

TEST_F(Corpus, WhatIsNoListOfRecordsIsAnErrorThatNamesTheRecord) {
  const struct {
    const char *json, *expected;
  } rows[] = {
      {"", "a.json: empty file"},
      {"\n", "a.json: empty file"},
      {"3", "a.json: no JSON object"},
      {"{}", "a.json: no string `text`"},
      {"{\"text\": \"a\"} {}", "a.json: not JSON"},
      {"[1]", "a.json, record 1: no JSON object"},
      {"[\"a\", [\"b\"]]", "a.json, record 2: no JSON object"},
      {"[\"a\", {\"text\": null}]", "a.json, record 2: no string `text`"},
      {"[\"a\", {\"text\": \"a\", \"text\": \"b\"}]", "a.json, record 2: key \"text\" stands twice"},
      {"[\"a\",]", "a.json, record 2: not JSON"},
      {"[,]", "a.json, record 1: not JSON"},
      {"[\"a\" \"b\"]", "a.json, record 1: not JSON"},
      {"[\"a\"", "a.json, record 1: not JSON: the list does not end"},
      {"[\"a", "a.json, record 1: not JSON: the list does not end"},
      {"[\"a\\", "a.json, record 1: not JSON: the list does not end"},
      {"[\"a\"] x", "a.json: not JSON: more stands after the list"},
      {"[\"a\"}]", "a.json, record 1: not JSON"},
      {"[{\"text\": \"\xFF\"}]", "a.json, record 1: not JSON"},
  };
  for (const auto& row : rows)
    EXPECT_THAT(message(file("a.json", row.json)), HasSubstr(row.expected)) << row.json;
}

TEST_F(Corpus, PlainTextIsUtf8OrAnErrorThatNamesTheLine) {
  EXPECT_THAT(message(file("bad.txt", "one\ntwo \xFF\nthree\n")),
              HasSubstr("bad.txt:2: bytes that are no UTF-8, expected text in UTF-8"));
  const fs::path lines = file("lines.txt", "one\r\n\n  three\nfour \xE1\x80\n");
  std::vector<std::string> taken;
  try {
    for_each_text_line(lines, [&](std::string_view line, size_t) {
      taken.emplace_back(line);
      return true;
    });
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("lines.txt:4: bytes that are no UTF-8"));
  }
  EXPECT_EQ(taken, (std::vector<std::string>{"one", "", "  three"}));
}

TEST_F(Corpus, AnotherEndingOrAMissingFileIsAnError) {
  EXPECT_THAT(message(file("a.parquet", "x")),
              HasSubstr("expected a name that ends in .txt, .md, .jsonl or .json, or one of these and .xz"));
  EXPECT_THAT(message(folder_ / "none.txt"), HasSubstr("none.txt"));
}

}  // namespace
}  // namespace linnet

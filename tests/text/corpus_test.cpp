#include "text/corpus.h"
#include "base/remove_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "base/file.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

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
  static std::vector<Document> read(const fs::path& path) { return read_documents(std::span(&path, 1)); }
  static std::string message(const fs::path& path) {
    try {
      read(path);
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
  EXPECT_EQ(read(file("b.txt", "\xEF\xBB"))[0].text, "\xEF\xBB");
  const auto records = read(file("a.jsonl", "\xEF\xBB\xBF{\"text\": \"one\"}\n{\"text\": \"two\"}"));
  ASSERT_EQ(records.size(), 2u);
  EXPECT_EQ(records[0].text, "one");
  EXPECT_EQ(read(file("b.jsonl", "\xEF\xBB\xBF\n{\"text\": \"one\"}")).size(), 1u);
}

TEST_F(Corpus, APackedTextIsOneDocument) {
  const auto documents = read(file("a.md.xz", MappedFile(kPacked).text()));
  ASSERT_EQ(documents.size(), 1u);
  EXPECT_THAT(documents[0].text, HasSubstr("\n{"));
  EXPECT_THAT(message(file("b.txt.xz", "plain text, not packed")), HasSubstr("not an xz file"));
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
  for_each_document(kPacked, [&](Document&&) { return ++taken < 3; });
  EXPECT_EQ(taken, 3);
}

TEST_F(Corpus, APackedFileIsUnpackedAndSoAreTwoThatWereJoined) {
  EXPECT_EQ(read(kPacked).size(), 27u);
  const std::string packed(MappedFile(kPacked).text());
  EXPECT_EQ(read(file("two.jsonl.xz", packed + packed)).size(), 54u);
}

TEST_F(Corpus, ALongRecordIsReadInPartsAndWhole) {
  std::string text;  // longer than two parts of 1 MiB
  for (int i = 0; text.size() < (5 << 19); ++i) text += std::to_string(i);
  const auto documents = read(file("a.jsonl", "{\"text\": \"" + text + "\"}\n{\"text\": \"b\"}\n"));
  ASSERT_EQ(documents.size(), 2u);
  EXPECT_TRUE(documents[0].text == text);
  EXPECT_EQ(documents[1].text, "b");
}

TEST_F(Corpus, APackedFileCutShortOrDamagedIsAnError) {
  const MappedFile mapped(kPacked);
  const std::string whole(mapped.text());
  for (const size_t size : {size_t{0}, size_t{5}, whole.size() / 2, whole.size() - 1}) {
    EXPECT_THAT(message(file("cut.jsonl.xz", whole.substr(0, size))), HasSubstr("damaged or cut short"))
        << size;
  }
  std::string flipped = whole;
  flipped[whole.size() / 2] ^= 1;
  EXPECT_THAT(message(file("flipped.jsonl.xz", flipped)), HasSubstr("damaged or cut short"));
  EXPECT_THAT(message(file("plain.jsonl.xz", "{\"text\": \"x\"}\n")), HasSubstr("not an xz file"));
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

TEST_F(Corpus, AnotherEndingOrAMissingFileIsAnError) {
  EXPECT_THAT(message(file("a.parquet", "x")),
              HasSubstr("expected a name that ends in .txt, .md or .jsonl, or one of these and .xz"));
  EXPECT_THAT(message(folder_ / "none.txt"), HasSubstr("none.txt"));
}

}  // namespace
}  // namespace linnet

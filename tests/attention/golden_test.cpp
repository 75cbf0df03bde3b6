// Every golden case of the oracle in every form of the runtime (tests/data/attention/README.md).
#include <gtest/gtest.h>

#include <filesystem>
#include <regex>
#include <string>

#include "base/file.h"
#include "evaluate/attention_file.h"
#include "tests/attention/golden.h"
#include "tests/attention/harness.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;

template <class T>
void expect_golden(const std::filesystem::path& path, FileType type) {
  ThreadPool pool(1);
  const AttentionFile file = AttentionFile::open(path, FileForm::kTree);
  const auto expected = file.numbers<double>("o", FileType::kFloat64);
  for (int64_t chunk : {0, 1, 5, 8, 20}) {
    const auto out = apply<T>(file, FileForm::kPrefill, chunk, type, pool);
    EXPECT_LT(relative_error(out, expected), kTolerance<T>) << path << " in chunks of " << chunk;
  }
  EXPECT_LT(relative_error(apply<T>(file, FileForm::kDecode, 0, type, pool), expected), kTolerance<T>)
      << path;
  EXPECT_LT(relative_error(apply<T>(file, FileForm::kTree, 0, type, pool),
                           file.numbers<double>("tree.o", FileType::kFloat64)),
            kTolerance<T>)
      << path;
}

TEST(AttentionGolden, EveryCaseAgreesInEveryForm) {
  for (const auto& path : golden_cases()) {
    expect_golden<double>(path, FileType::kFloat64);
    expect_golden<float>(path, FileType::kFloat32);
  }
}

// What a reader of a page is told to compare with is there, and each row has a page that speaks of it.
TEST(AttentionGolden, PagesNameCasesThatExist) {
  const fs::path data = LINNET_TEST_DATA "/attention", pages = LINNET_TEST_DATA "/../../docs/methods";
  std::string all;
  for (const fs::path& page : fs::directory_iterator(pages)) {
    if (page.extension() != ".md") continue;
    const std::string text(MappedFile(page.string()).text());
    all += text;
    const std::regex file("data/attention/([a-z0-9_-]+)\\.safetensors");
    for (std::sregex_iterator case_of(text.begin(), text.end(), file), end; case_of != end; ++case_of)
      EXPECT_TRUE(fs::exists(data / ((*case_of)[1].str() + ".safetensors"))) << page << ": " << (*case_of)[0];
  }
  for (const Method* method : methods()) {
    const std::regex named("(# |, |`)" + std::string(method->name) + "(\n|,|`)");
    EXPECT_TRUE(std::regex_search(all, named)) << "no page of docs/methods is of " << method->name;
  }
  for (const auto& path : golden_cases())
    EXPECT_NE(all.find(path.stem().string()), std::string::npos) << "no page of docs/methods names " << path;
}

TEST(AttentionGolden, RoundedInputsMoveOutputsByABfloat16sWorth) {
  ThreadPool pool(1);
  const AttentionFile file =
      AttentionFile::open(LINNET_TEST_DATA "/attention/grouped.safetensors", FileForm::kTree);
  const auto expected = file.numbers<double>("o", FileType::kFloat64);
  const double error =
      relative_error(apply<float>(file, FileForm::kPrefill, 0, FileType::kBFloat16, pool), expected);
  EXPECT_LT(error, 2e-2);
  EXPECT_GT(error, 1e-5);
}

}  // namespace
}  // namespace linnet

// Every golden case of the oracle in every form of the runtime (tests/data/attention/README.md).
#include <gtest/gtest.h>

#include <filesystem>

#include "evaluate/attention_file.h"
#include "tests/attention/golden.h"
#include "tests/attention/harness.h"

namespace linnet {
namespace {

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

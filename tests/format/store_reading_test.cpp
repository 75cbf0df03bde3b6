#include "format/store_reading.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "base/hash.h"
#include "format/safetensors.h"
#include "tests/format/files.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr const char* kHeader = R"({"a":{"dtype":"BF16","shape":[2,1],"data_offsets":[0,4]},)"
                                R"("b":{"dtype":"U8","shape":[3],"data_offsets":[4,7]}})";

/// A file of weights that was written an hour ago, and a folder that remembers.
struct Weights {
  TemporaryFolder folder;
  fs::path file = folder.path / "model.safetensors", cache = folder.path / "cache";
  fs::file_time_type written = fs::file_time_type::clock::now() - std::chrono::hours(1);

  Weights() { write("1234xyz"); }
  void write(std::string_view data) const {
    folder.write("model.safetensors", safetensors(kHeader, data));
    fs::last_write_time(file, written);
  }
  StoreReading read(bool verify = false) const {
    return read_store(TensorStore::open_file(file),
                      {.threads = 2, .verify = verify, .least = 0, .cache = cache, .report = {}});
  }
};

TEST(StoreReading, HashesNameTypeShapeAndBytesOfTheTensorsInOrder) {
  const Weights weights;
  Hash hash;
  for (std::string_view text : {"a", "BF16", "2,1"}) hash.add(text);
  hash.add(std::as_bytes(std::span("1234", 4)));
  for (std::string_view text : {"b", "U8", "3"}) hash.add(text);
  hash.add(std::as_bytes(std::span("xyz", 3)));
  EXPECT_EQ(weights.read().hash, hash.text());
}

TEST(StoreReading, ATensorOfManyPiecesIsReadWholeWhateverTheThreads) {
  constexpr size_t kBytes = (size_t{40} << 20) + 6;
  std::string data(kBytes, '\1');
  data.replace(kBytes - 2, 2, "\x80\x7f");  // infinite, the last number
  const TemporaryFolder folder;
  const std::string end = std::to_string(kBytes);
  folder.write("w", safetensors(R"({"w":{"dtype":"BF16","shape":[)" + std::to_string(kBytes / 2) +
                                    R"(],"data_offsets":[0,)" + end + "]}}",
                                data));
  const TensorStore store = TensorStore::open_file(folder.path / "w");
  Hash hash;
  for (const std::string& text : {std::string("w"), std::string("BF16"), std::to_string(kBytes / 2)})
    hash.add(text);
  hash.add(std::as_bytes(std::span(data)));
  for (int threads : {1, 3}) {
    double reported = 0;
    const StoreReading reading =
        read_store(store, {.threads = threads, .cache = {}, .report = [&](double done, double total) {
                             EXPECT_EQ(total, static_cast<double>(kBytes));
                             reported = done;
                           }});
    EXPECT_EQ(reading.hash, hash.text());
    EXPECT_THAT(reading.broken, ElementsAre("w"));
    EXPECT_EQ(reported, static_cast<double>(kBytes));
  }
}

TEST(StoreReading, IsRecalledForAFileThatHasNotChanged) {
  const Weights weights;
  const StoreReading first = weights.read();
  weights.write("\x80\x7f__xyz");  // the same size and time: not looked at
  EXPECT_EQ(weights.read().hash, first.hash);
  EXPECT_THAT(weights.read().broken, IsEmpty());
  const StoreReading second = weights.read(/*verify=*/true);
  EXPECT_NE(second.hash, first.hash);
  EXPECT_THAT(second.broken, ElementsAre("a"));
  EXPECT_THAT(weights.read().broken, ElementsAre("a"));
}

TEST(StoreReading, IsNotRecalledForAFileThatChanged) {
  const Weights weights;
  const StoreReading first = weights.read();
  weights.write("1234123");
  fs::last_write_time(weights.file, weights.written + std::chrono::nanoseconds(1000));
  EXPECT_NE(weights.read().hash, first.hash);
}

TEST(StoreReading, IsNotRememberedWhereTheFileMayChangeUnseen) {
  Weights weights;
  weights.written = fs::file_time_type::clock::now();
  weights.write("1234xyz");
  weights.read();
  EXPECT_FALSE(fs::exists(weights.cache));
}

TEST(StoreReading, ACacheThatCannotBeUsedIsNone) {
  Weights weights;
  const std::string hash = weights.read().hash;
  for (const auto& entry : fs::directory_iterator(weights.cache))
    for (const char* content : {"", "{", "[]", "{\"files\":0}", "{\"files\":[],\"hash\":3}"}) {
      std::ofstream(entry.path()) << content;
      EXPECT_EQ(weights.read().hash, hash);
    }
  weights.cache = weights.file / "cache";
  EXPECT_EQ(weights.read().hash, hash);
}

}  // namespace
}  // namespace linnet

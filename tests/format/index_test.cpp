#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "format/safetensors.h"
#include "tests/format/files.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;

constexpr const char* kIndex = "model.safetensors.index.json";

std::string shard(std::string_view name) {
  return safetensors(
      "{\"" + std::string(name) + "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", "x");
}

std::string index(std::string_view map) { return "{\"weight_map\":{" + std::string(map) + "}}"; }

TEST(Index, RefusesEveryBrokenFolderWithItsReason) {
  const struct {
    const char* map;
    const char* message;
  } rows[] = {
      {R"("a": "1", "b": "missing")", "shard \"missing\" is missing"},
      {R"("a": "/etc/passwd")", "is no plain file name"},
      {R"("a": "..")", "is no plain file name"},
      {R"("a": "../1")", "is no plain file name"},
      {R"("a": "sub/1")", "is no plain file name"},
      {R"("a": "sub\\1")", "is no plain file name"},
      {R"("a": "")", "is no plain file name"},
      {R"("a": "1\u0000")", "is no plain file name"},
      {R"("a": "dangling")", "is missing"},
      {R"("a": "sub")", "not a regular file"},
      {R"("a": "1", "b": "1")", "tensor \"b\" is not in 1"},
      {R"("b": "2", "a": "1", "x": "again")", "stands in"},
      {R"("a": "2", "b": "2")", "tensor \"a\" is not in 2"},
      {R"("a": "1", "b": "1", "c": "2")", "tensor \"b\" stands in 2, expected it in 1"},
      {R"("x": "two")", "tensor \"y\" stands in two, expected the index to list it"},
      {R"("a": 1)", "tensor \"a\" has no file name"},
      {R"("a": "1", "a": "1")", "key \"a\" stands twice"},
      {R"("a": "pytorch_model.bin")", "a pickle file"},
      {"", "no \"weight_map\""},
  };
  for (const auto& row : rows) {
    TemporaryFolder folder;
    folder.write("1", shard("a"));
    folder.write("2", shard("b"));
    folder.write("again", shard("a"));
    folder.write("two", safetensors(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                    R"("y":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                                    "xy"));
    fs::create_directory(folder.path / "sub");
    fs::create_symlink("nothing", folder.path / "dangling");
    folder.write(kIndex, index(row.map));
    EXPECT_THAT(error_of([&] { TensorStore::open_folder(folder.path); }), testing::HasSubstr(row.message))
        << row.map;
  }
}

TEST(Index, ReadsShardsThatAreWhereItSays) {
  TemporaryFolder folder;
  folder.write("1", shard("a"));
  folder.write("2", shard("b"));
  fs::create_symlink("2", folder.path / "inside");
  folder.write(kIndex, index(R"("a": "1", "b": "inside")"));
  const TensorStore store = TensorStore::open_folder(folder.path);
  EXPECT_NE(store.find("a"), nullptr);
  EXPECT_EQ(store.where("b"), (folder.path / "inside").string() + ": tensor \"b\"");
  EXPECT_EQ(store.find("c"), nullptr);
}

TEST(Index, FollowsLinksOutOfTheFolderAsHuggingFacesCacheHasThem) {
  TemporaryFolder cache;
  const fs::path snapshot = cache.path / "snapshots" / "x";
  fs::create_directories(snapshot);
  fs::create_directory(cache.path / "blobs");
  cache.write("blobs/1f", shard("a"));
  cache.write("blobs/2e", shard("b"));
  cache.write("blobs/3d", index(R"("a": "1", "b": "2")"));
  fs::create_symlink("../../blobs/1f", snapshot / "1");
  fs::create_symlink("../../blobs/2e", snapshot / "2");
  fs::create_symlink("../../blobs/3d", snapshot / kIndex);
  EXPECT_EQ(TensorStore::open_folder(snapshot).tensors().size(), 2u);
}

TEST(Index, SaysWhatToDoWithFoldersWithoutUsableWeights) {
  const struct {
    std::vector<const char*> files;
    const char* message;
  } rows[] = {
      {{}, "no weights"},
      {{"pytorch_model.bin"}, "a pickle file"},
      {{"adapter_model.safetensors"}, "no weights"},
      {{"foo.safetensors"},
       "foo.safetensors: weights under a name that no index lists, expected the name model.safetensors"},
      {{"model-00001-of-00001.safetensors"},
       "model-00001-of-00001.safetensors: weights under a name that no index lists"},
      {{"model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors"},
       "model-00001-of-00002.safetensors: one of 2 files of weights without an index, expected "
       "model.safetensors.index.json"},
  };
  for (const auto& row : rows) {
    TemporaryFolder folder;
    for (const char* file : row.files) folder.write(file, "x");
    EXPECT_THAT(error_of([&] { TensorStore::open_folder(folder.path); }), testing::HasSubstr(row.message));
  }
}

}  // namespace
}  // namespace linnet

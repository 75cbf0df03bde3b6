// What `linnet attention` refuses: one row, one expected message.
#include "evaluate/attention_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>

#include "base/error.h"

namespace linnet {
namespace {

/// A small good file's tensors, to be broken.
struct Draft {
  struct Tensor {
    std::vector<int64_t> shape;
    std::vector<double> numbers;
  };
  std::map<std::string, Tensor> tensors;
  std::vector<int64_t> parents{-1, 0, 0, 1};
  std::map<std::string, std::string> metadata{
      {"linear_attention",
       R"({"method": "hedgehog", "group": 4, "local": "softmax", "feature_position": "none"})"}};

  Draft() {
    for (const auto& [prefix, n] : {std::pair{"", 5}, std::pair{"tree.", 4}}) {
      for (const char* name : {"q", "q.plain"}) put(std::string(prefix) + name, {4, n, 8});
      for (const char* name : {"k", "k.plain"}) put(std::string(prefix) + name, {2, n, 8});
      put(std::string(prefix) + "v", {2, n, 6});
    }
    put("parameter.q.weight", {4, 8, 8});
    put("parameter.k.weight", {2, 8, 8});
    put("parameter.alpha", {4});
  }
  void put(const std::string& name, std::vector<int64_t> shape) {
    int64_t count = 1;
    for (int64_t dimension : shape) count *= dimension;
    tensors[name] = {std::move(shape), std::vector<double>(count, 0.5)};
  }

  /// Writes, reads and applies it; the error's text, or "".
  std::string error(FileForm form) const {
    const auto path = std::filesystem::path(testing::TempDir()) /
                      ("attention_" + std::to_string(::testing::UnitTest::GetInstance()->random_seed()) +
                       std::to_string(::getpid()) + ".safetensors");
    std::vector<NamedTensor> named;
    for (const auto& [name, tensor] : tensors) {
      named.push_back(
          {name, {DType::kF64, tensor.shape, std::as_bytes(std::span<const double>(tensor.numbers))}});
    }
    if (!parents.empty()) {
      named.push_back({"tree.parents",
                       {DType::kI64,
                        {static_cast<int64_t>(parents.size())},
                        std::as_bytes(std::span<const int64_t>(parents))}});
    }
    write_safetensors(path, named, metadata);
    std::string message;
    try {
      ThreadPool pool(1);
      apply<double>(AttentionFile::open(path, form), form, 0, FileType::kFloat64, pool);
    } catch (const Error& error) {
      message = error.what();
    }
    std::filesystem::remove(path);
    return message;
  }
};

TEST(AttentionFile, AGoodFileIsReadInEveryForm) {
  for (FileForm form : {FileForm::kPrefill, FileForm::kDecode, FileForm::kTree})
    EXPECT_EQ(Draft().error(form), "");
}

TEST(AttentionFile, AnOptionThatItLeavesOpenIsItsTensorsSize) {
  Draft draft;
  draft.metadata["linear_attention"] = R"({"method": "linformer", "group": 4, "slots": null})";
  std::erase_if(draft.tensors, [](const auto& tensor) { return tensor.first.starts_with("parameter."); });
  draft.put("parameter.E", {2, 3, 4});
  draft.put("parameter.F", {2, 3, 4});
  EXPECT_EQ(draft.error(FileForm::kTree), "");
  draft.put("parameter.F", {2, 5, 4});
  EXPECT_THAT(draft.error(FileForm::kTree),
              testing::HasSubstr("parameter.F: shape [2, 5, 4], expected [2, 3, 4]"));
  draft.metadata["linear_attention"] = R"({"method": "linformer", "group": 4, "slots": 5})";
  EXPECT_THAT(draft.error(FileForm::kTree),
              testing::HasSubstr("parameter.E: shape [2, 3, 4], expected [2, 5, 4]"));
}

TEST(AttentionFile, WhatIsWrongIsNamed) {
  using Break = std::function<void(Draft&)>;
  const auto config = [](const char* text) {
    return [text](Draft& x) { x.metadata["linear_attention"] = text; };
  };
  const std::pair<Break, const char*> rows[] = {
      {[](Draft& x) { x.metadata.clear(); }, "no metadata linear_attention"},
      {config("{"), "linear_attention: not JSON"},
      {config("[]"), "linear_attention: array, expected an object"},
      {config(R"({"method": "hedgehgo"})"), "did you mean hedgehog?"},
      {config(R"({"method": "hedgehog", "layers": {}})"), "unknown key \"layers\""},
      {[](Draft& x) { x.tensors.erase("q"); }, "q: missing tensor"},
      {[](Draft& x) { x.tensors.erase("v"); }, "v: missing tensor"},
      {[](Draft& x) { x.tensors.erase("q.plain"); }, "q.plain: missing tensor, expected [4, 5, 8]"},
      {[](Draft& x) { x.tensors.erase("tree.k.plain"); }, "tree.k.plain: missing tensor"},
      {[](Draft& x) {
         x.put("q", {4, 5});
       },
       "q: shape [4, 5], expected [heads, tokens, size]"},
      {[](Draft& x) {
         x.put("q", {4, 0, 8});
       },
       "q: shape [4, 0, 8]"},
      {[](Draft& x) {
         x.put("k", {3, 5, 8});
       },
       "k: 3 key-value heads, expected a divisor of 4"},
      {[](Draft& x) {
         x.put("k", {2, 5, 7});
       },
       "k: shape [2, 5, 7], expected [2, 5, 8]"},
      {[](Draft& x) {
         x.put("v", {2, 4, 6});
       },
       "v: shape [2, 4, 6], expected [2, 5, 6]"},
      {[](Draft& x) {
         x.put("tree.v", {2, 5, 6});
       },
       "tree.v: shape [2, 5, 6], expected [2, 4, 6]"},
      {[](Draft& x) { x.tensors.erase("parameter.alpha"); }, "parameter.alpha: missing tensor, expected [4]"},
      {[](Draft& x) {
         x.put("parameter.q.weight", {4, 8, 7});
       },
       "parameter.q.weight: shape [4, 8, 7]"},
      {[](Draft& x) { x.tensors["parameter.k.weight"].numbers[3] = NAN; },
       "parameter.k.weight: number 3 is nan"},
      {[](Draft& x) { x.tensors["k"].numbers[7] = NAN; }, "k: number 7 is nan, expected finite numbers"},
      {[](Draft& x) { x.tensors["tree.q"].numbers[1] = INFINITY; }, "tree.q: number 1 is inf"},
      {[](Draft& x) { x.put("parameter.gian", {4}); }, "parameter.gian: not a tensor of this attention"},
      {[](Draft& x) { x.parents.clear(); }, "tree.parents: missing tensor"},
      {[](Draft& x) {
         x.parents = {0, 0, 0, 0};
       },
       "node 0 has parent 0, expected an earlier node, or -1"},
      {[](Draft& x) { x.parents[2] = 3; }, "node 2 has parent 3"},
      {[](Draft& x) { x.parents[2] = -2; }, "node 2 has parent -2"},
      {[](Draft& x) { x.parents[2] = int64_t{1} << 40; }, "node 2 has parent 1099511627776"},
      {[](Draft& x) { x.parents.push_back(0); }, "tree.q: shape [4, 4, 8], expected [4, 5, 8]"},
  };
  for (const auto& [breaks, message] : rows) {
    Draft draft;
    breaks(draft);
    EXPECT_THAT(draft.error(FileForm::kTree), testing::HasSubstr(message)) << message;
  }
}

}  // namespace
}  // namespace linnet

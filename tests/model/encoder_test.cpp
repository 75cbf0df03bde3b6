// The encoder against others' numbers: checkpoints made by Hugging Face transformers (tests/data/encoders).
#include "model/encoder.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "base/error.h"
#include "base/json.h"
#include "format/safetensors.h"
#include "model/decoder.h"
#include "tests/format/files.h"
#include "tests/kernels/numbers.h"

namespace linnet {
namespace {

namespace fs = std::filesystem;
const fs::path kFolder = LINNET_TEST_DATA "/encoders";

class Golden {
 public:
  explicit Golden(const std::string& name)
      : file_(SafetensorsFile::open(kFolder / name / "golden.safetensors")) {}

  bool has(const char* name) const { return file_.tensors().contains(name); }
  std::vector<float> numbers(const char* name) const { return to_float(tensor(name), name); }
  std::vector<int32_t> ids(const char* name) const {
    const TensorView& view = tensor(name);
    std::vector<int64_t> wide(static_cast<size_t>(view.numbers()));
    std::memcpy(wide.data(), view.bytes.data(), view.bytes.size());
    return {wide.begin(), wide.end()};
  }

 private:
  const TensorView& tensor(const char* name) const { return file_.tensors().find(name)->second; }
  SafetensorsFile file_;
};

std::vector<float> encoded(Encoder& encoder, std::span<const Encoder::Sequence> sequences) {
  size_t tokens = 0;
  for (const Encoder::Sequence& sequence : sequences) tokens += sequence.tokens.size();
  auto rows = poison(tokens * static_cast<size_t>(encoder.hidden_size()));
  encoder.encode(sequences, rows);
  return rows;
}

class EncoderGolden : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Checkpoints, EncoderGolden,
                         testing::Values("bert-bare", "bert", "roberta", "xlm-roberta"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST_P(EncoderGolden, RowsPoolerAndLogitsAreTransformers) {
  const Golden golden(GetParam());
  const auto ids = golden.ids("input_ids"), types = golden.ids("token_type_ids"),
             short_ids = golden.ids("short_ids");
  const auto hidden = golden.numbers("hidden"), short_hidden = golden.numbers("short_hidden");
  std::vector<float> both = short_hidden;
  both.insert(both.end(), hidden.begin(), hidden.end());
  ThreadPool pool(2);
  const auto model = Model::open(kFolder / GetParam());
  for (const ComputeType compute : {ComputeType::kFloat32, ComputeType::kFloat64}) {
    const auto encoder = Encoder::make(model, {.compute = compute}, pool);
    // A sequence's rows are the same beside another.
    const Encoder::Sequence sequences[] = {{short_ids}, {ids, types}};
    EXPECT_LT(relative_rms(encoded(*encoder, sequences), both), 1e-5);
    EXPECT_LT(relative_rms(encoded(*encoder, std::span(sequences).last(1)), hidden), 1e-5);
    EXPECT_EQ(model->has_pooler(), golden.has("pooled"));
    if (golden.has("pooled")) {
      auto pooled = poison(static_cast<size_t>(encoder->hidden_size()));
      encoder->pool(std::span(hidden).first(pooled.size()), pooled);
      EXPECT_LT(relative_rms(pooled, golden.numbers("pooled")), 1e-5);
    }
    EXPECT_EQ(model->has_head(), golden.has("logits"));
    if (!golden.has("logits")) continue;
    const auto expected = golden.numbers("logits");
    auto logits = poison(expected.size());
    encoder->logits(hidden, logits);
    EXPECT_LT(relative_rms(logits, expected), 1e-5);
  }
}

TEST(Encoder, LinearizedEncodesInTheBidirectionalFormWhateverStandsBesideASequence) {
  const Golden golden("bert-bare");
  const auto ids = golden.ids("input_ids"), other = golden.ids("short_ids");
  ThreadPool pool(2);
  const auto softmax = Model::open(kFolder / "bert-bare");
  auto layers = softmax->attention();
  for (AttentionConfig& layer : layers)
    layer = parse_attention({{"method", "elu1"}, {"group", 8}}, 1, "test").front();
  const auto model = softmax->with_attention(layers);
  const auto encoder = Encoder::make(model, {.compute = ComputeType::kFloat32}, pool),
             wide = Encoder::make(model, {.compute = ComputeType::kFloat64}, pool);
  const Encoder::Sequence sequences[] = {{other}, {ids}, {other}};
  const auto rows = encoded(*encoder, sequences);
  EXPECT_LT(relative_rms(rows, encoded(*wide, sequences)), 1e-5);
  const auto begin = rows.begin() + static_cast<std::ptrdiff_t>(other.size()) * encoder->hidden_size();
  const std::vector<float> own(begin,
                               begin + static_cast<std::ptrdiff_t>(ids.size()) * encoder->hidden_size());
  EXPECT_LT(relative_rms(encoded(*encoder, std::span(sequences).subspan(1, 1)), own), 1e-6);
  // The last token reaches the first row: nothing is causal.
  std::vector<int32_t> changed = ids;
  changed.back() = ids.back() == 7 ? 8 : 7;
  const Encoder::Sequence after[] = {{changed}};
  const auto moved = encoded(*encoder, after);
  EXPECT_NE(moved[0], own[0]);
}

TEST(Encoder, GivesADecodersRowsAsItsPrefillDoes) {
  const fs::path folder = LINNET_TEST_DATA "/hf/llama-gqa-tied";
  ThreadPool pool(2);
  const auto model = Model::open(folder);
  const std::vector<int32_t> ids = {5, 9, 33, 7, 20, 12};
  const auto encoder = Encoder::make(model, {.compute = ComputeType::kFloat32}, pool);
  const auto decoder = Decoder::make(model, {.compute = ComputeType::kFloat32}, pool);
  const Encoder::Sequence sequences[] = {{ids}};
  const auto rows = encoded(*encoder, sequences);
  std::vector<float> logits(ids.size() * static_cast<size_t>(decoder->vocabulary()));
  decoder->prefill(0, ids, 0, logits);
  for (size_t i = 0; i < ids.size(); ++i) {
    const auto hidden = decoder->hidden(static_cast<int>(i));
    const std::vector<float> expected(hidden.begin(), hidden.end()),
        own(rows.begin() + static_cast<std::ptrdiff_t>(i * hidden.size()),
            rows.begin() + static_cast<std::ptrdiff_t>((i + 1) * hidden.size()));
    EXPECT_LT(relative_rms(own, expected), 1e-6);
  }
}

TEST(Encoder, ReadsTheNamesOfLayerNormsThatBertsFirstFoldersHave) {
  const TemporaryFolder folder;
  const auto base = Model::open(kFolder / "bert-bare");
  std::vector<NamedTensor> tensors;
  for (const auto& [name, tensor] : base->base_tensors().tensors()) {
    std::string old = name;
    if (const size_t at = old.find("LayerNorm.weight"); at != old.npos) old.replace(at + 10, 6, "gamma");
    if (const size_t at = old.find("LayerNorm.bias"); at != old.npos) old.replace(at + 10, 4, "beta");
    tensors.push_back({old, tensor});
  }
  write_safetensors(folder.path / "model.safetensors", tensors);
  fs::copy_file(kFolder / "bert-bare" / "config.json", folder.path / "config.json");
  const auto model = Model::open(folder.path);
  EXPECT_TRUE(model->unused_tensors().empty());
  ThreadPool pool(1);
  const Golden golden("bert-bare");
  const auto ids = golden.ids("short_ids");
  const Encoder::Sequence sequences[] = {{ids}};
  EXPECT_LT(relative_rms(encoded(*Encoder::make(model, {}, pool), sequences), golden.numbers("short_hidden")),
            1e-5);
}

/// The message of the Error that `work` throws; "" where it throws none.
template <class Work>
std::string error_of(const Work& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Encoder, RefusesWhatItsModelHasNot) {
  ThreadPool pool(1);
  const auto model = Model::open(kFolder / "roberta"), bare = Model::open(kFolder / "bert-bare");
  const auto encoder = Encoder::make(model, {}, pool), headless = Encoder::make(bare, {}, pool);
  std::vector<float> rows(64 * 36);
  const auto encode = [&](Encoder& with, const Encoder::Sequence& sequence) {
    return error_of([&] { with.encode({&sequence, 1}, rows); });
  };
  const std::vector<int32_t> longest(62, 5), longer(63, 5), strange = {5, 120}, negative = {-1},
                                                            types = {0, 1}, two = {5, 6};
  EXPECT_EQ(encode(*encoder, {longest}), "");  // 64 positions, of which the padding's two are skipped
  EXPECT_NE(encode(*encoder, {longer}).find("at most 62"), std::string::npos);
  EXPECT_NE(encode(*encoder, {strange}).find("token 120"), std::string::npos);
  EXPECT_NE(encode(*encoder, {negative}).find("token -1"), std::string::npos);
  EXPECT_NE(encode(*encoder, {two, types}).find("token type 1"), std::string::npos);
  EXPECT_EQ(encode(*headless, {two, types}), "");
  std::vector<float> logits(120);
  EXPECT_NE(error_of([&] { headless->logits(std::span(rows).first(36), logits); }).find("no head"),
            std::string::npos);
  EXPECT_NE(error_of([&] { encoder->pool(std::span(rows).first(36), logits); }).find("no pooler"),
            std::string::npos);
  EXPECT_NE(error_of([&] { Decoder::make(model, {}, pool); }).find("is an encoder"), std::string::npos);
}

}  // namespace
}  // namespace linnet

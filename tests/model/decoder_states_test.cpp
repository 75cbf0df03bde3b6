// Saved states: damaged bytes and states of another model are refused, and the running one stays as it is.
#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <string>

#include "base/error.h"
#include "model/decoder.h"
#include "model/slot_file.h"
#include "tests/model/random_model.h"

namespace linnet {
namespace {

class DecoderStates : public testing::Test {
 protected:
  DecoderStates() : decoder_(Decoder::make(model_.get(), {}, pool_)) { good_ = saved(*decoder_); }

  std::vector<std::byte> saved(Decoder& decoder) const {
    decoder.prefill(0, tokens_, tokens_.size(), {});
    return decoder.save(0);
  }
  /// What another model, or another arithmetic, saves of the same tokens.
  std::vector<std::byte> saved_by(const RandomModel& spec, ComputeType compute = ComputeType::kAuto) {
    const TemporaryModel model(spec);
    return saved(*Decoder::make(model.get(), {.compute = compute}, pool_));
  }

  void expect_rejected(std::span<const std::byte> bytes, const char* saying) {
    try {
      decoder_->load(0, bytes);
      ADD_FAILURE() << "loaded, but " << saying;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(saying), std::string::npos) << error.what();
    }
    EXPECT_EQ(decoder_->save(0), good_);
  }

  // Where the fields of a state begin; the first two hold a text behind its length.
  static constexpr size_t kVersion = 12, kArithmetic = kVersion + 8;
  size_t counted(size_t at) const {
    uint32_t size = 0;
    std::memcpy(&size, good_.data() + at, sizeof(size));
    return size;
  }
  size_t weights() const { return kArithmetic + 4 + counted(kArithmetic); }
  size_t attention() const { return weights() + 16; }
  size_t length() const { return attention() + 4 + counted(attention()); }
  size_t body() const { return length() + 12; }

  /// What is said of the field that a bit 4 of this byte belongs to, where it is flipped.
  const char* saying(size_t flipped) const {
    const auto text = [&](size_t begin, const char* said) {  // a size and what follows
      const size_t size =
          flipped < begin + 4 ? counted(begin) ^ (size_t{0x10} << 8 * (flipped - begin)) : counted(begin);
      return begin + 4 + size > good_.size() ? "ends too early" : said;
    };
    if (flipped < kVersion) return "is no saved state";
    if (flipped < kVersion + 4) return "version";
    if (flipped < kArithmetic) return "numbers of";
    if (flipped < weights()) return text(kArithmetic, "saved with");
    if (flipped < attention()) return "belongs to other weights";
    if (flipped < length()) return text(attention(), "attention");
    return flipped >= length() + 8 && flipped < body() ? "layers" : "checksum";
  }

  RandomModel spec_{.attention = kGrouped};
  TemporaryModel model_{spec_};
  ThreadPool pool_{1};
  std::vector<int32_t> tokens_ = random_tokens(21, spec_.vocabulary, 1);
  std::unique_ptr<Decoder> decoder_;
  std::vector<std::byte> good_;
};

TEST_F(DecoderStates, CutShortAreRejected) {
  for (size_t cut = 0; cut < good_.size(); cut += 97)
    expect_rejected(std::span(good_).first(cut),
                    cut < body() + sizeof(uint64_t) ? "ends too early" : "checksum");
  expect_rejected(std::span(good_).first(good_.size() - 1), "checksum");
}

TEST_F(DecoderStates, WithAnyBitFlippedAreRejectedByTheFieldThatItIsOf) {
  for (size_t at = 0; at < good_.size(); at += at < body() ? 1 : 131) {
    auto flipped = good_;
    flipped[at] ^= std::byte{0x10};
    expect_rejected(flipped, saying(at));
  }
}

TEST_F(DecoderStates, SealedAnewAfterAChangeAreRejected) {
  const auto changed = [&](const auto& change) {
    auto bytes = good_;
    bytes.resize(good_.size() - sizeof(uint64_t));
    change(bytes);
    seal(bytes);
    return bytes;
  };
  expect_rejected(changed([](auto& bytes) { bytes.push_back(std::byte{0}); }), "1 bytes too many");
  expect_rejected(changed([&](auto& bytes) { bytes[kVersion] = std::byte{1}; }),
                  "version 1, expected version 2");
  expect_rejected(changed([&](auto& bytes) { bytes[length()] = std::byte{22}; }),
                  "layers of different lengths, expected 22 tokens in each");
}

TEST_F(DecoderStates, OfAnotherModelOrArithmeticAreRejected) {
  const auto with = [&](const auto& change) {
    RandomModel other = spec_;
    change(other);
    return saved_by(other);
  };
  expect_rejected(with([](RandomModel& other) { other.seed = 2; }), "other weights");
  expect_rejected(with([](RandomModel& other) { other.state = StateType::kBFloat16; }),
                  "--state-type bf16, expected one saved with");
  // The same tensors, other keys.
  expect_rejected(with([](RandomModel& other) { other.theta = 500000.0; }), "other weights");
  expect_rejected(with([](RandomModel& other) { other.attention["group"] = 16; }), "\"group\":16");
  expect_rejected(with([](RandomModel& other) { other.attention = {{"method", "elu1"}}; }), "elu1");
  expect_rejected(saved_by(spec_, ComputeType::kFloat64), "8 bytes");
  expect_rejected(saved_by(spec_, ComputeType::kBFloat16),
                  "saved with --dtype bfloat16 --weights stored --state-type float32, expected one saved");
}

TEST(DecoderMemory, AStateOfAGroupedModelDoesNotGrow) {
  const RandomModel spec{.attention = kGrouped};
  const TemporaryModel model(spec);
  ThreadPool pool(1);
  const auto decoder = Decoder::make(model.get(), {}, pool);
  std::set<size_t> sizes;
  for (int i = 0; i < 40; ++i) {
    sizes.insert(decoder->state_bytes(0));
    decoder->prefill(0, random_tokens(13, spec.vocabulary, i), 13, {});
  }
  EXPECT_EQ(sizes.size(), 1u);
  EXPECT_GT(*sizes.begin(), 0u);
}

}  // namespace
}  // namespace linnet

#include "evaluate/check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/generate/hash_decoder.h"

namespace linnet {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string> broken_checks(Decoder& decoder, double growth = 0) {
  std::vector<std::string> names;
  const CheckSubject subject = {&decoder, 29, 61, 8, growth, 1e-6, 3};
  for (const CheckResult& result : check_decoder(subject)) {
    if (!result.holds()) names.push_back(result.name);
  }
  return names;
}

struct Sound : HashDecoder {
  Sound() : HashDecoder(29, 2) {}
};

TEST(Check, FindsNothingInASoundDecoder) {
  Sound decoder;
  EXPECT_THAT(broken_checks(decoder), IsEmpty());
}

TEST(Check, TellsOfItsWorkInEveryCheck) {
  Sound decoder;
  std::map<std::string, int64_t, std::less<>> read;
  CheckSubject subject = {&decoder, 29, 61, 8, 0, 1e-6, 3};
  subject.progress = [&](std::string_view check, int64_t tokens) { read[std::string(check)] += tokens; };
  const auto results = check_decoder(subject);
  EXPECT_EQ(read.size(), results.size());
  for (const CheckResult& result : results) EXPECT_GT(read[result.name], 0) << result.name;
  EXPECT_GE(read["forms"], 61 * 6);  // token by token, whole, and in four kinds of pieces
}

TEST(Check, HoldsFormsOfAnotherDecoderOnSoManyTokensAlone) {
  Sound decoder, slow;
  int64_t read = 0;
  CheckSubject subject = {&decoder, 29, 61, 8, 0, 1e-6, 3};
  subject.progress = [&](std::string_view check, int64_t tokens) { read += check == "forms" ? tokens : 0; };
  subject.forms = &slow;
  subject.forms_tokens = 20;
  const auto results = check_decoder(subject);
  EXPECT_EQ(read, 20 * 6);
  EXPECT_EQ(results[1].claim, "prefill of 20 tokens, in any pieces, gives what decoding gives");
}

/// Logits know the last token of the piece they were computed in.
struct Leaks : Sound {
  void prefill(int slot, std::span<const int32_t> tokens, size_t first, std::span<float> logits) override {
    HashDecoder::prefill(slot, tokens, first, logits);
    for (float& x : logits) x += 1e-6f * static_cast<float>(tokens.back());
  }
};

TEST(Check, FindsALeakOfLaterTokens) {
  Leaks decoder;
  EXPECT_THAT(broken_checks(decoder), testing::Contains("causality"));
}

/// Logits know the next token, and nothing beyond it.
struct Peeks : Sound {
  void prefill(int slot, std::span<const int32_t> tokens, size_t first, std::span<float> logits) override {
    HashDecoder::prefill(slot, tokens, first, logits);
    for (size_t t = first; t + 1 < tokens.size(); ++t) logits[(t - first) * 29] += 1e-6f * tokens[t + 1];
  }
};

TEST(Check, FindsALeakOfTheNextTokenAlone) {
  Peeks decoder;
  EXPECT_THAT(broken_checks(decoder), testing::Contains("causality"));
}

/// A long piece loses its ninth token.
struct DependsOnPieces : Sound {
  void prefill(int slot, std::span<const int32_t> tokens, size_t first, std::span<float> logits) override {
    std::vector<int32_t> wrong(tokens.begin(), tokens.end());
    if (wrong.size() == 9) wrong[8] = 0;
    HashDecoder::prefill(slot, wrong, first, logits);
  }
};

TEST(Check, FindsThatPiecesMatter) {
  DependsOnPieces decoder;
  EXPECT_THAT(broken_checks(decoder), ElementsAre("forms"));
}

TEST(Check, FindsATokenThatIsSeenPastTheWindows) {
  Sound decoder;  // whose logits know every token
  std::vector<std::string> broken;
  for (const CheckResult& result :
       check_decoder({&decoder, 29, 61, 8, 0, 1e-6, 3, /*window=*/6, /*reach=*/59})) {
    if (!result.holds()) broken.push_back(result.name);
  }
  EXPECT_THAT(broken, ElementsAre("window"));
}

struct Grows : Sound {
  size_t state_bytes(int slot) const override { return 100 + static_cast<size_t>(length(slot)) / 50; }
};

TEST(Check, FindsAStateThatGrowsUnlessALayerKeepsEveryToken) {
  Grows decoder;
  EXPECT_THAT(broken_checks(decoder), ElementsAre("state"));
  EXPECT_THAT(broken_checks(decoder, /*growth=*/1e9), IsEmpty());
}

/// A node sees the node before it, whatever branch that is on.
struct SeesSiblings : Sound {
  void step(std::span<const Branch> branches) override {
    chains.clear();
    wrong.assign(branches.begin(), branches.end());
    for (const Branch& branch : branches) {
      chains.push_back(std::make_unique<TokenTree>(TokenTree::chain(branch.tree->tokens())));
    }
    for (size_t i = 0; i < wrong.size(); ++i) wrong[i].tree = chains[i].get();
    HashDecoder::step(wrong);
    const std::vector<float> kept = logits_;
    HashDecoder::step(branches);  // so that commit stays sound
    logits_ = kept;
  }
  std::vector<std::unique_ptr<TokenTree>> chains;
  std::vector<Branch> wrong;
};

TEST(Check, FindsThatANodeSeesAnotherBranch) {
  SeesSiblings decoder;
  EXPECT_THAT(broken_checks(decoder), ElementsAre("trees"));
}

struct CommitsTooLittle : Sound {
  void commit(int branch, std::span<const int32_t> path) override {
    HashDecoder::commit(branch, path.size() > 2 ? path.first(path.size() - 1) : path);
  }
};

TEST(Check, FindsAPathCommittedInPart) {
  CommitsTooLittle decoder;
  EXPECT_THAT(broken_checks(decoder), ElementsAre("commit"));
}

/// A path leaves a mark in the state that no logit shows yet.
struct LeavesAMark : Sound {
  void commit(int branch, std::span<const int32_t> path) override {
    HashDecoder::commit(branch, path);
    marked = marked || path.size() > 1;
  }
  std::vector<std::byte> save(int slot) const override {
    auto bytes = HashDecoder::save(slot);
    if (slot == 0 && marked) bytes.back() ^= std::byte{1};
    return bytes;
  }
  bool marked = false;
};

TEST(Check, FindsAStateThatDiffersThoughNoLogitDoes) {
  LeavesAMark decoder;
  EXPECT_THAT(broken_checks(decoder), testing::Contains("commit"));
}

/// Sums in another order where there are more branches.
struct MindsNeighbours : Sound {
  void step(std::span<const Branch> branches) override {
    HashDecoder::step(branches);
    if (branches.size() > 1) logits_.back() += 1e-6f;
  }
};

TEST(Check, FindsOneBitThatANeighbourChanges) {
  MindsNeighbours decoder;
  EXPECT_THAT(broken_checks(decoder), ElementsAre("neighbours"));
}

/// Takes what is there of a truncated state.
struct LoadsAnything : Sound {
  void load(int slot, std::span<const std::byte> bytes) override {
    std::vector<std::byte> whole(bytes.begin(), bytes.end());
    whole.resize(save(slot).size());
    HashDecoder::load(slot, whole);
  }
};

TEST(Check, FindsATruncatedStateThatWasLoaded) {
  LoadsAnything decoder;
  EXPECT_THAT(broken_checks(decoder), ElementsAre("save"));
}

}  // namespace
}  // namespace linnet

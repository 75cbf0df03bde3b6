// Draft heads as libtorch trains them (model/draft_heads.h says what they compute): on the hidden rows of a
// frozen model, by the tokens that really follow.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model/draft_heads.h"
#include "train/data.h"
#include "train/module.h"

namespace linnet::train {

/// What heads shall be.
struct HeadsForm {
  HeadKind kind = HeadKind::kRecursive;
  int count = 4;               // tokens guessed in a row
  int blocks = 1;              // of a Medusa head
  int64_t inner = 0;           // of the recursive one; 0: twice the hidden size
  int64_t listed = 0;          // the most frequent tokens that it guesses; 0: all
  bool own_vocabulary = true;  // else the model's matrix
  double drafted = 0;  // how far a place counts by how likely the heads' own drafts come to it, 0 to 1
};

/// The `count` most frequent tokens of a text, ascending; all that it has where they are fewer.
std::vector<int32_t> frequent_tokens(const TokenizedText& text, int64_t count);

class TrainedHeads {
 public:
  /// `tokens`: those that are guessed, ascending; empty: all.
  TrainedHeads(const Model& model, const HeadsForm& form, std::vector<int32_t> tokens,
               const Module::Options& options, uint64_t seed);

  std::vector<Parameter> parameters() const;

  /// Σ 0.8ᵏ −ln p(the token k + 2 places on), the mean over the rows that have one, by `drafted` over those
  /// that drafts reach; a scalar in the sums' type. hidden [rows, n, hidden] of tokens [rows, n + 1].
  at::Tensor loss(const at::Tensor& hidden, const at::Tensor& tokens) const;

  /// How often the likeliest guess at a depth is the token, of the places where those before it were.
  struct Depth {
    int64_t reached = 0, accepted = 0;
  };
  /// Adds what these rows come to, [count].
  void accept(const at::Tensor& hidden, const at::Tensor& tokens, std::vector<Depth>& depths) const;

  /// Writes the folder, weights in bf16.
  void write(const std::filesystem::path& out, const Model& model) const;

 private:
  /// A state [rows, n − 1 − k, hidden] per depth k.
  std::vector<at::Tensor> states(const at::Tensor& hidden, const at::Tensor& tokens) const;
  at::Tensor vocabulary(int depth) const;  // [guessed, hidden] in the compute type
  /// 1 at the places [rows] that are tokens to guess, 0 at −1 and at the one output for all others.
  at::Tensor guessable(const at::Tensor& place) const;
  at::Tensor value(const std::string& name) const;
  void add(const std::string& name, at::Tensor start);

  DraftHeads form_;
  double drafted_;
  Module::Options options_;
  std::vector<Parameter> parameters_;
  at::Tensor embedding_;  // [vocabulary, hidden], each row divided by its root mean square; recursive alone
  at::Tensor shared_;  // the model's vocabulary matrix [guessed, hidden]; undefined where heads have theirs
  at::Tensor place_;   // [vocabulary] int64: of a token among those that are guessed; −1: none
};

}  // namespace linnet::train

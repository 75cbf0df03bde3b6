#include "generate/heads.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/array.h"
#include "generate/draft_matrix.h"
#include "generate/guessed_tree.h"
#include "kernels/cpu/elementwise.h"
#include "model/linear.h"
#include "model/matrices.h"

namespace linnet {
namespace {

/// What both kinds of heads read: matrices, and rows made of them.
class Heads : public Guesser {
 public:
  Heads(std::shared_ptr<const Model> model, DraftHeads heads, ComputeType compute, ThreadPool& pool)
      : model_(std::move(model)), heads_(std::move(heads)), compute_(compute), pool_(pool) {
    hidden_ = model_->config().hidden;
  }

  int depth() const override { return heads_.count; }
  int64_t hidden() const { return hidden_; }

 protected:
  Linear linear(const std::string& name, std::vector<float> bias = {}) const {
    const Matrix matrix = matrix_of(heads_.tensor(name), /*transposed=*/false, heads_.where(name));
    return linear_of(draft_matrix(matrix, {}, compute_), std::move(bias));
  }
  std::vector<float> vector(const std::string& name) const {
    return to_float(heads_.tensor(name), heads_.where(name));
  }
  /// The model's own vocabulary matrix, of the tokens that are guessed.
  Linear shared_vocabulary() const {
    const Family& family = model_->family();
    const std::string_view module = model_->config().tied_embeddings ? family.embedding : family.head;
    return linear_of(draft_matrix(matrix_of(*model_, kNoLayer, module), heads_.tokens, compute_), {});
  }
  void multiply(const Linear& by, const Room<float>& x, int64_t rows, Room<float>& y) {
    y.plan(rows * by.out());
    by.step(x.data(), by.in(), rows, y.data(), scratch_, pool_);
  }
  /// Row `row` of logits [rows, width] as guesses; what the list does not hold has no token.
  void choose(const float* logits, int64_t width, std::vector<Guess>& guesses) const {
    likeliest_guesses({logits, static_cast<size_t>(width)}, guesses);
    if (heads_.tokens.empty()) return;
    const auto listed = static_cast<int32_t>(heads_.tokens.size());
    std::erase_if(guesses, [&](const Guess& guess) { return guess.token >= listed; });
    for (Guess& guess : guesses) guess.token = heads_.tokens[static_cast<size_t>(guess.token)];
  }

  std::shared_ptr<const Model> model_;
  DraftHeads heads_;
  ThreadPool& pool() { return pool_; }

 private:
  Linear linear_of(Matrix matrix, std::vector<float> bias) const {
    const bool rounded = matrix.type != kernels::WeightType::kFloat32;
    std::vector<Matrix> one;
    one.push_back(std::move(matrix));
    return Linear(std::move(one), std::move(bias), rounded);
  }

  int64_t hidden_;
  ComputeType compute_;
  ThreadPool& pool_;
  ProductScratch scratch_;
};

class MedusaHeads final : public Heads {
 public:
  MedusaHeads(std::shared_ptr<const Model> model, DraftHeads heads, ComputeType compute, ThreadPool& pool)
      : Heads(std::move(model), std::move(heads), compute, pool) {
    for (int i = 0; i < heads_.count; ++i) {
      for (int j = 0; j < heads_.blocks; ++j)
        blocks_.push_back(linear(head_names::medusa_weight(i, j), vector(head_names::medusa_bias(i, j))));
      if (heads_.own_vocabulary)
        vocabulary_.push_back(linear(head_names::medusa_vocabulary(i, heads_.blocks)));
    }
    if (vocabulary_.empty()) vocabulary_.push_back(shared_vocabulary());
  }

  size_t bytes() const override {
    size_t bytes = 0;
    for (const Linear& block : blocks_) bytes += block.bytes();
    for (int i = 0; i < heads_.count; ++i) bytes += vocabulary_of(i).bytes();
    return bytes;
  }

  void begin(std::span<const Drafter::Context> contexts) override {
    row_.plan(std::ssize(contexts) * hidden());
    for (size_t i = 0; i < contexts.size(); ++i)
      std::ranges::copy(contexts[i].hidden, row_.data() + static_cast<int64_t>(i) * hidden());
    rows_ = std::ssize(contexts);
  }

  void guess(int depth, std::span<const Frontier> nodes, std::vector<std::vector<Guess>>& guesses) override {
    // A head reads no guess: all nodes of a sequence have the same below them.
    of_context_.resize(static_cast<size_t>(rows_));
    state_.plan(rows_ * hidden());
    std::copy_n(row_.data(), rows_ * hidden(), state_.data());
    for (int j = 0; j < heads_.blocks; ++j) {
      multiply(blocks_[static_cast<size_t>(depth * heads_.blocks + j)], state_, rows_, inner_);
      kernels::activate(kernels::Unary::kSilu, inner_.data(), rows_ * hidden());
      kernels::add(state_.data(), inner_.data(), rows_ * hidden());
    }
    const Linear& vocabulary = vocabulary_of(depth);
    multiply(vocabulary, state_, rows_, logits_);
    pool().run(of_context_.size(), [&](size_t i) {
      choose(logits_.data() + static_cast<int64_t>(i) * vocabulary.out(), vocabulary.out(), of_context_[i]);
    });
    for (size_t i = 0; i < nodes.size(); ++i) guesses[i] = of_context_[static_cast<size_t>(nodes[i].context)];
  }

 private:
  const Linear& vocabulary_of(int depth) const {
    return vocabulary_[vocabulary_.size() > 1 ? static_cast<size_t>(depth) : 0];
  }

  std::vector<Linear> blocks_;      // [heads, blocks]
  std::vector<Linear> vocabulary_;  // one a head, or one for all
  Room<float> row_, state_, inner_, logits_;
  int64_t rows_ = 0;
  std::vector<std::vector<Guess>> of_context_;
};

class RecursiveHead final : public Heads {
 public:
  RecursiveHead(std::shared_ptr<const Model> model, DraftHeads heads, ComputeType compute, ThreadPool& pool)
      : Heads(std::move(model), std::move(heads), compute, pool),
        embedding_(matrix_of(*model_, kNoLayer, model_->family().embedding)),
        input_(linear(head_names::kInput, vector(head_names::kInputBias))),
        output_(linear(head_names::kOutput)),
        vocabulary_(heads_.own_vocabulary ? linear(head_names::kVocabulary) : shared_vocabulary()),
        ones_(static_cast<size_t>(hidden()), 1.0F) {}

  size_t bytes() const override {
    return static_cast<size_t>(heads_.count) * (input_.bytes() + output_.bytes() + vocabulary_.bytes());
  }

  void begin(std::span<const Drafter::Context> contexts) override {
    before_.plan(std::ssize(contexts) * hidden());
    for (size_t i = 0; i < contexts.size(); ++i)
      std::ranges::copy(contexts[i].hidden, before_.data() + static_cast<int64_t>(i) * hidden());
  }

  void guess(int, std::span<const Frontier> nodes, std::vector<std::vector<Guess>>& guesses) override {
    const auto rows = static_cast<int64_t>(nodes.size());
    read_.plan(rows * 2 * hidden());
    state_.plan(rows * hidden());
    for (int64_t r = 0; r < rows; ++r) {
      const Frontier& node = nodes[static_cast<size_t>(r)];
      float* row = read_.data() + r * 2 * hidden();
      const float* state = before_.data() + node.row * hidden();
      std::copy_n(state, hidden(), state_.data() + r * hidden());
      std::copy_n(state, hidden(), row);
      embed(node.token, row + hidden());
      divide_by_rms(row);
      divide_by_rms(row + hidden());
    }
    multiply(input_, read_, rows, inner_);
    kernels::activate(kernels::Unary::kSilu, inner_.data(), rows * input_.out());
    multiply(output_, inner_, rows, added_);
    kernels::add(state_.data(), added_.data(), rows * hidden());
    multiply(vocabulary_, state_, rows, logits_);
    pool().run(nodes.size(), [&](size_t i) {
      choose(logits_.data() + static_cast<int64_t>(i) * vocabulary_.out(), vocabulary_.out(), guesses[i]);
    });
    std::swap(before_, state_);
  }

 private:
  void divide_by_rms(float* row) const {
    kernels::rms_norm(row, 1, hidden(), ones_.data(), kRecursiveHeadEpsilon, row);
  }
  void embed(int32_t token, float* row) const { kernels::read_row(embedding_, token, row); }

  Matrix embedding_;  // the model's
  Linear input_, output_, vocabulary_;
  Room<float> before_, state_;  // [nodes of the depth before, of this one; hidden]
  Room<float> read_, inner_, added_, logits_;
  std::vector<float> ones_;
};

}  // namespace

std::unique_ptr<Drafter> make_heads_drafter(std::shared_ptr<const Model> model, DraftHeads heads,
                                            ComputeType compute, ThreadPool& pool) {
  std::unique_ptr<Guesser> made;
  if (heads.kind == HeadKind::kMedusa) {
    made = std::make_unique<MedusaHeads>(std::move(model), std::move(heads), compute, pool);
  } else {
    made = std::make_unique<RecursiveHead>(std::move(model), std::move(heads), compute, pool);
  }
  return make_guessed_tree_drafter(std::move(made));
}

}  // namespace linnet

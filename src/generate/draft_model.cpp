#include "generate/draft_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "generate/guessed_tree.h"

namespace linnet {
namespace {

constexpr int kInARow = 4;         // tokens guessed
constexpr int kMostNodes = 48;     // of a sequence's tree in the smaller model
constexpr int64_t kFewTokens = 8;  // committed ones that go along as nodes; more are a prefill

class ModelGuesser final : public Guesser {
 public:
  explicit ModelGuesser(std::unique_ptr<Decoder> decoder) : decoder_(std::move(decoder)) {}

  int depth() const override { return kInARow; }
  size_t bytes() const override { return kInARow * decoder_->cost().step_weight_bytes; }
  void begin_slot(int slot) override {
    decoder_->reset(slot);
    reads_[slot] = true;
  }
  int64_t read(int slot, std::span<const int32_t> tokens, int64_t most) override {
    if (!reads_[slot]) return 0;
    const auto unread = unread_of(slot, tokens);
    const auto piece = unread.first(static_cast<size_t>(std::min(most, std::ssize(unread))));
    if (!can_read(slot, piece, tokens.size())) return 0;
    if (!piece.empty()) decoder_->prefill(slot, piece, piece.size(), {});
    return std::ssize(unread) - std::ssize(piece);
  }

  void begin(std::span<const Drafter::Context> contexts) override {
    trees_.resize(contexts.size());
    slots_.clear();
    unread_.clear();
    for (const Drafter::Context& context : contexts) {
      slots_.push_back(context.slot);
      unread_.push_back(catch_up(context));
    }
  }

  void guess(int depth, std::span<const Frontier> nodes, std::vector<std::vector<Guess>>& guesses) override {
    node_.resize(nodes.size());
    branches_.clear();
    stepped_.clear();
    int32_t before = -1;
    for (size_t i = 0; i < nodes.size(); ++i) {
      const auto context = static_cast<size_t>(nodes[i].context);
      TokenTree& tree = trees_[context];
      guesses[i].clear();
      if (!reads_[slots_[context]] || tree.size() >= kMostNodes || depth > decoder_->info().tree_depth ||
          nodes[i].token >= decoder_->vocabulary()) {
        node_[i] = -1;
        continue;
      }
      const int32_t parent = depth == 0 ? tree.size() - 1 : before_[static_cast<size_t>(nodes[i].row)];
      node_[i] = tree.add(nodes[i].token, parent);
      if (nodes[i].context != std::exchange(before, nodes[i].context)) {
        branches_.push_back({slots_[context], &tree});
        stepped_.push_back(context);
      }
    }
    if (!branches_.empty()) {
      decoder_->step(branches_);
      take_guesses(nodes, guesses);
      if (depth == 0) commit();
    }
    std::swap(before_, node_);
  }

 private:
  /// Reads what was committed since; a few tokens are left for the first step's tree. How many.
  int64_t catch_up(const Drafter::Context& context) {
    TokenTree& tree = trees_[slots_.size() - 1];
    tree.clear();
    if (!reads_[context.slot]) return 0;
    const auto unread = unread_of(context.slot, context.tokens);
    if (!can_read(context.slot, unread, context.tokens.size())) return 0;
    if (std::ssize(unread) > std::min<int64_t>(kFewTokens, decoder_->info().tree_depth)) {
      decoder_->prefill(context.slot, unread, unread.size(), {});
      return 0;
    }
    for (const int32_t token : unread) tree.add(token, tree.size() - 1);
    return std::ssize(unread);
  }

  /// The tokens but the last that its state does not hold.
  std::span<const int32_t> unread_of(int slot, std::span<const int32_t> tokens) const {
    const auto begin = static_cast<size_t>(decoder_->length(slot));
    return tokens.subspan(begin, tokens.size() - 1 - begin);
  }

  /// Whether it can read the piece of a text of so many tokens; where not it guesses no more of the text.
  bool can_read(int slot, std::span<const int32_t> piece, size_t tokens) {
    const Decoder::Info& info = decoder_->info();
    const auto known = [&](int32_t token) { return token < info.vocabulary; };
    const auto end = static_cast<int64_t>(tokens) + kInARow;
    reads_[slot] = std::all_of(piece.begin(), piece.end(), known) && end <= info.memory &&
                   (info.positions == 0 || end <= info.positions);
    return reads_[slot];
  }

  /// What the last step says of the nodes.
  void take_guesses(std::span<const Frontier> nodes, std::vector<std::vector<Guess>>& guesses) const {
    size_t branch = 0;
    int first = 0;
    for (size_t i = 0; i < nodes.size(); ++i) {
      if (node_[i] < 0) continue;
      while (stepped_[branch] != static_cast<size_t>(nodes[i].context))
        first += branches_[branch++].tree->size();
      likeliest_guesses(decoder_->logits(first + node_[i]), guesses[i]);
    }
  }

  /// The tokens that went along to the first step are committed; the trees begin with their roots.
  void commit() {
    for (size_t branch = 0; branch < branches_.size(); ++branch) {
      const size_t context = stepped_[branch];
      const int64_t unread = unread_[context];
      TokenTree& tree = trees_[context];
      std::vector<int32_t> path;
      for (int32_t node = 0; node < unread; ++node) path.push_back(node);
      if (!path.empty()) decoder_->commit(static_cast<int>(branch), path);
      tree = TokenTree::single(tree.token(static_cast<int32_t>(unread)));
    }
    for (int32_t& node : node_) node = std::min(node, 0);
  }

  std::unique_ptr<Decoder> decoder_;
  std::map<int, bool> reads_;  // by slot: whether it can read the text
  std::vector<int> slots_;     // [contexts]
  std::vector<int64_t> unread_;
  std::vector<TokenTree> trees_;
  std::vector<int32_t> node_, before_;  // of the nodes of a call, and of the one before, in their trees
  std::vector<Decoder::Branch> branches_;
  std::vector<size_t> stepped_;  // [branches] their contexts
};

}  // namespace

std::unique_ptr<Drafter> make_model_drafter(std::shared_ptr<const Model> model, ComputeType compute,
                                            int slots, ThreadPool& pool) {
  return make_guessed_tree_drafter(std::make_unique<ModelGuesser>(Decoder::make(
      std::move(model), {.compute = compute, .slots = slots, .max_nodes = slots * kMostNodes}, pool)));
}

void check_same_tokenizer(const Tokenizer& draft, const Tokenizer& own, const std::string& where) {
  if (draft.vocabulary() != own.vocabulary())
    throw Error(where, fmt::format("a tokenizer of {} tokens", draft.vocabulary()),
                fmt::format("the model's own, of {}", own.vocabulary()));
  for (int32_t id = 0; id < own.vocabulary(); ++id) {
    const std::string theirs = draft.text_of(id), ours = own.text_of(id);
    if (theirs != ours)
      throw Error(where, fmt::format("token {} is \"{}\"", id, printable(theirs)),
                  fmt::format("\"{}\", as in the model's tokenizer", printable(ours)));
  }
  constexpr const char* kProbe =
      "The 3 naïve cats' 12,345 e-mails: “so-called”, don't\n\n\tif (x >= 2) return y_1;";
  if (draft.encode(kProbe) != own.encode(kProbe))
    throw Error(where, "a tokenizer that cuts texts otherwise", "the model's own");
}

}  // namespace linnet

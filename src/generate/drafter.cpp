#include "generate/drafter.h"

#include <climits>

namespace linnet {
namespace {

class NoDrafter final : public Drafter {
 public:
  void propose(std::span<const Context> contexts, std::span<Draft> drafts) override {
    for (size_t i = 0; i < contexts.size(); ++i) {
      drafts[i].clear();
      drafts[i].add(contexts[i].tokens.back(), -1, 1);
    }
  }
};

}  // namespace

void Draft::clear() {
  tree.clear();
  reached.clear();
}

int32_t Draft::add(int32_t token, int32_t parent, double probability) {
  reached.push_back(probability);
  return tree.add(token, parent);
}

void Drafter::begin(int) {}
void Drafter::end(int) {}
int64_t Drafter::read(int, std::span<const int32_t>, int64_t) { return 0; }
int Drafter::deepest() const { return INT_MAX; }
size_t Drafter::bytes() const { return 0; }
void Drafter::followed(int, const Draft&, std::span<const int32_t>) {}

int32_t child_of(const TokenTree& tree, int32_t node, int32_t token) {
  for (int32_t i = node + 1; i < tree.size(); ++i) {
    if (tree.parent(i) == node && tree.token(i) == token) return i;
  }
  return -1;
}

TokenTree part_of(const TokenTree& tree, std::span<const int32_t> nodes) {
  TokenTree part = TokenTree::single(tree.token(0));
  std::vector<int32_t> places(static_cast<size_t>(tree.size()), 0);
  for (const int32_t node : nodes)
    places[static_cast<size_t>(node)] =
        part.add(tree.token(node), places[static_cast<size_t>(tree.parent(node))]);
  return part;
}

std::unique_ptr<Drafter> make_no_drafter() { return std::make_unique<NoDrafter>(); }

}  // namespace linnet

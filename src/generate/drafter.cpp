#include "generate/drafter.h"

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
void Drafter::accepted(int, const Draft&, std::span<const int32_t>) {}

std::unique_ptr<Drafter> make_no_drafter() { return std::make_unique<NoDrafter>(); }

}  // namespace linnet

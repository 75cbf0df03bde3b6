// A saved text with any bytes changed, any bytes as one, and any token tree: an Error that leaves the slot as
// it was, or a text that is written as it was read and goes on. The first byte says which: '0' a sound file
// with changes, each three bytes (where, of two; what is flipped there) and cut by what is left over; '1' the
// same with the file's checksum made good; '2' with the state's too; '3' a tree; '4' a file as it stands.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "base/error.h"
#include "base/hash.h"
#include "generate/text_state.h"
#include "model/slot_file.h"
#include "tests/model/random_model.h"

namespace {

using linnet::Decoder;

class Fuzzed {
 public:
  Fuzzed() : model_(spec()), decoder_(Decoder::make(model_.get(), {.max_nodes = 8}, pool_)) {
    const std::vector<int32_t> tokens = {3, 1, 4, 1, 5, 9, 2};
    decoder_->prefill(0, tokens, tokens.size(), {});
    sound_ = decoder_->save(0);
    text_ = linnet::write_text_state(*decoder_, 0, tokens);
  }

  void changed(int how, std::span<const std::byte> changes) {
    std::vector<std::byte> bytes = text_;
    for (; changes.size() >= 3; changes = changes.subspan(3))
      bytes[(static_cast<size_t>(changes[0]) * 256 + static_cast<size_t>(changes[1])) % bytes.size()] ^=
          changes[2];
    for (const std::byte cut : changes)
      bytes.resize(bytes.size() - std::min(bytes.size(), static_cast<size_t>(cut)));
    text(how, std::move(bytes));
  }

  void text(int how, std::vector<std::byte> bytes) {
    if (how >= 2) reseal_state(bytes);
    if (how >= 1) seal_text(bytes);
    try {
      const auto tokens = linnet::read_text_state(bytes, "fuzzed", *decoder_, 0);
      if (decoder_->length(0) > static_cast<int64_t>(tokens.size())) std::abort();
      if (linnet::write_text_state(*decoder_, 0, tokens) != bytes) std::abort();
      step({linnet::TokenTree::single(1)});
      decoder_->load(0, sound_);
    } catch (const linnet::Error&) {
      if (decoder_->save(0) != sound_) std::abort();
    }
  }

  /// Each byte pair a node: its token and its parent, −1 … 13.
  void tree(std::span<const std::byte> bytes) {
    try {
      linnet::TokenTree tree;
      for (size_t i = 0; i + 1 < bytes.size(); i += 2)
        tree.add(static_cast<int>(bytes[i]) - 1, static_cast<int>(bytes[i + 1]) % 15 - 1);
      step(tree);
    } catch (const linnet::Error&) {
    }
    if (decoder_->save(0) != sound_) std::abort();
  }

 private:
  static linnet::RandomModel spec() {
    linnet::RandomModel spec{.hidden = 8,
                             .layers = 2,
                             .heads = 2,
                             .kv_heads = 1,
                             .head_size = 4,
                             .intermediate = 8,
                             .vocabulary = 12};
    spec.attention = {{"method", "elu1"}, {"group", 4}, {"layers", {{"1", {{"method", "softmax"}}}}}};
    return spec;
  }
  void step(const linnet::TokenTree& tree) {
    const Decoder::Branch branch{0, &tree};
    decoder_->step({&branch, 1});
  }
  static void seal_text(std::vector<std::byte>& bytes) {
    if (bytes.size() < 8) return;
    const auto body = std::span(bytes).first(bytes.size() - 8);
    const uint64_t sum = linnet::checksum(body);
    std::memcpy(bytes.data() + body.size(), &sum, 8);
  }
  /// Makes the checksum of the state within good, where there is one.
  static void reseal_state(std::vector<std::byte>& bytes) {
    const char magic[] = "linnet state";
    const auto* begin = reinterpret_cast<const std::byte*>(magic);
    const auto at = std::search(bytes.begin(), bytes.end(), begin, begin + 12);
    if (bytes.end() - at < 28) return;
    const std::span<std::byte> state(&*at, static_cast<size_t>(bytes.end() - at) - 8);
    const uint64_t sum = linnet::checksum(state.first(state.size() - 8));
    std::memcpy(state.data() + state.size() - 8, &sum, 8);
  }

  linnet::ThreadPool pool_{1};
  linnet::TemporaryModel model_;
  std::unique_ptr<Decoder> decoder_;
  std::vector<std::byte> sound_, text_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Fuzzed fuzzed;
  if (size == 0) return 0;
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  if (data[0] == '3') {
    fuzzed.tree({bytes + 1, size - 1});
  } else if (data[0] == '4') {
    fuzzed.text(0, {bytes + 1, bytes + size});
  } else {
    fuzzed.changed(data[0] % 3, {bytes + 1, size - 1});  // '0' % 3 is 0
  }
  return 0;
}

// A decoder without a network, for tests of what is built on one: the logits of a token are random numbers
// that depend on all tokens before it and on it, in order. Exact, fast, and any slip of position, path or
// state changes everything after it.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "model/decoder.h"

namespace linnet {

class HashDecoder : public Decoder {
 public:
  HashDecoder(int64_t vocabulary, int slots, int max_nodes = 64)
      : told{.vocabulary = vocabulary},
        size_(static_cast<size_t>(vocabulary)),
        max_nodes_(max_nodes),
        slots_(static_cast<size_t>(slots)) {}

  /// [vocabulary] after a sequence of tokens.
  static void logits_after(std::span<const int32_t> tokens, std::span<float> out) {
    uint64_t hash = 0x243F6A8885A308D3u;
    for (const int32_t token : tokens) hash = next(hash, token);
    fill(hash, out);
  }

  const Info& info() const override { return told; }
  void reset(int slot) override { at(slot) = {}; }
  int64_t length(int slot) const override { return slots_[static_cast<size_t>(slot)].length; }
  void copy(int from, int to) override { at(to) = at(from); }
  Cost cost() const override { return {}; }
  size_t state_bytes(int) const override { return sizeof(Slot); }

  void prefill(int slot, std::span<const int32_t> tokens, size_t first, std::span<float> logits) override {
    ASSERT_EQ(logits.size(), (tokens.size() - first) * size_);
    hidden_.clear();
    for (size_t i = 0; i < tokens.size(); ++i) {
      commit_token(at(slot), tokens[i]);
      if (i < first) continue;
      fill(at(slot).hash, logits.subspan((i - first) * size_, size_));
      hidden_.push_back(static_cast<float>(at(slot).hash % 1000003));
      hidden_.push_back(-1);
    }
    prefilled_ += static_cast<int64_t>(tokens.size());
  }

  void step(std::span<const Branch> branches) override {
    branches_.assign(branches.begin(), branches.end());
    logits_.clear();
    hidden_.clear();
    int nodes = 0;
    for (const Branch& branch : branches) {
      const TokenTree& tree = *branch.tree;
      nodes += tree.size();
      std::vector<uint64_t> hashes;
      for (int32_t i = 0; i < tree.size(); ++i) {
        const uint64_t before =
            tree.parent(i) < 0 ? at(branch.slot).hash : hashes[static_cast<size_t>(tree.parent(i))];
        hashes.push_back(next(before, tree.token(i)));
        logits_.resize(logits_.size() + size_);
        fill(hashes.back(), std::span(logits_).last(size_));
        hidden_.push_back(static_cast<float>(hashes.back() % 1000003));
        hidden_.push_back(-1);
      }
    }
    EXPECT_LE(nodes, max_nodes_);
  }
  std::span<const float> logits(int node) const override {
    return std::span(logits_).subspan(static_cast<size_t>(node) * size_, size_);
  }
  int32_t likeliest(int node) const override { return argmax(logits(node)); }
  std::span<const float> hidden(int row) const override {
    return std::span(hidden_).subspan(2 * static_cast<size_t>(row), 2);
  }

  void commit(int branch, std::span<const int32_t> path) override {
    const Branch& b = branches_.at(static_cast<size_t>(branch));
    int32_t parent = -1;
    for (const int32_t node : path) {
      ASSERT_EQ(b.tree->parent(node), parent) << "not a path from the root";
      commit_token(at(b.slot), b.tree->token(node));
      parent = node;
    }
    std::fill(logits_.begin(), logits_.end(), 1e30f);  // no longer valid
  }

  std::vector<std::byte> save(int slot) const override {
    std::vector<std::byte> bytes(sizeof(Slot));
    std::memcpy(bytes.data(), &slots_[static_cast<size_t>(slot)], sizeof(Slot));
    return bytes;
  }
  void load(int slot, std::span<const std::byte> bytes) override {
    if (bytes.size() != sizeof(Slot)) throw Error("state", "truncated", "a whole state");
    std::memcpy(&at(slot), bytes.data(), sizeof(Slot));
  }

  int64_t prefilled() const { return prefilled_; }  // tokens, all calls together
  /// The number that stands in `hidden` after these tokens.
  static float hidden_after(std::span<const int32_t> tokens) {
    uint64_t hash = Slot{}.hash;
    for (const int32_t token : tokens) hash = next(hash, token);
    return static_cast<float>(hash % 1000003);
  }

  Info told;  // what info() says

 protected:
  std::vector<float> logits_, hidden_;

 private:
  struct Slot {
    uint64_t hash = 0x243F6A8885A308D3u;
    int64_t length = 0;
  };

  Slot& at(int slot) { return slots_.at(static_cast<size_t>(slot)); }
  static uint64_t next(uint64_t hash, int32_t token) {
    const auto x = philox(hash, 77, static_cast<uint32_t>(token));
    return (uint64_t{x[0]} << 32) | x[1];
  }
  static void commit_token(Slot& slot, int32_t token) {
    slot.hash = next(slot.hash, token);
    ++slot.length;
  }
  static void fill(uint64_t hash, std::span<float> out) {
    for (size_t v = 0; v < out.size(); ++v) out[v] = static_cast<float>(6 * uniform(hash, 1, v));
  }

  size_t size_;
  int max_nodes_;
  std::vector<Slot> slots_;
  std::vector<Branch> branches_;
  int64_t prefilled_ = 0;
};

}  // namespace linnet

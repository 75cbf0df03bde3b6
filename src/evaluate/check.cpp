#include "evaluate/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "base/error.h"
#include "base/interrupt.h"
#include "base/random.h"

namespace linnet {
namespace {

constexpr int64_t kRows = 64;  // whose logits are compared at a time
constexpr int kNodes = CheckSubject::kNodes, kDepth = CheckSubject::kDepth;

using Logits = std::vector<float>;

/// The largest difference; infinite where either is not a number.
double largest_difference(std::span<const float> a, std::span<const float> b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::abs(static_cast<double>(a[i]) - b[i]);
    if (!(difference <= std::numeric_limits<double>::max())) return std::numeric_limits<double>::infinity();
    largest = std::max(largest, difference);
  }
  return largest;
}

double relative_rms(std::span<const float> a, std::span<const float> reference) {
  double error = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += std::pow(static_cast<double>(a[i]) - reference[i], 2);
    size += std::pow(static_cast<double>(reference[i]), 2);
  }
  return error == 0 ? 0 : std::sqrt(error / size);
}

class Checker {
 public:
  explicit Checker(const CheckSubject& subject)
      : decoder_(subject.decoder), subject_(subject), size_(static_cast<size_t>(subject.vocabulary)) {
    for (uint64_t i = 0; i < static_cast<uint64_t>(subject.tokens); ++i)
      tokens_.push_back(random_token(0, i));
    const auto group = static_cast<int64_t>(subject.group);
    for (const int64_t place : {group - 3, group - 1, group, 2 * group - 2, subject.window - 3,
                                subject.window, subject.tokens - 7}) {
      if (place > 0 && place <= subject.tokens - 1) places_.push_back(place);
    }
  }

  /// What is named in the next check's result and in reports of its work.
  void begin(const char* check) { now_ = check; }

  CheckResult causality() {
    double worst = 0;
    for (const int64_t t : places_) {
      const int64_t end = std::min(t + 1 + subject_.group, subject_.tokens);
      std::vector<int32_t> changed(tokens_.begin(), tokens_.begin() + end);
      for (int64_t i = t + 1; i < end; ++i) {
        changed[static_cast<size_t>(i)] =
            other_than(changed[static_cast<size_t>(i)], static_cast<uint64_t>(i));
      }
      const int64_t first = std::max<int64_t>(0, t + 1 - kRows);
      const Logits a = prefill(std::span(tokens_).first(static_cast<size_t>(end)), first);
      const Logits b = prefill(changed, first);
      const auto compared = static_cast<size_t>(t + 1 - first) * size_;
      worst = std::max(worst, largest_difference(std::span(a).first(compared), std::span(b).first(compared)));
    }
    return {now_, "changing later tokens changes no bit of earlier logits", worst, 0, "logits"};
  }

  CheckResult window() {
    std::vector<int32_t> changed = tokens_;
    for (int64_t i = 0; i + subject_.reach + 1 < subject_.tokens; ++i) {
      changed[static_cast<size_t>(i)] = other_than(changed[static_cast<size_t>(i)], static_cast<uint64_t>(i));
    }
    const Logits expected = prefill(tokens_, subject_.tokens - 1);
    return {now_, "changing tokens that no window reaches changes no bit of later logits",
            largest_difference(expected, prefill(changed, subject_.tokens - 1)), 0, "logits"};
  }

  CheckResult forms() {
    if (!subject_.forms)
      return forms(tokens_, "prefill in any pieces gives what decoding token by token gives");
    decoder_ = subject_.forms;
    const int64_t count = std::min(subject_.tokens, subject_.forms_tokens);
    CheckResult result =
        forms(std::span(tokens_).first(static_cast<size_t>(count)),
              fmt::format("prefill of {} tokens, in any pieces, gives what decoding gives", count));
    decoder_ = subject_.decoder;
    return result;
  }

  CheckResult forms(std::span<const int32_t> tokens, std::string claim) {
    const int64_t length = std::ssize(tokens), first = std::max<int64_t>(0, length - kRows);
    decoder_->reset(0);
    Logits reference;
    for (int64_t t = 0; t < length; ++t) {
      const auto logits = decode(0, tokens[static_cast<size_t>(t)]);
      if (t >= first) reference.insert(reference.end(), logits.begin(), logits.end());
    }
    double worst = relative_rms(prefill(tokens, first), reference);
    for (const int64_t piece :
         {int64_t{1}, int64_t{7}, int64_t{subject_.group}, int64_t{subject_.group} + 1}) {
      decoder_->reset(0);
      Logits all;
      for (int64_t at = 0; at < length; at += piece) {
        const int64_t count = std::min(piece, length - at);
        const int64_t from = std::clamp<int64_t>(first - at, 0, count);
        const size_t before = all.size();
        all.resize(before + static_cast<size_t>(count - from) * size_);
        read(0, tokens.subspan(static_cast<size_t>(at), static_cast<size_t>(count)),
             static_cast<size_t>(from), std::span(all).subspan(before));
      }
      worst = std::max(worst, relative_rms(all, reference));
    }
    return {now_, std::move(claim), worst, subject_.tolerance, "relative RMS"};
  }

  CheckResult state() {
    decoder_->reset(0);
    const size_t empty = decoder_->state_bytes(0);
    double growth = 0;
    for (int64_t at = 0; at < subject_.tokens; at += 13) {
      const int64_t count = std::min<int64_t>(13, subject_.tokens - at);
      read(0, std::span(tokens_).subspan(static_cast<size_t>(at), static_cast<size_t>(count)),
           static_cast<size_t>(count), {});
      growth = std::max(growth,
                        std::abs(static_cast<double>(decoder_->state_bytes(0)) - static_cast<double>(empty)));
    }
    std::string claim = "grows with the text: a layer keeps every token";
    if (subject_.growth == 0) {
      claim = fmt::format("{} bytes a sequence, at every length", empty);
    } else if (std::isfinite(subject_.growth)) {
      claim = fmt::format("{} bytes a sequence, and what windows hold", empty);
    }
    return {now_, claim, growth, subject_.growth, "bytes of growth"};
  }

  CheckResult trees() {
    double worst = 0;
    for (const int64_t place : places_) {
      const TokenTree tree = random_tree(static_cast<uint64_t>(place));
      start_at(place);
      const Logits expected = copy(step(0, tree));
      const auto root = decoder_->save(0);
      for (int32_t leaf = 0; leaf < tree.size(); ++leaf) {
        if (std::count(tree.parents().begin(), tree.parents().end(), leaf) > 0) continue;  // no leaf
        decoder_->load(1, root);
        for (const int32_t node : path_to(tree, leaf)) {
          const auto logits = decode(1, tree.token(node));
          worst = std::max(worst, largest_difference(row(expected, node), logits));
        }
      }
    }
    return {now_, "every node gets the bits that decoding its path alone gives", worst, 0, "logits"};
  }

  CheckResult commits() {
    double worst = 0;
    for (const int64_t place : places_) {
      const TokenTree tree = random_tree(static_cast<uint64_t>(place) + 1000);
      start_at(place);
      decoder_->load(1, decoder_->save(0));
      const auto path = path_to(tree, tree.size() - 1);
      for (const int32_t node : path) decode(1, tree.token(node));
      step(0, tree);
      decoder_->commit(0, path);
      if (decoder_->save(0) != decoder_->save(1)) worst = std::numeric_limits<double>::infinity();
      const Logits after = copy(decode(0, tokens_[0]));
      worst = std::max(worst, largest_difference(after, decode(1, tokens_[0])));
    }
    return {now_, "a committed path leaves the state that decoding it token by token leaves", worst, 0,
            "logits"};
  }

  CheckResult neighbours() {
    double worst = 0;
    const TokenTree tree = random_tree(77), single = TokenTree::single(tokens_[1]);
    for (const int64_t place : places_) {
      start_at(place);
      decoder_->reset(1);
      read(1, std::span(tokens_).first(3), 3, {});
      const Logits alone = copy(step(0, tree));
      const Decoder::Branch branches[] = {{1, &single}, {0, &tree}};
      decoder_->step(branches);
      worst = std::max(worst, largest_difference(alone, logits_of(1, tree.size())));
    }
    return {now_, "a sequence gets the same bits alone and beside another", worst, 0, "logits"};
  }

  CheckResult saved() {
    double worst = 0;
    for (const int64_t place : places_) {
      start_at(place);
      const auto bytes = decoder_->save(0);
      decoder_->reset(1);
      decoder_->load(1, bytes);
      bool refused = false;
      try {
        decoder_->load(1, std::span(bytes).first(bytes.size() - 1));
      } catch (const Error&) {
        refused = true;
      }
      if (!refused || decoder_->save(1) != bytes) worst = std::numeric_limits<double>::infinity();
      for (int i = 0; i < kDepth; ++i) {
        const Logits expected = copy(decode(0, tokens_[static_cast<size_t>(i)]));
        worst = std::max(worst, largest_difference(expected, decode(1, tokens_[static_cast<size_t>(i)])));
      }
    }
    return {now_, "a saved and loaded state goes on bit for bit; a truncated one is refused", worst, 0,
            "logits"};
  }

 private:
  int32_t random_token(uint64_t stream, uint64_t position) const {
    return static_cast<int32_t>(uniform_integer(subject_.seed, stream, position, size_));
  }
  int32_t other_than(int32_t token, uint64_t position) const {
    const auto shift = static_cast<int64_t>(1 + uniform_integer(subject_.seed, 1, position, size_ - 1));
    return static_cast<int32_t>((token + shift) % subject_.vocabulary);
  }

  /// Every token that the model reads, it reads through this and step().
  void read(int slot, std::span<const int32_t> tokens, size_t first, std::span<float> logits) {
    stop_if_interrupted();
    decoder_->prefill(slot, tokens, first, logits);
    report(static_cast<int64_t>(tokens.size()));
  }
  void report(int64_t tokens) const {
    if (subject_.progress) subject_.progress(now_, tokens);
  }
  Logits prefill(std::span<const int32_t> tokens, int64_t first) {
    Logits logits((tokens.size() - static_cast<size_t>(first)) * size_);
    decoder_->reset(0);
    read(0, tokens, static_cast<size_t>(first), logits);
    return logits;
  }
  void start_at(int64_t place) {
    const auto count = static_cast<size_t>(place);
    decoder_->reset(0);
    read(0, std::span(tokens_).first(count), count, {});
  }
  std::span<const float> step(int slot, const TokenTree& tree) {
    stop_if_interrupted();
    const Decoder::Branch branch{slot, &tree};
    decoder_->step(std::span(&branch, 1));
    report(tree.size());
    return logits_of(0, tree.size());
  }
  /// Logits [count, vocabulary] of the last step's nodes from `first` on.
  const Logits& logits_of(int first, int count) {
    stepped_.clear();
    for (int node = first; node < first + count; ++node) {
      const auto row = decoder_->logits(node);
      stepped_.insert(stepped_.end(), row.begin(), row.end());
    }
    return stepped_;
  }
  /// Logits after one more token, which is committed. Valid until the next call, like step's.
  std::span<const float> decode(int slot, int32_t token) {
    const TokenTree tree = TokenTree::single(token);
    const auto logits = step(slot, tree);
    decoded_.assign(logits.begin(), logits.end());
    const int32_t root = 0;
    decoder_->commit(0, std::span(&root, 1));
    return decoded_;
  }
  static Logits copy(std::span<const float> logits) { return {logits.begin(), logits.end()}; }
  std::span<const float> row(const Logits& logits, int32_t node) const {
    return std::span(logits).subspan(static_cast<size_t>(node) * size_, size_);
  }

  TokenTree random_tree(uint64_t stream) const {
    const int depth = std::min(kDepth, subject_.group);
    TokenTree tree = TokenTree::single(random_token(2, stream));
    for (uint64_t i = 0; tree.size() < kNodes; ++i) {
      // Most nodes hang under a late one: deep trees, not bushes of depth one.
      const auto late = static_cast<uint64_t>(std::min(tree.size(), 5));
      auto parent = static_cast<int32_t>(static_cast<uint64_t>(tree.size()) - 1 -
                                         uniform_integer(subject_.seed, 3 + stream, i, late));
      while (tree.depth(parent) >= depth) parent = tree.parent(parent);
      tree.add(random_token(4 + stream, i), parent);
    }
    return tree;
  }
  static std::vector<int32_t> path_to(const TokenTree& tree, int32_t node) {
    std::vector<int32_t> path;
    for (; node >= 0; node = tree.parent(node)) path.push_back(node);
    std::reverse(path.begin(), path.end());
    return path;
  }

  Decoder* decoder_;
  const CheckSubject& subject_;
  size_t size_;
  std::vector<int32_t> tokens_;
  std::vector<int64_t> places_;  // committed lengths to try
  Logits decoded_, stepped_;
  const char* now_ = "";
};

}  // namespace

std::vector<CheckResult> check_decoder(const CheckSubject& subject,
                                       const std::function<void(const CheckResult&)>& report) {
  Checker checker(subject);
  std::vector<CheckResult> results;
  using Check = std::pair<const char*, CheckResult (Checker::*)()>;
  std::vector<Check> checks = {{"causality", &Checker::causality}, {"forms", &Checker::forms},
                               {"state", &Checker::state},         {"trees", &Checker::trees},
                               {"commit", &Checker::commits},      {"neighbours", &Checker::neighbours},
                               {"save", &Checker::saved}};
  // Where some token is out of the last one's reach.
  if (subject.reach > 0 && subject.reach + 1 < subject.tokens)
    checks.insert(checks.begin() + 1, {"window", &Checker::window});
  for (const auto& [name, check] : checks) {
    checker.begin(name);
    results.push_back((checker.*check)());
    if (report) report(results.back());
  }
  return results;
}

}  // namespace linnet

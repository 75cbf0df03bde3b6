#include "evaluate/recall.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/random.h"
#include "model/teacher.h"

namespace linnet {
namespace {

using Ids = std::vector<int32_t>;

enum Stream : uint64_t { kRowStream = 0x7265'6361'6c6c'0000, kPassageStream, kNeedleStream };
constexpr int64_t kLate = 1024;  // far pairs count from here on, or from the middle of a shorter row

/// Index of the first token of the row's end, whose place the passage's second time takes.
size_t end_of(const RecallRow& row) { return row.tokens.size() - row.passage.size(); }

size_t bin_of(int64_t distance) {
  size_t bin = 0;
  while (bin < kFarBins && distance > kFarBounds[bin + 1]) ++bin;
  return distance > kFarBounds[0] ? bin : kFarBins;
}

Needle make_needle(const Tokenizer& tokenizer, uint64_t seed, uint64_t row) {
  constexpr std::array kNames = {"London", "Paris",  "Rome",   "Boston", "Cairo",  "Berlin",
                                 "Madrid", "Vienna", "Dublin", "Moscow", "Athens", "Lisbon"};
  const char* name = kNames[uniform_integer(seed, kNeedleStream, 2 * row, kNames.size())];
  const uint64_t number = 10000 + uniform_integer(seed, kNeedleStream, 2 * row + 1, 90000);
  const std::string question = fmt::format("\nThe magic number of {} is", name);
  const std::string statement = fmt::format("{} {}", question, number);
  Needle needle;
  const Ids asked = tokenizer.encode(question), told = tokenizer.encode(statement);
  // What a tokenizer joins across the end of the question is part of the answer.
  const auto parted = std::mismatch(asked.begin(), asked.end(), told.begin(), told.end()).second;
  needle.question.assign(told.begin(), parted);
  needle.answer.assign(parted, told.end());
  needle.statement = tokenizer.encode(statement + ".\n");
  return needle;
}

struct Stopped {};

double mean_nats(const std::vector<double>& scores) {
  return std::accumulate(scores.begin(), scores.end(), 0.0) / static_cast<double>(scores.size());
}

}  // namespace

bool fits(const RecallRow& row, const RecallOptions& options, int64_t distance) {
  return distance >= options.passage &&
         distance + std::ssize(row.needle.statement) < static_cast<int64_t>(end_of(row));
}

RecallMeter::RecallMeter(Decoder& decoder, int64_t vocabulary, RecallOptions options, ThreadPool& pool,
                         std::function<bool(int64_t)> progress)
    : decoder_(decoder),
      vocabulary_(vocabulary),
      options_(std::move(options)),
      pool_(pool),
      progress_(std::move(progress)),
      scorer_(decoder, vocabulary, pool) {}

void RecallMeter::score(int slot, std::span<const int32_t> inputs, size_t first,
                        std::vector<double>& scores) {
  if (!scorer_.read(slot, inputs, first, scores, progress_)) throw Stopped{};
}

/// All of `inputs`, nothing scored.
void RecallMeter::read(int slot, std::span<const int32_t> inputs) {
  constexpr size_t kPiece = 4096;  // inputs between two calls of `progress`
  for (size_t at = 0; at < inputs.size(); at += kPiece) {
    const auto piece = inputs.subspan(at, std::min(kPiece, inputs.size() - at));
    decoder_.prefill(slot, piece, piece.size(), {});
    if (progress_ && !progress_(static_cast<int64_t>(piece.size()))) throw Stopped{};
  }
}

/// Slot 0 goes on with the row's own text up to `end` inputs.
void RecallMeter::text_to(const RecallRow& row, size_t end) {
  const std::span<const int32_t> text(row.tokens);
  const size_t first = std::clamp(late_, at_, end);
  read(0, text.subspan(at_, first - at_));
  if (end > first) score(0, text.subspan(first, end + 1 - first), 0, text_);
  at_ = end;
}

/// Nats per token of the passage's last tokens in a slot that has read everything before it.
double RecallMeter::passage_after(int slot, const RecallRow& row) {
  std::vector<double> scores;
  score(slot, row.passage, static_cast<size_t>(options_.passage - options_.scored() - 1), scores);
  return mean_nats(scores);
}

/// The question's answer, in a slot that has read everything before the question.
Asked RecallMeter::ask(int slot, const Needle& needle) {
  Ids inputs = needle.question;
  inputs.insert(inputs.end(), needle.answer.begin(), needle.answer.end() - 1);
  const auto width = static_cast<size_t>(vocabulary_);
  std::vector<float> logits(needle.answer.size() * width);
  decoder_.prefill(slot, inputs, needle.question.size() - 1, logits);
  Asked asked{.nats = 0, .exact = true};
  for (size_t i = 0; i < needle.answer.size(); ++i) {
    const auto row = std::span<const float>(logits).subspan(i * width, width);
    asked.nats += negative_log_likelihood(row, needle.answer[i]);
    asked.exact &= std::max_element(row.begin(), row.end()) - row.begin() == needle.answer[i];
  }
  return asked;
}

/// The far pairs of the row's own text, of which text_ holds the scores.
void RecallMeter::sort_pairs(const RecallRow& row, RecallScores& scores) const {
  LastPairs last;
  for (size_t t = 1; t <= at_; ++t) {  // the token that input t − 1 predicts
    const int64_t before = last.note(row.tokens[t - 1], row.tokens[t], static_cast<int64_t>(t));
    if (t <= late_) continue;
    const double nats = text_[t - late_ - 1];
    scores.nats += nats;
    ++scores.tokens;
    if (before < 0) continue;
    if (const size_t bin = bin_of(static_cast<int64_t>(t) - before); bin < kFarBins) {
      scores.far_nats[bin] += nats;
      ++scores.far_tokens[bin];
    }
  }
}

bool RecallMeter::add(const RecallRow& row) {
  const size_t end = end_of(row), count = options_.distances.size();
  RecallScores scores;
  scores.again.resize(count);
  scores.asked.resize(count);
  decoder_.reset(0);
  text_.clear();
  at_ = 0;
  late_ = static_cast<size_t>(std::min<int64_t>(kLate, std::ssize(row.tokens) / 2));
  const auto measure = [&](int slot, double& passage, Asked& asked) {
    decoder_.copy(slot, 2);
    passage = passage_after(2, row);
    asked = ask(slot, row.needle);
  };
  try {
    for (size_t d = count; d-- > 0;) {  // the farthest place comes first in the text
      const size_t place = end - static_cast<size_t>(options_.distances[d]);
      text_to(row, place - row.needle.statement.size());
      decoder_.copy(0, 1);
      read(1, row.needle.statement);
      read(1, row.passage);
      read(1, std::span(row.tokens).subspan(place + row.passage.size(), end - place - row.passage.size()));
      measure(1, scores.again[d], scores.asked[d]);
    }
    text_to(row, end);
    measure(0, scores.first, scores.never);
  } catch (const Stopped&) {
    return false;
  }
  sort_pairs(row, scores);
  rows_.push_back(std::move(scores));
  return true;
}

int64_t RecallMeter::cost(const RecallRow& row, const RecallOptions& options) {
  const auto told = std::ssize(row.needle.statement);
  int64_t cost = static_cast<int64_t>(end_of(row)) + options.passage;
  for (const int64_t distance : options.distances) cost += told + distance + options.passage;
  return cost;
}

std::vector<RecallRow> make_recall_rows(const std::vector<std::vector<int32_t>>& documents,
                                        const Tokenizer& tokenizer, int64_t inputs, int64_t passage,
                                        int64_t most, uint64_t seed) {
  std::vector<std::span<const int32_t>> windows;
  for (const Ids& ids : documents) {
    for (int64_t at = 0; at + inputs < std::ssize(ids); at += inputs)
      windows.push_back(std::span(ids).subspan(static_cast<size_t>(at), static_cast<size_t>(inputs) + 1));
  }
  std::vector<size_t> order(windows.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const size_t count = std::min(windows.size(), static_cast<size_t>(most));
  std::vector<RecallRow> rows;
  for (size_t i = 0; i < count; ++i) {
    std::swap(order[i], order[i + uniform_integer(seed, kRowStream, i, order.size() - i)]);
    const auto own = windows[order[i]], other = windows[(order[i] + windows.size() / 2) % windows.size()];
    const auto from = static_cast<size_t>(
        uniform_integer(seed, kPassageStream, i, static_cast<uint64_t>(inputs - passage)) + 1);
    const auto taken = other.subspan(from, static_cast<size_t>(passage));
    rows.push_back({.tokens = {own.begin(), own.end()},
                    .passage = {taken.begin(), taken.end()},
                    .needle = make_needle(tokenizer, seed, i)});
  }
  return rows;
}

RecallRow last_of(const RecallRow& row, int64_t inputs) {
  RecallRow last = row;
  const auto count = static_cast<ptrdiff_t>(std::min<int64_t>(inputs + 1, std::ssize(row.tokens)));
  last.tokens.assign(row.tokens.end() - count, row.tokens.end());
  return last;
}

std::shared_ptr<const Model> softmax_of(const Model& model) {
  return model.with_attention(teacher_attention(model.config()));
}

std::shared_ptr<const Model> window_alone(const Model& model) {
  const AttentionShape shape = model.attention_shape();
  const int64_t token = shape.head_size + shape.value_size, heads = shape.kv_heads;
  std::vector<AttentionConfig> layers = model.attention();
  for (size_t layer = 0; layer < layers.size(); ++layer) {
    const AttentionConfig own = layers[layer];
    if (own.grows() || own.local_alone()) continue;
    const std::string where = model.linear_prefix(static_cast<int>(layer));
    const int sinks = own.has_local() ? own.sinks : std::min(4, own.group);
    // Each head sees as many tokens more as its state holds: its own window and kept ones, and an equal share
    // of all else.
    const auto exact = [&](int head) -> int64_t {
      return own.has_local() ? int64_t{own.local_groups.of(head)} * own.group + own.kept.of(head) : 0;
    };
    const StateLayout layout = state_layout(own, shape);
    const int64_t float32 = layout.numbers - layout.token_numbers;
    const auto size = static_cast<int64_t>(sizeof(float)) / held_bytes(shape);  // in numbers of keys
    int64_t rest = (layout.token_numbers + float32 * size) / token - heads * sinks;
    for (int head = 0; head < heads; ++head) rest -= exact(head);
    std::vector<int64_t> groups;
    for (int head = 0; head < heads; ++head)
      groups.push_back(std::max<int64_t>((exact(head) + std::max<int64_t>(rest, 0) / heads) / own.group, 1));
    const bool alike = std::equal(groups.begin() + 1, groups.end(), groups.begin());
    nlohmann::json object = {
        {"method", "grouped"}, {"alpha", 1}, {"taps", 0}, {"group", own.group}, {"sinks", sinks}};
    object["local_groups"] = alike ? nlohmann::json(groups.front()) : nlohmann::json(groups);
    layers[layer] = parse_layer_attention(object, where);
    layers[layer].score_cap = own.score_cap;
  }
  return model.with_attention(std::move(layers));
}

}  // namespace linnet

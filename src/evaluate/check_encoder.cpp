#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/count.h"
#include "base/error.h"
#include "base/random.h"
#include "evaluate/check.h"
#include "model/encoder.h"

namespace linnet {
namespace {

constexpr int64_t kMostEncoded = 256;  // tokens, unless told: float64 reads them too

std::vector<int32_t> random_sequence(uint64_t seed, uint64_t stream, int64_t tokens, int64_t vocabulary) {
  std::vector<int32_t> ids;
  for (uint64_t i = 0; i < static_cast<uint64_t>(tokens); ++i)
    ids.push_back(static_cast<int32_t>(uniform_integer(seed, stream, i, static_cast<uint64_t>(vocabulary))));
  return ids;
}

std::vector<float> rows_of(Encoder& encoder, std::span<const Encoder::Sequence> sequences) {
  size_t tokens = 0;
  for (const Encoder::Sequence& sequence : sequences) tokens += sequence.tokens.size();
  std::vector<float> rows(tokens * static_cast<size_t>(encoder.hidden_size()));
  encoder.encode(sequences, rows);
  return rows;
}

double relative_error(std::span<const float> a, std::span<const float> reference) {
  double error = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    error += std::pow(static_cast<double>(a[i]) - reference[i], 2);
    size += std::pow(static_cast<double>(reference[i]), 2);
  }
  return error == 0 ? 0 : std::sqrt(error / size);
}

/// Rows that are the same to the bit in both.
int64_t same_rows(std::span<const float> a, std::span<const float> b, int64_t size) {
  int64_t same = 0;
  for (size_t begin = 0; begin < a.size(); begin += static_cast<size_t>(size))
    same += std::ranges::equal(a.subspan(begin, static_cast<size_t>(size)),
                               b.subspan(begin, static_cast<size_t>(size)));
  return same;
}

/// Whether some layer lets every token see all others.
bool sees_all(const std::vector<AttentionConfig>& layers) {
  return std::any_of(layers.begin(), layers.end(), [](const AttentionConfig& layer) {
    return layer.grows() ? layer.window == 0 : layer.has_summary();
  });
}

}  // namespace

std::vector<CheckResult> check_encoder(std::shared_ptr<const Model> model, const CheckOptions& options,
                                       double tolerance, ThreadPool& pool,
                                       const std::function<void(const CheckResult&)>& report) {
  const auto encoder = Encoder::make(model, {.compute = options.compute}, pool),
             wide = Encoder::make(model, {.compute = ComputeType::kFloat64}, pool);
  const int64_t tokens = std::min(options.tokens > 0 ? options.tokens : kMostEncoded, encoder->longest()),
                size = encoder->hidden_size(), vocabulary = model->config().vocabulary;
  if (tokens < 8) throw Error("--tokens", counted(tokens, "token"), "at least 8, and positions for them");
  const std::vector<int32_t> ids = random_sequence(options.seed, 0, tokens, vocabulary),
                             other = random_sequence(options.seed, 1, tokens / 2, vocabulary);
  const Encoder::Sequence together[] = {{other}, {ids}, {other}};
  const std::span<const Encoder::Sequence> alone(together + 1, 1);
  std::vector<CheckResult> results;
  const auto add = [&](CheckResult result) {
    if (report) report(result);
    results.push_back(std::move(result));
  };
  const auto begin = [&](std::string_view check, int64_t count) {
    if (options.progress) options.progress(check, count);
  };
  begin("neighbours", 3 * tokens);
  const std::vector<float> rows = rows_of(*encoder, alone), beside = rows_of(*encoder, together);
  const std::span own(beside.data() + std::ssize(other) * size, rows.size());
  add({"neighbours", "a sequence alone and between two others", relative_error(own, rows), tolerance,
       "relative rms"});
  const bool reads_source = model->encoder() != nullptr,  // all of it, whatever its attention
      causal = !model->family().is_encoder() && !reads_source;
  if (causal || reads_source || sees_all(model->attention())) {
    begin(causal ? "causality" : "sight", tokens);
    std::vector<int32_t> changed = ids;
    changed.back() = static_cast<int32_t>((ids.back() + 1) % vocabulary);
    const Encoder::Sequence last[] = {{changed}};
    const int64_t same = same_rows(rows_of(*encoder, last), rows, size);
    if (causal) {
      add({"causality", "another last token changes no bit of the rows before it",
           static_cast<double>(tokens - 1 - same), 0, "rows changed"});
    } else {
      add({"sight", "another last token changes every row", static_cast<double>(same), 0, "rows unchanged"});
    }
  }
  begin("forms", tokens);
  add({"forms", "the sequence in this arithmetic and in float64", relative_error(rows, rows_of(*wide, alone)),
       tolerance, "relative rms"});
  return results;
}

}  // namespace linnet
